//! Whether the gateway lives, and whether it could do its work.

use std::sync::Arc;

use crate::Problem;
use crate::edge::Exchange;
use crate::publisher::{BrokerState, Publisher};
use crate::upstream::Upstreams;

/// Answers probes.
pub(crate) struct Health {
    upstreams: Arc<Upstreams>,
    publisher: Arc<Publisher>,
}

impl Health {
    pub(crate) fn new(upstreams: Arc<Upstreams>, publisher: Arc<Publisher>) -> Self {
        Self { upstreams, publisher }
    }

    /// Whether there is a connection to the broker.
    pub(crate) fn is_broker_connected(&self) -> bool {
        self.publisher.is_connected()
    }

    /// 200 for as long as the process serves, whatever has become of its dependencies.
    pub(crate) fn serve_health(exchange: &mut Exchange<'_>) -> Result<(), Problem> {
        exchange.answer(200, br#"{"status":"ok"}"#)
    }

    /// 200 when every dependency can be used, else 503 with the names of those that cannot.
    pub(crate) fn serve_ready(&self, exchange: &mut Exchange<'_>) -> Result<(), Problem> {
        let mut problems = Vec::new();
        let readiness = self.upstreams.readiness();
        if let Some(cause) = readiness.problem() {
            log::warn!("{} not ready: inventory: {cause}", exchange.request_id);
        }
        let broker = self.publisher.broker();
        if broker != BrokerState::Ready {
            log::warn!("{} not ready: broker: {}", exchange.request_id, broker.name());
        }
        match (readiness.problem().is_some(), broker == BrokerState::Unreachable) {
            (true, true) => problems.push("inventory and broker unreachable"),
            (true, false) => problems.push("inventory unreachable"),
            (false, true) => problems.push("broker unreachable"),
            (false, false) => {}
        }
        if broker == BrokerState::Blocked {
            problems.push("broker not accepting orders");
        }
        if problems.is_empty() {
            return exchange.answer(200, br#"{"status":"ready"}"#);
        }
        let inventory = if readiness.problem().is_some() { "unreachable" } else { "ok" };
        let answer = serde_json::json!({
            "error": format!("not ready: {}", problems.join(", ")),
            "dependencies": { "inventory": inventory, "broker": broker.name() },
        });
        exchange.answer_with(503, &[("retry-after", "1")], answer.to_string().as_bytes())
    }
}
