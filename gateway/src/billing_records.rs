//! /api/orders and /api/dead-letters: what billing has stored, and what it could not, as billing tells it.

use std::sync::Arc;
use std::time::Duration;

use edge::Response;
use order::question::{Answer, DeadLetter, LIMIT_MAX, Question, StoredOrder};
use serde_json::{Value, json};

use crate::error::Problem;
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
        let Page { limit, after } = Page::read(query)?;
        let (orders, more) = match self.ask(&Question::Orders { after, limit }, LIST_TIMEOUT)? {
            Answer::Orders { orders, more } => (orders, more),
            other => return Err(unexpected(&other)),
        };
        let next = orders.last().filter(|_| more).map(|last| {
            // RFC 8288.
            format!("</api/orders?limit={limit}&after={}>; rel=\"next\"", last.id)
        });
        let fields = next.iter().map(|next| ("link", next.as_str())).chain(NO_STORE.iter().copied());
        let orders: Value = orders.iter().map(order_json).collect();
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
}

impl Page {
    /// Reads `limit` and `after`; others are ignored.
    fn read(query: &[u8]) -> Result<Self, Problem> {
        const LIMIT: Problem = Problem::FieldInvalid("limit must be an integer from 1 to 1000, once");
        const AFTER: Problem = Problem::FieldInvalid("after must be an integer from 0 on, once");
        let number = |name: &str| {
            let mut given = query.split(|byte| *byte == b'&').filter_map(|pair| {
                let (key, value) = str::from_utf8(pair).ok()?.split_once('=')?;
                (key == name).then_some(value)
            });
            let value = given.next()?;
            let is_number = value.bytes().all(|byte| byte.is_ascii_digit()) && given.next().is_none();
            Some(value.parse::<i64>().ok().filter(|_| is_number))
        };
        let limit = match number("limit") {
            None => LIMIT_DEFAULT,
            Some(limit) => limit
                .and_then(|limit| u32::try_from(limit).ok())
                .filter(|limit| (1..=LIMIT_MAX).contains(limit))
                .ok_or(LIMIT)?,
        };
        let after = number("after").map_or(Ok(0), |after| after.ok_or(AFTER))?;
        Ok(Self { limit, after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_strictly() {
        let read = |query: &str| Page::read(query.as_bytes()).map(|page| (page.limit, page.after)).ok();
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
    fn an_id_that_no_letter_has_is_not_found() {
        assert!(letter_id(&"0af9".repeat(8)).is_ok());
        for other in ["", "0af", &"0AF9".repeat(8), &"x".repeat(32), &"0".repeat(33)] {
            assert!(matches!(letter_id(other), Err(Problem::NoSuch(_))), "{other}");
        }
    }
}
