//! When queues have to be looked at by themselves: because a message expires, or nobody used a queue for long enough.
//! A queue has at most one entry, so tens of thousands of them cost a few bytes each and nobody polls.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::clock;
use crate::queues::topology::SharedQueue;
use crate::sync::lock;

/// The most queues that are handed out at a time.
const MOST_AT_ONCE: usize = 64;
/// The longest wait at a time.
const LONGEST: Duration = Duration::from_secs(3600);

/// Queues by the time at which they are due, in milliseconds since 1970.
#[derive(Default)]
pub(crate) struct Timers {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queues: BTreeMap<(u64, u32), Weak<SharedQueue>>,
    stopped: bool,
}

impl Timers {
    /// `queue` is due at `due`, and not at `before` any more.
    pub(crate) fn schedule(&self, queue: u32, shared: &Weak<SharedQueue>, before: u64, due: u64) {
        let mut state = lock(&self.state);
        state.queues.remove(&(before, queue));
        state.queues.insert((due, queue), Weak::clone(shared));
        let is_first = state.queues.first_key_value().is_some_and(|(first, _)| *first == (due, queue));
        drop(state);
        if is_first {
            self.changed.notify_one();
        }
    }

    /// `queue`, which was due at `due`, is deleted.
    pub(crate) fn cancel(&self, queue: u32, due: u64) {
        lock(&self.state).queues.remove(&(due, queue));
    }

    /// Waits until queues are due, and takes some of them. None after [`Timers::stop`].
    pub(crate) fn wait(&self) -> Option<Vec<Arc<SharedQueue>>> {
        let mut state = lock(&self.state);
        loop {
            if state.stopped {
                return None;
            }
            let now = clock::now_ms();
            let mut due = Vec::new();
            while due.len() < MOST_AT_ONCE
                && let Some(first) = state.queues.first_entry().filter(|first| first.key().0 <= now)
            {
                due.push(first.remove());
            }
            if !due.is_empty() {
                return Some(due.iter().filter_map(Weak::upgrade).collect());
            }
            let next = state.queues.first_key_value().map(|((due, _), _)| Duration::from_millis(due - now));
            let waited = self.changed.wait_timeout(state, next.unwrap_or(LONGEST).min(LONGEST));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends [`Timers::wait`] for good.
    pub(crate) fn stop(&self) {
        lock(&self.state).stopped = true;
        self.changed.notify_all();
    }
}
