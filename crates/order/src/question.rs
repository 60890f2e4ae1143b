//! What gateways ask billing, and what it answers. Both travel through the broker: a question through the queue
//! [`queue`], which every billing process answers from, an answer through the queue that the question names.

use serde::{Deserialize, Serialize};

/// The name of the questions' format, carried in the header `schema`.
pub const SCHEMA: &str = "billing.question.v1";
/// The name of the answers' format.
pub const ANSWER_SCHEMA: &str = "billing.answer.v1";

/// Most orders, and most dead letters, in one answer.
pub const LIMIT_MAX: u32 = 1_000;

/// The queue for questions about the orders of `queue`.
pub fn queue(queue: &str) -> String {
    format!("{queue}.questions")
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "question", rename_all = "snake_case")]
pub enum Question {
    /// How many orders there are, and whether the database answers.
    Summary,
    /// What has become of the order with this message id?
    Order {
        /// The message id.
        message_id: String,
    },
    /// The orders in the order of their ids.
    Orders {
        /// Only orders with a greater id.
        after: i64,
        /// At most so many, and at most [`LIMIT_MAX`].
        limit: u32,
        /// Only orders with a smaller id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<i64>,
        /// In the reverse order.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        newest: bool,
        /// Only orders of this customer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user_id: Option<String>,
    },
    /// The oldest dead letters.
    DeadLetters {
        /// At most so many.
        limit: u32,
    },
    /// Send a dead letter back to the orders' queue.
    Requeue {
        /// Its id in [`Answer::DeadLetters`].
        id: String,
    },
    /// Delete a dead letter.
    Discard {
        /// Its id in [`Answer::DeadLetters`].
        id: String,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// To [`Question::Summary`].
    Summary {
        /// How many orders are in the table; `None` while they are being counted.
        orders: Option<u64>,
    },
    /// To [`Question::Order`].
    Order(OrderRecord),
    /// To [`Question::Orders`].
    Orders {
        /// The orders.
        orders: Vec<StoredOrder>,
        /// Whether there are further ones.
        more: bool,
    },
    /// To [`Question::DeadLetters`].
    DeadLetters {
        /// The letters, oldest first.
        letters: Vec<DeadLetter>,
    },
    /// To [`Question::Requeue`] and [`Question::Discard`]: it is done.
    Done,
    /// There is no such dead letter.
    NotFound,
    /// The database does not answer, so nobody knows.
    DatabaseUnreachable,
    /// Something else went wrong; the log of billing says what.
    Failed,
}

/// What billing knows of one message id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRecord {
    /// When a message with this id was stored (RFC 3339); `None` if none was.
    pub stored_at: Option<String>,
    /// The order that was stored. `None` also for orders from before ids and orders were connected.
    pub order: Option<StoredOrder>,
    /// Why a message with this id was dead-lettered, and was not sent back to the queue since. If an order is stored, too,
    /// this was another one.
    pub dead: Option<String>,
    /// When that was (RFC 3339); also `None` in answers of programs that do not tell it.
    #[serde(default)]
    pub dead_at: Option<String>,
    /// It was dead-lettered, and sent back to the queue.
    pub requeued: bool,
}

/// One order in the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredOrder {
    /// Its number.
    pub id: i64,
    /// The message that it came in, as long as the inbox remembers.
    pub message_id: Option<String>,
    /// Who ordered.
    pub user_id: String,
    /// How many items.
    pub number_of_items: i32,
    /// The amount, as a decimal number with two decimals.
    pub total_amount: String,
    /// When it was stored (RFC 3339), as long as the inbox remembers; also `None` in answers of programs that do not tell
    /// it.
    #[serde(default)]
    pub stored_at: Option<String>,
}

/// One message in the dead-letter queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Stands for its message id and body; equal letters have the same.
    pub id: String,
    /// Its message id, if it has one.
    pub message_id: Option<String>,
    /// Why it is dead, if it says so.
    pub reason: Option<String>,
    /// When it was sent, in seconds since 1970, if it says so.
    pub sent_s: Option<u64>,
    /// The beginning of its body, with replacement characters for what is not UTF-8.
    pub body: String,
    /// How many bytes the body has.
    pub body_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_keep_their_shape_on_the_wire() {
        for (question, json) in [
            (Question::Summary, r#"{"question":"summary"}"#),
            (Question::Order { message_id: "m".to_owned() }, r#"{"question":"order","message_id":"m"}"#),
            (
                Question::Orders { after: 7, limit: 2, before: None, newest: false, user_id: None },
                r#"{"question":"orders","after":7,"limit":2}"#,
            ),
            (
                Question::Orders {
                    after: 0,
                    limit: 2,
                    before: Some(9),
                    newest: true,
                    user_id: Some("3".to_owned()),
                },
                r#"{"question":"orders","after":0,"limit":2,"before":9,"newest":true,"user_id":"3"}"#,
            ),
            (Question::DeadLetters { limit: 2 }, r#"{"question":"dead_letters","limit":2}"#),
            (Question::Requeue { id: "a".to_owned() }, r#"{"question":"requeue","id":"a"}"#),
            (Question::Discard { id: "a".to_owned() }, r#"{"question":"discard","id":"a"}"#),
        ] {
            assert_eq!(serde_json::to_string(&question).unwrap(), json);
            assert_eq!(serde_json::from_str::<Question>(json).unwrap(), question);
        }
        let order = Answer::Order(OrderRecord { dead: Some("why".to_owned()), ..OrderRecord::default() });
        let json = r#"{"answer":"order","stored_at":null,"order":null,"dead":"why","dead_at":null,"requeued":false}"#;
        assert_eq!(serde_json::to_string(&order).unwrap(), json);
        assert_eq!(serde_json::from_str::<Answer>(json).unwrap(), order);
        // Of a billing that does not tell these times yet.
        let old = r#"{"answer":"order","stored_at":null,"order":null,"dead":"why","requeued":false}"#;
        assert_eq!(serde_json::from_str::<Answer>(old).unwrap(), order);
        let old = r#"{"id":7,"message_id":null,"user_id":"3","number_of_items":5,"total_amount":"1.00"}"#;
        assert_eq!(serde_json::from_str::<StoredOrder>(old).unwrap().stored_at, None);
        assert_eq!(
            serde_json::to_string(&Answer::Summary { orders: Some(3) }).unwrap(),
            r#"{"answer":"summary","orders":3}"#
        );
        assert_eq!(serde_json::to_string(&Answer::NotFound).unwrap(), r#"{"answer":"not_found"}"#);
    }
}
