//! The border between a queue and those who take its messages. No I/O.

use crate::entry::Settled;

/// A message on its way to a consumer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery<'a> {
    pub(crate) position: u64,
    pub(crate) redelivered: bool,
    pub(crate) consumer: u64,
    pub(crate) no_ack: bool,
    /// The payload of its record.
    pub(crate) payload: &'a [u8],
}

/// The receiving side of a consumer. Clones are the same side.
pub(crate) trait Sink: Clone {
    /// Whether an offer has a chance at the moment.
    fn is_open(&self) -> bool;
    /// Takes the delivery, or refuses it for want of room. Never blocks.
    fn offer(&self, delivery: &Delivery<'_>) -> Offer;
}

/// The answer to [`Sink::offer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// There is no room.
    Refused,
    /// The delivery was taken. `wake` asks that the sink appear in [`Effects::wake`].
    Taken {
        /// Whether nobody has promised to wake the sink yet.
        wake: bool,
    },
}

/// What a change to a queue asks its caller to do: write down what was settled before the queue's lock is released,
/// and wake sinks after that.
pub(crate) struct Effects<S> {
    pub(crate) settled: Vec<Settled>,
    pub(crate) wake: Vec<S>,
}

impl<S> Default for Effects<S> {
    fn default() -> Self {
        Self { settled: Vec::new(), wake: Vec::new() }
    }
}
