//! When a database that is away may be asked again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use foundation::Backoff;

/// When the next attempt to connect may be made. Shared by all repositories of the process, so that one success lets
/// all of them try at once, and a database that is away is asked by one thread at a time.
pub(crate) struct Reconnection {
    state: Mutex<(Backoff, Instant)>,
}

impl Reconnection {
    /// A first attempt is free; failures wait for 50 ms at first and a second at most.
    pub(crate) fn new() -> Arc<Self> {
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        Arc::new(Self { state: Mutex::new((backoff, Instant::now())) })
    }

    pub(crate) fn may_try(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 <= Instant::now()
    }

    pub(crate) fn report(&self, success: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if success {
            state.0.reset();
            state.1 = Instant::now();
        } else {
            state.1 = Instant::now() + state.0.next_delay();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_closes_the_way_to_the_database_for_a_moment() {
        let reconnection = Reconnection::new();
        assert!(reconnection.may_try());
        reconnection.report(false);
        assert!(!reconnection.may_try());
        reconnection.report(true);
        assert!(reconnection.may_try());
    }
}
