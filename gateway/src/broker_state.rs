//! How the broker and its queues are, as the publisher sees them.

use amqp::{BrokerProgram, QueueFigures};

/// Whether the broker can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrokerState {
    /// It accepts orders.
    Ready,
    /// It is connected but accepts no messages: its disk or memory is nearly full.
    Blocked,
    /// It is not connected.
    Unreachable,
}

impl BrokerState {
    /// Its name in answers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ready => "ok",
            Self::Blocked => "blocked",
            Self::Unreachable => "unreachable",
        }
    }
}

/// What is known of the broker beside the connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownBroker {
    /// The program that was connected last.
    pub(crate) program: Option<BrokerProgram>,
    /// Why there is no connection, without addresses.
    pub(crate) trouble: Option<String>,
}

/// What waits in the queue of orders and in its dead-letter queue; `None` for a queue that does not exist.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OrderQueues {
    /// The queue of orders.
    pub(crate) orders: Option<QueueFigures>,
    /// The dead-letter queue, which exists once billing has declared it.
    pub(crate) dead_letters: Option<QueueFigures>,
}
