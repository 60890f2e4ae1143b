//! The state of all parts of the platform, for the console and for people. Read-only.
//!
//! The gateway asks the services for their readiness and the broker for the lengths of the queues. Billing has no HTTP
//! API; it sends reports and answers questions through the broker.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use edge::{Refusal, Response, path};
use order::question::{Answer, Question};
use serde_json::{Map, Value, json};

use crate::billing_activity::BillingActivity;
use crate::metrics::Metrics;
use crate::order_states::OrderStates;
use crate::outbox::Outbox;
use crate::publisher::{BrokerState, Publisher};
use crate::upstream::{self, Readiness, UpstreamService};

/// How long an answer is reused, so that many viewers cost inventory and the broker no more than one.
const FRESH: Duration = Duration::from_millis(250);
/// How long billing may take to tell the number of orders.
const SUMMARY_TIMEOUT: Duration = Duration::from_millis(500);

/// Where orders are that this gateway has accepted.
pub(crate) struct Placed {
    pub(crate) outbox: Option<Arc<Outbox>>,
    pub(crate) states: Arc<OrderStates>,
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

    /// GET /api/status/orders/{id}: the first of `ids` that is known, else the last; the caller has checked them.
    pub(crate) fn serve_order(&self, response: &mut Response<'_>, ids: &[String]) -> Result<(), Refusal> {
        let mut states = ids.iter().map(|id| (id, self.placed.states.find(id)));
        let found = states.find(|(id, state)| state.is_known() || Some(*id) == ids.last());
        let (id, state) = found.ok_or(Refusal::Internal("no message id was asked for"))?;
        let mut answer = json!({ "message_id": id, "state": state.name });
        if let Some(reason) = state.reason {
            answer["reason"] = reason.into();
        }
        let answer = answer.to_string();
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
        let (billing_db, orders_stored) = match self.publisher.ask(&Question::Summary, SUMMARY_TIMEOUT) {
            Ok(Answer::Summary { orders }) => ("ok", orders),
            Ok(Answer::DatabaseUnreachable) => ("unreachable", None),
            _ => ("unknown", None),
        };
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
                "orders_stored": orders_stored,
                "messages_repeated": billing.repeated,
                "messages_dead": billing.dead,
            },
            "billing_db": { "state": billing_db },
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

/// The message id that a query asks for; `None` if it has none, or several. A plus sign stands for itself, since no id
/// has a space.
pub(crate) fn message_id_of(query: &[u8]) -> Option<Cow<'_, str>> {
    let mut given = query.split(|byte| *byte == b'&').filter_map(|pair| pair.strip_prefix(b"message_id="));
    let id = path::decode(given.next()?)?;
    given.next().is_none().then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_can_be_asked_for_in_a_query() {
        for (query, id) in [
            ("message_id=a", Some("a")),
            ("x=1&message_id=a%2Fb.c%23%3F%26%25+", Some("a/b.c#?&%+")),
            ("message_id=..", Some("..")),
            ("message_id=", Some("")),
            ("message_id=a&message_id=b", None),
            ("x=message_id=a", None),
            ("", None),
        ] {
            assert_eq!(message_id_of(query.as_bytes()).as_deref(), id, "{query}");
        }
    }
}
