//! What billing tells about its work, through the broker, to whoever listens: a fan-out exchange that copies each
//! report to every gateway. Reports are news, not records: one that is lost is followed by the next.

use serde::{Deserialize, Serialize};

/// The name of this message format, carried in the header `schema`.
pub const SCHEMA: &str = "billing.report.v1";

/// Most messages that one report lists.
pub const SETTLED_MAX: usize = 100;

/// The exchange for the reports on `queue`.
pub fn exchange(queue: &str) -> String {
    format!("{queue}.reports")
}

/// One report of one billing process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which process: another one after every start.
    pub instance: String,
    /// Orders that it has stored since it started.
    pub stored: u64,
    /// Messages since then that were recognised as repeated, and stored no second order.
    pub repeated: u64,
    /// Messages since then that were put into the dead-letter queue.
    pub dead: u64,
    /// What became of the messages since the last report, the latest last; of more than [`SETTLED_MAX`], those.
    pub settled: Vec<Settled>,
}

/// A message that billing is done with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The message's identity.
    pub message_id: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Its order is in the database, by this message or an earlier one of the same id.
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
            stored: 2,
            settled: vec![Settled { message_id: "m".to_owned(), outcome: Outcome::Dead }],
            ..Report::default()
        };
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(
            json,
            r#"{"instance":"i","stored":2,"repeated":0,"dead":0,"settled":[{"message_id":"m","outcome":"dead"}]}"#
        );
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}
