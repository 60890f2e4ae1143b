//! The messages that wait for their confirm. Does no I/O and never blocks.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use crate::error::PublishError;

/// Receives the result of one publish.
pub(crate) type ConfirmSender = SyncSender<Result<(), PublishError>>;
pub(crate) type ConfirmReceiver = Receiver<Result<(), PublishError>>;

/// Published messages in the order of their delivery tags, which broker and client both count from 1 (RabbitMQ's
/// extension `confirm.select`).
pub(super) struct Confirms {
    /// The tag of the first entry of `waiting`.
    first_tag: u64,
    /// `None` is a message that was confirmed before an earlier one.
    waiting: VecDeque<Option<Unconfirmed>>,
    /// When the broker last confirmed something, or when the oldest waiting message was sent, whichever is later.
    progress: Instant,
}

struct Unconfirmed {
    /// Identifies a returned message.
    message_id: Option<String>,
    /// Set when the broker returned the message; its confirm still follows.
    returned: Option<String>,
    reply: ConfirmSender,
}

impl Confirms {
    /// Most messages that may wait for their confirm; beyond it, publishing fails with [`PublishError::Busy`].
    const MAX_WAITING: usize = 16_384;

    pub(super) fn new() -> Self {
        Self { first_tag: 1, waiting: VecDeque::new(), progress: Instant::now() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= Self::MAX_WAITING
    }

    /// For how long the broker has confirmed nothing although messages wait for a confirm.
    pub(super) fn stalled_for(&self) -> Duration {
        if self.waiting.is_empty() { Duration::ZERO } else { self.progress.elapsed() }
    }

    /// Adds the next message to be published.
    pub(super) fn push(&mut self, message_id: Option<String>, reply: ConfirmSender) {
        if self.waiting.is_empty() {
            self.progress = Instant::now();
        }
        self.waiting.push_back(Some(Unconfirmed { message_id, returned: None, reply }));
    }

    /// Records that the broker returned a message. A return carries no delivery tag, so every waiting message with that
    /// id counts as returned. Messages with the same id are the same order, and reporting a failure too often is safe;
    /// reporting a false success is not.
    pub(super) fn mark_returned(&mut self, message_id: Option<&str>, reason: &str) {
        for waiting in self.waiting.iter_mut().flatten() {
            if waiting.message_id.as_deref() == message_id {
                waiting.returned = Some(reason.to_owned());
            }
        }
    }

    /// Records an ack or nack for the message `tag`, or with `multiple` for all messages up to it.
    pub(super) fn settle(&mut self, tag: u64, multiple: bool, acked: bool) {
        self.progress = Instant::now();
        if multiple {
            while self.first_tag <= tag {
                let Some(waiting) = self.waiting.pop_front() else { return };
                self.first_tag += 1;
                answer(waiting, acked);
            }
            return;
        }
        let index = tag.checked_sub(self.first_tag).and_then(|index| usize::try_from(index).ok());
        if let Some(waiting) = index.and_then(|index| self.waiting.get_mut(index)) {
            answer(waiting.take(), acked);
        }
        while let Some(None) = self.waiting.front() {
            self.waiting.pop_front();
            self.first_tag += 1;
        }
    }
}

fn answer(waiting: Option<Unconfirmed>, acked: bool) {
    let Some(Unconfirmed { returned, reply, .. }) = waiting else { return };
    let result = match (returned, acked) {
        (Some(reason), _) => Err(PublishError::Returned(reason)),
        (None, true) => Ok(()),
        (None, false) => Err(PublishError::Nacked),
    };
    // A publisher whose deadline has passed no longer receives.
    let _ = reply.try_send(result);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, sync_channel};

    type ConfirmReceiver = Receiver<Result<(), PublishError>>;

    fn published(confirms: &mut Confirms, ids: &[&str]) -> Vec<ConfirmReceiver> {
        ids.iter()
            .map(|id| {
                let (reply, outcome) = sync_channel(1);
                confirms.push(Some((*id).to_owned()), reply);
                outcome
            })
            .collect()
    }

    #[test]
    fn single_and_multiple_confirms_reach_exactly_their_messages() {
        let mut confirms = Confirms::new();
        let outcomes = published(&mut confirms, &["a", "b", "c", "d"]);
        confirms.settle(2, false, true);
        assert!(outcomes[0].try_recv().is_err());
        assert_eq!(outcomes[1].try_recv(), Ok(Ok(())));
        confirms.settle(3, true, true);
        assert_eq!(outcomes[0].try_recv(), Ok(Ok(())));
        assert_eq!(outcomes[2].try_recv(), Ok(Ok(())));
        assert!(outcomes[3].try_recv().is_err());
        confirms.settle(4, false, false);
        assert_eq!(outcomes[3].try_recv(), Ok(Err(PublishError::Nacked)));
        let next = published(&mut confirms, &["e"]);
        confirms.settle(5, false, true);
        assert_eq!(next[0].try_recv(), Ok(Ok(())));
    }

    #[test]
    fn a_returned_message_fails_although_its_ack_follows() {
        let mut confirms = Confirms::new();
        let outcomes = published(&mut confirms, &["a", "b", "a"]);
        confirms.mark_returned(Some("a"), "no route");
        confirms.settle(3, true, true);
        let returned = Ok(Err(PublishError::Returned("no route".to_owned())));
        assert_eq!(outcomes[0].try_recv(), returned);
        assert_eq!(outcomes[1].try_recv(), Ok(Ok(())));
        assert_eq!(outcomes[2].try_recv(), returned);
    }

    #[test]
    fn only_silence_while_something_waits_is_a_stall() {
        const LONG: Duration = Duration::from_secs(60);
        let mut confirms = Confirms::new();
        let long_ago =
            |confirms: &mut Confirms| confirms.progress = Instant::now().checked_sub(LONG).unwrap();
        long_ago(&mut confirms);
        assert_eq!(confirms.stalled_for(), Duration::ZERO, "nothing waits");
        let _outcomes = published(&mut confirms, &["a", "b", "c"]);
        assert!(confirms.stalled_for() < LONG, "the first has only just been sent");
        long_ago(&mut confirms);
        let _later = published(&mut confirms, &["d"]);
        assert!(confirms.stalled_for() >= LONG, "sending more is no progress");
        confirms.settle(2, false, true);
        assert!(confirms.stalled_for() < LONG, "the broker goes on confirming");
        confirms.settle(4, true, true);
        long_ago(&mut confirms);
        assert_eq!(confirms.stalled_for(), Duration::ZERO, "all is confirmed");
    }

    #[test]
    fn tags_that_were_never_published_change_nothing() {
        let mut confirms = Confirms::new();
        confirms.settle(7, false, true);
        confirms.settle(0, false, true);
        confirms.settle(9, true, true);
        let outcomes = published(&mut confirms, &["a"]);
        confirms.settle(1, false, true);
        assert_eq!(outcomes[0].try_recv(), Ok(Ok(())));
    }
}
