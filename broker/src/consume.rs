//! The methods that take messages out of queues: basic.qos, consume, cancel, get, ack, nack, recover.

use std::sync::Arc;

use crate::channel::{Channel, Consuming};
use crate::codec::method::{Basic, Consume};
use crate::codec::reply::Reply;
use crate::connection::Session;
use crate::declare::{check_arguments, clamp, random_name};
use crate::dispatch::{self, Verdict};
use crate::entry::payload_at;
use crate::fault::{ACCESS_REFUSED, Fault, NOT_ALLOWED, NOT_IMPLEMENTED, Outcome, PRECONDITION_FAILED};
use crate::outlet::ConsumerSink;
use crate::queue::Consumer;
use crate::sink::Delivery;

impl Channel {
    pub(crate) fn basic(&mut self, session: &Session, method: Basic<'_>) -> Outcome {
        match method {
            Basic::Qos { prefetch_size, prefetch_count, global } => {
                self.qos(session, prefetch_size, prefetch_count, global)
            }
            Basic::Consume(consume) => self.consume(session, &consume),
            Basic::Cancel { consumer_tag, no_wait } => self.cancel(session, consumer_tag, no_wait),
            Basic::Get { queue, no_ack } => self.get(session, queue, no_ack),
            Basic::Ack { delivery_tag, multiple } => {
                self.settle(session, delivery_tag, multiple, Verdict::Settle)
            }
            Basic::Nack { delivery_tag, multiple, requeue } => {
                let verdict = if requeue { Verdict::Requeue } else { Verdict::Settle };
                self.settle(session, delivery_tag, multiple, verdict)
            }
            Basic::Recover { requeue: false, .. } => Fault::connection(NOT_IMPLEMENTED, "requeue=false"),
            Basic::Recover { requeue: true, is_async } => {
                self.settle(session, 0, true, Verdict::Requeue)?;
                if !is_async {
                    self.reply(&Reply::BasicRecoverOk);
                }
                Ok(())
            }
            // Publish is handled where content is expected; cancel-ok answers a cancel that wanted no answer.
            Basic::Publish { .. } | Basic::CancelOk => Ok(()),
        }
    }

    fn qos(&mut self, session: &Session, prefetch_size: u32, prefetch_count: u16, global: bool) -> Outcome {
        if prefetch_size != 0 {
            return Fault::connection(NOT_IMPLEMENTED, format!("prefetch_size!=0 ({prefetch_size})"));
        }
        self.reply(&Reply::BasicQosOk);
        if global {
            self.outlet.set_prefetch(prefetch_count);
            self.limited = prefetch_count != 0;
            self.pump_consumers(session);
        } else {
            self.prefetch = prefetch_count;
        }
        Ok(())
    }

    /// Lets every queue that this channel consumes from try again, after the channel's own limit made room.
    fn pump_consumers(&self, session: &Session) {
        for consuming in self.consumers.values() {
            dispatch::pump(&session.broker, &consuming.queue);
        }
    }

    fn consume(&mut self, session: &Session, consume: &Consume<'_>) -> Outcome {
        let queue = self.find_queue(session, consume.queue)?;
        check_arguments(&consume.arguments, "consumer")?;
        if self.consumers.contains_key(consume.consumer_tag) {
            let text = format!("attempt to reuse consumer tag '{}'", consume.consumer_tag);
            return Fault::connection(NOT_ALLOWED, text);
        }
        let tag = match consume.consumer_tag {
            "" => random_name("amq.ctag-"),
            tag => tag.to_owned(),
        };
        let id = session.broker.next_id();
        let sink = ConsumerSink {
            outlet: Arc::clone(&self.outlet),
            consumer_tag: tag.as_str().into(),
            queue: Arc::downgrade(&queue),
            cancel_notify: session.agreement.cancel_notify,
        };
        let mut state = queue.lock();
        let taken = state.consumers();
        if taken.iter().any(|other| other.exclusive) || (consume.exclusive && !taken.is_empty()) {
            drop(state);
            let text = format!("queue '{}' in vhost '/' in exclusive use", queue.name);
            return Fault::channel(ACCESS_REFUSED, text);
        }
        // Before the first delivery can be: that needs the queue's lock.
        if !consume.no_wait {
            self.reply(&Reply::BasicConsumeOk { consumer_tag: &tag });
        }
        let (no_ack, exclusive, prefetch) = (consume.no_ack, consume.exclusive, self.prefetch.into());
        state.add_consumer(Consumer { id, sink, no_ack, exclusive, prefetch, unsettled: 0 });
        drop(state);
        session.peer.consumes(&queue);
        self.consumers.insert(tag, Consuming { id, queue: Arc::clone(&queue) });
        dispatch::pump(&session.broker, &queue);
        Ok(())
    }

    /// Cancelling what is not there succeeds. Unsettled deliveries stay as they are.
    fn cancel(&mut self, session: &Session, consumer_tag: &str, no_wait: bool) -> Outcome {
        if let Some(consuming) = self.consumers.remove(consumer_tag) {
            session.peer.consumes_no_more(&consuming.queue);
            session.broker.remove_consumer(&consuming.queue, consuming.id)?;
        }
        if !no_wait {
            self.reply(&Reply::BasicCancelOk { consumer_tag });
        }
        Ok(())
    }

    fn get(&mut self, session: &Session, name: &str, no_ack: bool) -> Outcome {
        let queue = self.find_queue(session, name)?;
        self.settle_publishes(session);
        let Some((entry, page, start, left)) = dispatch::take(&session.broker, &queue, no_ack) else {
            self.reply(&Reply::BasicGetEmpty);
            return Ok(());
        };
        if let Some(payload) = payload_at(&page, start) {
            let (position, redelivered) = (entry.position, entry.redelivered);
            let delivery = Delivery { position, redelivered, consumer: 0, no_ack, payload };
            self.outlet.push_get(&queue, &delivery, clamp(left));
        }
        Ok(())
    }

    fn settle(&mut self, session: &Session, tag: u64, multiple: bool, verdict: Verdict) -> Outcome {
        let Some(deliveries) = self.outlet.settle(tag, multiple) else {
            return Fault::channel(PRECONDITION_FAILED, format!("unknown delivery tag {tag}"));
        };
        dispatch::give_back(&session.broker, &deliveries, verdict);
        if self.limited {
            self.pump_consumers(session);
        }
        Ok(())
    }
}
