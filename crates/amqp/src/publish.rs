//! Publishing and waiting for confirms.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use crate::confirms::{ConfirmReceiver, ConfirmSender};
use crate::connection::Connection;
use crate::error::PublishError;
use crate::io::Command;
use crate::properties::Properties;

/// How often a publisher that waits for its confirm checks whether the broker has blocked publishers.
const HALT_POLL: Duration = Duration::from_millis(100);

impl Connection {
    /// Publishes through the default exchange, persistent and mandatory, and blocks until the broker has confirmed
    /// that it stored the message, or for `timeout`. Many threads may wait at the same time.
    pub fn publish(
        &self,
        queue: &str,
        properties: Properties,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<(), PublishError> {
        let queue = queue.to_owned();
        let answer = self.send(|reply| Command::Publish { queue, properties, body, reply })?;
        self.wait_for_confirm(&answer, Instant::now() + timeout)
    }

    /// [`Connection::publish`] for several messages, which the broker gets in this order, with one deadline for all
    /// confirms. Returns each message's own result.
    pub fn publish_all(
        &self,
        queue: &str,
        messages: Vec<(Properties, Vec<u8>)>,
        timeout: Duration,
    ) -> Vec<Result<(), PublishError>> {
        let sent = messages.into_iter().map(|(properties, body)| {
            let queue = queue.to_owned();
            self.send(|reply| Command::Publish { queue, properties, body, reply })
        });
        self.wait_for_confirms(sent.collect(), timeout)
    }

    /// Sends a message, unless the broker has blocked publishers. Returns where its confirm arrives.
    pub(super) fn send(
        &self,
        publish: impl FnOnce(ConfirmSender) -> Command,
    ) -> Result<ConfirmReceiver, PublishError> {
        if let Some(reason) = self.blocked() {
            return Err(PublishError::Blocked(reason));
        }
        let (reply, answer) = sync_channel(1);
        if self.commands.send(publish(reply)) {
            Ok(answer)
        } else {
            Err(PublishError::Closed(self.close_reason()))
        }
    }

    pub(super) fn wait_for_confirms(
        &self,
        sent: Vec<Result<ConfirmReceiver, PublishError>>,
        timeout: Duration,
    ) -> Vec<Result<(), PublishError>> {
        let mut deadline = Instant::now() + timeout;
        let results = sent.into_iter().map(|answer| {
            let result = self.wait_for_confirm(&answer?, deadline);
            if result == Err(PublishError::TimedOut) {
                // The broker has stopped confirming: of the others, only those count that are confirmed already.
                deadline = Instant::now();
            }
            result
        });
        results.collect()
    }

    fn wait_for_confirm(&self, answer: &ConfirmReceiver, deadline: Instant) -> Result<(), PublishError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match answer.recv_timeout(left.min(HALT_POLL)) {
                Ok(result) => return result,
                // The message was sent just before the broker blocked publishers, so its confirm may take any time.
                Err(RecvTimeoutError::Timeout) if left <= HALT_POLL || self.commands.halted().is_some() => {
                    return Err(PublishError::TimedOut);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(PublishError::Closed(self.close_reason())),
            }
        }
    }
}
