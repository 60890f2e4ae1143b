//! Transactions (AMQP 0-9-1 §1.9): on a channel that selected them, what is published and what is acked or rejected
//! takes effect at tx.commit, or not at all.
//!
//! As with RabbitMQ, a message's queues are looked up when it is published, basic.return comes with the commit, and what
//! was acked in a transaction still counts for prefetch until that is committed. A commit is answered when its messages
//! are as safe as a confirm would say, and its acks are given to the log after that: a crash in between has messages
//! delivered again, and loses none. A crash within a commit may leave a part of its messages, as with RabbitMQ.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::log::record::Message;
use crate::protocol::channel::Channel;
use crate::protocol::codec::reply::Reply;
use crate::protocol::fault::{Fault, Outcome, PRECONDITION_FAILED, RESOURCE_ERROR};
use crate::protocol::publish::{self, wait_for_space};
use crate::queues::delivery::{self, Settlement, Unsettled};
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

    /// The deliveries that were acked or rejected, and are neither before the commit.
    pub(crate) fn take_deliveries(&mut self) -> Vec<Unsettled> {
        self.settlements.drain(..).flat_map(|(deliveries, _)| deliveries).collect()
    }

    /// Forgets the messages.
    fn release(&mut self) {
        self.messages = Vec::new();
        self.all_bytes.0.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.release();
    }
}

impl Channel {
    pub(crate) fn select_transactions(&mut self) -> Outcome {
        self.publisher.select_transactions(&self.session.broker.uncommitted)?;
        self.output.note_transactions();
        self.reply(&Reply::TxSelectOk);
        Ok(())
    }

    pub(crate) fn commit(&mut self) -> Outcome {
        let transaction = self.publisher.transaction().ok_or_else(not_transactional)?;
        let messages = std::mem::take(&mut transaction.messages);
        self.publish_staged(&messages)?;
        drop(messages);
        let transaction = self.publisher.transaction().ok_or_else(not_transactional)?;
        transaction.release();
        for (deliveries, settlement) in std::mem::take(&mut transaction.settlements) {
            self.output.release(&deliveries);
            delivery::end_deliveries(&self.session.broker, &deliveries, settlement);
        }
        if self.limited {
            self.pump_consumers();
        }
        self.reply(&Reply::TxCommitOk);
        Ok(())
    }

    /// Returns when all messages are in their queues, and durable if they have to be.
    fn publish_staged(&mut self, messages: &[StagedMessage]) -> Outcome {
        if messages.is_empty() {
            return Ok(());
        }
        wait_for_space(&self.session, messages.iter().map(|message| message.body.len()).sum())?;
        let persister = &self.session.broker.persister;
        let mut batch = None;
        for message in messages {
            let StagedMessage { exchange, routing_key, properties, body, .. } = message;
            let (exchange, routing_key) = (exchange.as_bytes(), routing_key.as_bytes());
            let content = Message { exchange, routing_key, properties, body };
            if message.routes.is_empty() {
                publish::leave_unrouted(&self.session, &self.output, &content, message.mandatory);
                continue;
            }
            batch = Some(persister.publish(&content, &message.routes, message.persistent, None));
        }
        if batch.is_some_and(|batch| !persister.wait_through(batch)) {
            return Fault::gone("the log ended before a transaction was committed");
        }
        Ok(())
    }

    pub(crate) fn roll_back(&mut self) -> Outcome {
        let transaction = self.publisher.transaction().ok_or_else(not_transactional)?;
        transaction.release();
        self.output.restore(transaction.take_deliveries());
        self.reply(&Reply::TxRollbackOk);
        Ok(())
    }
}

fn not_transactional() -> Fault {
    Fault::Channel(PRECONDITION_FAILED, "channel is not transactional".to_owned())
}
