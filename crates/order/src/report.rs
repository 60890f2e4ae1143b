//! Billing's reports about its work. Billing publishes them to a fan-out exchange, which copies each one to every
//! gateway. A lost report does no harm: the next one has the current totals.

use serde::{Deserialize, Serialize};

/// The name of this message format, carried in the header `schema`.
pub const SCHEMA: &str = "billing.report.v1";

/// Most messages listed in one report.
pub const SETTLED_MAX: usize = 100;

/// The exchange for the reports on `queue`.
pub fn exchange(queue: &str) -> String {
    format!("{queue}.reports")
}

/// One report of one billing process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Identifies the process; different after every start.
    pub instance: String,
    /// The version of the program; empty in reports of programs that do not tell it.
    #[serde(default)]
    pub version: String,
    /// When the process started, in seconds since 1970; 0 in those reports.
    #[serde(default)]
    pub started_s: u64,
    /// Orders stored since the process started.
    pub stored: u64,
    /// Messages since then that were recognised as repetitions, so that no second order was stored.
    pub repeated: u64,
    /// Messages since then that were put into the dead-letter queue.
    pub dead: u64,
    /// Messages that the process has taken from the queue and has not acknowledged yet.
    #[serde(default)]
    pub held: u64,
    /// Its database did not serve its last attempt to store orders.
    #[serde(default)]
    pub database_is_away: bool,
    /// The version of the PostgreSQL that it was connected to last.
    #[serde(default)]
    pub database_version: Option<String>,
    /// Memory that the process holds, in bytes, if it knows.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Messages settled since the last report, newest last, at most [`SETTLED_MAX`].
    pub settled: Vec<Settled>,
}

/// A message that billing has finished with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The message's id.
    pub message_id: String,
    /// Its outcome.
    pub outcome: MessageOutcome,
}

/// The outcome of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageOutcome {
    /// Its order is in the database, stored for this message or for an earlier one with the same id.
    Stored,
    /// It can never become an order and is in the dead-letter queue.
    Dead,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_keeps_its_shape_on_the_wire() {
        let report = Report {
            instance: "i".to_owned(),
            version: "1.2.3".to_owned(),
            started_s: 7,
            stored: 2,
            settled: vec![Settled { message_id: "m".to_owned(), outcome: MessageOutcome::Dead }],
            ..Report::default()
        };
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(
            json,
            r#"{"instance":"i","version":"1.2.3","started_s":7,"stored":2,"repeated":0,"dead":0,"held":0,"database_is_away":false,"database_version":null,"memory_bytes":null,"settled":[{"message_id":"m","outcome":"dead"}]}"#
        );
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        let old = r#"{"instance":"i","stored":2,"repeated":0,"dead":0,"settled":[]}"#;
        assert_eq!(serde_json::from_str::<Report>(old).unwrap().stored, 2);
    }
}
