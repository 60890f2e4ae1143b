//! What the I/O thread is asked to do, and what it and its callers share.

use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::super::confirms::Confirms;
use super::super::{BrokerError, Confirm, Delivery, Properties};

pub(super) type Reply<T> = SyncSender<Result<T, BrokerError>>;

/// What a blocking caller, or a callback of the library, asks the I/O thread to do.
pub(in super::super) enum Command {
    Publish {
        queue: String,
        properties: Properties,
        body: Vec<u8>,
        reply: Confirm,
    },
    DeclareQueue {
        queue: String,
        reply: Reply<u32>,
    },
    CountMessages {
        queue: String,
        reply: Reply<Option<u32>>,
    },
    DeclareFanout {
        exchange: String,
        reply: Reply<()>,
    },
    /// Publish without wanting to know what becomes of it.
    Announce {
        exchange: String,
        properties: Properties,
        body: Vec<u8>,
    },
    /// Publish what no queue gets, to see whether it is confirmed.
    Probe {
        reply: Confirm,
    },
    /// Receive a copy of what is announced on an exchange.
    Listen {
        exchange: String,
        reply: Reply<Receiver<Vec<Delivery>>>,
    },
    Consume {
        queue: String,
        prefetch: u16,
        reply: Reply<Receiver<Vec<Delivery>>>,
    },
    Ack {
        tag: u64,
        /// Whether all deliveries before it are acknowledged, too.
        multiple: bool,
    },
    /// The connection is gone, for this reason.
    Lost(String),
    Close,
}

/// The blocking side's end of the command queue. Its length is bounded by the number of threads that wait for their
/// answers, and by the prefetch for acknowledgements.
#[derive(Clone)]
pub(in super::super) struct Commands {
    sender: UnboundedSender<Command>,
    /// Why the broker has asked publishers to wait, while it has.
    halted: Arc<Mutex<Option<String>>>,
    pub(super) confirms: Arc<Mutex<Confirms>>,
}

/// The I/O thread's end of the command queue.
pub(super) struct QueuedCommands(UnboundedReceiver<Command>);

pub(super) fn commands() -> (Commands, QueuedCommands) {
    let (sender, receiver) = unbounded_channel();
    let confirms = Arc::new(Mutex::new(Confirms::new()));
    (Commands { sender, halted: Arc::default(), confirms }, QueuedCommands(receiver))
}

impl Commands {
    /// Queues a command; `false` when the I/O thread has ended.
    pub(in super::super) fn send(&self, command: Command) -> bool {
        self.sender.send(command).is_ok()
    }

    /// Why the broker has asked publishers to wait, while it has.
    pub(in super::super) fn halted(&self) -> Option<String> {
        self.halted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_halted(&self, reason: Option<String>) {
        log::debug!("the broker on its publishers: {}", reason.as_deref().unwrap_or("go on"));
        *self.halted.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// For how long the broker has confirmed nothing although messages wait for it.
    pub(in super::super) fn stalled_for(&self) -> Duration {
        self.confirms.lock().unwrap_or_else(PoisonError::into_inner).stalled_for()
    }
}

impl QueuedCommands {
    /// The next command; `None` when nobody is left to send one.
    pub(super) async fn recv(&mut self) -> Option<Command> {
        self.0.recv().await
    }

    /// Takes no more; what is queued can still be received.
    pub(super) fn close(&mut self) {
        self.0.close();
    }
}
