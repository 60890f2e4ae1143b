//! The growing, jittered, bounded delay between attempts to reach an unavailable server.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Doubles from `first` to `max`. Each delay is random within the upper half of its step, so that many processes that
/// lost the same server do not all return at the same instant.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    step: Duration,
}

impl Backoff {
    /// A back-off whose first delay is at most `first` and whose every delay is at most `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, step: first }
    }

    /// The delay before the next attempt: between half the current step and the whole of it.
    pub fn next_delay(&mut self) -> Duration {
        let step = self.step.min(self.max);
        self.step = step.saturating_mul(2).min(self.max);
        // The keys of the standard library's hasher are random for each value, which is random enough for jitter.
        let random = RandomState::new().hash_one(0u8) % 1_000;
        step / 2 + (step / 2).mul_f64(f64::from(u16::try_from(random).unwrap_or(0)) / 1_000.0)
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.step = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_bound_and_start_over_after_a_reset() {
        let (first, max) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::new(first, max);
        let delays: Vec<_> = (0..8).map(|_| backoff.next_delay()).collect();
        assert!(delays[0] >= first / 2 && delays[0] <= first, "{delays:?}");
        assert!(delays.iter().all(|delay| *delay <= max), "{delays:?}");
        assert!(delays[7] >= max / 2, "{delays:?}");
        backoff.reset();
        assert!(backoff.next_delay() <= first);
    }
}
