//! What a channel did since its last tx.commit or tx.rollback, and the memory that it takes. The methods themselves are
//! in [`crate::protocol::commit`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::protocol::fault::{Fault, Outcome, RESOURCE_ERROR};
use crate::queues::delivery::{Settlement, Unsettled};
use crate::queues::topology::Routes;

/// The uncommitted messages of all channels may take this much memory: one of the largest messages fits. It is no part
/// of [`crate::protocol::memory`], for nobody can tell how long a client takes to commit.
const LIMIT_BYTES: usize = 17 << 20;
/// What a message takes besides its bytes.
const OVERHEAD_BYTES: usize = 256;

/// The memory that the uncommitted messages of all channels take.
#[derive(Clone, Debug, Default)]
pub(crate) struct UncommittedBytes(Arc<AtomicUsize>);

impl UncommittedBytes {
    /// Bytes that are taken now, and how many may be.
    pub(crate) fn usage(&self) -> (usize, usize) {
        (self.0.load(Ordering::Relaxed), LIMIT_BYTES)
    }
}

/// A message that waits for its transaction to be committed.
pub(crate) struct StagedMessage {
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) properties: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) routes: Routes,
    pub(crate) persistent: bool,
    pub(crate) mandatory: bool,
}

/// What a channel did since its last commit or rollback.
pub(crate) struct Transaction {
    all_bytes: UncommittedBytes,
    /// This channel's part of those.
    bytes: usize,
    messages: Vec<StagedMessage>,
    settlements: Vec<(Vec<Unsettled>, Settlement)>,
}

impl Transaction {
    pub(crate) fn new(all_bytes: UncommittedBytes) -> Self {
        Self { all_bytes, bytes: 0, messages: Vec::new(), settlements: Vec::new() }
    }

    /// Keeps a message until the commit. Fails with 506 if there is no memory for it.
    pub(crate) fn publish(&mut self, message: StagedMessage) -> Outcome {
        let StagedMessage { exchange, routing_key, properties, body, routes, .. } = &message;
        let bytes = exchange.len() + routing_key.len() + properties.len() + body.len();
        let bytes = bytes + size_of_val::<[_]>(routes) + OVERHEAD_BYTES;
        let reserved = self.all_bytes.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
            taken.checked_add(bytes).filter(|taken| *taken <= LIMIT_BYTES)
        });
        if reserved.is_err() {
            let text = format!("uncommitted messages may take {LIMIT_BYTES} bytes altogether");
            return Fault::channel(RESOURCE_ERROR, text);
        }
        self.bytes += bytes;
        self.messages.push(message);
        Ok(())
    }

    /// Keeps acks, or rejections, until the commit.
    pub(crate) fn settle(&mut self, deliveries: Vec<Unsettled>, settlement: Settlement) {
        if !deliveries.is_empty() {
            self.settlements.push((deliveries, settlement));
        }
    }

    /// Takes the messages out; their memory is given back by [`Transaction::release`].
    pub(crate) fn take_messages(&mut self) -> Vec<StagedMessage> {
        std::mem::take(&mut self.messages)
    }

    /// Takes out what was acked and rejected, in order.
    pub(crate) fn take_settlements(&mut self) -> Vec<(Vec<Unsettled>, Settlement)> {
        std::mem::take(&mut self.settlements)
    }

    /// The deliveries that were acked or rejected, and are neither before the commit.
    pub(crate) fn take_deliveries(&mut self) -> Vec<Unsettled> {
        self.settlements.drain(..).flat_map(|(deliveries, _)| deliveries).collect()
    }

    /// Forgets the messages, and gives back what they took.
    pub(crate) fn release(&mut self) {
        self.messages = Vec::new();
        self.all_bytes.0.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.release();
    }
}
