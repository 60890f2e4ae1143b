//! What the log has to know of those who use it. The log names neither queues nor the protocol; they implement this.

use std::sync::Arc;

use foundation::Shutdown;

use crate::error::Error;
use crate::log::alarm::Alarm;
use crate::log::segment_table::SegmentTable;
use crate::log::stored_message::{Settled, StoredMessage};
use crate::log::write_batch::BatchedMessage;

/// What a queue wants of the messages that are published to it: bits, so that all queues of a message are asked at once.
pub(crate) mod wants {
    /// The time when they came in.
    pub(crate) const ARRIVAL: u8 = 1;
    /// Whether the queue took them: it may refuse them.
    pub(crate) const VERDICT: u8 = 2;
    /// That they survive a restart.
    pub(crate) const DURABILITY: u8 = 4;
}

/// A queue as the log sees it.
pub(crate) trait LogQueue: Sized + Send + Sync {
    /// The number that stands for it in records.
    fn id(&self) -> u32;
    /// Whether it survives a restart, and its messages with it.
    fn is_durable(&self) -> bool;
    /// What it wants of messages: bits of [`mod@wants`].
    fn wants(&self) -> u8;
    /// The position of the next message. Only called under the lock of the log's batch, so positions ascend in the
    /// order of the log.
    fn next_position(&self) -> u64;
    /// Takes over messages that are in the log now, in order; `bytes` is their batch. What the queue takes is added to
    /// `ledger`, and what it settles at once is settled there, both under the queue's lock.
    fn take_over(&self, messages: &[BatchedMessage<Self>], bytes: &[u8], ledger: &impl Ledger);
    /// What the message at `position` became is in the log now, so the queue is done with it; settles it in `ledger`.
    fn settle(&self, position: u64, ledger: &impl Ledger);
    /// How often the message at `position` came back, if the queue counts that.
    fn delivery_count(&self, position: u64) -> u32;
    /// Whether the message at `position` is still wanted, and kept in segment `slot`.
    fn holds(&self, position: u64, slot: u32) -> bool;
    /// The log was rearranged: messages that were in `slots` are now where `moved` (ascending by position) says.
    /// `counted` is called, under the queue's lock, with the count and bytes of those that the queue still holds.
    fn relocate(&self, slots: &[u32], moved: &[StoredMessage], counted: impl FnOnce(u32, u64));
}

/// How much of the log is still wanted.
pub(crate) trait Ledger {
    /// A queue took messages that are in segment `slot`.
    fn add(&self, slot: u32, count: u64, bytes: u64);
    /// A queue is done with messages. Called under that queue's lock; never waits.
    fn settle(&self, settled: &[Settled]);
}

/// Whose log it is: what [`crate::log::housekeeper`] asks and tells.
pub(crate) trait LogOwner {
    type Queue: LogQueue;
    fn segment_table(&self) -> &SegmentTable;
    /// All queues.
    fn queues(&self) -> Vec<Arc<Self::Queue>>;
    /// Notes, durably, that the log has a segment of this number.
    fn note_segment(&self, number: u32) -> Result<(), Error>;
    /// Raised while less than [`LogOwner::disk_free_min_bytes`] is free.
    fn alarm(&self) -> &Alarm;
    fn disk_free_min_bytes(&self) -> u64;
    /// Ends the housekeeper.
    fn shutdown(&self) -> &Shutdown;
    /// The log failed: nothing is accepted from now on.
    fn fail(&self, error: Error);
}
