//! Whether the gateway lives, and whether it could do its work.

use std::sync::Arc;

use edge::{Refusal, Request, Response};

use crate::publisher::Publisher;
use crate::upstream::{self, Service};

/// Answers probes.
pub(crate) struct Health {
    services: Box<[&'static Service]>,
    publisher: Arc<Publisher>,
}

impl Health {
    pub(crate) fn new(services: Box<[&'static Service]>, publisher: Arc<Publisher>) -> Self {
        Self { services, publisher }
    }

    /// Whether orders can be published right now.
    pub(crate) fn is_broker_connected(&self) -> bool {
        self.publisher.is_connected()
    }

    /// 200 for as long as the process serves, whatever has become of its dependencies.
    pub(crate) fn serve_health(response: &mut Response<'_>) -> Result<(), Refusal> {
        response.send_json(200, &[], br#"{"status":"ok"}"#)
    }

    /// 200 when every dependency is reachable, else 503 with the names of those that are not.
    pub(crate) fn serve_ready(
        &self,
        request: &Request<'_>,
        response: &mut Response<'_>,
    ) -> Result<(), Refusal> {
        let mut missing = Vec::new();
        for (service, readiness) in self.services.iter().zip(upstream::readiness(&self.services)) {
            if let Some(cause) = readiness.problem() {
                log::warn!("{} not ready: {}: {cause}", request.request_id(), service.name());
                missing.push(service.name());
            }
        }
        if !self.publisher.is_connected() {
            log::warn!("{} not ready: broker: not connected", request.request_id());
            missing.push("broker");
        }
        if missing.is_empty() {
            return response.send_json(200, &[], br#"{"status":"ready"}"#);
        }
        let names = self.services.iter().map(|service| service.name()).chain(["broker"]);
        let states: serde_json::Map<_, _> = names
            .map(|name| (name.to_owned(), if missing.contains(&name) { "unreachable" } else { "ok" }.into()))
            .collect();
        let answer = serde_json::json!({
            "error": format!("not ready: {} unreachable", missing.join(" and ")),
            "dependencies": states,
        });
        response.send_json(503, &[("retry-after", "1")], answer.to_string().as_bytes())
    }
}
