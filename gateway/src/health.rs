//! `/health` and `/ready`: whether the gateway runs, and whether all it depends on can be used.

use std::sync::Arc;

use edge::{Refusal, Request, Response};
use foundation::{Warnings, codes};

use crate::publisher::{BrokerState, Publisher};
use crate::upstream::{self, UpstreamService};

/// Probes of a gateway that is not ready, which strangers can send, too.
static NOT_READY: Warnings = Warnings::new("not being ready");

/// Answers health and readiness probes.
pub(crate) struct Health {
    services: Box<[&'static UpstreamService]>,
    publisher: Arc<Publisher>,
}

impl Health {
    pub(crate) fn new(services: Box<[&'static UpstreamService]>, publisher: Arc<Publisher>) -> Self {
        Self { services, publisher }
    }

    /// Answers 200 as long as the process serves, whatever the state of its dependencies.
    pub(crate) fn serve_health(response: &mut Response<'_>) -> Result<(), Refusal> {
        response.send_json(200, &[], br#"{"status":"ok"}"#)
    }

    /// Answers 200 if every dependency can be used, else 503 with the names of those that cannot.
    pub(crate) fn serve_ready(
        &self,
        request: &Request<'_>,
        response: &mut Response<'_>,
    ) -> Result<(), Refusal> {
        let (mut unreachable, mut dependencies) = (Vec::new(), serde_json::Map::new());
        for (service, readiness) in self.services.iter().zip(upstream::readiness(&self.services)) {
            let name = service.name();
            if let Some(cause) = readiness.problem() {
                NOT_READY.warn(format_args!("{} not ready: {name}: {cause}", request.request_id()));
                unreachable.push(name);
            }
            let state = if readiness.problem().is_some() { "unreachable" } else { "ok" };
            dependencies.insert(name.to_owned(), state.into());
        }
        let broker = self.publisher.broker();
        if broker != BrokerState::Ready {
            NOT_READY.warn(format_args!("{} not ready: broker: {}", request.request_id(), broker.name()));
        }
        if broker == BrokerState::Unreachable {
            unreachable.push("broker");
        }
        dependencies.insert("broker".to_owned(), broker.name().into());
        let mut problems = Vec::new();
        if !unreachable.is_empty() {
            problems.push(format!("{} unreachable", unreachable.join(" and ")));
        }
        if broker == BrokerState::Blocked {
            problems.push("broker not accepting orders".to_owned());
        }
        if problems.is_empty() {
            return response.send_json(200, &[], br#"{"status":"ready"}"#);
        }
        let answer = serde_json::json!({
            "error": format!("not ready: {}", problems.join(", ")),
            "code": codes::NOT_READY,
            "dependencies": dependencies,
        });
        response.send_json(503, &[("retry-after", "1")], answer.to_string().as_bytes())
    }
}
