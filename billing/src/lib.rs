//! Billing: consumes orders and stores them.
//!
//! A message flows from [`consumer`] (the queue) through [`service`] (the rules) to [`repository`] (SQL).
//! [`dead_letters`] handles messages that can never become orders, [`pruner`] keeps the inbox small, [`reporter`]
//! reports the outcome of each message to the gateways, [`answerer`] answers their questions about orders and, with
//! [`dead_letter_queue`], dead letters, and [`metrics`] shows counters and problems on the private listener.

mod answerer;
mod consumer;
mod dead_letter_queue;
mod dead_letters;
mod error;
mod metrics;
mod order_count;
mod pruner;
mod reporter;
mod repository;
mod service;
mod settings;

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use amqp::Connection;
use foundation::Shutdown;
use foundation::listener::{self, Identity};

use metrics::Metrics;
use repository::Repository;

pub use error::Error;
pub use settings::Settings;

/// How long a running batch may take after the process was told to stop. pm2 kills after 1.6 s. Messages that are not
/// acknowledged by then are delivered again and recognised as repetitions.
const STOP_TIMEOUT: Duration = Duration::from_millis(1_300);

/// How often to check whether the consumer has ended and whether to stop.
const TICK: Duration = Duration::from_millis(100);

/// Connects to PostgreSQL and the broker once, and reports what does not work.
pub fn check(settings: &Settings) -> Result<(), Error> {
    Repository::new(settings.database.clone()).connect()?;
    let connection = Connection::open(&settings.broker, "billing-app")?;
    connection.declare_queue(&settings.queue)?;
    Ok(())
}

/// A service that is ready to run.
pub fn build(settings: Settings, shutdown: Shutdown) -> Billing {
    Billing { settings, shutdown }
}

/// The service. Its only socket is the private listener.
pub struct Billing {
    settings: Settings,
    shutdown: Shutdown,
}

impl Billing {
    /// Consumes until it is told to stop or cannot go on. The consumer has its own thread, so that a hanging database
    /// or broker cannot keep the process from stopping in time.
    pub fn run(self) -> Result<(), Error> {
        let Self { settings, shutdown } = self;
        let metrics = Arc::new(Metrics::default());
        let identity = Identity { name: "billing-app", version: env!("CARGO_PKG_VERSION") };
        listener::start(&settings.private, identity, metrics.clone())?;
        let (pruned, stopping) = (settings.clone(), shutdown.clone());
        thread::Builder::new()
            .name("pruner".to_owned())
            .spawn(move || pruner::run(&pruned, &stopping))
            .map_err(|error| Error::Worker(error.to_string()))?;
        let (asked, counters, stopping) = (settings.clone(), metrics.clone(), shutdown.clone());
        thread::Builder::new()
            .name("answerer".to_owned())
            .spawn(move || answerer::run(&asked, &stopping, &counters))
            .map_err(|error| Error::Worker(error.to_string()))?;
        let (done, finished) = channel();
        let stopping = shutdown.clone();
        thread::Builder::new()
            .name("consumer".to_owned())
            .spawn(move || {
                let _ = done.send(consumer::run(&settings, &stopping, &metrics));
            })
            .map_err(|error| Error::Worker(error.to_string()))?;
        let mut leave_at = None;
        loop {
            match finished.recv_timeout(TICK) {
                Ok(result) => {
                    log::info!("billing-app stopped");
                    return result;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Worker("it ended without a word".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) if shutdown.requested() => {
                    let leave_at = *leave_at.get_or_insert_with(|| Instant::now() + STOP_TIMEOUT);
                    if Instant::now() >= leave_at {
                        log::warn!(
                            "billing-app stopped while a batch was unsettled; it will be delivered again"
                        );
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}
