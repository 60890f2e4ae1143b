//! How fast things happen: differences between samples of the counters, taken every few seconds.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::totals::{QueueFigures, Totals};
use crate::broker::Broker;
use crate::queues::counts::QueueCounts;
use crate::sync::lock;

/// How often a sample is taken; RabbitMQ's default.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

/// The last two samples.
#[derive(Default)]
pub(super) struct Rates(Mutex<Samples>);

#[derive(Default)]
struct Samples {
    before: Option<Sample>,
    latest: Option<Sample>,
}

struct Sample {
    at: Instant,
    totals: Totals,
    /// By the number of the queue.
    queues: HashMap<u32, QueueFigures>,
    /// Bytes received and sent, by the number of the connection.
    connections: HashMap<u64, (u64, u64)>,
}

/// Something that was sampled twice: its older value, its newer one, and the time between.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change<T> {
    before: T,
    latest: T,
    seconds: f64,
}

impl Rates {
    /// Takes a sample.
    pub(super) fn sample(&self, broker: &Broker) {
        let queues = broker.topology.queues();
        let connections = broker.peers().into_iter().map(|peer| {
            let traffic = &peer.send_buffer.traffic;
            (peer.id, (traffic.received.bytes.get(), traffic.sent.bytes.get()))
        });
        let sample = Sample {
            at: Instant::now(),
            totals: Totals::of(broker),
            queues: queues.iter().map(|queue| (queue.id, QueueFigures::of(queue))).collect(),
            connections: connections.collect(),
        };
        let mut samples = lock(&self.0);
        samples.before = samples.latest.replace(sample);
    }

    /// How the value that `find` finds in a sample changed. None until there are two samples that have it.
    fn change<T>(&self, find: impl Fn(&Sample) -> Option<T>) -> Option<Change<T>> {
        let samples = lock(&self.0);
        let (before, latest) = (samples.before.as_ref()?, samples.latest.as_ref()?);
        let seconds = latest.at.duration_since(before.at).as_secs_f64();
        Some(Change { before: find(before)?, latest: find(latest)?, seconds })
    }

    pub(super) fn totals(&self) -> Option<Change<Totals>> {
        self.change(|sample| Some(sample.totals))
    }

    pub(super) fn queue(&self, id: u32) -> Option<Change<QueueFigures>> {
        self.change(|sample| sample.queues.get(&id).copied())
    }

    /// Bytes received and sent on a connection.
    pub(super) fn connection(&self, id: u64) -> Option<Change<(u64, u64)>> {
        self.change(|sample| sample.connections.get(&id).copied())
    }
}

impl<T> Change<T> {
    /// The rate per second of the number that `of` takes out.
    pub(super) fn rate(&self, of: impl Fn(&T) -> u64) -> f64 {
        per_second(of(&self.before), of(&self.latest), self.seconds)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate is shown with one decimal")]
fn per_second(before: u64, latest: u64, seconds: f64) -> f64 {
    let difference = latest as f64 - before as f64;
    if seconds > 0.0 { (difference / seconds * 10.0).round() / 10.0 } else { 0.0 }
}

/// Adds `name` with its value, and `name_details` with its rate.
pub(super) fn put(object: &mut Map<String, Value>, name: &str, value: u64, rate: Option<f64>) {
    object.insert(name.to_owned(), value.into());
    object.insert(format!("{name}_details"), json!({ "rate": rate.unwrap_or_default() }));
}

/// Adds what waits and what is out, with rates.
pub(super) fn put_messages<T>(
    object: &mut Map<String, Value>,
    (ready, unacknowledged): (u64, u64),
    change: Option<&Change<T>>,
    of: impl Fn(&T) -> (u64, u64),
) {
    let rate = |pick: fn((u64, u64)) -> u64| change.map(|change| change.rate(|one| pick(of(one))));
    put(object, "messages", ready + unacknowledged, rate(|(ready, out)| ready + out));
    put(object, "messages_ready", ready, rate(|(ready, _)| ready));
    put(object, "messages_unacknowledged", unacknowledged, rate(|(_, out)| out));
}

/// Takes one number out of what a queue counts.
type PickCount = fn(&QueueCounts) -> u64;

/// Takes one number out of the totals.
type PickTotal = fn(&Totals) -> u64;

/// What happened to messages in queues, as `message_stats` names it.
const COUNTED: [(&str, PickCount); 8] = [
    ("ack", |counts| counts.acknowledged),
    ("deliver", |counts| counts.delivered),
    ("deliver_no_ack", |counts| counts.delivered_no_ack),
    ("deliver_get", QueueCounts::delivered_or_got),
    ("get", |counts| counts.got),
    ("get_no_ack", |counts| counts.got_no_ack),
    ("get_empty", |counts| counts.get_empty),
    ("redeliver", |counts| counts.redelivered),
];

/// The `message_stats` of a queue.
pub(super) fn queue_stats(figures: &QueueFigures, change: Option<&Change<QueueFigures>>) -> Value {
    let mut stats = Map::new();
    for (name, pick) in COUNTED {
        let rate = change.map(|change| change.rate(|one| pick(&one.counts)));
        put(&mut stats, name, pick(&figures.counts), rate);
    }
    let rate = change.map(|change| change.rate(|one| one.counts.published));
    put(&mut stats, "publish", figures.counts.published, rate);
    Value::Object(stats)
}

/// The `message_stats` of everything.
pub(super) fn total_stats(totals: &Totals, change: Option<&Change<Totals>>) -> Value {
    let mut stats = Map::new();
    for (name, pick) in COUNTED {
        let rate = change.map(|change| change.rate(|one| pick(&one.counts)));
        put(&mut stats, name, pick(&totals.counts), rate);
    }
    let published: [(&str, PickTotal); 4] = [
        ("publish", Totals::received),
        ("confirm", |totals| totals.confirmed),
        ("return_unroutable", |totals| totals.returned),
        ("drop_unroutable", |totals| totals.dropped),
    ];
    for (name, pick) in published {
        put(&mut stats, name, pick(totals), change.map(|change| change.rate(pick)));
    }
    Value::Object(stats)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_difference_over_the_time() {
        let change = Change { before: 10, latest: 45, seconds: 5.0 };
        assert!((change.rate(|value| *value) - 7.0).abs() < 1e-9);
        let change = Change { before: 45, latest: 10, seconds: 5.0 };
        assert!((change.rate(|value| *value) + 7.0).abs() < 1e-9, "what waits can become less");
        let change = Change { before: 0, latest: 10, seconds: 0.0 };
        assert!(change.rate(|value| *value).abs() < 1e-9);
    }

    #[test]
    fn values_come_with_their_details() {
        let mut object = Map::new();
        let change = Change { before: (1, 2), latest: (3, 2), seconds: 2.0 };
        put_messages(&mut object, (3, 2), Some(&change), |pair| *pair);
        let expected = json!({ "messages": 5, "messages_details": { "rate": 1.0 },
            "messages_ready": 3, "messages_ready_details": { "rate": 1.0 },
            "messages_unacknowledged": 2, "messages_unacknowledged_details": { "rate": 0.0 } });
        assert_eq!(Value::Object(object), expected);
    }
}
