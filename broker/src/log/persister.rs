//! The one writer of the log, and with it the only place where messages enter queues and publishers are told that they
//! are safe.
//!
//! Channels append to a batch in memory. One thread takes the batch, writes it, makes it durable if a message in it
//! asked for that, hands its messages to their queues in the order of the log, and confirms. While it does so the
//! next batch gathers, so one fdatasync serves all that came meanwhile and no timer is needed. A small batch that finds
//! this thread idle is written by the thread that brings it; see [`Persister::write_or_kick`].

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use foundation::metrics::{Counter, Histogram};

use crate::error::Error;
use crate::log::owner::{Ledger, LogQueue, wants};
use crate::log::record::{self, Message, Position, Previous, Range, RecordKind, Returned};
use crate::log::segment_table::{Chunk, SegmentTable};
use crate::log::stored_message::Settled;
use crate::log::write_batch::{Confirm, Routes, WriteBatch};
use crate::sync::{lock, wait};

mod answer;
mod append;
mod progress;
mod stand_in;

pub(crate) use progress::Progress;

/// A batch of nothing but acks may wait this long for company; nobody waits for it.
const ACKS_DELAY: Duration = Duration::from_millis(5);
/// Whatever was written without being made durable is made so after this time, so that a power failure brings back no
/// more acked messages than those of a second.
const SYNC_DELAY: Duration = Duration::from_millis(500);

/// What the log's writer counts.
#[derive(Debug, Default)]
pub(crate) struct PersisterMetrics {
    /// Messages that entered their queues.
    pub(crate) messages: Counter,
    /// Messages that were confirmed to their publishers.
    pub(crate) confirmed: Counter,
    /// Messages that consumers or the broker are done with.
    pub(crate) settled: Counter,
    /// From the first message of a batch to the confirms of all.
    pub(crate) confirm_latency: Histogram,
}

/// Accepts messages and acks for the log.
pub(crate) struct Persister<Q> {
    pub(crate) metrics: PersisterMetrics,
    segment_table: Arc<SegmentTable>,
    state: Mutex<State<Q>>,
    /// Wakes the persister's thread.
    work: Condvar,
    /// Wakes those who wait for room or for a batch to be through.
    progress: Condvar,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a condition of its own, and all combinations occur"
)]
struct State<Q> {
    segment_bytes: u32,
    batch: WriteBatch<Q>,
    /// Messages settled since the last batch was taken.
    acks: Vec<Range>,
    /// How often messages came back, as far as the log does not know it.
    returned: Vec<Returned>,
    salt: u64,
    /// How far the segment before this one was read or written.
    previous: Previous,
    segment: u32,
    offset: u32,
    sequence: u64,
    /// The number of the batch that gathers.
    number: u64,
    /// All batches before this one are in their queues.
    through: u64,
    /// Everything before the gathering batch will be durable when that is written.
    synced: bool,
    /// When something was written that is not durable yet.
    unsynced_since: Option<Instant>,
    /// How many wait for room or for a batch to be through.
    waiters: usize,
    /// The thread waits for work.
    idle: bool,
    /// Another thread writes a batch in the place of that one, which waits meanwhile.
    stood_in: bool,
    /// Why the log failed while another thread wrote.
    failure: Option<Error>,
    /// What such a thread exchanges the batch for.
    spare: WriteBatch<Q>,
    stopping: bool,
    /// The thread has ended; nothing is accepted any more.
    ended: bool,
}

impl<Q: LogQueue> Persister<Q> {
    pub(crate) fn new(segment_table: Arc<SegmentTable>, position: Position) -> Self {
        let state = State {
            segment_bytes: segment_table.segment_bytes(),
            batch: WriteBatch::default(),
            acks: Vec::new(),
            returned: Vec::new(),
            salt: position.salt,
            previous: position.previous,
            segment: position.segment,
            offset: 0,
            sequence: position.sequence,
            number: 1,
            through: 1,
            synced: true,
            unsynced_since: None,
            waiters: 0,
            idle: false,
            stood_in: false,
            failure: None,
            spare: WriteBatch::default(),
            stopping: false,
            ended: false,
        };
        Self {
            metrics: PersisterMetrics::default(),
            segment_table,
            state: Mutex::new(state),
            work: Condvar::new(),
            progress: Condvar::new(),
        }
    }

    /// Begins the segment of this life, durably: what is delivered from now on may come again, and the log says so
    /// even if nothing else is ever written.
    pub(crate) fn begin(&self) -> Result<(), Error> {
        let mut state = lock(&self.state);
        state.begin_segment();
        let batch = std::mem::take(&mut state.batch);
        self.segment_table.write(&batch.bytes, &batch.chunks, true)
    }

    /// Appends a message and the wish for its confirm to the batch; waits while that is full. Returns the number of
    /// the batch, for [`Persister::wait_through`]. The caller owes a [`Persister::kick`].
    pub(crate) fn publish(
        &self,
        message: &Message<'_>,
        routes: &Routes<Q>,
        persistent: bool,
        confirm: Option<Confirm>,
    ) -> u64 {
        // Once the thread has ended, the message is in no batch: this one is never through.
        self.publish_until(message, routes, persistent, confirm, None).unwrap_or(u64::MAX)
    }

    /// The same with a deadline for the batch to have room. None if it has none by then, or the thread has ended: the
    /// message was not taken.
    pub(crate) fn publish_until(
        &self,
        message: &Message<'_>,
        routes: &Routes<Q>,
        persistent: bool,
        confirm: Option<Confirm>,
        deadline: Option<Instant>,
    ) -> Option<u64> {
        let mut state = self.wait_for_room(deadline)?;
        let mut wanted = 0;
        if !routes.is_empty() {
            wanted = state.append_message(message, routes, persistent);
        }
        if let Some(confirm) = confirm {
            state.append_confirm(confirm, wanted & wants::VERDICT != 0);
        }
        Some(state.number)
    }

    /// Appends the dead letter of a message, whose queue and position `origin` names. That message is settled when the
    /// letter is written. The caller owes a [`Persister::kick`].
    pub(crate) fn publish_dead_letter(
        &self,
        message: &Message<'_>,
        routes: &Routes<Q>,
        persistent: bool,
        origin: (Arc<Q>, u64),
    ) {
        if let Some(mut state) = self.wait_for_room(None) {
            state.append_message(message, routes, persistent);
            state.batch.origins.push(origin);
        }
    }

    /// Notes how often messages came back. Never waits.
    pub(crate) fn note_returns(&self, returned: &[Returned]) {
        if !returned.is_empty() {
            let mut state = lock(&self.state);
            state.returned.extend_from_slice(returned);
            self.wake(&mut state);
        }
    }

    /// Notes what a queue settled. Called under that queue's lock; never waits.
    pub(crate) fn settle(&self, settled: &[Settled]) {
        if settled.is_empty() {
            return;
        }
        self.segment_table.subtract(settled);
        self.metrics.settled.add(settled.iter().map(|settled| u64::from(settled.count)).sum());
        let mut state = lock(&self.state);
        let first = state.acks.is_empty() && state.returned.is_empty();
        state.note_acks(settled);
        if first && !state.acks.is_empty() {
            self.wake(&mut state);
        }
    }

    /// Sees to it that the batch is written soon.
    pub(crate) fn kick(&self) {
        let mut state = lock(&self.state);
        if !state.batch.is_empty() {
            self.wake(&mut state);
        }
    }

    fn wake(&self, state: &mut State<Q>) {
        if std::mem::take(&mut state.idle) {
            self.work.notify_one();
        }
    }

    /// Has the thread write what is there, and end.
    pub(crate) fn stop(&self) {
        let mut state = lock(&self.state);
        state.stopping = true;
        state.idle = false;
        self.work.notify_one();
    }

    /// The body of the persister's thread. Returns when it is told to stop, or after the first failure of the log, which
    /// `fail` is told before anybody who waits. Nothing is confirmed after that.
    pub(crate) fn run(&self, fail: impl FnOnce(Error)) {
        let mut batch = WriteBatch::default();
        loop {
            match self.step(&mut batch) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    fail(error);
                    break;
                }
            }
        }
        self.end();
    }

    /// Accepts nothing from now on, and tells those who wait.
    pub(crate) fn end(&self) {
        lock(&self.state).ended = true;
        self.progress.notify_all();
    }

    /// Takes one batch through; false when the thread shall end.
    pub(crate) fn step(&self, batch: &mut WriteBatch<Q>) -> Result<bool, Error> {
        let Some(number) = self.take(batch)? else { return Ok(false) };
        self.take_through(batch, number)?;
        Ok(true)
    }

    /// Writes a batch, and tells everybody whom it concerns.
    fn take_through(&self, batch: &WriteBatch<Q>, number: u64) -> Result<(), Error> {
        self.segment_table.write(&batch.bytes, &batch.chunks, batch.sync)?;
        if batch.bytes.is_empty() && batch.sync {
            self.segment_table.sync(batch.segment)?;
        }
        self.distribute(batch);
        self.segment_table.seal(&batch.sealed);
        self.settle_origins(batch);
        self.answer_publishers(batch);
        let mut state = lock(&self.state);
        state.through = number + 1;
        self.announce(&state);
        Ok(())
    }

    /// Exchanges the batch that gathered for the empty one in `batch` and returns its number; waits for work before.
    /// None when the thread shall end.
    fn take(&self, batch: &mut WriteBatch<Q>) -> Result<Option<u64>, Error> {
        batch.clear();
        let mut state = lock(&self.state);
        let mut delayed = false;
        let mut sync_is_due = false;
        loop {
            if state.stood_in {
                state = wait(&self.work, state);
                continue;
            }
            if let Some(error) = state.failure.take() {
                return Err(error);
            }
            if !state.batch.is_empty() {
                break;
            }
            let has_acks = !state.acks.is_empty() || !state.returned.is_empty();
            let acks_are_due = has_acks && (delayed || state.stopping);
            let unsynced = state.unsynced_since.map(|since| SYNC_DELAY.saturating_sub(since.elapsed()));
            sync_is_due = unsynced == Some(Duration::ZERO);
            if acks_are_due || sync_is_due {
                break;
            }
            if state.stopping {
                return Ok(None);
            }
            state.idle = true;
            let timeout = if has_acks { Some(ACKS_DELAY) } else { unsynced };
            delayed = has_acks;
            state = match timeout {
                None => wait(&self.work, state),
                Some(timeout) => {
                    let waited = self.work.wait_timeout(state, timeout);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        state.idle = false;
        Ok(Some(self.exchange(&mut state, batch, sync_is_due)))
    }

    /// Exchanges the batch that gathered for the empty one in `batch` and returns its number.
    fn exchange(&self, state: &mut State<Q>, batch: &mut WriteBatch<Q>, sync_is_due: bool) -> u64 {
        // What came back was settled after that.
        state.append_returns();
        state.append_acks();
        state.batch.segment = state.segment;
        state.batch.sync |=
            sync_is_due || state.unsynced_since.is_some_and(|since| since.elapsed() >= SYNC_DELAY);
        std::mem::swap(batch, &mut state.batch);
        state.synced = batch.sync;
        if batch.sync {
            state.unsynced_since = None;
        } else if !batch.bytes.is_empty() {
            state.unsynced_since.get_or_insert_with(Instant::now);
        }
        let number = state.number;
        state.number += 1;
        self.announce(state);
        number
    }

    /// Writes down, durably, that the broker stopped in good order. The thread must have ended.
    pub(crate) fn write_close(&self, delivered: &[(u32, u64)]) -> Result<(), Error> {
        let mut state = lock(&self.state);
        if state.offset == 0 {
            // There was no room for the segment of this life, and so nothing was written.
            return Ok(());
        }
        state.synced = true;
        let length = delivered.len() * 12;
        state.append(RecordKind::Close, 0, length, |out| record::put_close(out, delivered));
        state.end_segment();
        let batch = std::mem::take(&mut state.batch);
        // Whatever was not synced before must be, for the close record claims that it is.
        let chunk = batch.chunks.first().map(|chunk| Chunk { start: 0, ..*chunk });
        self.segment_table.write(&[], chunk.as_slice(), true)?;
        self.segment_table.write(&batch.bytes, &batch.chunks, true)
    }
}

impl<Q: LogQueue> Ledger for Persister<Q> {
    fn add(&self, slot: u32, count: u64, bytes: u64) {
        self.segment_table.add(slot, count, bytes);
    }

    fn settle(&self, settled: &[Settled]) {
        Self::settle(self, settled);
    }
}
