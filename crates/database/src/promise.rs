//! The answer to one job: a worker sets it, the caller waits for it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Failure;

/// The answer to one job, which may still be outstanding.
pub(crate) struct Promise<A> {
    state: Mutex<PromiseState<A>>,
    changed: Condvar,
}

enum PromiseState<A> {
    /// No worker has begun the job.
    Waiting,
    /// A worker executes the job.
    Begun {
        is_write: bool,
    },
    /// The caller has stopped waiting.
    Abandoned,
    Answered(Result<A, Failure>),
}

impl<A> Promise<A> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(PromiseState::Waiting), changed: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, PromiseState<A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the job as begun. Returns `false` if the caller has stopped waiting; then the job must not be executed.
    pub(crate) fn begin(&self, is_write: bool) -> bool {
        let mut state = self.state();
        if matches!(*state, PromiseState::Abandoned) {
            return false;
        }
        *state = PromiseState::Begun { is_write };
        true
    }

    /// Undoes [`Promise::begin`] for a job that has had no effect and may be begun again.
    pub(crate) fn defer(&self) {
        let mut state = self.state();
        if matches!(*state, PromiseState::Begun { .. }) {
            *state = PromiseState::Waiting;
        }
    }

    pub(crate) fn answer(&self, answer: Result<A, Failure>) {
        let mut state = self.state();
        if !matches!(*state, PromiseState::Abandoned) {
            *state = PromiseState::Answered(answer);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Notes that the caller has stopped waiting. A job that was not begun never is.
    pub(crate) fn abandon(&self) {
        *self.state() = PromiseState::Abandoned;
    }

    /// Waits up to `timeout` for the answer, which stays where it is; tells whether it is there.
    pub(crate) fn is_answered_within(&self, timeout: Duration) -> bool {
        let outstanding = |state: &mut PromiseState<A>| !matches!(state, PromiseState::Answered(_));
        let waited = self.changed.wait_timeout_while(self.state(), timeout, outstanding);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Waits for the answer, no longer than until `deadline`.
    pub(crate) fn wait(&self, deadline: Instant) -> Result<A, Failure> {
        let mut state = self.state();
        loop {
            let was = std::mem::replace(&mut *state, PromiseState::Abandoned);
            if let PromiseState::Answered(answer) = was {
                return answer;
            }
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return Err(match was {
                    PromiseState::Begun { is_write: true } => {
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
    use super::*;

    #[test]
    fn what_the_asker_is_told_depends_on_whether_the_job_was_begun() {
        let soon = || Instant::now() + Duration::from_millis(1);
        let promise = Promise::<u32>::new();
        assert!(matches!(promise.wait(soon()), Err(Failure::TimedOut)));
        assert!(!promise.begin(true), "nobody waits for it any more");
        let promise = Promise::<u32>::new();
        assert!(promise.begin(true));
        assert!(matches!(promise.wait(soon()), Err(Failure::Unknown(_))));
        let promise = Promise::<u32>::new();
        assert!(promise.begin(true));
        promise.defer();
        assert!(matches!(promise.wait(soon()), Err(Failure::TimedOut)));
        let promise = Promise::<u32>::new();
        promise.begin(false);
        promise.answer(Ok(7));
        assert!(matches!(promise.wait(soon()), Ok(7)));
    }
}
