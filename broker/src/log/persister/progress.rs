//! Waiting for the log's writer: for room in the batch that gathers, or for a batch to be through.

use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Persister, State};
use crate::log::owner::LogQueue;
use crate::log::write_batch::LIMIT_BYTES;
use crate::sync::{lock, wait};

/// How far a batch has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It is in its queues, and durable if a message in it asked for that.
    Through,
    /// It was not written yet.
    Pending,
    /// The thread has ended, and nobody knows how much of it was written.
    Ended,
}

impl<Q: LogQueue> Persister<Q> {
    /// Locks the batch that gathers; waits while it is full. None if it is so at the deadline, or the thread has ended.
    pub(super) fn wait_for_room(&self, deadline: Option<Instant>) -> Option<MutexGuard<'_, State<Q>>> {
        let mut state = lock(&self.state);
        while state.batch.bytes.len() >= LIMIT_BYTES && !state.ended {
            self.wake(&mut state);
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return None;
            }
            state = self.wait_for_progress(state, left);
        }
        (!state.ended).then_some(state)
    }

    /// Waits until batch `number` is in its queues. False if the log ended before.
    pub(crate) fn wait_through(&self, number: u64) -> bool {
        self.wait_for(number, None) == Progress::Through
    }

    /// The same until `deadline` at most; tells how far the batch has come.
    pub(crate) fn wait_until(&self, number: u64, deadline: Instant) -> Progress {
        self.wait_for(number, Some(deadline))
    }

    fn wait_for(&self, number: u64, deadline: Option<Instant>) -> Progress {
        let mut state = lock(&self.state);
        self.wake(&mut state);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match () {
                () if state.through > number => return Progress::Through,
                () if state.ended => return Progress::Ended,
                () if left == Some(Duration::ZERO) => return Progress::Pending,
                () => state = self.wait_for_progress(state, left),
            }
        }
    }

    /// Waits for the next progress, or for `timeout`.
    fn wait_for_progress<'a>(
        &self,
        mut state: MutexGuard<'a, State<Q>>,
        timeout: Option<Duration>,
    ) -> MutexGuard<'a, State<Q>> {
        state.waiters += 1;
        let mut state = match timeout {
            None => wait(&self.progress, state),
            Some(timeout) => {
                self.progress.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.waiters -= 1;
        state
    }

    /// Tells those who wait for progress. Most of the time nobody does, and a system call is spared.
    pub(super) fn announce(&self, state: &State<Q>) {
        if state.waiters > 0 {
            self.progress.notify_all();
        }
    }
}
