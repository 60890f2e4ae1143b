//! Whether the gateway lives, and whether it could do its work.

use std::sync::Arc;

use edge::{Refusal, Request, Response};

use crate::publisher::Publisher;
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
        if let Some(cause) = self.upstreams.readiness().problem() {
            log::warn!("{} not ready: inventory: {cause}", request.request_id());
            missing.push("inventory");
        }
        if !self.publisher.is_connected() {
            log::warn!("{} not ready: broker: not connected", request.request_id());
            missing.push("broker");
        }
        if missing.is_empty() {
            return response.send_json(200, &[], br#"{"status":"ready"}"#);
        }
        let state = |name| if missing.contains(&name) { "unreachable" } else { "ok" };
        let answer = serde_json::json!({
            "error": format!("not ready: {} unreachable", missing.join(" and ")),
            "dependencies": { "inventory": state("inventory"), "broker": state("broker") },
        });
        response.send_json(503, &[("retry-after", "1")], answer.to_string().as_bytes())
    }
}
