//! POST /api/billing: checks an order, publishes it, and answers once the broker has confirmed it.

use std::sync::Arc;

use edge::{Request, Response};
use foundation::json::is_json;
use order::Order;

use crate::error::Problem;
use crate::publisher::{Publisher, QueuedOrder};

/// The longest idempotency key, in bytes. It becomes the message id, a short string of at most 255 bytes (AMQP 0-9-1
/// §4.2.5.3).
const KEY_MAX_BYTES: usize = 128;

/// Accepts orders.
pub(crate) struct Orders {
    publisher: Arc<Publisher>,
    max_bytes: u64,
}

impl Orders {
    pub(crate) fn new(publisher: Arc<Publisher>, max_bytes: u64) -> Self {
        Self { publisher, max_bytes }
    }

    /// Answers 200 only after the broker has confirmed that it stored the order.
    pub(crate) fn serve(
        &self,
        request: &mut Request<'_>,
        response: &mut Response<'_>,
    ) -> Result<(), Problem> {
        if !request.field("content-type").is_some_and(is_json) {
            return Err(Problem::UnsupportedMediaType);
        }
        let message_id = if request.has_field("idempotency-key") {
            let key = request.field("idempotency-key").and_then(idempotency_key);
            key.ok_or(Problem::bad_request(
                "Idempotency-Key must be 1 to 128 visible ASCII characters, once",
            ))?
        } else {
            uuid::Uuid::new_v4().to_string()
        };
        let body = request.read_body(self.max_bytes)?;
        Order::parse(&body).map_err(Problem::InvalidOrder)?;
        let confirmed = self.publisher.publish(QueuedOrder { message_id, body: order::compact(&body) })?;
        let answer = serde_json::json!({ "message": "Message posted", "message_id": confirmed.message_id });
        Ok(response.send_json(200, &[], answer.to_string().as_bytes())?)
    }
}

fn idempotency_key(value: &[u8]) -> Option<String> {
    let valid = (1..=KEY_MAX_BYTES).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
    if valid { String::from_utf8(value.to_vec()).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idempotency_key_is_short_and_visible() {
        assert_eq!(idempotency_key(b"order-1!").as_deref(), Some("order-1!"));
        for bad in [&b""[..], b"a b", b"\xc3\xa9", b"a\tb", &[b'a'; 129]] {
            assert_eq!(idempotency_key(bad), None);
        }
    }
}
