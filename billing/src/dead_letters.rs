//! Moves messages that can never become orders to the dead-letter queue.
//!
//! If the broker does not accept one, it is held unacknowledged and retried later; other messages do not wait for it.

use std::time::{Duration, Instant};

use amqp::{Delivery, PublishError};
use foundation::Backoff;

/// A message that can never succeed.
pub(crate) struct DeadLetter {
    pub(crate) delivery: Delivery,
    /// Why it cannot succeed.
    pub(crate) reason: String,
}

/// The dead letters of one broker session that could not be published yet.
pub(crate) struct DeadLetters {
    held: Vec<DeadLetter>,
    backoff: Backoff,
    /// When the held ones are retried.
    retry_at: Instant,
    /// Whether the last failure was the broker's, not that of a single message.
    broker_refuses: bool,
}

impl DeadLetters {
    /// The delay between two attempts grows up to `retry_max`.
    pub(crate) fn new(retry_max: Duration) -> Self {
        let backoff = Backoff::new(Duration::from_millis(200), retry_max);
        Self { held: Vec::new(), backoff, retry_at: Instant::now(), broker_refuses: false }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// How many are held.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether it is time for [`DeadLetters::retry`].
    pub(crate) fn is_due(&self) -> bool {
        !self.held.is_empty() && self.retry_at <= Instant::now()
    }

    /// Moves each letter with `publish`, and holds those that cannot be moved. Fails only if the broker session has ended;
    /// the broker then delivers these again.
    pub(crate) fn publish(
        &mut self,
        letters: Vec<DeadLetter>,
        mut publish: impl FnMut(&DeadLetter) -> Result<(), PublishError>,
    ) -> Result<(), PublishError> {
        for letter in letters {
            // While the broker accepts nothing, each further letter would only wait for its whole timeout.
            let result = if self.broker_refuses { None } else { Some(publish(&letter)) };
            match result {
                Some(Ok(())) => {}
                Some(Err(closed @ PublishError::Closed(_))) => return Err(closed),
                Some(Err(error)) => {
                    self.broker_refuses = !matches!(error, PublishError::Returned(_) | PublishError::Nacked);
                    self.hold(letter);
                    log::warn!("a message could not be dead-lettered and is kept in its queue: {error}");
                }
                None => self.hold(letter),
            }
        }
        Ok(())
    }

    fn hold(&mut self, letter: DeadLetter) {
        if self.held.is_empty() {
            self.retry_at = Instant::now() + self.backoff.next_delay();
        }
        self.held.push(letter);
    }

    /// Retries all held letters; fails like [`DeadLetters::publish`].
    pub(crate) fn retry(
        &mut self,
        publish: impl FnMut(&DeadLetter) -> Result<(), PublishError>,
    ) -> Result<(), PublishError> {
        self.broker_refuses = false;
        let held = std::mem::take(&mut self.held);
        self.publish(held, publish)?;
        if self.held.is_empty() {
            self.backoff.reset();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use amqp::Properties;
    use testkit::{patience, wait_until};

    use super::*;

    fn letters(tags: std::ops::Range<u64>) -> Vec<DeadLetter> {
        let letter = |tag| DeadLetter {
            delivery: Delivery {
                tag,
                redelivered: false,
                properties: Properties::default(),
                body: Vec::new(),
            },
            reason: "no order".to_owned(),
        };
        tags.map(letter).collect()
    }

    fn dead_letters() -> DeadLetters {
        DeadLetters::new(Duration::from_millis(50))
    }

    /// Retries with a broker that accepts everything; returns the tags of what it got.
    fn retried(dead: &mut DeadLetters) -> Vec<u64> {
        let mut moved = Vec::new();
        let publish = |letter: &DeadLetter| {
            moved.push(letter.delivery.tag);
            Ok(())
        };
        dead.retry(publish).unwrap();
        moved
    }

    #[test]
    fn a_letter_that_is_refused_holds_up_no_other() {
        let (mut dead, mut moved) = (dead_letters(), Vec::new());
        let mut refuse_two = |letter: &DeadLetter| match letter.delivery.tag {
            2 => Err(PublishError::Nacked),
            tag => {
                moved.push(tag);
                Ok(())
            }
        };
        dead.publish(letters(1..5), &mut refuse_two).unwrap();
        assert!(!dead.is_empty());
        dead.publish(letters(5..7), &mut refuse_two).unwrap();
        wait_until(patience(), "the held letter is due", || dead.is_due());
        dead.retry(&mut refuse_two).unwrap();
        assert!(!dead.is_due(), "it is not tried again at once");
        assert_eq!(moved, [1, 3, 4, 5, 6]);
        wait_until(patience(), "the held letter is due again", || dead.is_due());
        assert_eq!(retried(&mut dead), [2]);
        assert!(dead.is_empty() && !dead.is_due());
    }

    #[test]
    fn a_broker_that_takes_nothing_is_asked_once_for_all_letters() {
        let mut dead = dead_letters();
        let mut asked = 0;
        let mut refuse = |_: &DeadLetter| {
            asked += 1;
            Err(PublishError::TimedOut)
        };
        dead.publish(letters(1..4), &mut refuse).unwrap();
        dead.publish(letters(4..6), &mut refuse).unwrap();
        assert_eq!(asked, 1);
        assert_eq!(retried(&mut dead), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn the_end_of_the_session_is_told() {
        let mut dead = dead_letters();
        let closed = |_: &DeadLetter| Err(PublishError::Closed("gone".to_owned()));
        assert!(matches!(dead.publish(letters(1..4), closed), Err(PublishError::Closed(_))));
    }
}
