//! How long the deliveries of a channel are unsettled, without a clock being read for each of them: delivery tags ascend,
//! so it is enough to note now and then which one was the last.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// When which deliveries had been made.
#[derive(Debug, Default)]
pub(crate) struct AgeOfDeliveries {
    /// The tag that came next at some moments, the oldest first.
    notes: VecDeque<(u64, Instant)>,
    /// Deliveries below this tag were made before the timeout.
    overdue_below: u64,
}

impl AgeOfDeliveries {
    /// Whether the delivery `first`, the oldest one that is unsettled, was made more than `timeout` before `now`.
    /// `next` is the tag of the next delivery. What was delivered since the last call counts as delivered now.
    pub(crate) fn is_overdue(
        &mut self,
        first: Option<u64>,
        next: u64,
        now: Instant,
        timeout: Duration,
    ) -> bool {
        let Some(first) = first else {
            self.notes.clear();
            return false;
        };
        self.notes.push_back((next, now));
        while let Some((tag, at)) = self.notes.front()
            && now.duration_since(*at) >= timeout
        {
            self.overdue_below = *tag;
            self.notes.pop_front();
        }
        first < self.overdue_below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_overdue_when_it_was_there_a_timeout_ago() {
        let timeout = Duration::from_secs(10);
        let start = Instant::now();
        let mut age = AgeOfDeliveries::default();
        let mut ask =
            |seconds, first, next| age.is_overdue(first, next, start + Duration::from_secs(seconds), timeout);
        assert!(!ask(0, None, 5));
        assert!(!ask(5, Some(5), 8), "delivered since the last look");
        assert!(!ask(10, Some(5), 9));
        assert!(ask(15, Some(5), 9) && ask(15, Some(7), 9), "there ten seconds ago");
        assert!(!ask(15, Some(8), 9), "seen five seconds ago");
        assert!(ask(20, Some(8), 9));
        assert!(!ask(21, None, 9) && !ask(30, Some(9), 10));
    }
}
