//! /api/orders and /api/dead-letters: what billing has stored, and what it could not, as billing tells it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use edge::{Response, path};
use order::question::{Answer, DeadLetter, LIMIT_MAX, Question, StoredOrder};
use serde_json::{Value, json};

use crate::error::Problem;
use crate::order_stages;
use crate::order_states::OrderStates;
use crate::publisher::Publisher;
use crate::questions::Unanswered;
use crate::upstream::Reason;

/// How long billing may take for a list.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take to move a message, which the broker has to confirm.
const MOVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many orders or dead letters are answered if the client does not say.
const LIMIT_DEFAULT: u32 = 100;
/// The longest name of a customer, in characters.
const CUSTOMER_MAX_CHARS: usize = 64;
/// The length of a dead letter's id.
const LETTER_ID_CHARS: usize = 32;

/// No dead letter in sight has this id.
const NO_SUCH_LETTER: Problem = Problem::NoSuch("Dead letter");

const NO_STORE: &[(&str, &str)] = &[("cache-control", "no-store")];

/// Answers what only administrators may ask.
pub(crate) struct BillingRecords {
    publisher: Arc<Publisher>,
    states: Arc<OrderStates>,
}

impl BillingRecords {
    pub(crate) fn new(publisher: Arc<Publisher>, states: Arc<OrderStates>) -> Self {
        Self { publisher, states }
    }

    /// GET /api/orders.
    pub(crate) fn serve_orders(&self, response: &mut Response<'_>, query: &[u8]) -> Result<(), Problem> {
        let page = Page::read(query)?;
        let Page { limit, after, before, newest, .. } = page;
        let user_id = page.user_id.clone();
        let (orders, more) =
            match self.ask(&Question::Orders { after, limit, before, newest, user_id }, LIST_TIMEOUT)? {
                Answer::Orders { orders, more } => (orders, more),
                other => return Err(unexpected(&other)),
            };
        let next = orders.last().filter(|_| more).map(|last| page.next(last.id));
        let fields = next.iter().map(|next| ("link", next.as_str())).chain(NO_STORE.iter().copied());
        let listed = |order: &StoredOrder| {
            let mut listed = order_json(order);
            listed["stages"] = order_stages::to_json(&self.states.stages(order));
            listed
        };
        let orders: Value = orders.iter().map(listed).collect();
        Ok(response.send_json(200, &fields.collect::<Vec<_>>(), orders.to_string().as_bytes())?)
    }

    /// GET `/api/orders/{message_id}`; the caller has checked the id.
    pub(crate) fn serve_order(&self, response: &mut Response<'_>, id: &str) -> Result<(), Problem> {
        let record = match self.states.ask(id).map_err(unanswered)? {
            Answer::Order(record) => record,
            other => return Err(unexpected(&other)),
        };
        let state = self.states.state(id, &record);
        if !state.is_known() {
            return Err(Problem::NoSuch("Order"));
        }
        let answer = json!({
            "message_id": id,
            "state": state.name,
            "reason": state.reason,
            "stored_at": record.stored_at,
            "stages": order_stages::to_json(&state.stages),
            "order": record.order.as_ref().map(order_json),
        });
        Ok(response.send_json(200, NO_STORE, answer.to_string().as_bytes())?)
    }

    /// GET /api/dead-letters.
    pub(crate) fn serve_dead_letters(
        &self,
        response: &mut Response<'_>,
        query: &[u8],
    ) -> Result<(), Problem> {
        let Page { limit, .. } = Page::read(query)?;
        let letters = match self.ask(&Question::DeadLetters { limit }, LIST_TIMEOUT)? {
            Answer::DeadLetters { letters } => letters,
            other => return Err(unexpected(&other)),
        };
        let letters: Value = letters.iter().map(letter_json).collect();
        Ok(response.send_json(200, NO_STORE, letters.to_string().as_bytes())?)
    }

    /// POST `/api/dead-letters/{id}`.
    pub(crate) fn requeue(&self, response: &mut Response<'_>, id: &str) -> Result<(), Problem> {
        let question = Question::Requeue { id: letter_id(id)? };
        self.change(response, &question, "The message was sent back to the queue.")
    }

    /// DELETE `/api/dead-letters/{id}`.
    pub(crate) fn discard(&self, response: &mut Response<'_>, id: &str) -> Result<(), Problem> {
        let question = Question::Discard { id: letter_id(id)? };
        self.change(response, &question, "The message was discarded.")
    }

    fn change(&self, response: &mut Response<'_>, question: &Question, done: &str) -> Result<(), Problem> {
        match self.ask(question, MOVE_TIMEOUT)? {
            Answer::Done => {
                let answer = json!({ "message": done }).to_string();
                Ok(response.send_json(200, NO_STORE, answer.as_bytes())?)
            }
            Answer::NotFound => Err(NO_SUCH_LETTER),
            other => Err(unexpected(&other)),
        }
    }

    fn ask(&self, question: &Question, timeout: Duration) -> Result<Answer, Problem> {
        self.publisher.ask(question, timeout).map_err(unanswered)
    }
}

fn unanswered(unanswered: Unanswered) -> Problem {
    let (reason, cause) = match unanswered {
        Unanswered::NotAsked(cause) => (Reason::Unreachable, cause),
        Unanswered::TimedOut(cause) => (Reason::TimedOut, cause),
    };
    Problem::Upstream { service: "billing", reason, cause }
}

/// The problem that an answer of another kind stands for.
fn unexpected(answer: &Answer) -> Problem {
    if *answer == Answer::DatabaseUnreachable {
        let cause = "billing cannot reach it".to_owned();
        return Problem::Upstream { service: "billing_db", reason: Reason::Unreachable, cause };
    }
    let cause = "its log says why".to_owned();
    Problem::Upstream { service: "billing", reason: Reason::Invalid, cause }
}

fn letter_id(segment: &str) -> Result<String, Problem> {
    let is_id = segment.len() == LETTER_ID_CHARS
        && segment.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if is_id { Ok(segment.to_owned()) } else { Err(NO_SUCH_LETTER) }
}

fn order_json(order: &StoredOrder) -> Value {
    json!({
        "id": order.id,
        "message_id": order.message_id,
        "user_id": order.user_id,
        "number_of_items": order.number_of_items,
        "total_amount": order.total_amount,
    })
}

fn letter_json(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id,
        "message_id": letter.message_id,
        "reason": letter.reason,
        "sent_s": letter.sent_s,
        "body": letter.body,
        "body_bytes": letter.body_bytes,
    })
}

/// Which part of a list a query asks for.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    limit: u32,
    after: i64,
    before: Option<i64>,
    newest: bool,
    user_id: Option<String>,
}

impl Page {
    /// Reads `limit`, `after`, `before`, `order` and `user_id`; others are ignored.
    fn read(query: &[u8]) -> Result<Self, Problem> {
        const LIMIT: Problem = Problem::FieldInvalid("limit must be an integer from 1 to 1000, once");
        const AFTER: Problem = Problem::FieldInvalid("after must be an integer from 0 on, once");
        const BEFORE: Problem = Problem::FieldInvalid("before must be an integer from 0 on, once");
        const ORDER: Problem = Problem::FieldInvalid("order must be oldest or newest, once");
        const USER_ID: Problem = Problem::FieldInvalid("user_id must be of 1 to 64 characters, once");
        let limit = match number(query, "limit").map_err(|Malformed| LIMIT)? {
            None => LIMIT_DEFAULT,
            Some(limit) => {
                let limit = u32::try_from(limit).ok();
                limit.filter(|limit| (1..=LIMIT_MAX).contains(limit)).ok_or(LIMIT)?
            }
        };
        let after = number(query, "after").map_err(|Malformed| AFTER)?.unwrap_or(0);
        let before = number(query, "before").map_err(|Malformed| BEFORE)?;
        let newest = match text(query, "order").map_err(|Malformed| ORDER)?.as_deref() {
            None | Some("oldest") => false,
            Some("newest") => true,
            Some(_) => return Err(ORDER),
        };
        let user_id = text(query, "user_id").map_err(|Malformed| USER_ID)?;
        if user_id.as_ref().is_some_and(|id| !(1..=CUSTOMER_MAX_CHARS).contains(&id.chars().count())) {
            return Err(USER_ID);
        }
        Ok(Self { limit, after, before, newest, user_id })
    }

    /// The value of `Link` that leads to what follows the order `last` (RFC 8288).
    fn next(&self, last: i64) -> String {
        let (after, before) = if self.newest { (self.after, Some(last)) } else { (last, self.before) };
        let mut target = format!("/api/orders?limit={}&after={after}", self.limit);
        // Writing to a string cannot fail.
        if let Some(before) = before {
            let _ = write!(target, "&before={before}");
        }
        if self.newest {
            target.push_str("&order=newest");
        }
        if let Some(user_id) = &self.user_id {
            let _ = write!(target, "&user_id={}", encoded(user_id));
        }
        format!("<{target}>; rel=\"next\"")
    }
}

/// A parameter is there more than once, or its value cannot be read.
struct Malformed;

/// The value of a parameter, if there is one.
fn text(query: &[u8], name: &str) -> Result<Option<String>, Malformed> {
    let mut given = query.split(|byte| *byte == b'&').filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        (&pair[..at] == name.as_bytes()).then_some(&pair[at + 1..])
    });
    let Some(value) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(Malformed);
    }
    decoded(value).map(Some).ok_or(Malformed)
}

/// A plus sign stands for a space, as forms send it.
fn decoded(value: &[u8]) -> Option<String> {
    let spaced: Vec<_> = value.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    path::decode(&spaced).map(Cow::into_owned)
}

/// In percent-encoding, for a query (RFC 3986 §2.3).
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// The number that a parameter gives, if there is one.
fn number(query: &[u8], name: &str) -> Result<Option<i64>, Malformed> {
    let Some(value) = text(query, name)? else { return Ok(None) };
    if !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Malformed);
    }
    value.parse().map(Some).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_strictly() {
        let read = |query: &str| {
            let page = Page::read(query.as_bytes()).ok()?;
            Some((page.limit, page.after))
        };
        for (query, page) in [
            ("", Some((100, 0))),
            ("limit=1&after=9223372036854775807", Some((1, i64::MAX))),
            ("after=7&other=x", Some((100, 7))),
            ("limit=1000", Some((1000, 0))),
            ("limit=1001", None),
            ("limit=0", None),
            ("limit=", None),
            ("limit=+1", None),
            ("limit=1&limit=2", None),
            ("after=-1", None),
            ("after=9223372036854775808", None),
        ] {
            assert_eq!(read(query), page, "{query}");
        }
    }

    #[test]
    fn a_page_may_be_of_one_customer_and_begin_with_the_newest() {
        let read = |query: &str| {
            let page = Page::read(query.as_bytes()).ok()?;
            Some((page.before, page.newest, page.user_id))
        };
        let customer = |id: &str| Some(id.to_owned());
        for (query, page) in [
            ("order=oldest", Some((None, false, None))),
            ("order=newest", Some((None, true, None))),
            ("before=7", Some((Some(7), false, None))),
            ("order=newest&before=7&user_id=a%20b%2F%C3%A9", Some((Some(7), true, customer("a b/é")))),
            ("user_id=a+b", Some((None, false, customer("a b")))),
            ("order=latest", None),
            ("user_id=", None),
            ("user_id=1&user_id=2", None),
            ("user_id=%FF", None),
            ("before=x", None),
        ] {
            assert_eq!(read(query), page, "{query}");
        }
        let next =
            |query: &str| Page::read(query.as_bytes()).ok().map(|page| page.next(5)).unwrap_or_default();
        assert_eq!(next("limit=2&before=9"), r#"</api/orders?limit=2&after=5&before=9>; rel="next""#);
        let of_customer =
            r#"</api/orders?limit=2&after=1&before=5&order=newest&user_id=a%20b%26>; rel="next""#;
        assert_eq!(next("limit=2&after=1&order=newest&user_id=a+b%26"), of_customer);
    }

    #[test]
    fn an_id_that_no_letter_has_is_not_found() {
        assert!(letter_id(&"0af9".repeat(8)).is_ok());
        for other in ["", "0af", &"0AF9".repeat(8), &"x".repeat(32), &"0".repeat(33)] {
            assert!(matches!(letter_id(other), Err(Problem::NoSuch(_))), "{other}");
        }
    }
}
