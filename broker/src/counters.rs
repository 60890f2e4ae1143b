//! What the broker counts since its start, besides what each queue counts for itself. Nothing here is on the way of a
//! message that finds its queue.

use std::sync::Mutex;

use foundation::metrics::Counter;

use crate::queues::counts::QueueCounts;

/// The broker's counters.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) connections_opened: Counter,
    pub(crate) connections_closed: Counter,
    pub(crate) channels_opened: Counter,
    pub(crate) channels_closed: Counter,
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
