//! Tells whoever listens how the work goes. Billing has no HTTP API; the gateways hear of it through the broker, which
//! both sides talk to anyway.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use amqp::{Connection, Properties};
use order::report::{self, Outcome as Fate, Report, SETTLED_MAX, Settled};

use crate::service::Outcome;

/// How soon news is told, at the earliest after the report before.
const NEWS_INTERVAL: Duration = Duration::from_millis(200);
/// How often a report is sent when there is no news, so that silence means that billing is not working.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// Collects what happened since the last report.
pub(crate) struct Reporter {
    exchange: String,
    report: Report,
    /// Whether the broker takes reports.
    connected: bool,
    /// Whether something happened since the last report.
    news: bool,
    told_at: Option<Instant>,
}

impl Reporter {
    /// A reporter for the work on `queue`.
    pub(crate) fn new(queue: &str) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let instance = format!("{}-{:x}", std::process::id(), since_epoch.as_nanos());
        let report = Report { instance, ..Report::default() };
        Self { exchange: report::exchange(queue), report, connected: false, news: false, told_at: None }
    }

    /// Prepares a new connection. A broker that does not allow it costs the reports, not the work.
    pub(crate) fn connect(&mut self, connection: &Connection) {
        let declared = connection.declare_fanout(&self.exchange);
        self.connected = declared.is_ok();
        if let Err(error) = declared {
            log::warn!("no reports will be sent: {error}");
        }
    }

    /// Notes what became of a batch, which the ids are in the order of.
    pub(crate) fn note<'a>(
        &mut self,
        message_ids: impl ExactSizeIterator<Item = Option<&'a str>>,
        outcome: &Outcome,
    ) {
        let dead = outcome.dead.len() as u64;
        self.news = true;
        self.report.stored += outcome.stored;
        self.report.dead += dead;
        self.report.repeated += message_ids.len() as u64 - outcome.stored - dead;
        let old = message_ids.len().saturating_sub(SETTLED_MAX);
        for (position, id) in message_ids.enumerate().skip(old) {
            let Some(id) = id else { continue };
            let is_dead = outcome.dead.binary_search_by_key(&position, |(position, _)| *position).is_ok();
            let fate = if is_dead { Fate::Dead } else { Fate::Stored };
            self.report.settled.push(Settled { message_id: id.to_owned(), outcome: fate });
        }
        let surplus = self.report.settled.len().saturating_sub(SETTLED_MAX);
        self.report.settled.drain(..surplus);
    }

    /// Sends a report if one is due.
    pub(crate) fn tell(&mut self, connection: &Connection) {
        let interval = if self.news { NEWS_INTERVAL } else { SILENCE_MAX };
        if !self.connected || self.told_at.is_some_and(|told_at| told_at.elapsed() < interval) {
            return;
        }
        // Text and numbers alone, which always can be serialised.
        let body = serde_json::to_vec(&self.report).unwrap_or_default();
        let properties = Properties::transient_json("billing-app").with_header("schema", report::SCHEMA);
        connection.announce(&self.exchange, properties, body);
        self.report.settled.clear();
        self.news = false;
        self.told_at = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fate_of_each_message_is_noted_and_the_last_ones_are_kept() {
        let mut reporter = Reporter::new("q");
        let outcome = Outcome { stored: 1, dead: vec![(1, "no order".to_owned())] };
        reporter.note([Some("a"), Some("b"), None, Some("a")].into_iter(), &outcome);
        let report = &reporter.report;
        assert_eq!((report.stored, report.dead, report.repeated), (1, 1, 2));
        let settled: Vec<_> =
            report.settled.iter().map(|settled| (settled.message_id.as_str(), settled.outcome)).collect();
        assert_eq!(settled, [("a", Fate::Stored), ("b", Fate::Dead), ("a", Fate::Stored)]);

        let ids: Vec<_> = (0..300).map(|number| number.to_string()).collect();
        let outcome = Outcome { stored: 300, dead: Vec::new() };
        reporter.note(ids.iter().map(|id| Some(id.as_str())), &outcome);
        assert_eq!(reporter.report.settled.len(), SETTLED_MAX);
        assert_eq!(reporter.report.settled[SETTLED_MAX - 1].message_id, "299");
    }
}
