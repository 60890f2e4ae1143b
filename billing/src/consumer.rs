//! The loop: take a batch from the queue, store it, acknowledge it. Either side may go away at any time; nothing is
//! acknowledged before it is committed, and nothing that is committed is stored twice.

use std::time::{Duration, Instant};

use amqp::{Connection, Deliveries, Delivery, PublishError};
use foundation::{Backoff, Shutdown};

use crate::dead_letters::{DeadLetter, DeadLetters};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::reporter::Reporter;
use crate::repository::{IncomingOrder, Repository};
use crate::service::{self, Message, Orders, Outcome, Stored};
use crate::settings::Settings;

/// How long an empty queue is waited on before the stop flag is looked at again.
const TICK: Duration = Duration::from_millis(200);

/// How often an idle connection is asked whether the queue is still there, which also makes it again if it is not.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// How long the last acknowledgements may take to leave when the process stops.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

/// The header that tells why a message is in the dead-letter queue.
const REASON_HEADER: &str = "x-death-reason";

/// Consumes until the process is told to stop. Returns an error only if going on makes no sense.
pub(crate) fn run(settings: &Settings, shutdown: &Shutdown, metrics: &Metrics) -> Result<(), Error> {
    let mut work = Work {
        settings,
        shutdown,
        metrics,
        repository: Repository::new(settings.database.clone()),
        reporter: Reporter::new(&settings.queue),
        backoff: Backoff::new(Duration::from_millis(100), settings.retry_max),
    };
    while !shutdown.requested() {
        match work.serve() {
            Ok(()) => {}
            Err(error @ Error::Schema(_)) => return Err(error),
            Err(error) => {
                metrics.failed(&error);
                let delay = work.backoff.next_delay();
                log::warn!("{error}; trying again in {} ms", delay.as_millis());
                shutdown.wait_timeout(delay);
            }
        }
    }
    Ok(())
}

/// What outlives a broker session.
struct Work<'a> {
    settings: &'a Settings,
    shutdown: &'a Shutdown,
    metrics: &'a Metrics,
    repository: Repository,
    reporter: Reporter,
    /// The delay before the next attempt at whatever failed. Only work that succeeded resets it: a connection that
    /// can be opened is no sign that anything can be done with it.
    backoff: Backoff,
}

impl Work<'_> {
    /// Serves for as long as one broker session lives. PostgreSQL comes first: without it, messages would only be
    /// taken and kept.
    fn serve(&mut self) -> Result<(), Error> {
        let settings = self.settings;
        self.repository.connect()?;
        self.metrics.database_works();
        let connection = Connection::open(&settings.broker, "billing-app")?;
        connection.declare_queue(&settings.queue)?;
        connection.declare_queue(&settings.dead_letter_queue())?;
        self.reporter.connect(&connection);
        let deliveries = connection.consume(&settings.queue, settings.prefetch)?;
        self.metrics.broker_works();
        log::info!("consuming from {}", settings.queue);
        let dead_letters = DeadLetters::new(settings.retry_max);
        let mut session = Session { work: self, connection, dead_letters };
        let outcome = session.consume(deliveries);
        session.connection.close(GOODBYE_TIMEOUT);
        outcome
    }
}

/// One broker session.
struct Session<'s, 'a> {
    work: &'s mut Work<'a>,
    connection: Connection,
    dead_letters: DeadLetters,
}

impl Session<'_, '_> {
    fn consume(&mut self, mut deliveries: Deliveries) -> Result<(), Error> {
        let settings = self.work.settings;
        let mut heard_at = Instant::now();
        while !self.work.shutdown.requested() {
            let batch = deliveries.next_batch(usize::from(settings.prefetch), TICK)?;
            if !batch.is_empty() {
                self.settle(batch)?;
                heard_at = Instant::now();
            } else if heard_at.elapsed() >= PROBE_INTERVAL {
                self.connection.declare_queue(&settings.queue)?;
                self.work.backoff.reset();
                heard_at = Instant::now();
            }
            if self.dead_letters.is_due() {
                self.retry_dead_letters()?;
            }
            self.work.reporter.tell(&self.connection);
        }
        Ok(())
    }

    /// Stores a batch, acknowledges what is stored, and puts what can never succeed aside.
    fn settle(&mut self, batch: Vec<Delivery>) -> Result<(), Error> {
        let Some(outcome) = self.store(&batch)? else { return Ok(()) };
        let count = batch.len() as u64;
        let message_ids = batch.iter().map(|delivery| delivery.properties.message_id());
        self.work.reporter.note(message_ids, &outcome);
        self.work.metrics.count(batch.len(), &outcome);
        let (stored, dead) = (outcome.stored, outcome.dead.len() as u64);
        if outcome.dead.is_empty() && self.dead_letters.is_empty() {
            if let Some(last) = batch.last() {
                self.connection.ack_through(last.tag)?;
            }
        } else {
            self.settle_each(batch, outcome)?;
        }
        self.work.backoff.reset();
        let repeated = count - stored - dead;
        log::debug!("{count} messages: {stored} orders stored, {repeated} repeated, {dead} dead");
        Ok(())
    }

    /// Stores a batch. While PostgreSQL is away or refuses work, the deliveries are kept, the broker session stays,
    /// and the transaction is repeated. `None` means that the process has been told to stop.
    fn store(&mut self, batch: &[Delivery]) -> Result<Option<Outcome>, Error> {
        let headers: Vec<_> = batch.iter().map(|delivery| delivery.properties.header("schema")).collect();
        let messages: Vec<_> = batch
            .iter()
            .zip(&headers)
            .map(|(delivery, schema)| Message {
                id: delivery.properties.message_id(),
                schema: schema.as_deref(),
                body: &delivery.body,
            })
            .collect();
        let redelivered = batch.iter().filter(|delivery| delivery.redelivered).count();
        self.work.metrics.redelivered.add(redelivered as u64);
        loop {
            let started = Instant::now();
            match service::process(&messages, &mut self.work.repository) {
                Err(error @ Error::Database(_)) => {
                    self.work.metrics.failed(&error);
                    let delay = self.work.backoff.next_delay();
                    log::warn!(
                        "{error}; {} messages are kept, trying again in {} ms",
                        batch.len(),
                        delay.as_millis()
                    );
                    if self.wait(delay)? {
                        return Ok(None);
                    }
                }
                settled => {
                    self.work.metrics.store_time.record(started.elapsed());
                    return settled.map(Some);
                }
            }
        }
    }

    /// Waits, and tells whether the process has been told to stop. The end of the session is an error: the broker
    /// delivers the kept messages to somebody else then.
    fn wait(&self, delay: Duration) -> Result<bool, Error> {
        let until = Instant::now() + delay;
        loop {
            if let Some(reason) = self.connection.wait_closed(Duration::ZERO) {
                return Err(Error::SessionEnded(reason));
            }
            let remaining = until.saturating_duration_since(Instant::now());
            if self.work.shutdown.wait_timeout(remaining.min(TICK)) {
                return Ok(true);
            }
            if remaining.is_zero() {
                return Ok(false);
            }
        }
    }

    /// Settles a batch with dead letters, or one behind dead letters that are still held. Everything else is
    /// acknowledged first, so that no dead letter can hold it up.
    fn settle_each(&mut self, batch: Vec<Delivery>, outcome: Outcome) -> Result<(), Error> {
        let mut dead = outcome.dead.into_iter().peekable();
        let mut letters = Vec::new();
        for (position, delivery) in batch.into_iter().enumerate() {
            match dead.next_if(|(dead, _)| *dead == position) {
                Some((_, reason)) => letters.push(DeadLetter { delivery, reason }),
                None => self.connection.ack(delivery.tag)?,
            }
        }
        for DeadLetter { delivery, reason } in &letters {
            log::warn!("message_id={} is dead: {reason}", delivery.properties.message_id().unwrap_or("-"));
        }
        let (connection, settings) = (&self.connection, self.work.settings);
        let buried = self.dead_letters.bury(letters, |letter| publish(connection, settings, letter));
        self.acknowledge(buried)
    }

    fn retry_dead_letters(&mut self) -> Result<(), Error> {
        let (connection, settings) = (&self.connection, self.work.settings);
        // Somebody may have deleted the queue, which alone would be reason enough for a message to come back.
        if let Err(error) = connection.declare_queue(&settings.dead_letter_queue()) {
            log::debug!("{error}");
        }
        let buried = self.dead_letters.retry(|letter| publish(connection, settings, letter));
        self.acknowledge(buried)
    }

    fn acknowledge(&self, buried: Result<Vec<DeadLetter>, PublishError>) -> Result<(), Error> {
        for letter in buried.map_err(Error::DeadLetter)? {
            self.connection.ack(letter.delivery.tag)?;
        }
        Ok(())
    }
}

/// Puts a message into the dead-letter queue, confirmed.
fn publish(connection: &Connection, settings: &Settings, letter: &DeadLetter) -> Result<(), PublishError> {
    let DeadLetter { delivery, reason } = letter;
    let properties = delivery.properties.for_republishing().with_header(REASON_HEADER, reason);
    let queue = settings.dead_letter_queue();
    connection.publish(&queue, properties, delivery.body.clone(), settings.confirm_timeout)
}

impl Orders for Repository {
    fn store(&mut self, batch: &[IncomingOrder]) -> Result<Stored, Error> {
        Repository::store(self, batch)
    }
}
