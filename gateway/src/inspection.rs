//! What the gateway shows on its private listener: its dependencies with causes, and its metrics.

use std::sync::Arc;

use foundation::listener::{Dependency, Inspect};
use foundation::metrics::Exposition;

use crate::broker_state::BrokerState;
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::publisher::Publisher;
use crate::upstream::{self, UpstreamService};

/// The gateway's private listener.
pub(crate) struct Inspection {
    pub(crate) services: Box<[&'static UpstreamService]>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) outbox: Option<Arc<Outbox>>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Inspect for Inspection {
    fn dependencies(&self) -> Vec<Dependency> {
        let services = self.services.iter().zip(upstream::readiness(&self.services));
        let mut dependencies: Vec<_> = services
            .map(|(service, readiness)| Dependency {
                name: service.name(),
                problem: readiness.problem().map(str::to_owned),
            })
            .collect();
        let broker = self.publisher.broker();
        let problem = (broker != BrokerState::Ready).then(|| broker.name().to_owned());
        dependencies.push(Dependency { name: "broker", problem });
        if let Some(outbox) = &self.outbox {
            let problem = outbox.is_closed().then(|| "its log failed: restart the gateway".to_owned());
            dependencies.push(Dependency { name: "outbox", problem });
        }
        dependencies
    }

    fn metrics(&self, text: &mut Exposition) {
        self.metrics.write(text, self.publisher.is_connected());
        if let Some(outbox) = &self.outbox {
            outbox.write(text);
        }
    }
}
