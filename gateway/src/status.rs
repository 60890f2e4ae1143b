//! How the parts of the system are, for the console and whoever else wants to look. Read-only.
//!
//! The gateway asks whom it knows: the services for their readiness, the broker for the lengths of the queues. Billing has
//! no HTTP API and gets none for this; it reports through the broker, which both sides talk to anyway.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use edge::{Refusal, Response};
use order::report::Outcome;
use serde_json::{Map, Value, json};

use crate::board::Board;
use crate::metrics::Metrics;
use crate::publisher::{BrokerState, Publisher};
use crate::upstream::{self, Readiness, Service};

/// For how long an answer is given again, so that many onlookers cost inventory and the broker no more than one.
const FRESH: Duration = Duration::from_millis(250);
/// The longest message id that can be asked for, in bytes.
const MESSAGE_ID_MAX_BYTES: usize = 128;

/// Tells the state of the system.
pub(crate) struct Status {
    /// Inventory, then the others.
    services: Box<[&'static Service]>,
    publisher: Arc<Publisher>,
    metrics: Arc<Metrics>,
    board: Arc<Board>,
    last: Mutex<Option<(Instant, Arc<[u8]>)>>,
}

impl Status {
    pub(crate) fn new(
        services: Box<[&'static Service]>,
        publisher: Arc<Publisher>,
        metrics: Arc<Metrics>,
        board: Arc<Board>,
    ) -> Self {
        Self { services, publisher, metrics, board, last: Mutex::new(None) }
    }

    /// GET /api/status.
    pub(crate) fn serve(&self, response: &mut Response<'_>) -> Result<(), Refusal> {
        let answer = self.answer();
        response.send_json(200, &[("cache-control", "no-store")], &answer)
    }

    /// GET /api/status/orders/{id}; the caller has looked at the id.
    pub(crate) fn serve_order(&self, response: &mut Response<'_>, id: &str) -> Result<(), Refusal> {
        let state = match self.board.outcome(id) {
            Some(Outcome::Stored) => "stored",
            Some(Outcome::Dead) => "dead",
            None => "unknown",
        };
        let answer = json!({ "message_id": id, "state": state }).to_string();
        response.send_json(200, &[("cache-control", "no-store")], answer.as_bytes())
    }

    /// The last answer while it is fresh. Whoever comes while a new one is made waits for it.
    fn answer(&self) -> Arc<[u8]> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, answer)) = &*last
            && made.elapsed() < FRESH
        {
            return answer.clone();
        }
        let answer: Arc<[u8]> = self.look().to_string().into_bytes().into();
        *last = Some((Instant::now(), answer.clone()));
        answer
    }

    fn look(&self) -> Value {
        let mut found = upstream::readiness(&self.services).into_iter();
        let (inventory, postgresql) = match found.next() {
            Some(Readiness::Ready) => ("ok", "ok"),
            Some(Readiness::NotReady(_)) => ("ok", "unreachable"),
            Some(Readiness::Unreachable(_)) | None => ("unreachable", "unknown"),
        };
        let services: Map<_, _> = self.services[1..]
            .iter()
            .zip(found)
            .map(|(service, readiness)| {
                let state = match readiness {
                    Readiness::Ready => "ok",
                    Readiness::NotReady(_) => "not ready",
                    Readiness::Unreachable(_) => "unreachable",
                };
                (service.name().to_owned(), json!({ "state": state }))
            })
            .collect();
        let queues = self.publisher.count_messages();
        // A broker that takes orders and does not answer is no good either.
        let broker = match self.publisher.broker() {
            BrokerState::Ready if queues.is_none() => BrokerState::Unreachable,
            state => state,
        };
        let (waiting, dead) = queues.unwrap_or_default();
        let billing = self.board.billing();
        let minutes = self.board.minutes();
        let minutes: Vec<_> = minutes.iter().map(|minute| {
            json!({ "start_s": minute.start_s(), "confirmed": minute.confirmed, "stored": minute.stored })
        }).collect();
        json!({
            "gateway": { "state": "ok", "version": env!("CARGO_PKG_VERSION"), "uptime_s": self.metrics.uptime_s() },
            "inventory": { "state": inventory },
            "postgresql": { "state": postgresql },
            "services": services,
            "broker": { "state": broker.name(), "messages_waiting": waiting, "messages_dead": dead },
            "billing": {
                "state": if billing.instances > 0 { "ok" } else { "silent" },
                "instances": billing.instances,
                "orders_stored": billing.stored,
                "messages_repeated": billing.repeated,
                "messages_dead": billing.dead,
            },
            "minutes": minutes,
        })
    }
}

/// Whether it can be one of ours, and can stand in a path as it is.
pub(crate) fn is_message_id(id: &str) -> bool {
    (1..=MESSAGE_ID_MAX_BYTES).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_needs_no_encoding() {
        for id in ["a", "2f1c7f0e-0c9b-4f3b-9a53-5f7a4c0d8e11", "a-b_c~d", &"x".repeat(128)] {
            assert!(is_message_id(id), "{id}");
        }
        for other in ["", "a/b", "a.b", "a b", "é", &"x".repeat(129)] {
            assert!(!is_message_id(other), "{other}");
        }
    }
}
