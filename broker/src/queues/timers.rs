//! When queues have to be looked at by themselves: because a message expires, or nobody used a queue for long enough.
//! A queue has at most one entry, so tens of thousands of them cost a few bytes each and nobody polls.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::clock;
use crate::sync::lock;

/// The most queues that are handed out at a time.
const MOST_AT_ONCE: usize = 64;
/// The longest wait at a time.
const LONGEST: Duration = Duration::from_secs(3600);

/// Queues by the time at which they are due, in milliseconds since 1970.
pub(crate) struct Timers<Q> {
    state: Mutex<State<Q>>,
    changed: Condvar,
}

struct State<Q> {
    queues: BTreeMap<(u64, u32), Weak<Q>>,
    stopped: bool,
}

impl<Q> Default for Timers<Q> {
    fn default() -> Self {
        let state = State { queues: BTreeMap::new(), stopped: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl<Q> Timers<Q> {
    /// `queue` is due at `due`, and not at `before` any more.
    pub(crate) fn schedule(&self, queue: u32, shared: &Weak<Q>, before: u64, due: u64) {
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
    pub(crate) fn wait(&self) -> Option<Vec<Arc<Q>>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queues::lifetimes::NEVER;
    use crate::queues::shared_queue::{QueueAttributes, SharedQueue};

    #[test]
    fn queues_come_when_they_are_due_and_once() {
        let timers = Arc::new(Timers::default());
        let queue = |id| SharedQueue::new(id, "q", QueueAttributes::default(), None, &timers);
        let queues: Vec<_> = (0..5).map(queue).collect();
        let schedule =
            |id: u32, before, due| timers.schedule(id, &Arc::downgrade(&queues[id as usize]), before, due);
        let now = clock::now_ms();
        schedule(0, NEVER, now + 40);
        schedule(1, NEVER, now + 3_600_000);
        schedule(2, NEVER, now);
        schedule(3, NEVER, now);
        schedule(4, NEVER, now + 3_600_000);
        timers.cancel(3, now);
        // Earlier than it was.
        schedule(4, now + 3_600_000, now + 20);
        let mut order = Vec::new();
        while order.len() < 3 {
            order.extend(timers.wait().unwrap().iter().map(|queue| queue.id));
        }
        assert_eq!(order, [2, 4, 0]);
        assert!(clock::now_ms() >= now + 40);
        assert_eq!(lock(&timers.state).queues.len(), 1, "nothing is left behind");
        timers.stop();
        assert!(timers.wait().is_none());
    }
}
