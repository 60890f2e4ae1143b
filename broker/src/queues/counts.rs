//! What queues count, for people who look at them. The numbers of a queue are plain: they change under its lock, so
//! counting costs next to nothing.

use std::ops::AddAssign;
use std::sync::Mutex;

use foundation::metrics::Counter;

/// What a store counts besides what each queue counts for itself. Nothing here is on the way of a message that finds
/// its queue.
#[derive(Debug, Default)]
pub(crate) struct StoreCounts {
    pub(crate) queues_declared: Counter,
    pub(crate) queues_created: Counter,
    pub(crate) queues_deleted: Counter,
    /// Messages that no queue was bound for and that went back to their publishers.
    pub(crate) returned: Counter,
    /// Messages that no queue was bound for and that were dropped.
    pub(crate) dropped: Counter,
    /// What queues counted that are deleted. Locked before any queue: whoever holds it sees every queue either here or
    /// in the topology.
    pub(crate) deleted_queues: Mutex<QueueCounts>,
}

/// What happened to the messages of a queue since the broker's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueCounts {
    /// Messages that entered.
    pub(crate) published: u64,
    /// Deliveries to consumers that acknowledge.
    pub(crate) delivered: u64,
    /// Deliveries to consumers that do not.
    pub(crate) delivered_no_ack: u64,
    /// Messages taken by basic.get, to be acknowledged.
    pub(crate) got: u64,
    /// Messages taken by basic.get and settled with that.
    pub(crate) got_no_ack: u64,
    /// How often basic.get found nothing.
    pub(crate) get_empty: u64,
    /// Deliveries, of whatever sort, of messages that were out before.
    pub(crate) redelivered: u64,
    /// Deliveries that were settled: acknowledged, or rejected for good.
    pub(crate) acknowledged: u64,
}

impl QueueCounts {
    /// Counts a message that goes out, by basic.get or to a consumer.
    pub(crate) fn went_out(&mut self, to_consumer: bool, no_ack: bool, redelivered: bool) {
        *match (to_consumer, no_ack) {
            (true, false) => &mut self.delivered,
            (true, true) => &mut self.delivered_no_ack,
            (false, false) => &mut self.got,
            (false, true) => &mut self.got_no_ack,
        } += 1;
        self.redelivered += u64::from(redelivered);
    }

    /// Messages that went out in any way.
    pub(crate) fn delivered_or_got(&self) -> u64 {
        self.delivered + self.delivered_no_ack + self.got + self.got_no_ack
    }
}

impl AddAssign for QueueCounts {
    fn add_assign(&mut self, other: Self) {
        self.published += other.published;
        self.delivered += other.delivered;
        self.delivered_no_ack += other.delivered_no_ack;
        self.got += other.got;
        self.got_no_ack += other.got_no_ack;
        self.get_empty += other.get_empty;
        self.redelivered += other.redelivered;
        self.acknowledged += other.acknowledged;
    }
}
