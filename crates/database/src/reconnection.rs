//! When the next attempt to connect may be made: one at a time for all workers, and not too soon after a failure.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foundation::Backoff;

/// A service has to recover within three seconds, so the longest delay is a third of that.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// Where workers wait for their turn to connect.
pub(crate) struct Reconnection {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    backoff: Backoff,
    /// No attempt is made before this.
    not_before: Instant,
    /// Whether a worker is connecting now.
    attempting: bool,
    stopped: bool,
}

/// Permission to connect. Dropping it passes the turn to the next worker.
pub(crate) struct Turn<'a>(&'a Reconnection);

impl Reconnection {
    pub(crate) fn new() -> Self {
        let backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        let state = State { backoff, not_before: Instant::now(), attempting: false, stopped: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn to connect; `None` once the workers stop.
    pub(crate) fn turn(&self) -> Option<Turn<'_>> {
        let mut state = self.state();
        loop {
            if state.stopped {
                return None;
            }
            let now = Instant::now();
            let waited = if state.attempting {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else if state.not_before > now {
                let delay = state.not_before - now;
                self.changed.wait_timeout(state, delay).unwrap_or_else(PoisonError::into_inner).0
            } else {
                state.attempting = true;
                return Some(Turn(self));
            };
            state = waited;
        }
    }

    /// An attempt failed, or a connection was lost before it did any work: delays the next attempt.
    pub(crate) fn failed(&self) {
        let mut state = self.state();
        state.not_before = Instant::now() + state.backoff.next_delay();
    }

    /// A connection has done work: resets the delay. Connecting alone does not, because a failing server may accept
    /// connections and drop them again and again.
    pub(crate) fn worked(&self) {
        self.state().backoff.reset();
    }

    /// Ends all waiting, now and later.
    pub(crate) fn stop(&self) {
        self.state().stopped = true;
        self.changed.notify_all();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().attempting = false;
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_at_a_time_has_the_turn() {
        let reconnection = Reconnection::new();
        let connecting = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let turn = reconnection.turn().unwrap();
                        assert_eq!(connecting.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        connecting.fetch_sub(1, Ordering::SeqCst);
                        drop(turn);
                    }
                });
            }
        });
    }

    #[test]
    fn only_work_ends_the_growth_of_the_delay() {
        let reconnection = Reconnection::new();
        let delay = || {
            drop(reconnection.turn());
            reconnection.failed();
            let mut state = reconnection.state();
            let delay = state.not_before - Instant::now();
            state.not_before = Instant::now();
            delay
        };
        for _ in 0..8 {
            delay();
        }
        assert!(delay() > LONGEST_DELAY / 3, "connecting alone must not end the growth");
        reconnection.worked();
        assert!(delay() <= FIRST_DELAY);
    }

    #[test]
    fn stopping_ends_the_wait_for_a_turn() {
        let reconnection = Reconnection::new();
        let turn = reconnection.turn();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| reconnection.turn().is_none());
            reconnection.stop();
            assert!(waiting.join().unwrap());
        });
        drop(turn);
        assert!(reconnection.turn().is_none());
    }
}
