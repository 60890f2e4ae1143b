//! The loop: take a batch from the queue, store it, acknowledge it. Either side may go away at any time; nothing is
//! acknowledged before it is committed, and nothing that is committed is stored twice.

use std::time::{Duration, Instant};

use amqp::{Connection, Deliveries, Delivery};
use foundation::{Backoff, Shutdown};

use crate::error::Error;
use crate::reporter::Reporter;
use crate::repository::{IncomingOrder, Repository};
use crate::service::{self, Message, Orders};
use crate::settings::Settings;

/// How long an empty queue is waited on before the stop flag is looked at again.
const TICK: Duration = Duration::from_millis(200);

/// How often an idle connection is asked whether the queue is still there, which also makes it again if it is not.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// How often the inbox is cleared of entries that are old enough.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);

/// How long the last acknowledgements may take to leave when the process stops.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

/// The header that tells why a message is in the dead-letter queue.
const REASON_HEADER: &str = "x-death-reason";

/// Consumes until the process is told to stop. Returns an error only if going on makes no sense.
pub(crate) fn run(settings: &Settings, shutdown: &Shutdown) -> Result<(), Error> {
    let mut backoff = Backoff::new(Duration::from_millis(100), settings.retry_max);
    let mut reporter = Reporter::new(&settings.queue);
    while !shutdown.requested() {
        match serve(settings, shutdown, &mut backoff, &mut reporter) {
            Ok(()) => {}
            Err(error @ Error::Schema(_)) => return Err(error),
            Err(error) => {
                let delay = backoff.next_delay();
                log::warn!("{error}; trying again in {} ms", delay.as_millis());
                shutdown.wait_timeout(delay);
            }
        }
    }
    Ok(())
}

/// Serves for as long as one connection to either side lives. PostgreSQL comes first: without it, messages would only
/// be taken and kept.
fn serve(
    settings: &Settings,
    shutdown: &Shutdown,
    backoff: &mut Backoff,
    reporter: &mut Reporter,
) -> Result<(), Error> {
    let repository = Repository::connect(&settings.database)?;
    let connection = Connection::open(&settings.broker, "billing-app")?;
    connection.declare_queue(&settings.queue)?;
    connection.declare_queue(&settings.dead_letter_queue())?;
    reporter.connect(&connection);
    let deliveries = connection.consume(&settings.queue, settings.prefetch)?;
    backoff.reset();
    log::info!("consuming from {}", settings.queue);
    let mut consumer = Consumer { settings, connection, repository, reporter, expired_at: Instant::now() };
    let outcome = consumer.consume(deliveries, shutdown);
    consumer.connection.close(GOODBYE_TIMEOUT);
    outcome
}

struct Consumer<'a> {
    settings: &'a Settings,
    connection: Connection,
    repository: Repository,
    reporter: &'a mut Reporter,
    expired_at: Instant,
}

impl Consumer<'_> {
    fn consume(&mut self, mut deliveries: Deliveries, shutdown: &Shutdown) -> Result<(), Error> {
        let mut heard_at = Instant::now();
        while !shutdown.requested() {
            let batch = deliveries.next_batch(usize::from(self.settings.prefetch), TICK)?;
            if !batch.is_empty() {
                self.settle(&batch)?;
                heard_at = Instant::now();
            } else if heard_at.elapsed() >= PROBE_INTERVAL {
                self.connection.declare_queue(&self.settings.queue)?;
                heard_at = Instant::now();
            }
            self.reporter.tell(&self.connection);
            self.expire()?;
        }
        Ok(())
    }

    /// Stores a batch, puts what can never succeed aside, and only then acknowledges all of it.
    fn settle(&mut self, batch: &[Delivery]) -> Result<(), Error> {
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
        let outcome = service::process(&messages, &mut self.repository)?;
        for (position, reason) in &outcome.dead {
            self.bury(&batch[*position], reason)?;
        }
        let Some(last) = batch.last() else { return Ok(()) };
        self.connection.ack_through(last.tag)?;
        let message_ids = batch.iter().map(|delivery| delivery.properties.message_id());
        self.reporter.note(message_ids, &outcome);
        let repeated = batch.len() as u64 - outcome.stored - outcome.dead.len() as u64;
        log::debug!(
            "{} messages: {} orders stored, {repeated} repeated, {} dead",
            batch.len(),
            outcome.stored,
            outcome.dead.len()
        );
        Ok(())
    }

    /// Puts a message into the dead-letter queue, confirmed.
    fn bury(&self, delivery: &Delivery, reason: &str) -> Result<(), Error> {
        let message_id = delivery.properties.message_id().unwrap_or("-").to_owned();
        log::warn!("message_id={message_id} is dead: {reason}");
        let properties = delivery.properties.for_republishing().with_header(REASON_HEADER, reason);
        let queue = self.settings.dead_letter_queue();
        self.connection
            .publish(&queue, properties, delivery.body.clone(), self.settings.confirm_timeout)
            .map_err(Error::DeadLetter)
    }

    /// Keeps the inbox from growing for ever.
    fn expire(&mut self) -> Result<(), Error> {
        if self.expired_at.elapsed() < EXPIRY_INTERVAL {
            return Ok(());
        }
        self.expired_at = Instant::now();
        let days = i32::try_from(self.settings.inbox_days).unwrap_or(i32::MAX);
        let forgotten = self.repository.expire(days)?;
        if forgotten > 0 {
            log::info!("forgot {forgotten} messages older than {days} days");
        }
        Ok(())
    }
}

impl Orders for Repository {
    fn store(&mut self, batch: &[IncomingOrder]) -> Result<u64, Error> {
        Repository::store(self, batch)
    }
}
