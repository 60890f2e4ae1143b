//! The gateway: the only public program of the platform.
//!
//! The path of a request: `crates/edge` (reads it, strictly and within limits) → `routes` → `proxy` and `upstream` for
//! the services, `orders`, `publisher` and `outbox` for /api/billing, `status`, `health` or `assets` for the gateway's own paths.

mod assets;
mod billing_activity;
mod error;
mod health;
mod inspection;
mod metrics;
mod orders;
mod outbox;
mod proxy;
mod publisher;
mod recent_orders;
mod routes;
mod settings;
mod status;
mod upstream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use edge::Server;
use foundation::Shutdown;
use foundation::listener::{self, Identity};

pub use error::{Error, Problem};
pub use settings::{OutboxSettings, QueueSettings, ServiceSettings, Settings, UpstreamSettings};
pub use upstream::Reason;

use billing_activity::BillingActivity;
use health::Health;
use inspection::Inspection;
use metrics::Metrics;
use orders::Orders;
use outbox::Outbox;
use proxy::Proxy;
use publisher::Publisher;
use recent_orders::RecentOrders;
use routes::Routes;
use status::{Placed, Status};
use upstream::UpstreamService;

/// A gateway that is bound to its address.
pub struct Gateway {
    server: Server,
    routes: Arc<Routes>,
    services: Box<[&'static UpstreamService]>,
    publisher: Arc<Publisher>,
    outbox: Option<Arc<Outbox>>,
    settings: Settings,
    shutdown: Shutdown,
}

impl Gateway {
    /// Binds the addresses and starts to connect to the broker. Only the private listener is served before
    /// [`Gateway::run`].
    pub fn build(settings: Settings, shutdown: Shutdown) -> Result<Self, Error> {
        let server = Server::bind(&settings.host, settings.port).map_err(|source| {
            let addr = format!("{}:{}", settings.host, settings.port);
            Error::Listen { addr, source }
        })?;
        let services = services(&settings)?;
        let labels = routes::labels(&settings.services);
        let metrics = Arc::new(Metrics::new(labels, server.connections(), services.clone()));
        let billing_activity = Arc::new(BillingActivity::default());
        let publisher = Publisher::start(settings.queue.clone(), metrics.clone(), billing_activity.clone())?;
        let recent = Arc::new(RecentOrders::new());
        let outbox = settings.outbox.as_ref();
        let outbox = outbox.map(|settings| Outbox::start(settings, publisher.clone(), recent.clone()));
        let outbox = outbox.transpose()?;
        let proxies = services.iter().zip(&settings.services);
        let routes = Arc::new(Routes {
            services: proxies
                .map(|(service, settings)| (settings.clone(), Proxy::new(service, settings.body_max_bytes)))
                .collect(),
            orders: Orders::new(
                publisher.clone(),
                outbox.clone(),
                recent.clone(),
                settings.billing_body_max_bytes,
            ),
            health: Health::new(services.clone(), publisher.clone()),
            status: Status::new(
                services.clone(),
                publisher.clone(),
                Placed { outbox: outbox.clone(), recent },
                metrics.clone(),
                billing_activity,
            ),
            metrics: metrics.clone(),
        });
        let identity = Identity { name: "api-gateway", version: env!("CARGO_PKG_VERSION") };
        let inspection = Inspection {
            services: services.clone(),
            publisher: publisher.clone(),
            outbox: outbox.clone(),
            metrics,
        };
        listener::start(&settings.private, identity, Arc::new(inspection))?;
        Ok(Self { server, routes, services, publisher, outbox, settings, shutdown })
    }

    /// The address that was bound.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Serves until the shutdown is requested; then lets running requests finish within the stop timeout.
    pub fn run(self) -> Result<(), Error> {
        let (services, shutdown) = (self.services, self.shutdown.clone());
        thread::Builder::new()
            .name("pool".to_owned())
            .spawn(move || upstream::prune(&services, &shutdown))
            .map_err(|source| Error::Io { action: "start a thread", source })?;
        log::info!("listening on {}", self.server.addr());
        self.server
            .run(&self.settings.edge, self.routes, &self.shutdown)
            .map_err(|source| Error::Io { action: "serve", source })?;
        if let Some(outbox) = self.outbox {
            outbox.stop();
        }
        self.publisher.stop();
        log::info!("stopped");
        Ok(())
    }
}

/// Creates the configured services; refuses one whose prefix overlaps with the gateway's own paths.
fn services(settings: &Settings) -> Result<Box<[&'static UpstreamService]>, Error> {
    routes::check_prefixes(&settings.services)?;
    Ok(settings.services.iter().map(|service| UpstreamService::new(service, &settings.upstream)).collect())
}

/// Checks that every dependency answers, without serving.
pub fn check(settings: &Settings) -> Result<(), Error> {
    let services = services(settings)?;
    for (service, readiness) in services.iter().zip(upstream::readiness(&services)) {
        if let Some(cause) = readiness.problem() {
            return Err(Error::Dependency(format!("{}: {cause}", service.name())));
        }
    }
    publisher::check(&settings.queue).map_err(|cause| Error::Dependency(format!("broker: {cause}")))
}
