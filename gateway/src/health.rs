//! `/health` and `/ready`: whether the gateway runs, and whether it can do its work.

use std::sync::Arc;

use edge::{Refusal, Request, Response};
use foundation::{Warnings, codes};
use serde_json::{Map, Value, json};

use crate::broker_state::BrokerState;
use crate::outbox::Outbox;
use crate::publisher::Publisher;
use crate::upstream::{self, UpstreamService};

/// Probes of a gateway that is not ready, which strangers can send, too.
static NOT_READY: Warnings = Warnings::new("not being ready");

/// Answers health and readiness probes.
pub(crate) struct Health {
    services: Box<[&'static UpstreamService]>,
    publisher: Arc<Publisher>,
    outbox: Option<Arc<Outbox>>,
}

impl Health {
    pub(crate) fn new(
        services: Box<[&'static UpstreamService]>,
        publisher: Arc<Publisher>,
        outbox: Option<Arc<Outbox>>,
    ) -> Self {
        Self { services, publisher, outbox }
    }

    /// Answers 200 as long as the process serves, whatever the state of its dependencies.
    pub(crate) fn serve_health(response: &mut Response<'_>) -> Result<(), Refusal> {
        response.send_json(200, &[], br#"{"status":"ok"}"#)
    }

    /// Answers 200 if requests for all services and orders can be served, else 503 with the names of what is missing.
    /// The broker is not missing while the outbox takes orders: a load balancer that took the gateway out then would
    /// refuse orders that could be stored.
    pub(crate) fn serve_ready(
        &self,
        request: &Request<'_>,
        response: &mut Response<'_>,
    ) -> Result<(), Refusal> {
        let mut dependencies = Map::new();
        let mut unreachable = self.look_at_services(request.request_id(), &mut dependencies);
        let broker = self.publisher.broker();
        dependencies.insert("broker".to_owned(), broker.name().into());
        let mut problems = Vec::new();
        if broker != BrokerState::Ready && !self.outbox_takes_orders(request.request_id(), &mut dependencies)
        {
            NOT_READY.warn(format_args!("{} not ready: broker: {}", request.request_id(), broker.name()));
            match broker {
                BrokerState::Blocked => problems.push("broker not accepting orders".to_owned()),
                _ => unreachable.push("broker"),
            }
        }
        if !unreachable.is_empty() {
            problems.insert(0, format!("{} unreachable", unreachable.join(" and ")));
        }
        if !problems.is_empty() {
            let error = format!("not ready: {}", problems.join(", "));
            let answer = json!({ "error": error, "code": codes::NOT_READY, "dependencies": dependencies });
            return response.send_json(503, &[("retry-after", "1")], answer.to_string().as_bytes());
        }
        let mut answer = json!({ "status": "ready" });
        if broker != BrokerState::Ready {
            answer["dependencies"] = dependencies.into();
        }
        response.send_json(200, &[], answer.to_string().as_bytes())
    }

    /// Adds the services' states to `dependencies`; returns the names of those that are not ready.
    fn look_at_services(&self, request_id: &str, dependencies: &mut Map<String, Value>) -> Vec<&'static str> {
        let mut missing = Vec::new();
        for (service, readiness) in self.services.iter().zip(upstream::readiness(&self.services)) {
            let name = service.name();
            if let Some(cause) = readiness.problem() {
                NOT_READY.warn(format_args!("{request_id} not ready: {name}: {cause}"));
                missing.push(name);
            }
            let state = if readiness.problem().is_some() { "unreachable" } else { "ok" };
            dependencies.insert(name.to_owned(), state.into());
        }
        missing
    }

    /// Whether orders can go to the outbox; adds its state to `dependencies`, if there is one.
    fn outbox_takes_orders(&self, request_id: &str, dependencies: &mut Map<String, Value>) -> bool {
        let Some(outbox) = &self.outbox else { return false };
        let refusal = outbox.refusal();
        if let Some(cause) = &refusal {
            NOT_READY.warn(format_args!("{request_id} not ready: outbox: {cause}"));
        }
        let state = match refusal {
            None => "ok",
            Some(_) if outbox.is_closed() => "failed",
            Some(_) => "full",
        };
        dependencies.insert("outbox".to_owned(), state.into());
        state == "ok"
    }
}
