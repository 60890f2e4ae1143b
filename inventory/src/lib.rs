//! Inventory: CRUD and search of movies.
//!
//! A request flows through [`server`] (threads, deadlines) and [`exchange`] (bytes to types) to [`routes`] (paths),
//! [`handlers`] (HTTP), [`service`] (what can be done) and [`repository`] (SQL).

mod error;
mod exchange;
mod handlers;
mod http;
mod metrics;
mod movie;
mod parking;
mod preconditions;
mod query;
mod reconnection;
mod repository;
mod routes;
mod server;
mod service;
mod settings;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use foundation::Shutdown;

use metrics::Metrics;
use parking::Parking;
use reconnection::Reconnection;
use repository::Repository;
use server::{Shared, Slot};
use service::MovieService;

pub use error::Error;
pub use settings::Settings;

/// How often deadlines are looked at, which is how exact they are.
const TICK: Duration = Duration::from_millis(25);

/// How long requests that are being answered may take once the process has been told to stop.
const STOP_TIMEOUT: Duration = Duration::from_millis(1_200);

/// Connects once, and reports what does not work.
pub fn check(settings: &Settings) -> Result<(), Error> {
    Repository::new(settings.database.clone(), Reconnection::new()).check()
}

/// Opens the listening socket.
pub fn build(settings: Settings, shutdown: Shutdown) -> Result<Inventory, Error> {
    let listener = server::listen(&settings)?;
    let address = listener.local_addr().map_err(Error::Accept)?;
    let server = tiny_http::Server::from_listener(listener, None)
        .map_err(|error| Error::Accept(std::io::Error::other(error)))?;
    let (fatal, failure) = channel();
    let shared = Arc::new(Shared {
        server,
        settings,
        metrics: Metrics::new(),
        fatal,
        active: AtomicBool::new(false),
        stopping: AtomicBool::new(false),
    });
    Ok(Inventory { address, shared, failure, shutdown })
}

/// The service, bound to its address.
pub struct Inventory {
    address: SocketAddr,
    shared: Arc<Shared>,
    failure: Receiver<Error>,
    shutdown: Shutdown,
}

impl Inventory {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is told to stop, or cannot go on.
    pub fn run(self) -> Result<(), Error> {
        let movie_slots = server::slots(self.shared.settings.workers);
        let list_slots = server::slots(self.shared.settings.list_workers);
        self.start_workers(&movie_slots, &list_slots)?;
        log::info!("inventory-app listening on {}", self.address);
        let mut parking = Parking::new(self.address);
        let (deadline, metrics) = (self.shared.settings.deadline, &self.shared.metrics);
        while !self.shutdown.wait_timeout(TICK) {
            if let Ok(error) = self.failure.try_recv() {
                return Err(error);
            }
            let stuck = movie_slots.iter().filter(|slot| slot.enforce(deadline, metrics)).count();
            if stuck == movie_slots.len() {
                server::answer_without_workers(&self.shared);
            }
            for slot in &list_slots {
                slot.enforce(deadline, metrics);
            }
            parking.take_turns(self.shared.active.swap(false, Ordering::Relaxed));
        }
        self.stop(&movie_slots, &list_slots);
        log::info!("inventory-app stopped");
        Ok(())
    }

    fn start_workers(&self, movie_slots: &[Arc<Slot>], list_slots: &[Arc<Slot>]) -> Result<(), Error> {
        let reconnection = Reconnection::new();
        let (lists, waiting) = sync_channel(self.shared.settings.lists_waiting);
        let waiting = Arc::new(Mutex::new(waiting));
        let movies = || {
            MovieService::new(Repository::new(self.shared.settings.database.clone(), reconnection.clone()))
        };
        for (index, slot) in movie_slots.iter().enumerate() {
            let (shared, slot, lists, mut movies) =
                (self.shared.clone(), slot.clone(), lists.clone(), movies());
            server::spawn(format!("movies-{index}"), move || {
                server::serve_movies(&shared, &slot, &mut movies, &lists);
            })?;
        }
        for (index, slot) in list_slots.iter().enumerate() {
            let (shared, slot, waiting, mut movies) =
                (self.shared.clone(), slot.clone(), waiting.clone(), movies());
            server::spawn(format!("lists-{index}"), move || {
                server::serve_lists(&shared, &slot, &mut movies, &waiting);
            })?;
        }
        Ok(())
    }

    /// Lets the requests that are being answered finish. Idle connections are cut when the process ends.
    fn stop(&self, movie_slots: &[Arc<Slot>], list_slots: &[Arc<Slot>]) {
        self.shared.stopping.store(true, Ordering::Release);
        for _ in movie_slots {
            self.shared.server.unblock();
        }
        let until = Instant::now() + STOP_TIMEOUT;
        let busy = || movie_slots.iter().chain(list_slots).any(|slot| !slot.is_idle());
        while busy() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
