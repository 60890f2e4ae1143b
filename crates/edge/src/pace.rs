//! The minimum rate and the deadline of a transfer.

use std::io::{self, ErrorKind};
use std::time::Duration;

/// Enforces the minimum rate of a body or a response over a sliding window, and its total deadline. Only the time spent
/// waiting for the client counts.
///
/// The client has a credit of time. Waiting for the client uses credit up, and each byte earns some back at the minimum
/// rate. The credit never exceeds the window, so a fast start does not allow a slow rest.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// The credit: how much longer we wait if the client transfers nothing.
    credit: Duration,
    window: Duration,
    /// How much longer we wait for the client in total.
    left: Duration,
    /// In bytes per second.
    min_rate: u64,
}

impl Pace {
    /// A transfer that must average `min_rate` bytes per second over `window`, and that may wait for `deadline` in
    /// total.
    pub(crate) fn new(window: Duration, min_rate: u64, deadline: Duration) -> Self {
        Self { credit: window, window, left: deadline, min_rate: min_rate.max(1) }
    }

    /// Records one read or write; fails with `TimedOut` if the transfer is too slow or has taken too long.
    pub(crate) fn record(&mut self, waited: Duration, bytes: usize) -> io::Result<()> {
        let earned = (bytes as u64).saturating_mul(1_000_000) / self.min_rate;
        let credit = (self.credit + Duration::from_micros(earned)).checked_sub(waited);
        match (credit, self.left.checked_sub(waited)) {
            (Some(credit), Some(left)) => {
                self.credit = credit.min(self.window);
                self.left = left;
                Ok(())
            }
            _ => Err(ErrorKind::TimedOut.into()),
        }
    }

    /// How long the next read may wait.
    pub(crate) fn patience(&self) -> Duration {
        self.window.min(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const EVER: Duration = Duration::from_secs(1_000_000);

    #[test]
    fn a_trickle_is_too_slow_once_its_window_is_used_up() {
        let mut pace = Pace::new(10 * SECOND, 100, EVER);
        for _ in 0..10 {
            pace.record(SECOND, 1).unwrap();
        }
        assert_eq!(pace.record(SECOND, 1).unwrap_err().kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn a_slow_but_steady_transfer_is_fine() {
        let mut pace = Pace::new(SECOND, 100, EVER);
        for _ in 0..1_000 {
            pace.record(SECOND, 100).unwrap();
        }
    }

    #[test]
    fn a_fast_beginning_excuses_no_trickle_later() {
        let mut pace = Pace::new(10 * SECOND, 100, EVER);
        pace.record(SECOND, 1 << 30).unwrap();
        let lasted = (0..1_000).take_while(|_| pace.record(SECOND, 1).is_ok()).count();
        assert!(lasted <= 11, "{lasted} seconds");
    }

    #[test]
    fn a_steady_transfer_ends_at_its_deadline() {
        let mut pace = Pace::new(10 * SECOND, 100, 60 * SECOND);
        let lasted = (0..1_000).take_while(|_| pace.record(SECOND, 100).is_ok()).count();
        assert_eq!(lasted, 60);
    }
}
