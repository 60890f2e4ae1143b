//! The state of all parts of the platform, for the console and for people. Read-only.
//!
//! What is told was found out by `watch`, which asks the services for their readiness and the broker for the lengths of the
//! queues. Billing has no HTTP API; it sends reports and answers questions through the broker.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use edge::{Refusal, Response, path};
use serde_json::{Map, Value, json};

use crate::billing_activity::BillingActivity;
use crate::metrics::Metrics;
use crate::order_stages;
use crate::order_states::OrderStates;
use crate::settings::Deployment;
use crate::upstream::UpstreamService;
use crate::watch::{PartState, Sight, Watch};

/// Answers /api/status and /api/status/orders/{id}.
pub(crate) struct Status {
    /// Inventory, then the further services.
    services: Box<[&'static UpstreamService]>,
    watch: Arc<Watch>,
    states: Arc<OrderStates>,
    metrics: Arc<Metrics>,
    billing_activity: Arc<BillingActivity>,
    deployment: Option<Deployment>,
}

impl Status {
    pub(crate) fn new(
        services: Box<[&'static UpstreamService]>,
        watch: Arc<Watch>,
        states: Arc<OrderStates>,
        metrics: Arc<Metrics>,
        billing_activity: Arc<BillingActivity>,
        deployment: Option<Deployment>,
    ) -> Self {
        Self { services, watch, states, metrics, billing_activity, deployment }
    }

    /// GET /api/status.
    pub(crate) fn serve(&self, response: &mut Response<'_>) -> Result<(), Refusal> {
        let answer = self.describe(&self.watch.sight()).to_string();
        response.send_json(200, &[("cache-control", "no-store")], answer.as_bytes())
    }

    /// GET /api/status/orders/{id}: the first of `ids` that is known, else the last; the caller has checked them.
    pub(crate) fn serve_order(&self, response: &mut Response<'_>, ids: &[String]) -> Result<(), Refusal> {
        let mut asked = ids.iter().map(|id| (id, self.states.find(id)));
        let found = asked.find(|(id, state)| state.is_known() || Some(*id) == ids.last());
        let (id, state) = found.ok_or(Refusal::Internal("no message id was asked for"))?;
        let stages = order_stages::to_json(&state.stages);
        let mut answer = json!({ "message_id": id, "state": state.name, "stages": stages });
        if let Some(reason) = state.reason {
            answer["reason"] = reason.into();
        }
        let answer = answer.to_string();
        response.send_json(200, &[("cache-control", "no-store")], answer.as_bytes())
    }

    fn describe(&self, sight: &Sight) -> Value {
        let service = |(index, service): (usize, &&UpstreamService)| {
            let details = &sight.details[index];
            let mut told = part(&sight.services[index], details.version.as_deref());
            told["memory_bytes"] = details.memory_bytes.into();
            told["requests"] = self.metrics.answered_for(index).into();
            (service.name().to_owned(), told)
        };
        let mut services: Map<_, _> = self.services.iter().enumerate().map(service).collect();
        // Inventory answers; what its database does is told apart.
        let mut inventory = services.remove(self.services[0].name()).unwrap_or_default();
        if sight.services[0].name == "not ready" {
            inventory["state"] = "ok".into();
            inventory["cause"] = Value::Null;
        }
        let movies_db = part(&sight.movies_db, sight.details[0].database_version.as_deref());
        let reported = &sight.reported;
        let minutes = self.billing_activity.minutes();
        let minutes: Vec<_> = minutes.iter().map(|minute| {
            json!({ "start_s": minute.start_s(), "confirmed": minute.confirmed, "stored": minute.stored })
        }).collect();
        let uptime_s = self.metrics.uptime_s();
        let billing_program = self.billing_activity.program().unwrap_or_default();
        let billing_db = part(&sight.billing_db, billing_program.database_version.as_deref());
        json!({
            "gateway": {
                "state": "ok",
                "version": env!("CARGO_PKG_VERSION"),
                "uptime_s": uptime_s,
                "since_s": now_s().saturating_sub(uptime_s),
                "memory_bytes": foundation::metrics::resident_bytes(),
                "deployment": self.deployment.map(Deployment::name),
            },
            "inventory": inventory,
            "postgresql": movies_db,
            "services": services,
            "broker": {
                "state": sight.broker.name,
                "since_s": sight.broker.since_s(),
                "cause": sight.broker.cause,
                "product": sight.broker_program.as_ref().map(|program| program.product.as_str()),
                "version": sight.broker_program.as_ref().map(|program| program.version.as_str()),
                "consumers": sight.consumers,
                "messages_waiting": sight.waiting,
                "messages_dead": sight.dead,
            },
            "billing": {
                "state": sight.billing.name,
                "since_s": sight.billing.since_s(),
                "cause": sight.billing.cause,
                "version": billing_program.version,
                "memory_bytes": reported.memory_bytes,
                "instances": reported.instances,
                "orders_stored": sight.orders_stored,
                "messages_held": (reported.instances > 0).then_some(reported.held),
                "messages_repeated": reported.repeated,
                "messages_dead": reported.dead,
            },
            "billing_db": billing_db,
            "outbox": sight.outbox.as_ref().map(|figures| {
                json!({
                    "state": if figures.is_open { "ok" } else { "failed" },
                    "cause": figures.refusal,
                    "orders_waiting": figures.orders,
                    "oldest_s": figures.oldest.as_secs(),
                })
            }),
            "minutes": minutes,
        })
    }
}

fn part(state: &PartState, version: Option<&str>) -> Value {
    json!({ "state": state.name, "since_s": state.since_s(), "cause": state.cause, "version": version })
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
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
