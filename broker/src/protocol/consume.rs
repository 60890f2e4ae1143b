//! The methods that take messages out of queues: basic.qos, consume, cancel, get, ack, nack, recover.

use std::sync::Arc;

use crate::log::owner::LogQueue;
use crate::log::stored_message::payload_at;
use crate::protocol::channel::{Channel, Consuming};
use crate::protocol::channel_output::ChannelSubscriber;
use crate::protocol::codec::method::Consume;
use crate::protocol::codec::reply::Reply;
use crate::protocol::declare::{clamp, random_name};
use crate::protocol::fault::{
    ACCESS_REFUSED, Fault, NOT_ALLOWED, NOT_IMPLEMENTED, Outcome, PRECONDITION_FAILED,
};
use crate::protocol::publish::DIRECT_REPLY_TO;
use crate::queues::arguments::check_consumer;
use crate::queues::delivery::{self, Settlement, Unsettled};
use crate::queues::queue::Consumer;
use crate::queues::subscriber::{Delivery, SharedSubscriber};

impl Channel {
    pub(crate) fn qos(&mut self, prefetch_size: u32, prefetch_count: u16, global: bool) -> Outcome {
        if prefetch_size != 0 {
            return Fault::connection(NOT_IMPLEMENTED, format!("prefetch_size!=0 ({prefetch_size})"));
        }
        self.reply(&Reply::BasicQosOk);
        if global {
            self.output.set_prefetch(prefetch_count);
            self.limited = prefetch_count != 0;
            self.pump_consumers();
        } else {
            self.prefetch = prefetch_count;
            self.output.note_consumer_prefetch(prefetch_count);
        }
        Ok(())
    }

    /// Lets every queue that this channel consumes from try again, after the channel's own limit made room.
    pub(crate) fn pump_consumers(&self) {
        for consuming in self.consumers.values() {
            delivery::pump(&self.session.broker, &consuming.queue);
        }
    }

    pub(crate) fn consume(&mut self, consume: &Consume<'_>) -> Outcome {
        if consume.queue == DIRECT_REPLY_TO {
            return Fault::connection(NOT_IMPLEMENTED, format!("direct reply-to ('{DIRECT_REPLY_TO}')"));
        }
        let queue = self.find_queue(consume.queue)?;
        check_consumer(consume.arguments, &queue.name)?;
        self.forget_cancelled();
        if self.consumers.contains_key(consume.consumer_tag) {
            let text = format!("attempt to reuse consumer tag '{}'", consume.consumer_tag);
            return Fault::connection(NOT_ALLOWED, text);
        }
        self.session.broker.connections.check_consumers()?;
        let tag = match consume.consumer_tag {
            "" => random_name("amq.ctag-"),
            tag => tag.to_owned(),
        };
        let id = self.session.broker.next_id();
        let subscriber: SharedSubscriber = Arc::new(ChannelSubscriber {
            output: Arc::clone(&self.output),
            consumer_tag: tag.as_str().into(),
            queue: Arc::downgrade(&queue),
            cancel_notify: self.session.agreement.cancel_notify,
        });
        let mut state = queue.lock();
        let taken = state.consumers();
        let is_single = queue.arguments().is_some_and(|arguments| arguments.single_active_consumer);
        if taken.iter().any(|other| other.exclusive)
            || (consume.exclusive && (is_single || !taken.is_empty()))
        {
            drop(state);
            let text = format!("queue '{}' in vhost '/' in exclusive use", queue.name);
            return Fault::channel(ACCESS_REFUSED, text);
        }
        // Before the first delivery can be: that needs the queue's lock.
        self.answer(consume.no_wait, &Reply::BasicConsumeOk { consumer_tag: &tag });
        let (no_ack, exclusive, prefetch) = (consume.no_ack, consume.exclusive, self.prefetch.into());
        state.add_consumer(Consumer { id, subscriber, no_ack, exclusive, prefetch, unsettled: 0 });
        drop(state);
        self.output.note_consumer(id, &tag);
        self.session.peer.consumes(&queue);
        self.consumers.insert(tag, Consuming { id, queue: Arc::clone(&queue) });
        delivery::pump(&self.session.broker, &queue);
        Ok(())
    }

    /// Forgets the consumers whose queues are gone; their tags can be used again.
    fn forget_cancelled(&mut self) {
        for tag in self.output.take_cancelled() {
            if let Some(consuming) = self.consumers.remove(&*tag) {
                self.session.peer.consumes_no_more(&consuming.queue);
            }
        }
    }

    /// Cancelling what is not there succeeds. Unsettled deliveries stay as they are.
    pub(crate) fn cancel(&mut self, consumer_tag: &str, no_wait: bool) -> Outcome {
        self.forget_cancelled();
        if let Some(consuming) = self.consumers.remove(consumer_tag) {
            self.output.note_cancel(consumer_tag);
            self.session.peer.consumes_no_more(&consuming.queue);
            self.session.broker.remove_consumer(&consuming.queue, consuming.id)?;
        }
        self.answer(no_wait, &Reply::BasicCancelOk { consumer_tag });
        Ok(())
    }

    pub(crate) fn get(&mut self, name: &str, no_ack: bool) -> Outcome {
        let queue = self.find_queue(name)?;
        self.settle_publishes();
        queue.touch();
        // A queue that counts deliveries knows the count until the message is settled.
        let is_counted = queue.arguments().is_some_and(|arguments| arguments.is_quorum);
        let broker = &self.session.broker;
        let Some((entry, page, start, left)) = delivery::take(broker, &queue, no_ack && !is_counted) else {
            self.reply(&Reply::BasicGetEmpty);
            return Ok(());
        };
        if let Some(payload) = payload_at(&page, start) {
            if !self.session.peer.send_buffer.reserve_patiently(payload.len()) {
                let taken = [Unsettled::got(&queue, entry.position)];
                delivery::end_deliveries(broker, &taken, Settlement::Requeue);
                return Fault::gone("the connection ended while its answer waited for memory");
            }
            let returns = is_counted.then(|| queue.lock().delivery_count(entry.position));
            let delivery = Delivery { entry, consumer: 0, no_ack, returns, payload };
            self.output.push_get(&queue, &delivery, clamp(left));
        }
        if no_ack && is_counted {
            LogQueue::settle(&*queue, entry.position, &broker.persister);
        }
        Ok(())
    }

    pub(crate) fn settle(&mut self, tag: u64, multiple: bool, settlement: Settlement) -> Outcome {
        let transaction = self.publisher.transaction();
        let found = match &transaction {
            Some(_) => self.output.withhold(tag, multiple),
            None => self.output.settle(tag, multiple),
        };
        let Some(deliveries) = found else {
            return Fault::channel(PRECONDITION_FAILED, format!("unknown delivery tag {tag}"));
        };
        match transaction {
            Some(transaction) => transaction.settle(deliveries, settlement),
            None => self.end_deliveries(&deliveries, settlement),
        }
        Ok(())
    }

    fn end_deliveries(&self, deliveries: &[Unsettled], settlement: Settlement) {
        delivery::end_deliveries(&self.session.broker, deliveries, settlement);
        if self.limited {
            self.pump_consumers();
        }
    }

    /// Gives everything back that is unsettled, at once on a transactional channel too.
    pub(crate) fn recover(&mut self, requeue: bool, is_async: bool) -> Outcome {
        if !requeue {
            return Fault::connection(NOT_IMPLEMENTED, "requeue=false");
        }
        let deliveries = self.output.settle(0, true).unwrap_or_default();
        self.end_deliveries(&deliveries, Settlement::Requeue);
        self.answer(is_async, &Reply::BasicRecoverOk);
        Ok(())
    }
}
