//! Bounded waiting: polls until a condition holds.

use std::time::{Duration, Instant};

/// How long to wait for something that normally takes a moment. Generous, because the machine may be busy.
pub fn patience() -> Duration {
    Duration::from_secs(60)
}

/// Polls `condition` until it holds; panics naming `what` when it still does not after `limit`.
#[track_caller]
pub fn wait_until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    while !condition() {
        assert!(start.elapsed() < limit, "waited {limit:?} in vain: {what}");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
