//! The stages that an order has reached, each with its time as far as anybody knows it: what this gateway remembers of
//! its way to the broker, and what billing says of its end.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::recent_orders::{Place, RecentOrder};

/// How far the clocks of billing's database and of this machine may be apart.
const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(5);

/// How an order ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It has not, or nobody knows.
    Open,
    /// Billing has it, or the broker keeps it for billing.
    Waiting,
    /// Billing has stored it at this time.
    Stored(Option<String>),
    /// It became a dead letter at this time.
    Dead(Option<String>),
}

/// One stage on the way of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stage {
    /// `placed`, `outbox`, `confirmed`, `stored` or `dead`.
    name: &'static str,
    /// When it was reached (RFC 3339); `None` if nobody knows.
    at: Option<String>,
}

/// The stages of an order of which this gateway remembers `recent`, in the order of its way. What has ended was placed and
/// confirmed, even if nobody knows when; whether it was in an outbox is known only to the gateway that remembers it.
pub(crate) fn stages(recent: Option<&RecentOrder>, end: &End) -> Vec<Stage> {
    let ended_at = match end {
        End::Stored(at) | End::Dead(at) => at.as_deref(),
        End::Open | End::Waiting => None,
    };
    // Placed after it had ended: that was a repetition, and the first attempt went another way.
    let is_repetition = |recent: &&RecentOrder| {
        let placed_at = recent.placed_at.and_then(|at| at.checked_sub(CLOCKS_DIFFER_MAX)).and_then(rfc3339);
        // Both are in UTC and of the same length.
        matches!((placed_at, ended_at), (Some(placed_at), Some(ended_at)) if placed_at.as_str() > ended_at)
    };
    let recent = recent.filter(|recent| !is_repetition(recent));
    let stage = |name, at: Option<SystemTime>| Stage { name, at: at.and_then(rfc3339) };
    let mut stages = Vec::new();
    if recent.is_some() || *end != End::Open {
        stages.push(stage("placed", recent.and_then(|recent| recent.placed_at)));
    }
    if let Some(recent) = recent.filter(|recent| recent.place == Place::Outbox || recent.kept_at.is_some()) {
        stages.push(stage("outbox", recent.kept_at));
    }
    if recent.is_some_and(|recent| recent.place == Place::Queue) || *end != End::Open {
        stages.push(stage("confirmed", recent.and_then(|recent| recent.confirmed_at)));
    }
    match end {
        End::Stored(at) => stages.push(Stage { name: "stored", at: at.clone() }),
        End::Dead(at) => stages.push(Stage { name: "dead", at: at.clone() }),
        End::Open | End::Waiting => {}
    }
    stages
}

/// The stages as the API tells them.
pub(crate) fn to_json(stages: &[Stage]) -> Value {
    stages.iter().map(|stage| json!({ "stage": stage.name, "at": stage.at })).collect()
}

/// A time in UTC (RFC 3339), with milliseconds.
fn rfc3339(at: SystemTime) -> Option<String> {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::from(at).format(format).ok()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const STORED: &str = "2026-01-31T12:00:10.500Z";

    fn at(seconds: f64) -> SystemTime {
        // 2026-01-31T12:00:00Z
        UNIX_EPOCH + Duration::from_secs(1_769_860_800) + Duration::from_secs_f64(seconds)
    }

    fn recent(place: Place, placed: f64, kept: Option<f64>, confirmed: Option<f64>) -> RecentOrder {
        RecentOrder {
            place,
            placed_at: Some(at(placed)),
            kept_at: kept.map(at),
            confirmed_at: confirmed.map(at),
            is_contested: false,
            must_be_waiting: false,
        }
    }

    fn told(recent: Option<&RecentOrder>, end: &End) -> String {
        let short = |stage: &Stage| {
            let at = stage.at.as_deref().map_or("?", |at| at.strip_prefix("2026-01-31T12:00:").unwrap());
            format!("{} {at}", stage.name)
        };
        stages(recent, end).iter().map(short).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn each_stage_that_was_reached_has_its_time() {
        let stored = End::Stored(Some(STORED.to_owned()));
        let underway = recent(Place::Underway, 0.001, None, None);
        assert_eq!(told(Some(&underway), &End::Open), "placed 00.001Z");
        let outbox = recent(Place::Outbox, 0.0, Some(0.25), None);
        assert_eq!(told(Some(&outbox), &End::Open), "placed 00.000Z, outbox 00.250Z");
        let queue = recent(Place::Queue, 0.0, Some(0.25), Some(9.0));
        let way = "placed 00.000Z, outbox 00.250Z, confirmed 09.000Z";
        assert_eq!(told(Some(&queue), &End::Open), way);
        assert_eq!(told(Some(&queue), &End::Waiting), way);
        assert_eq!(told(Some(&queue), &stored), format!("{way}, stored 10.500Z"));
        assert_eq!(told(Some(&queue), &End::Dead(None)), format!("{way}, dead ?"));
    }

    #[test]
    fn what_nobody_knows_is_said_to_be_unknown() {
        let stored = End::Stored(Some(STORED.to_owned()));
        assert_eq!(told(None, &End::Open), "");
        assert_eq!(told(None, &End::Waiting), "placed ?, confirmed ?");
        assert_eq!(told(None, &stored), "placed ?, confirmed ?, stored 10.500Z");
        // The confirm never came.
        let underway = recent(Place::Underway, 0.0, None, None);
        assert_eq!(told(Some(&underway), &stored), "placed 00.000Z, confirmed ?, stored 10.500Z");
        // Of before the last start; the outbox knows its own.
        let restored = RecentOrder { placed_at: None, ..recent(Place::Outbox, 0.0, Some(1.0), None) };
        assert_eq!(told(Some(&restored), &End::Open), "placed ?, outbox 01.000Z");
    }

    #[test]
    fn the_times_of_a_repetition_are_not_those_of_the_order() {
        let stored = End::Stored(Some(STORED.to_owned()));
        let later = recent(Place::Queue, 15.6, Some(15.7), Some(15.8));
        assert_eq!(told(Some(&later), &stored), "placed ?, confirmed ?, stored 10.500Z");
        // The clocks of two machines are never quite the same.
        let ahead = recent(Place::Queue, 12.0, None, Some(12.1));
        assert_eq!(told(Some(&ahead), &stored), "placed 12.000Z, confirmed 12.100Z, stored 10.500Z");
    }
}
