//! The gateway: the one program of the platform that strangers talk to.
//!
//! A request's way: `crates/edge` (reads it, strictly and within limits) → `routes` → `proxy` and `upstream` for
//! /api/movies, or `orders` and `publisher` for /api/billing, or `health`.

mod assets;
mod board;
mod error;
mod health;
mod metrics;
mod orders;
mod proxy;
mod publisher;
mod routes;
mod settings;
mod status;
mod upstream;

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use edge::Server;
use foundation::Shutdown;

pub use error::{Error, Problem};
pub use settings::{BodySettings, QueueSettings, Settings, UpstreamSettings};

use board::Board;
use health::Health;
use metrics::Metrics;
use orders::Orders;
use proxy::Proxy;
use publisher::Publisher;
use routes::Routes;
use status::Status;
use upstream::Upstreams;

/// A gateway that listens.
pub struct Gateway {
    server: Server,
    routes: Arc<Routes>,
    publisher: Arc<Publisher>,
    settings: Settings,
    shutdown: Shutdown,
}

impl Gateway {
    /// Binds the address, prepares everything and starts to connect to the broker; nothing is served before [`Gateway::run`].
    pub fn build(settings: Settings, shutdown: Shutdown) -> Result<Self, Error> {
        let server = bind(&settings)?;
        let upstreams = Arc::new(Upstreams::new(&settings.upstream));
        let (metrics, board) =
            (Arc::new(Metrics::new(&routes::LABELS, server.connections())), Arc::new(Board::default()));
        let publisher = Publisher::start(settings.queue.clone(), metrics.clone(), board.clone())?;
        let routes = Arc::new(Routes {
            proxy: Proxy::new(upstreams.clone(), settings.bodies.movies_max_bytes),
            orders: Orders::new(publisher.clone(), settings.bodies.billing_max_bytes),
            health: Health::new(upstreams.clone(), publisher.clone()),
            status: Status::new(upstreams, publisher.clone(), metrics.clone(), board),
            metrics,
        });
        Ok(Self { server, routes, publisher, settings, shutdown })
    }

    /// The address that was bound.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Serves until the shutdown is requested, and then until what runs is finished, within the stop timeout.
    pub fn run(self) -> Result<(), Error> {
        log::info!("listening on {}", self.addr());
        self.server
            .run(&self.settings.edge, self.routes, &self.shutdown)
            .map_err(|source| Error::Io { action: "serve", source })?;
        self.publisher.stop();
        log::info!("stopped");
        Ok(())
    }
}

fn bind(settings: &Settings) -> Result<Server, Error> {
    let name = format!("{}:{}", settings.host, settings.port);
    let failed = |source| Error::Listen { addr: name.clone(), source };
    let host = settings.host.trim_matches(['[', ']']);
    let mut addrs = (host, settings.port).to_socket_addrs().map_err(failed)?;
    let addr = addrs.next().ok_or_else(|| failed(std::io::ErrorKind::AddrNotAvailable.into()))?;
    Server::bind(addr).map_err(failed)
}

/// Checks that every dependency answers, without serving.
pub fn check(settings: &Settings) -> Result<(), Error> {
    let upstreams = Upstreams::new(&settings.upstream);
    if let Some(cause) = upstreams.readiness().problem() {
        return Err(Error::Dependency(format!("inventory: {cause}")));
    }
    publisher::check(&settings.queue).map_err(|cause| Error::Dependency(format!("broker: {cause}")))
}
