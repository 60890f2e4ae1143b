//! A service made of resources: build, run, stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use database::{WorkerSettings, Workers};
use edge::Server;
use foundation::Shutdown;
use foundation::listener::{self, Identity, Inspect};

use crate::application::Application;
use crate::error::Error;
use crate::jobs::Jobs;
use crate::routes::Routes;
use crate::service::{Metrics, Resources};
use crate::settings::Settings;
use crate::store::Store;
use crate::table::Table;
use crate::{describe, openapi};

/// Most requests that wait for a worker; further ones are answered 503. A database that executes a hundred statements a
/// second serves this many within the default deadline.
const QUEUE_MAX: usize = 512;
/// How long the workers may take to end after the last response.
const STOP_TIMEOUT: Duration = Duration::from_millis(200);

impl Application {
    /// The text of `--describe`: routes, fields and SQL.
    pub fn describe(&self) -> Result<String, Error> {
        let tables = self.tables()?;
        Ok(describe::text(self, &tables, &Routes::new(&tables)))
    }

    /// Checks the descriptions and connects to the database once.
    pub fn check(&self, settings: &Settings) -> Result<(), Error> {
        self.tables()?;
        settings
            .database
            .connect(self.migrations)?
            .check()
            .map_err(|source| Error::Database(database::Error::Postgres { action: "ask postgresql", source }))
    }

    /// Binds the sockets and starts the workers, which connect in the background.
    pub fn build(&'static self, settings: Settings, shutdown: Shutdown) -> Result<Running, Error> {
        self.build_beside(None, settings, shutdown)
    }

    /// [`Application::build`] for a service with a part of its own, such as a relay of events, whose dependencies and
    /// metrics the private listener shows with those of the service.
    pub fn build_beside(
        &'static self,
        beside: Option<Arc<dyn Inspect>>,
        settings: Settings,
        shutdown: Shutdown,
    ) -> Result<Running, Error> {
        let tables: Arc<[Table]> = self.tables()?.into();
        let server = Server::bind(&settings.host, settings.port).map_err(|source| {
            let address = format!("{}:{}", settings.host, settings.port);
            Error::Listen { address, source }
        })?;
        let executors = tables.clone();
        let workers = Workers::start(
            self.name,
            &settings.database,
            self.migrations,
            WorkerSettings { threads: settings.workers, queue_max: QUEUE_MAX },
            move || Jobs { tables: executors.clone() },
        )
        .map_err(Error::Thread)?;
        let routes = Routes::new(&tables);
        let resources = Resources {
            document: openapi::document(self, &tables, &settings.profile),
            metrics: Metrics::new(routes.labels),
            routes,
            tables,
            store: Store::new(workers.clone(), settings.deadline),
            body_max_bytes: settings.body_max_bytes as u64,
            service_token: settings.service_token.clone(),
            connections: server.connections(),
            version: self.version,
            database: settings.database.clone(),
            beside,
        };
        let resources = Arc::new(resources);
        let identity = Identity { name: self.name, version: self.version };
        let private = listener::start(&settings.private, identity, resources.clone())?;
        Ok(Running { name: self.name, server, private, settings, workers, resources, shutdown })
    }
}

/// A service, bound to its address.
pub struct Running {
    name: &'static str,
    server: Server,
    private: SocketAddr,
    settings: Settings,
    workers: Workers<Jobs>,
    resources: Arc<Resources>,
    shutdown: Shutdown,
}

impl Running {
    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// The address of its private listener.
    pub fn private_addr(&self) -> SocketAddr {
        self.private
    }

    /// Serves until it is told to stop, or cannot go on.
    pub fn run(self) -> Result<(), Error> {
        log::info!("{} listening on {}", self.name, self.server.addr());
        let (unusable, reason) = std::sync::mpsc::channel();
        let shutdown = self.shutdown.clone();
        self.workers.when_unusable(move |error| {
            let _ = unusable.send(error);
            shutdown.request();
        });
        self.server.run(&self.settings.edge, self.resources, &self.shutdown).map_err(Error::Thread)?;
        self.workers.stop(STOP_TIMEOUT);
        log::info!("{} stopped", self.name);
        reason.try_recv().map_or(Ok(()), |error| Err(error.into()))
    }
}
