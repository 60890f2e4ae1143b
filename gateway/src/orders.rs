//! POST /api/billing: checks an order, publishes it, and answers once the broker has confirmed it or the outbox has
//! stored it.

use std::sync::Arc;
use std::time::Duration;

use edge::{Request, Response};
use foundation::json::is_json;
use order::Order;

use crate::error::Problem;
use crate::message_ids;
use crate::outbox::Outbox;
use crate::publisher::{Publisher, QueuedOrder};
use crate::recent_orders::{KeyUsed, RecentOrders};

/// How long the broker may take to confirm an order before that goes to the outbox. A client then waits this long and
/// for one fdatasync, well below a second.
const OUTBOX_AFTER: Duration = Duration::from_millis(500);

/// Accepts orders.
pub(crate) struct Orders {
    publisher: Arc<Publisher>,
    outbox: Option<Arc<Outbox>>,
    recent: Arc<RecentOrders>,
    max_bytes: u64,
}

impl Orders {
    pub(crate) fn new(
        publisher: Arc<Publisher>,
        outbox: Option<Arc<Outbox>>,
        recent: Arc<RecentOrders>,
        max_bytes: u64,
    ) -> Self {
        Self { publisher, outbox, recent, max_bytes }
    }

    /// Answers 200 only after the broker has confirmed that it stored the order, or the outbox has stored it.
    pub(crate) fn serve(
        &self,
        request: &mut Request<'_>,
        response: &mut Response<'_>,
    ) -> Result<(), Problem> {
        if !request.field("content-type").is_some_and(is_json) {
            return Err(Problem::UnsupportedMediaType);
        }
        let message_id = if request.has_field("idempotency-key") {
            let key = request.field("idempotency-key");
            key.and_then(|key| message_ids::of_key(request.client(), key)).ok_or(Problem::FieldInvalid(
                "Idempotency-Key must be 1 to 128 visible ASCII characters, once",
            ))?
        } else {
            message_ids::random(request.client())
        };
        let body = request.read_body(self.max_bytes)?;
        Order::parse(&body).map_err(Problem::InvalidOrder)?;
        let order = QueuedOrder { message_id, body: order::compact(&body) };
        self.place(&order)?;
        let answer = serde_json::json!({ "message": "Message posted", "message_id": order.message_id });
        Ok(response.send_json(200, &[], answer.to_string().as_bytes())?)
    }

    /// Brings an order to the broker or, if that does not confirm it, to the outbox.
    fn place(&self, order: &QueuedOrder) -> Result<(), Problem> {
        let message_id = order.message_id.clone();
        if let Err(KeyUsed) = self.recent.begin(&message_id, &order.body) {
            return Err(Problem::KeyUsed { message_id });
        }
        let Err((cause, may_be_stored)) = self.publish_or_keep(order) else { return Ok(()) };
        // Of several attempts under one key, another one may have stored the order.
        let may_be_stored = may_be_stored || !self.recent.forget(&message_id);
        Err(Problem::NotPublished { message_id, may_be_stored, cause })
    }

    /// Returns why the order is not known to be stored, and whether it may be stored nevertheless.
    fn publish_or_keep(&self, order: &QueuedOrder) -> Result<(), (String, bool)> {
        let outbox = self.outbox.as_ref().filter(|outbox| !outbox.is_closed());
        let (mut causes, mut may_be_stored, mut timed_out) = (Vec::new(), false, false);
        if outbox.is_none_or(|outbox| !outbox.goes_first()) {
            let timeout = if outbox.is_some() { OUTBOX_AFTER } else { self.publisher.confirm_timeout() };
            let Err(unconfirmed) = self.publisher.publish(order, timeout) else {
                self.recent.note_confirmed(&order.message_id, &order.body, None);
                return Ok(());
            };
            may_be_stored = unconfirmed.may_be_stored;
            timed_out = unconfirmed.timed_out;
            causes.push(unconfirmed.cause);
        }
        if let Some(outbox) = outbox {
            let Err(not_kept) = outbox.keep(order) else {
                // Only now: an outbox that takes nothing must not keep orders from the broker.
                if timed_out {
                    outbox.note_late_broker();
                }
                return Ok(());
            };
            may_be_stored |= not_kept.may_be_kept;
            causes.push(not_kept.cause);
        }
        Err((causes.join("; "), may_be_stored))
    }
}
