//! Looking through a queue, and taking single messages from it.

use crate::connection::Connection;
use crate::delivery::Delivery;
use crate::error::BrokerError;
use crate::io::{Command, Settlements};

/// How much of a queue is looked at.
#[derive(Clone, Copy, Debug)]
pub struct BrowseLimits {
    /// Most messages.
    pub messages: usize,
    /// No further message is taken once their bodies have as many bytes together.
    pub bytes: usize,
}

/// The first messages of a queue. Until [`Browsed::finish`], or until this is dropped, nobody else gets them.
pub struct Browsed {
    messages: Vec<Delivery>,
    settlements: Settlements,
}

impl Connection {
    /// Takes the first messages of `queue`, oldest first. Those that are not acknowledged go back to their places, and
    /// count as redelivered.
    pub fn browse(&self, queue: &str, limits: BrowseLimits) -> Result<Browsed, BrokerError> {
        let queue = queue.to_owned();
        let BrowseLimits { messages, bytes } = limits;
        let (messages, settlements) =
            self.request(|reply| Command::Browse { queue, messages, bytes, reply })?;
        Ok(Browsed { messages, settlements })
    }
}

impl Browsed {
    /// The messages.
    pub fn messages(&self) -> &[Delivery] {
        &self.messages
    }

    /// Removes the message `tag` from the queue. AMQP does not answer an ack: if the connection ends first, the message
    /// is still there.
    pub fn ack(&self, tag: u64) {
        self.settlements.ack(tag);
    }

    /// Gives the other messages back, and waits until the broker has them.
    pub fn finish(self) -> Result<(), BrokerError> {
        self.settlements.finish()
    }
}
