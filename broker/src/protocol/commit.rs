//! The methods of transactions (AMQP 0-9-1 §1.9): on a channel that selected them, what is published and what is acked or
//! rejected takes effect at tx.commit, or not at all.
//!
//! As with RabbitMQ, a message's queues are looked up when it is published, basic.return comes with the commit, and what
//! was acked in a transaction still counts for prefetch until that is committed. A commit is answered when its messages
//! are as safe as a confirm would say, and its acks are given to the log after that: a crash in between has messages
//! delivered again, and loses none. A crash within a commit may leave a part of its messages, as with RabbitMQ.

use crate::log::record::Message;
use crate::protocol::channel::Channel;
use crate::protocol::codec::reply::Reply;
use crate::protocol::fault::{Fault, Outcome, PRECONDITION_FAILED};
use crate::protocol::publish::{self, wait_for_space};
use crate::protocol::transaction::StagedMessage;
use crate::queues::delivery;

impl Channel {
    pub(crate) fn select_transactions(&mut self) -> Outcome {
        self.publisher.select_transactions(&self.session.broker.uncommitted)?;
        self.output.note_transactions();
        self.reply(&Reply::TxSelectOk);
        Ok(())
    }

    pub(crate) fn commit(&mut self) -> Outcome {
        let transaction = self.publisher.transaction().ok_or_else(not_transactional)?;
        let messages = transaction.take_messages();
        self.publish_staged(&messages)?;
        drop(messages);
        let transaction = self.publisher.transaction().ok_or_else(not_transactional)?;
        transaction.release();
        for (deliveries, settlement) in transaction.take_settlements() {
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
