//! A service as a whole: its resources, its settings, its life from start to stop.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use database::{Migration, WorkerSettings, Workers};
use edge::Server;
use foundation::Shutdown;
use foundation::listener::{self, Identity};

use crate::error::Error;
use crate::jobs::Jobs;
use crate::resource::Resource;
use crate::routes::Routes;
use crate::service::{Metrics, Resources};
use crate::settings::Settings;
use crate::store::Store;
use crate::table::Table;
use crate::{describe, openapi};

/// Most requests that wait for a worker; further ones are answered 503. So many are served within a deadline by a database
/// that does a hundred small things in a second.
const QUEUE_MAX: usize = 512;
/// How long the workers may take to end after the last request was answered.
const STOP_TIMEOUT: Duration = Duration::from_millis(200);

/// A service that is made of resources. A constant.
#[derive(Debug)]
pub struct Application {
    /// The name of its binary, which logs and `pg_stat_activity` show.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What it is, in one sentence.
    pub about: &'static str,
    /// What it serves.
    pub resources: &'static [&'static Resource],
    /// The history of its schema.
    pub migrations: &'static [Migration],
}

impl Application {
    /// What it serves and the SQL that it runs, for people.
    pub fn describe(&self) -> Result<String, Error> {
        let tables = self.tables()?;
        Ok(describe::text(self, &tables, &Routes::new(&tables)))
    }

    /// Connects once, and reports what does not work.
    pub fn check(&self, settings: &Settings) -> Result<(), Error> {
        self.tables()?;
        settings
            .database
            .connect(self.migrations)?
            .check()
            .map_err(|source| Error::Database(database::Error::Postgres { action: "ask postgresql", source }))
    }

    /// Opens the listening socket and starts the workers, which connect by themselves.
    pub fn build(&'static self, settings: Settings, shutdown: Shutdown) -> Result<Running, Error> {
        let tables: Arc<[Table]> = self.tables()?.into();
        let server = listen(&settings.host, settings.port)?;
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
            document: openapi::document(self, &tables),
            metrics: Metrics::new(routes.labels),
            routes,
            tables,
            store: Store::new(workers.clone(), settings.deadline),
            body_max_bytes: settings.body_max_bytes as u64,
            connections: server.connections(),
        };
        let resources = Arc::new(resources);
        let identity = Identity { name: self.name, version: self.version };
        let private = listener::start(&settings.private, identity, resources.clone())?;
        Ok(Running { name: self.name, server, private, settings, workers, resources, shutdown })
    }

    fn tables(&self) -> Result<Vec<Table>, Error> {
        let tables = self.resources.iter().enumerate();
        tables.map(|(index, resource)| Table::new(index, resource)).collect()
    }
}

fn listen(host: &str, port: u16) -> Result<Server, Error> {
    let address = format!("{host}:{port}");
    let failed = |source| Error::Listen { address: address.clone(), source };
    let resolved = (host, port).to_socket_addrs().map_err(failed)?.next();
    let resolved = resolved.ok_or_else(|| failed(std::io::Error::other("the host has no address")))?;
    Server::bind(resolved).map_err(failed)
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
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Where its private listener is.
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
