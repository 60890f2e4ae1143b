//! The commands for the I/O thread, and the state that it shares with its callers.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::broker::QueueFigures;
use crate::confirms::{ConfirmSender, Confirms};
use crate::delivery::Delivery;
use crate::error::BrokerError;
use crate::properties::Properties;

pub(crate) type Reply<T> = SyncSender<Result<T, BrokerError>>;

/// The name of the exclusive queue that [`Command::Listen`] has made, and what arrives in it.
pub(crate) type Listening = (String, Receiver<Vec<Delivery>>);

/// The messages, and what to tell the task that holds their channel.
pub(crate) type Taken = (Vec<Delivery>, Settlements);

/// What becomes of messages that were taken.
pub(super) enum Settlement {
    Ack(u64),
    Finish(Reply<()>),
}

/// Decides about messages that were taken. When it is dropped, those that were not acknowledged go back.
pub(crate) struct Settlements {
    pub(super) sender: UnboundedSender<Settlement>,
    /// How long giving back may take.
    pub(super) deadline: Duration,
}

impl Settlements {
    pub(crate) fn ack(&self, tag: u64) {
        let _ = self.sender.send(Settlement::Ack(tag));
    }

    pub(crate) fn finish(self) -> Result<(), BrokerError> {
        let (reply, answer) = sync_channel(1);
        let _ = self.sender.send(Settlement::Finish(reply));
        answer.recv_timeout(self.deadline * 2).map_err(|_| BrokerError::new("no answer in time"))?
    }
}

/// A command from a blocking caller or from a callback of the library.
pub(crate) enum Command {
    Publish {
        queue: String,
        properties: Properties,
        body: Vec<u8>,
        reply: ConfirmSender,
    },
    /// Publish to an exchange and report the confirm; whether a queue takes the message is not checked.
    PublishEvent {
        exchange: String,
        topic: String,
        properties: Properties,
        body: Vec<u8>,
        reply: ConfirmSender,
    },
    DeclareQueue {
        queue: String,
        /// Whether the broker deletes it once its last consumer has gone.
        auto_delete: bool,
        reply: Reply<u32>,
    },
    InspectQueue {
        queue: String,
        reply: Reply<Option<QueueFigures>>,
    },
    DeclareFanout {
        exchange: String,
        reply: Reply<()>,
    },
    DeclareTopicExchange {
        exchange: String,
        reply: Reply<()>,
    },
    /// Bind a durable queue to a topic exchange.
    BindQueue {
        queue: String,
        exchange: String,
        topics: Vec<String>,
        reply: Reply<()>,
    },
    /// Publish without waiting for a confirm.
    Announce {
        exchange: String,
        routing_key: String,
        properties: Properties,
        body: Vec<u8>,
    },
    /// Publish a message that reaches no queue, to see whether the broker confirms it.
    Probe {
        reply: ConfirmSender,
    },
    /// Receive a copy of every message published to an exchange.
    Listen {
        exchange: String,
        reply: Reply<Listening>,
    },
    /// Take messages off a queue without acknowledging them.
    Browse {
        queue: String,
        /// The most messages.
        messages: usize,
        /// No further message is taken once their bodies have as many bytes together.
        bytes: usize,
        reply: Reply<Taken>,
    },
    Consume {
        queue: String,
        prefetch: u16,
        reply: Reply<Receiver<Vec<Delivery>>>,
    },
    Ack {
        tag: u64,
        /// Whether all deliveries up to it are acknowledged, too.
        multiple: bool,
    },
    /// The connection is gone, for this reason.
    Lost(String),
    Close,
}

/// The sending end of the command queue. The number of threads that wait for answers, and the prefetch for
/// acknowledgements, bound its length.
#[derive(Clone)]
pub(crate) struct Commands {
    sender: UnboundedSender<Command>,
    /// Why the broker has asked publishers to wait; `None` if it has not.
    halted: Arc<Mutex<Option<String>>>,
    pub(super) confirms: Arc<Mutex<Confirms>>,
}

/// The receiving end of the command queue, on the I/O thread.
pub(super) type QueuedCommands = UnboundedReceiver<Command>;

pub(super) fn commands() -> (Commands, QueuedCommands) {
    let (sender, receiver) = unbounded_channel();
    let confirms = Arc::new(Mutex::new(Confirms::new()));
    (Commands { sender, halted: Arc::default(), confirms }, receiver)
}

impl Commands {
    /// Queues a command; `false` when the I/O thread has ended.
    pub(crate) fn send(&self, command: Command) -> bool {
        self.sender.send(command).is_ok()
    }

    /// Why the broker has asked publishers to wait; `None` if it has not.
    pub(crate) fn halted(&self) -> Option<String> {
        self.halted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_halted(&self, reason: Option<String>) {
        log::debug!("the broker on its publishers: {}", reason.as_deref().unwrap_or("go on"));
        *self.halted.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// For how long the broker has confirmed nothing although messages wait for a confirm.
    pub(crate) fn stalled_for(&self) -> Duration {
        self.confirms.lock().unwrap_or_else(PoisonError::into_inner).stalled_for()
    }
}
