//! The border between a queue and those who take its messages. No I/O.

use std::sync::Arc;

use crate::clock;
use crate::log::record::Returned;
use crate::log::stored_message::{Settled, StoredMessage};
use crate::queues::death::Dead;

/// A message on its way to a consumer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery<'a> {
    pub(crate) entry: StoredMessage,
    /// 0 for basic.get.
    pub(crate) consumer: u64,
    pub(crate) no_ack: bool,
    /// How often it came back before, if the queue counts that.
    pub(crate) returns: Option<u32>,
    /// The payload of its record.
    pub(crate) payload: &'a [u8],
}

/// The receiving side of a consumer.
pub(crate) trait Subscriber {
    /// Whether an offer has a chance at the moment.
    fn is_open(&self) -> bool;
    /// Takes the delivery, or refuses it for want of room, which is None. Never blocks. True asks that the subscriber appear
    /// in [`Effects::wake`]: nobody has promised to wake it yet.
    fn offer(&self, delivery: &Delivery<'_>) -> Option<bool>;
    /// Sends what it took. Called without any lock.
    fn wake(&self);
    /// Tells the client that its consumer is gone because the queue is, if it understands that.
    fn cancel(&self);
}

/// A consumer's side, whoever it is. Clones are the same side.
pub(crate) type SharedSubscriber = Arc<dyn Subscriber + Send + Sync>;

impl Subscriber for SharedSubscriber {
    fn is_open(&self) -> bool {
        (**self).is_open()
    }

    fn offer(&self, delivery: &Delivery<'_>) -> Option<bool> {
        (**self).offer(delivery)
    }

    fn wake(&self) {
        (**self).wake();
    }

    fn cancel(&self) {
        (**self).cancel();
    }
}

/// What a change to a queue asks its caller to do: write down what was settled and what came back before the queue's lock is
/// released, wake subscribers and send dead letters after that.
pub(crate) struct Effects<S> {
    pub(crate) settled: Vec<Settled>,
    /// Messages that came back, if the queue counts that.
    pub(crate) returned: Vec<Returned>,
    pub(crate) wake: Vec<S>,
    pub(crate) dead: Vec<Dead>,
    /// The last message was refused because the queue is full.
    pub(crate) refused: bool,
    /// The time, once somebody asked for it.
    now_ms: Option<u64>,
}

impl<S> Effects<S> {
    /// The time of the change, in milliseconds since 1970.
    pub(crate) fn now_ms(&mut self) -> u64 {
        *self.now_ms.get_or_insert_with(clock::now_ms)
    }
}

impl<S> Default for Effects<S> {
    fn default() -> Self {
        Self {
            settled: Vec::new(),
            returned: Vec::new(),
            wake: Vec::new(),
            dead: Vec::new(),
            refused: false,
            now_ms: None,
        }
    }
}
