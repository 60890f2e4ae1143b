//! The state of all parts of the platform, for the console and for people. Read-only.
//!
//! The gateway asks the services for their readiness and the broker for the lengths of the queues. Billing has no HTTP
//! API; it sends reports through the broker.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use edge::{Refusal, Response, path};
use order::report::MessageOutcome;
use serde_json::{Map, Value, json};

use crate::billing_activity::BillingActivity;
use crate::metrics::Metrics;
use crate::orders;
use crate::outbox::Outbox;
use crate::publisher::{BrokerState, Publisher};
use crate::recent_orders::{Place, RecentOrders};
use crate::upstream::{self, Readiness, UpstreamService};

/// How long an answer is reused, so that many viewers cost inventory and the broker no more than one.
const FRESH: Duration = Duration::from_millis(250);
/// The longest message id that can be looked up, in bytes.
const MESSAGE_ID_MAX_BYTES: usize = 128;

/// Where orders are that this gateway has accepted.
pub(crate) struct Placed {
    pub(crate) outbox: Option<Arc<Outbox>>,
    pub(crate) recent: Arc<RecentOrders>,
}

/// Answers /api/status and /api/status/orders/{id}.
pub(crate) struct Status {
    /// Inventory, then the further services.
    services: Box<[&'static UpstreamService]>,
    publisher: Arc<Publisher>,
    placed: Placed,
    metrics: Arc<Metrics>,
    billing_activity: Arc<BillingActivity>,
    last: Mutex<Option<(Instant, Arc<[u8]>)>>,
}

impl Status {
    pub(crate) fn new(
        services: Box<[&'static UpstreamService]>,
        publisher: Arc<Publisher>,
        placed: Placed,
        metrics: Arc<Metrics>,
        billing_activity: Arc<BillingActivity>,
    ) -> Self {
        Self { services, publisher, placed, metrics, billing_activity, last: Mutex::new(None) }
    }

    /// GET /api/status.
    pub(crate) fn serve(&self, response: &mut Response<'_>) -> Result<(), Refusal> {
        let answer = self.answer();
        response.send_json(200, &[("cache-control", "no-store")], &answer)
    }

    /// GET /api/status/orders/{id}; the caller has checked the id.
    pub(crate) fn serve_order(&self, response: &mut Response<'_>, id: &str) -> Result<(), Refusal> {
        let state = match (self.billing_activity.outcome(id), self.placed.recent.place(id)) {
            (Some(MessageOutcome::Stored), _) => "stored",
            (Some(MessageOutcome::Dead), _) => "dead",
            (None, Some(Place::Outbox)) => "outbox",
            (None, Some(Place::Queue)) => "waiting",
            (None, Some(Place::Underway) | None) => "unknown",
        };
        let answer = json!({ "message_id": id, "state": state }).to_string();
        response.send_json(200, &[("cache-control", "no-store")], answer.as_bytes())
    }

    /// The last answer while it is fresh, else a new one. Concurrent callers wait for the same new answer.
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
        // A broker that is connected but does not answer counts as unreachable.
        let broker = match self.publisher.broker() {
            BrokerState::Ready if queues.is_none() => BrokerState::Unreachable,
            state => state,
        };
        let (waiting, dead) = queues.unwrap_or_default();
        let billing = self.billing_activity.billing();
        let minutes = self.billing_activity.minutes();
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
            "outbox": self.placed.outbox.as_ref().map(|outbox| {
                let figures = outbox.figures();
                json!({
                    "state": if figures.is_open { "ok" } else { "failed" },
                    "orders_waiting": figures.orders,
                    "oldest_s": figures.oldest.as_secs(),
                })
            }),
            "minutes": minutes,
        })
    }
}

/// The message id that a query asks for, which may be any key that the gateway accepts; `None` if it has none, or several.
/// A plus sign stands for itself, since no key has a space.
pub(crate) fn message_id_of(query: &[u8]) -> Option<String> {
    let mut given = query.split(|byte| *byte == b'&').filter_map(|pair| pair.strip_prefix(b"message_id="));
    let id = path::decode(given.next()?)?;
    if given.next().is_some() { None } else { orders::idempotency_key(id.as_bytes()) }
}

/// Whether `id` can be a message id of ours and needs no escaping in a path.
pub(crate) fn is_message_id(id: &str) -> bool {
    (1..=MESSAGE_ID_MAX_BYTES).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_can_be_asked_for_in_a_query() {
        for (query, id) in [
            ("message_id=a", Some("a")),
            ("x=1&message_id=a%2Fb.c%23%3F%26%25+", Some("a/b.c#?&%+")),
            ("message_id=..", Some("..")),
            ("message_id=", None),
            ("message_id=a%20b", None),
            ("message_id=a&message_id=b", None),
            ("x=message_id=a", None),
            ("", None),
        ] {
            assert_eq!(message_id_of(query.as_bytes()).as_deref(), id, "{query}");
        }
    }

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
