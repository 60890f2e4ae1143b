//! Writing a small batch on the thread that brings it, in the place of the log's own thread.

use super::{Persister, State};
use crate::log::owner::LogQueue;
use crate::sync::lock;

/// A batch of at most this size is written by the thread that brings it. With a larger one, more is on its way, which that
/// thread had better read meanwhile.
const SMALL_BATCH_BYTES: usize = 4096;

impl<Q: LogQueue> Persister<Q> {
    /// Sees to it that the batch is written soon. If it is small and the thread idle, the caller writes it, which spares
    /// it the wait for another thread to wake up: about a quarter of the time of a confirm. It waits for the disk then,
    /// so it must hold no lock, and have nothing better to do.
    pub(crate) fn write_or_kick(&self) {
        let mut state = lock(&self.state);
        if state.batch.is_empty() {
            return;
        }
        let is_small = state.batch.sync && state.batch.bytes.len() <= SMALL_BATCH_BYTES;
        if !(is_small && state.idle) {
            self.wake(&mut state);
            return;
        }
        state.idle = false;
        state.stood_in = true;
        let mut batch = std::mem::take(&mut state.spare);
        let number = self.exchange(&mut state, &mut batch, false);
        drop(state);
        let outcome = self.take_through(&batch, number);
        batch.clear();
        let mut state = lock(&self.state);
        state.stood_in = false;
        state.spare = batch;
        state.failure = outcome.err();
        if state.has_work() {
            self.work.notify_one();
        } else {
            state.idle = true;
        }
    }
}

impl<Q> State<Q> {
    /// Whether there is anything for the thread to do.
    fn has_work(&self) -> bool {
        let gathered = !(self.batch.is_empty() && self.acks.is_empty() && self.returned.is_empty());
        gathered || self.stopping || self.failure.is_some()
    }
}
