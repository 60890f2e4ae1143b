//! The main loop: takes a batch from the queue, stores it, acknowledges it. Broker and database may go away at any
//! time: no message is acknowledged before its order is committed, and no order is stored twice.

use std::time::{Duration, Instant};

use amqp::{Connection, Deliveries, Delivery, PublishError};
use foundation::{Backoff, Shutdown};

use crate::dead_letters::{DeadLetter, DeadLetters};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::reporter::Reporter;
use crate::repository::Repository;
use crate::service::{self, BatchOutcome, Message};
use crate::settings::Settings;

/// How often the stop flag is checked while the queue is empty.
const TICK: Duration = Duration::from_millis(200);

/// Interval for redeclaring the queue on an idle connection: recreates it if it was deleted, and detects half-open
/// connections.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// How long closing the connection, which sends the last acknowledgements, may take when the process stops.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// The header that tells why a message is in the dead-letter queue.
pub(crate) const REASON_HEADER: &str = "x-death-reason";

/// Consumes until the process is told to stop. Returns an error only if retrying cannot help.
pub(crate) fn run(settings: &Settings, shutdown: &Shutdown, metrics: &Metrics) -> Result<(), Error> {
    let mut consumer = Consumer {
        settings,
        shutdown,
        metrics,
        repository: Repository::new(settings.database.clone()),
        reporter: Reporter::new(&settings.queue),
        backoff: Backoff::new(Duration::from_millis(100), settings.retry_max),
    };
    while !shutdown.requested() {
        match consumer.serve() {
            Ok(()) => {}
            Err(error @ Error::Schema(_)) => return Err(error),
            Err(error) => {
                metrics.failed(&error);
                let delay = consumer.backoff.next_delay();
                log::warn!("{error}; trying again in {} ms", delay.as_millis());
                shutdown.wait_timeout(delay);
            }
        }
    }
    Ok(())
}

/// What is kept from one broker session to the next.
struct Consumer<'a> {
    settings: &'a Settings,
    shutdown: &'a Shutdown,
    metrics: &'a Metrics,
    repository: Repository,
    reporter: Reporter,
    /// The delay before the next attempt. Only successful work resets it, because a connection that opens may still be
    /// unable to do any work.
    backoff: Backoff,
}

impl Consumer<'_> {
    /// Runs one broker session. Connects to PostgreSQL first: without it, billing would take messages that it cannot
    /// store.
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
        let mut session = Session { consumer: self, connection, dead_letters };
        let result = session.consume(deliveries);
        session.connection.close(CLOSE_TIMEOUT);
        result
    }
}

/// One broker session.
struct Session<'s, 'a> {
    consumer: &'s mut Consumer<'a>,
    connection: Connection,
    dead_letters: DeadLetters,
}

impl Session<'_, '_> {
    fn consume(&mut self, mut deliveries: Deliveries) -> Result<(), Error> {
        let settings = self.consumer.settings;
        let mut active_at = Instant::now();
        while !self.consumer.shutdown.requested() {
            let batch = deliveries.next_batch(usize::from(settings.prefetch), TICK)?;
            self.consumer.reporter.hold(batch.len() + self.dead_letters.len());
            if !batch.is_empty() {
                self.settle(batch)?;
                self.consumer.reporter.hold(self.dead_letters.len());
                active_at = Instant::now();
            } else if active_at.elapsed() >= PROBE_INTERVAL {
                self.connection.declare_queue(&settings.queue)?;
                self.consumer.backoff.reset();
                active_at = Instant::now();
            }
            if self.dead_letters.is_due() {
                self.retry_dead_letters()?;
            }
            self.consumer.reporter.send_if_due(&self.connection, &self.consumer.settings.database);
        }
        Ok(())
    }

    /// Stores a batch, acknowledges the stored messages, and dead-letters those that can never succeed.
    fn settle(&mut self, batch: Vec<Delivery>) -> Result<(), Error> {
        let Some(outcome) = self.store(&batch)? else { return Ok(()) };
        let count = batch.len() as u64;
        let message_ids = batch.iter().map(|delivery| delivery.properties.message_id());
        self.consumer.reporter.record(message_ids, &outcome);
        self.consumer.metrics.count(batch.len(), &outcome);
        let (stored, dead) = (outcome.stored, outcome.dead.len() as u64);
        if outcome.dead.is_empty() && self.dead_letters.is_empty() {
            if let Some(last) = batch.last() {
                self.connection.ack_through(last.tag)?;
            }
        } else {
            self.settle_each(batch, outcome)?;
        }
        self.consumer.backoff.reset();
        let repeated = count - stored - dead;
        log::debug!("{count} messages: {stored} orders stored, {repeated} repeated, {dead} dead");
        Ok(())
    }

    /// Stores a batch, and why messages of it are dead. While PostgreSQL is unavailable, keeps the deliveries and the
    /// broker session, and repeats the transaction. Returns `None` if the process has been told to stop.
    fn store(&mut self, batch: &[Delivery]) -> Result<Option<BatchOutcome>, Error> {
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
        self.consumer.metrics.redelivered.add(redelivered as u64);
        let stored = self.persist(batch.len(), |repository| {
            let started = Instant::now();
            let outcome = service::process(&messages, repository)?;
            Ok((outcome, started.elapsed()))
        })?;
        let Some((outcome, duration)) = stored else { return Ok(None) };
        self.consumer.metrics.store_time.record(duration);
        let dead: Vec<_> = outcome
            .dead
            .iter()
            .filter_map(|(position, reason)| Some((messages.get(*position)?.id?, reason.as_str())))
            .collect();
        if !dead.is_empty()
            && self.persist(batch.len(), |repository| repository.record_dead(&dead))?.is_none()
        {
            return Ok(None);
        }
        Ok(Some(outcome))
    }

    /// Repeats `work` while PostgreSQL is unavailable; `kept` messages wait meanwhile. Returns `None` if the process has
    /// been told to stop.
    fn persist<T>(
        &mut self,
        kept: usize,
        mut work: impl FnMut(&mut Repository) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        loop {
            match work(&mut self.consumer.repository) {
                Err(error @ Error::Database(_)) => {
                    self.consumer.metrics.failed(&error);
                    self.consumer.reporter.database_is_away();
                    let delay = self.consumer.backoff.next_delay();
                    log::warn!("{error}; {kept} messages are kept, trying again in {} ms", delay.as_millis());
                    if self.wait(delay)? {
                        return Ok(None);
                    }
                }
                done => return done.map(Some),
            }
        }
    }

    /// Waits for `delay`, and reports meanwhile; returns whether the process has been told to stop. The end of the broker
    /// session is an error, because the broker then delivers the kept messages again.
    fn wait(&mut self, delay: Duration) -> Result<bool, Error> {
        let until = Instant::now() + delay;
        loop {
            if let Some(reason) = self.connection.wait_closed(Duration::ZERO) {
                return Err(Error::SessionEnded(reason));
            }
            self.consumer.reporter.send_if_due(&self.connection, &self.consumer.settings.database);
            let remaining = until.saturating_duration_since(Instant::now());
            if self.consumer.shutdown.wait_timeout(remaining.min(TICK)) {
                return Ok(true);
            }
            if remaining.is_zero() {
                return Ok(false);
            }
        }
    }

    /// Acknowledges a batch message by message: one with dead letters, or one while earlier dead letters are still
    /// held. The other messages are acknowledged first, so that a dead letter cannot delay them.
    fn settle_each(&mut self, batch: Vec<Delivery>, outcome: BatchOutcome) -> Result<(), Error> {
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
        let (connection, settings) = (&self.connection, self.consumer.settings);
        let moved = self.dead_letters.publish(letters, |letter| dead_letter(connection, settings, letter));
        moved.map_err(Error::DeadLetter)
    }

    fn retry_dead_letters(&mut self) -> Result<(), Error> {
        let (connection, settings) = (&self.connection, self.consumer.settings);
        // The dead-letter queue may have been deleted; then every message to it would be returned.
        if let Err(error) = connection.declare_queue(&settings.dead_letter_queue()) {
            log::debug!("{error}");
        }
        let moved = self.dead_letters.retry(|letter| dead_letter(connection, settings, letter));
        moved.map_err(Error::DeadLetter)
    }
}

/// Moves a message to the dead-letter queue. It is acknowledged as soon as its copy is confirmed, so that a crash between
/// the two can leave at most one copy too many.
fn dead_letter(
    connection: &Connection,
    settings: &Settings,
    letter: &DeadLetter,
) -> Result<(), PublishError> {
    let DeadLetter { delivery, reason } = letter;
    let properties = delivery.properties.for_republishing().with_header(REASON_HEADER, reason);
    let queue = settings.dead_letter_queue();
    connection.publish(&queue, properties, delivery.body.clone(), settings.confirm_timeout)?;
    connection.ack(delivery.tag).map_err(|error| PublishError::Closed(error.to_string()))
}
