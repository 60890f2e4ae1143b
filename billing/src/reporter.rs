//! Reports billing's work to the gateways, through the broker, since billing has no HTTP API.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use amqp::{Connection, Properties};
use database::DatabaseSettings;
use order::report::{self, MessageOutcome, Report, SETTLED_MAX, Settled};

use crate::service::BatchOutcome;

/// Shortest interval between two reports.
const INTERVAL_MIN: Duration = Duration::from_millis(200);
/// Longest interval between two reports. Gateways take a longer silence for a billing that is not working.
const INTERVAL_MAX: Duration = Duration::from_secs(1);

/// How long to wait before asking for the exchange again, after the broker has refused it.
const RETRY: Duration = Duration::from_secs(5);

/// Collects what happened since the last report.
pub(crate) struct Reporter {
    exchange: String,
    report: Report,
    /// Whether the exchange could be declared, so that reports can be sent.
    connected: bool,
    /// When it was declared last.
    declared_at: Instant,
    /// Why it could not be declared; logged once.
    refusal: Option<String>,
    /// Whether something happened since the last report.
    news: bool,
    sent_at: Option<Instant>,
}

impl Reporter {
    /// A reporter for the work on `queue`.
    pub(crate) fn new(queue: &str) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let instance = format!("{}-{:x}", std::process::id(), since_epoch.as_nanos());
        let report = Report {
            instance,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_s: since_epoch.as_secs(),
            ..Report::default()
        };
        let exchange = report::exchange(queue);
        let (declared_at, refusal) = (Instant::now(), None);
        Self { exchange, report, connected: false, declared_at, refusal, news: false, sent_at: None }
    }

    /// Declares the exchange on a new connection. If the broker refuses, there are no reports for now, but the work goes
    /// on.
    pub(crate) fn connect(&mut self, connection: &Connection) {
        let refusal = connection.declare_fanout(&self.exchange).err().map(|error| error.to_string());
        self.connected = refusal.is_none();
        self.declared_at = Instant::now();
        match &refusal {
            Some(reason) if self.refusal != refusal => {
                log::warn!("no reports can be sent: {reason}; trying again");
            }
            None if self.refusal.is_some() => log::info!("reports can be sent again"),
            _ => {}
        }
        self.refusal = refusal;
    }

    /// Notes how many messages have been taken from the queue and are not acknowledged.
    pub(crate) fn hold(&mut self, messages: usize) {
        self.report.held = messages as u64;
    }

    /// Notes that the database has not served an attempt to store orders.
    pub(crate) fn database_is_away(&mut self) {
        self.report.database_is_away = true;
    }

    /// Records a batch's outcome; `message_ids` are in batch order.
    pub(crate) fn record<'a>(
        &mut self,
        message_ids: impl ExactSizeIterator<Item = Option<&'a str>>,
        outcome: &BatchOutcome,
    ) {
        let dead = outcome.dead.len() as u64;
        self.news = true;
        self.report.database_is_away = false;
        self.report.stored += outcome.stored;
        self.report.dead += dead;
        self.report.repeated += message_ids.len() as u64 - outcome.stored - dead;
        let old = message_ids.len().saturating_sub(SETTLED_MAX);
        for (position, id) in message_ids.enumerate().skip(old) {
            let Some(id) = id else { continue };
            let is_dead = outcome.dead.binary_search_by_key(&position, |(position, _)| *position).is_ok();
            let outcome = if is_dead { MessageOutcome::Dead } else { MessageOutcome::Stored };
            self.report.settled.push(Settled { message_id: id.to_owned(), outcome });
        }
        let surplus = self.report.settled.len().saturating_sub(SETTLED_MAX);
        self.report.settled.drain(..surplus);
    }

    /// Sends a report if one is due. It tells the version of the `database`.
    pub(crate) fn send_if_due(&mut self, connection: &Connection, database: &DatabaseSettings) {
        if !self.connected && self.declared_at.elapsed() >= RETRY {
            self.connect(connection);
        }
        let interval = if self.news { INTERVAL_MIN } else { INTERVAL_MAX };
        if !self.connected || self.sent_at.is_some_and(|sent_at| sent_at.elapsed() < interval) {
            return;
        }
        self.report.memory_bytes = foundation::metrics::resident_bytes();
        self.report.database_version = database.server_version();
        // A report has only text and numbers, which always serialise.
        let body = serde_json::to_vec(&self.report).unwrap_or_default();
        let properties = Properties::transient_json("billing-app").with_header("schema", report::SCHEMA);
        connection.announce(&self.exchange, properties, body);
        self.report.settled.clear();
        self.news = false;
        self.sent_at = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_of_each_message_is_recorded_and_the_last_ones_are_kept() {
        let mut reporter = Reporter::new("q");
        let outcome = BatchOutcome { stored: 1, dead: vec![(1, "no order".to_owned())] };
        reporter.database_is_away();
        reporter.record([Some("a"), Some("b"), None, Some("a")].into_iter(), &outcome);
        let report = &reporter.report;
        assert!(!report.database_is_away);
        assert_eq!((report.stored, report.dead, report.repeated), (1, 1, 2));
        let settled: Vec<_> =
            report.settled.iter().map(|settled| (settled.message_id.as_str(), settled.outcome)).collect();
        assert_eq!(
            settled,
            [("a", MessageOutcome::Stored), ("b", MessageOutcome::Dead), ("a", MessageOutcome::Stored)]
        );

        let ids: Vec<_> = (0..300).map(|number| number.to_string()).collect();
        let outcome = BatchOutcome { stored: 300, dead: Vec::new() };
        reporter.record(ids.iter().map(|id| Some(id.as_str())), &outcome);
        assert_eq!(reporter.report.settled.len(), SETTLED_MAX);
        assert_eq!(reporter.report.settled[SETTLED_MAX - 1].message_id, "299");
    }
}
