//! The gateway: the only public program of the platform.
//!
//! The path of a request: `crates/edge` (reads it, strictly and within limits) → `routes`, which asks `names`, `access`
//! and `rates` whether it may be served → `proxy` and `upstream` for the services, `orders`, `publisher` and `outbox` for
//! /api/billing, `billing_records` for what billing has stored, `status`, `history`, `health` or `assets` for the
//! gateway's own paths; `watch` looks at the other parts for these.

mod access;
mod access_log;
mod assets;
mod asyncapi;
mod billing_activity;
mod billing_records;
mod broker_state;
mod catalogue;
mod cors;
mod error;
mod failures;
mod forwarded;
mod health;
mod history;
mod inspection;
mod message_ids;
mod metrics;
mod names;
mod openapi;
mod order_stages;
mod order_states;
mod orders;
mod outbox;
mod proxy;
mod publisher;
mod questions;
mod rates;
mod recent_orders;
mod routes;
mod settings;
mod status;
mod token_table;
mod tokens;
mod upstream;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use edge::Server;
use foundation::Shutdown;
use foundation::listener::{self, Identity};

pub use error::{Error, Problem};
pub use forwarded::Network;
pub use settings::{
    AccessSettings, Deployment, OutboxSettings, ProfileSettings, Profiles, QueueSettings, RateSettings,
    ServiceSettings, Settings, TokenSettings, UpstreamSettings,
};
pub use token_table::{Role, TokenFault, TokenTable, new_token};
pub use upstream::Reason;

use access::Access;
use access_log::AccessLog;
use billing_activity::BillingActivity;
use billing_records::BillingRecords;
use catalogue::Catalogue;
use cors::Cors;
use forwarded::TrustedProxies;
use health::Health;
use history::History;
use inspection::Inspection;
use metrics::Metrics;
use names::Names;
use order_states::OrderStates;
use orders::Orders;
use outbox::Outbox;
use proxy::Proxy;
use publisher::Publisher;
use rates::Rates;
use recent_orders::RecentOrders;
use routes::Routes;
use status::Status;
use tokens::Tokens;
use upstream::UpstreamService;
use watch::Watch;

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
        let tokens = Tokens::start(&settings.access.tokens, &shutdown)?;
        if tokens.is_none() && !server.addr().ip().to_canonical().is_loopback() {
            log::warn!(
                "no tokens are configured: whoever reaches {} may read, change and delete everything; see \
                 GATEWAY_TOKENS_FILE",
                server.addr()
            );
        }
        let names = Names::new(settings.access.allowed_hosts.as_deref(), tokens.is_some());
        let services = services(&settings)?;
        let labels = routes::labels(&settings.services);
        let service_routes = (0..services.len()).map(routes::labels_of).collect();
        let metrics = Metrics::new(labels, server.connections(), services.clone(), service_routes);
        let metrics = Arc::new(metrics);
        let billing_activity = Arc::new(BillingActivity::default());
        let publisher = Publisher::start(settings.queue.clone(), metrics.clone(), billing_activity.clone())?;
        let recent = Arc::new(RecentOrders::new(billing_activity.clone()));
        let outbox = settings.outbox.as_ref();
        let outbox = outbox.map(|settings| Outbox::start(settings, publisher.clone(), recent.clone()));
        let outbox = outbox.transpose()?;
        let states = Arc::new(OrderStates::new(publisher.clone(), recent.clone(), billing_activity.clone()));
        let watch = Watch::new(services.clone(), publisher.clone(), billing_activity.clone(), outbox.clone());
        let watch = Arc::new(watch);
        let history = History::start(&services, watch.clone(), metrics.clone(), shutdown.clone())?;
        let proxies = services.iter().zip(&settings.services);
        let routes = Arc::new(Routes {
            services: proxies
                .map(|(service, settings)| (settings.clone(), Proxy::new(service, settings.body_max_bytes)))
                .collect(),
            orders: Orders::new(publisher.clone(), outbox.clone(), recent, settings.billing_body_max_bytes),
            billing_records: BillingRecords::new(publisher.clone(), states.clone()),
            health: Health::new(services.clone(), publisher.clone(), outbox.clone()),
            status: Status::new(
                services.clone(),
                watch.clone(),
                states,
                metrics.clone(),
                billing_activity.clone(),
                settings.deployment,
            ),
            history,
            catalogue: Catalogue::new(
                &services,
                &settings.services,
                watch,
                billing_activity,
                &settings.queue,
                settings.profiles.clone(),
            ),
            metrics: metrics.clone(),
            access_log: AccessLog::new(settings.access.access_log),
            proxies: TrustedProxies::new(settings.access.trusted_proxies.clone()),
            names,
            rates: Rates::new(&settings.rates),
            cors: Cors::new(settings.access.cors_origins.clone()),
            access: Access::new(tokens, settings.access.public_reads),
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
    Tokens::load(&settings.access.tokens)?;
    let services = services(settings)?;
    for (service, readiness) in services.iter().zip(upstream::readiness(&services)) {
        if let Some(cause) = readiness.problem() {
            return Err(Error::Dependency(format!("{}: {cause}", service.name())));
        }
    }
    publisher::check(&settings.queue).map_err(|cause| Error::Dependency(format!("broker: {cause}")))
}
