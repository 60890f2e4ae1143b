//! Sums over the whole broker at one moment.

use crate::broker::Broker;
use crate::queues::counts::QueueCounts;
use crate::queues::topology::SharedQueue;
use crate::sync::lock;

/// A queue's counters and contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct QueueFigures {
    pub(super) counts: QueueCounts,
    pub(super) ready: u64,
    pub(super) unacknowledged: u64,
    pub(super) consumers: usize,
}

impl QueueFigures {
    pub(super) fn of(queue: &SharedQueue) -> Self {
        let state = queue.lock();
        Self {
            counts: state.counts,
            ready: state.waiting(),
            unacknowledged: state.unsettled() as u64,
            consumers: state.consumers().len(),
        }
    }
}

/// Takes one number out of the broker's counters.
type PickCounter = fn(&Broker) -> u64;

/// What comes and goes, as `churn_rates` names it.
pub(super) const CHURN: [(&str, PickCounter); 7] = [
    ("channel_closed", |broker| broker.connections.channels_closed.get()),
    ("channel_created", |broker| broker.connections.channels_opened.get()),
    ("connection_closed", |broker| broker.connections.closed.get()),
    ("connection_created", |broker| broker.connections.opened.get()),
    ("queue_created", |broker| broker.counts.queues_created.get()),
    ("queue_declared", |broker| broker.counts.queues_declared.get()),
    ("queue_deleted", |broker| broker.counts.queues_deleted.get()),
];

/// What all queues and publishers add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Of all queues, also those that were deleted.
    pub(super) counts: QueueCounts,
    pub(super) ready: u64,
    pub(super) unacknowledged: u64,
    pub(super) consumers: usize,
    pub(super) queues: usize,
    /// Messages that entered queues, each counted once.
    pub(super) routed: u64,
    /// Messages that were confirmed to their publishers.
    pub(super) confirmed: u64,
    /// Messages without a queue that were returned.
    pub(super) returned: u64,
    /// Messages without a queue that were dropped.
    pub(super) dropped: u64,
    /// The values of [`CHURN`].
    pub(super) churn: [u64; CHURN.len()],
}

impl Totals {
    /// Those of this moment. Each queue is locked for a moment, one after the other.
    pub(super) fn of(broker: &Broker) -> Self {
        // Held, so that no queue moves from those that exist to those that are deleted meanwhile.
        let deleted = lock(&broker.counts.deleted_queues);
        let mut totals = Self { counts: *deleted, ..Self::default() };
        for queue in broker.topology.queues() {
            let figures = QueueFigures::of(&queue);
            totals.counts += figures.counts;
            totals.ready += figures.ready;
            totals.unacknowledged += figures.unacknowledged;
            totals.consumers += figures.consumers;
            totals.queues += 1;
        }
        drop(deleted);
        totals.routed = broker.persister.metrics.messages.get();
        totals.confirmed = broker.persister.metrics.confirmed.get();
        totals.returned = broker.counts.returned.get();
        totals.dropped = broker.counts.dropped.get();
        totals.churn = CHURN.map(|(_, pick)| pick(broker));
        totals
    }

    /// Messages that publishers sent.
    pub(super) fn received(&self) -> u64 {
        self.routed + self.returned + self.dropped
    }
}
