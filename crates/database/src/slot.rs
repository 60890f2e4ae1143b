//! Where one answer is put by a worker and waited for by whoever asked.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::Failure;

/// Where one answer is put, and waited for.
pub(crate) struct Slot<A> {
    state: Mutex<SlotState<A>>,
    changed: Condvar,
}

enum SlotState<A> {
    /// No worker has begun the job.
    Waiting,
    /// A worker executes the job.
    Begun {
        is_write: bool,
    },
    /// Nobody waits any more.
    Abandoned,
    Answered(Result<A, Failure>),
}

impl<A> Slot<A> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(SlotState::Waiting), changed: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, SlotState<A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the job is begun. `false` means that nobody waits for it any more, and that it must not be.
    pub(crate) fn begin(&self, is_write: bool) -> bool {
        let mut state = self.state();
        if matches!(*state, SlotState::Abandoned) {
            return false;
        }
        *state = SlotState::Begun { is_write };
        true
    }

    /// Takes [`Slot::begin`] back: nothing of the job was done, and it may be begun again.
    pub(crate) fn defer(&self) {
        let mut state = self.state();
        if matches!(*state, SlotState::Begun { .. }) {
            *state = SlotState::Waiting;
        }
    }

    pub(crate) fn answer(&self, answer: Result<A, Failure>) {
        let mut state = self.state();
        if !matches!(*state, SlotState::Abandoned) {
            *state = SlotState::Answered(answer);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Notes that nobody waits for the answer any more. A job that was not begun never is.
    pub(crate) fn abandon(&self) {
        *self.state() = SlotState::Abandoned;
    }

    /// Waits for the answer, no longer than until `deadline`.
    pub(crate) fn wait(&self, deadline: Instant) -> Result<A, Failure> {
        let mut state = self.state();
        loop {
            let was = std::mem::replace(&mut *state, SlotState::Abandoned);
            if let SlotState::Answered(answer) = was {
                return answer;
            }
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return Err(match was {
                    SlotState::Begun { is_write: true } => {
                        Failure::Unknown("the deadline passed while it was being executed".to_owned())
                    }
                    _ => Failure::TimedOut,
                });
            }
            *state = was;
            state = self.changed.wait_timeout(state, remaining).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_the_asker_is_told_depends_on_whether_the_job_was_begun() {
        let soon = || Instant::now() + Duration::from_millis(1);
        let slot = Slot::<u32>::new();
        assert!(matches!(slot.wait(soon()), Err(Failure::TimedOut)));
        assert!(!slot.begin(true), "nobody waits for it any more");
        let slot = Slot::<u32>::new();
        assert!(slot.begin(true));
        assert!(matches!(slot.wait(soon()), Err(Failure::Unknown(_))));
        let slot = Slot::<u32>::new();
        assert!(slot.begin(true));
        slot.defer();
        assert!(matches!(slot.wait(soon()), Err(Failure::TimedOut)));
        let slot = Slot::<u32>::new();
        slot.begin(false);
        slot.answer(Ok(7));
        assert!(matches!(slot.wait(soon()), Ok(7)));
    }
}
