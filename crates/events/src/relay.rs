//! The thread that publishes the events of the outbox. It survives outages of the broker and of PostgreSQL: whatever
//! fails, it closes both connections and begins again after a growing delay.
//!
//! SQL does not belong here.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use amqp::{AmqpSettings, Connection, Event, Properties};
use database::{DatabaseSettings, Migration};
use foundation::listener::{Dependency, Inspect};
use foundation::metrics::{Counter, Exposition};
use foundation::{Backoff, Shutdown};

use crate::error::Error;
use crate::outbox::{Outbox, Waiting};

/// How often an empty outbox is looked at. It is the largest part of the time that an event takes to its consumers.
const IDLE: Duration = Duration::from_millis(100);
/// How often an instance that does not publish tries to take over.
const TAKE_OVER: Duration = Duration::from_secs(1);
/// How long the broker may take to confirm a batch.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);
/// The delays between attempts.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// How long the thread may take to end. What it has not published then, is published after the next start.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// What a relay needs.
#[derive(Clone, Debug)]
pub struct RelaySettings {
    /// The service's name, which the events carry as `app_id`.
    pub application: &'static str,
    /// The topic exchange.
    pub exchange: &'static str,
    /// Where the broker is.
    pub broker: AmqpSettings,
    /// Where the outbox is.
    pub database: DatabaseSettings,
    /// The migrations of the service's schema; `sql/events/0001_outbox.sql` must be among them.
    pub migrations: &'static [Migration],
}

impl RelaySettings {
    /// Connects to the broker once and declares the exchange.
    pub fn check(&self) -> Result<(), Error> {
        let connection = Connection::open(&self.broker, self.application)?;
        Ok(connection.declare_topic_exchange(self.exchange)?)
    }
}

/// Publishes events in the background. Its metrics are an [`Inspect`] for the service's private listener.
pub struct Relay {
    progress: Arc<Progress>,
    ended: Receiver<()>,
}

impl Relay {
    /// Starts the thread, which ends when `shutdown` is requested.
    pub fn start(settings: RelaySettings, shutdown: Shutdown) -> io::Result<Self> {
        let (end, ended) = channel();
        let progress = Arc::new(Progress::default());
        let publisher = Publisher { settings, shutdown, progress: progress.clone() };
        std::thread::Builder::new().name("relay".to_owned()).spawn(move || {
            publisher.run();
            drop(end);
        })?;
        Ok(Self { progress, ended })
    }

    /// What the private listener shows. A broker that is away is no dependency that is missing, because the service
    /// goes on without it; the metrics tell how long events have been waiting.
    pub fn inspect(&self) -> Arc<dyn Inspect> {
        self.progress.clone()
    }

    /// Waits up to a second for the thread to end, once shutdown was requested.
    pub fn stop(self) {
        if self.ended.recv_timeout(STOP_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            log::warn!(
                "the relay is still waiting for a server; its events are published after the next start"
            );
        }
    }
}

/// What the metrics show.
#[derive(Default)]
struct Progress {
    published: Counter,
    interrupted: Counter,
    /// Whether this instance is connected and publishes.
    is_publishing: AtomicBool,
    /// When the oldest event in the outbox was written, in seconds since 1970, as last seen; 0 if there was none.
    oldest_s: AtomicI64,
}

impl Progress {
    fn saw(&self, events: &[Waiting]) {
        self.oldest_s.store(events.first().map_or(0, |oldest| oldest.created_s), Ordering::Relaxed);
    }

    /// For how many seconds the oldest event has been waiting.
    fn waiting_s(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        match self.oldest_s.load(Ordering::Relaxed) {
            0 => 0,
            oldest => i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(oldest).max(0),
        }
    }
}

impl Inspect for Progress {
    fn dependencies(&self) -> Vec<Dependency> {
        Vec::new()
    }

    fn metrics(&self, text: &mut Exposition) {
        text.single(
            "events_published_total",
            "counter",
            "Events that the broker has confirmed.",
            self.published.get(),
        );
        text.single(
            "events_interruptions_total",
            "counter",
            "How often publishing was interrupted by the broker or PostgreSQL.",
            self.interrupted.get(),
        );
        text.single(
            "events_publishing",
            "gauge",
            "1 in the instance that publishes, while broker and PostgreSQL are connected.",
            u8::from(self.is_publishing.load(Ordering::Relaxed)),
        );
        text.single(
            "events_waiting_seconds",
            "gauge",
            "For how long the oldest event has been waiting; 0 in an instance that does not publish.",
            self.waiting_s(),
        );
    }
}

/// The thread's own state.
struct Publisher {
    settings: RelaySettings,
    shutdown: Shutdown,
    progress: Arc<Progress>,
}

impl Publisher {
    fn run(&self) {
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        let mut told = String::new();
        while let Err(error) = self.session(&mut backoff, &mut told) {
            self.progress.is_publishing.store(false, Ordering::Relaxed);
            self.progress.interrupted.increment();
            let problem = error.to_string();
            // An outage is told once, not at every attempt.
            if problem != told {
                log::warn!("events wait: {problem}");
                told = problem;
            }
            if self.shutdown.wait_timeout(backoff.next_delay()) {
                return;
            }
        }
    }

    /// Publishes until the shutdown. Takes its turn, then connects to the broker.
    fn session(&self, backoff: &mut Backoff, told: &mut String) -> Result<(), Error> {
        let RelaySettings { application, exchange, broker, database, migrations } = &self.settings;
        let mut outbox = Outbox::open(database, migrations)?;
        while !outbox.try_lock()? {
            // From now on, the instance that publishes tells how long events have been waiting.
            self.progress.saw(&[]);
            if self.shutdown.wait_timeout(TAKE_OVER) {
                return Ok(());
            }
        }
        // Even without the broker the metrics shall tell how long events have been waiting.
        self.progress.saw(&outbox.next()?);
        let connection = Connection::open(broker, application)?;
        connection.declare_topic_exchange(exchange)?;
        self.progress.is_publishing.store(true, Ordering::Relaxed);
        log::info!("publishing events to the exchange {exchange}");
        told.clear();
        while !self.shutdown.requested() {
            let events = outbox.next()?;
            self.progress.saw(&events);
            if events.is_empty() {
                if let Some(reason) = connection.wait_closed(IDLE) {
                    return Err(Error::Lost(reason));
                }
                continue;
            }
            self.publish(&connection, &mut outbox, &events)?;
            backoff.reset();
        }
        connection.close(STOP_TIMEOUT);
        Ok(())
    }

    /// Publishes a batch and deletes what the broker has confirmed of it.
    fn publish(&self, connection: &Connection, outbox: &mut Outbox, events: &[Waiting]) -> Result<(), Error> {
        let messages = events.iter().map(|waiting| self.message(waiting)).collect();
        let results = connection.publish_in_order(self.settings.exchange, messages, CONFIRM_TIMEOUT);
        let mut confirmed = Vec::with_capacity(events.len());
        let mut failed = None;
        for (waiting, result) in events.iter().zip(results) {
            match result {
                Ok(()) => confirmed.push(waiting.id),
                Err(source) => {
                    let (event, record) = (waiting.event.clone(), waiting.record.clone());
                    failed.get_or_insert(Error::Unconfirmed { event, record, source });
                }
            }
        }
        self.progress.published.add(confirmed.len() as u64);
        outbox.forget(&confirmed)?;
        failed.map_or(Ok(()), Err)
    }

    fn message(&self, waiting: &Waiting) -> Event {
        let properties = Properties::persistent_json(self.settings.application, &waiting.message_id)
            .with_timestamp(u64::try_from(waiting.created_s).unwrap_or(0))
            .with_header("schema", &waiting.event);
        Event { topic: waiting.event.clone(), properties, body: waiting.body.clone().into_bytes() }
    }
}

#[cfg(test)]
mod tests {
    use foundation::Environment;
    use testkit::{Postgres, patience, wait_until};

    use super::*;

    const MIGRATIONS: &[Migration] = &[Migration {
        version: 1,
        name: "0001_outbox",
        sql: include_str!("../../../sql/events/0001_outbox.sql"),
    }];

    #[test]
    fn only_the_instance_that_publishes_tells_how_long_events_have_been_waiting() {
        let database = Postgres::shared().create_database();
        let mut settings = database.settings("T_DB");
        for (name, value) in [
            // Nothing listens at the discard port.
            ("RABBITMQ_PORT", "9"),
            ("RABBITMQ_USER", "nobody"),
            ("RABBITMQ_PASSWORD", "none"),
        ] {
            settings.insert(name.to_owned(), value.to_owned());
        }
        let pairs = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let environment = Environment::from_pairs(pairs);
        let mut database_settings = DatabaseSettings::read(&environment, "T_DB", "test").unwrap();
        // The machine may be busy with other tests.
        database_settings.connect_timeout = patience();
        let mut rival = Outbox::open(&database_settings, MIGRATIONS).unwrap();
        let write = "INSERT INTO outbox (event, record, body, created_at)
                     VALUES ('a.created.1', 'a/1', '{}', now() - interval '1 hour')";
        database.client().execute(write, &[]).unwrap();

        let shutdown = Shutdown::new();
        let relay_settings = RelaySettings {
            application: "test",
            exchange: "events",
            broker: AmqpSettings::read(&environment).unwrap(),
            database: database_settings,
            migrations: MIGRATIONS,
        };
        let relay = Relay::start(relay_settings, shutdown.clone()).unwrap();
        wait_until(patience(), "the event is seen", || relay.progress.waiting_s() >= 3_600);
        // Without a broker the relay gives the lock up again and again.
        wait_until(patience(), "another instance takes over", || rival.try_lock().unwrap());
        wait_until(patience(), "the relay leaves it to that one", || relay.progress.waiting_s() == 0);
        shutdown.request();
        relay.stop();
    }
}
