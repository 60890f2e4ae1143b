//! A channel: what a client set up on it, and the methods that concern it alone. Methods about queues are in
//! [`crate::protocol::declare`], about exchanges in [`crate::protocol::exchanges`], about consuming in
//! [`crate::protocol::consume`]; publishing is in [`crate::protocol::publish`].

use std::collections::HashMap;
use std::sync::Arc;

use crate::protocol::channel_output::ChannelOutput;
use crate::protocol::codec::frame::Frame;
use crate::protocol::codec::method::Method;
use crate::protocol::codec::reply::Reply;
use crate::protocol::fault::{CHANNEL_ERROR, COMMAND_INVALID, Fault, NOT_IMPLEMENTED, Outcome};
use crate::protocol::publish::Publisher;
use crate::protocol::session::Session;
use crate::queues::delivery::{Settlement, Unsettled};
use crate::queues::topology::SharedQueue;

/// An open channel.
pub(crate) struct Channel {
    pub(crate) session: Arc<Session>,
    pub(crate) number: u16,
    /// Its sending side, which queues and the persister share.
    pub(crate) output: Arc<ChannelOutput>,
    /// Consumers by tag.
    pub(crate) consumers: HashMap<String, Consuming>,
    /// The limit that consumers get which start from now on (basic.qos with global=false).
    pub(crate) prefetch: u16,
    /// The channel has a limit of its own (basic.qos with global=true).
    pub(crate) limited: bool,
    /// The queue that an empty name stands for.
    pub(crate) last_queue: String,
    pub(crate) publisher: Publisher,
    /// It is told when publishers have to wait.
    enlisted: bool,
}

/// A consumer as its channel knows it.
pub(crate) struct Consuming {
    pub(crate) id: u64,
    pub(crate) queue: Arc<SharedQueue>,
}

impl Channel {
    pub(crate) fn new(session: Arc<Session>, number: u16) -> Self {
        let send_buffer = Arc::clone(&session.peer.send_buffer);
        let output = ChannelOutput::new(number, session.agreement.frame_max, send_buffer);
        session.peer.add_channel(&output);
        session.broker.connections.channels_opened.increment();
        Self {
            number,
            output,
            consumers: HashMap::new(),
            prefetch: 0,
            limited: false,
            last_queue: String::new(),
            publisher: Publisher::default(),
            enlisted: false,
            session,
        }
    }

    /// Handles a method; false means that the client closes the channel.
    pub(crate) fn method(&mut self, method: Method<'_>) -> Outcome<bool> {
        if self.publisher.expects_content() {
            return self.publisher.refuse_frame();
        }
        match method {
            Method::ChannelOpen => return Fault::connection(CHANNEL_ERROR, "second 'channel.open' seen"),
            Method::ChannelFlow { active: true } => self.reply(&Reply::ChannelFlowOk { active: true }),
            Method::ChannelFlow { active: false } => {
                return Fault::connection(NOT_IMPLEMENTED, "active=false");
            }
            Method::ChannelClose { code, text } => {
                log::debug!("client closes channel {}: {code} {text}", self.number);
                return Ok(false);
            }
            Method::ChannelCloseOk => {
                return Fault::connection(COMMAND_INVALID, "'channel.close-ok' without 'channel.close'");
            }
            // Cancel-ok answers a cancel that wanted no answer.
            Method::ChannelFlowOk | Method::BasicCancelOk => {}
            Method::ExchangeDeclare(declare) => self.declare_exchange(&declare)?,
            Method::ExchangeDelete { exchange, if_unused, no_wait } => {
                self.delete_exchange(exchange, if_unused, no_wait)?;
            }
            Method::ExchangeBind(binding) => self.bind_exchange(&binding)?,
            Method::ExchangeUnbind(binding) => self.unbind_exchange(&binding)?,
            Method::QueueDeclare(declare) => self.declare_queue(&declare)?,
            Method::QueueBind(binding) => self.bind(&binding)?,
            Method::QueueUnbind(binding) => self.unbind(&binding)?,
            Method::QueuePurge { queue, no_wait } => self.purge(queue, no_wait)?,
            Method::QueueDelete { queue, if_unused, if_empty, no_wait } => {
                self.delete_queue(queue, if_unused, if_empty, no_wait)?;
            }
            Method::BasicPublish { immediate: true, .. } => {
                return Fault::connection(NOT_IMPLEMENTED, "immediate=true");
            }
            Method::BasicPublish { exchange, routing_key, mandatory, immediate: false } => {
                self.enlist();
                self.publisher.begin(&self.session, exchange, routing_key, mandatory)?;
            }
            Method::BasicQos { prefetch_size, prefetch_count, global } => {
                self.qos(prefetch_size, prefetch_count, global)?;
            }
            Method::BasicConsume(consume) => self.consume(&consume)?,
            Method::BasicCancel { consumer_tag, no_wait } => self.cancel(consumer_tag, no_wait)?,
            Method::BasicGet { queue, no_ack } => self.get(queue, no_ack)?,
            Method::BasicAck { delivery_tag, multiple } => {
                self.settle(delivery_tag, multiple, Settlement::Settle)?;
            }
            Method::BasicReject { delivery_tag, multiple, requeue } => {
                let settlement = if requeue { Settlement::Requeue } else { Settlement::Reject };
                self.settle(delivery_tag, multiple, settlement)?;
            }
            Method::BasicRecover { requeue, is_async } => self.recover(requeue, is_async)?,
            Method::ConfirmSelect { no_wait } => {
                self.publisher.select_confirms()?;
                self.output.note_confirms();
                self.answer(no_wait, &Reply::ConfirmSelectOk);
                self.enlist();
            }
            Method::TxSelect => self.select_transactions()?,
            Method::TxCommit => self.commit()?,
            Method::TxRollback => self.roll_back()?,
            _ => return Fault::connection(COMMAND_INVALID, "a connection method on a channel"),
        }
        Ok(true)
    }

    /// Handles a header or body frame.
    pub(crate) fn content(&mut self, frame: Frame<'_>) -> Outcome {
        self.publisher.content(&self.session, &self.output, frame)
    }

    /// From its first sign of publishing on, the channel is told when publishers have to wait.
    fn enlist(&mut self) {
        if !std::mem::replace(&mut self.enlisted, true) {
            let Session { broker, peer, agreement } = &*self.session;
            peer.throttle.enlist(&self.output, agreement.blocked_notify, &broker.alarm);
        }
    }

    pub(crate) fn reply(&self, reply: &Reply<'_>) {
        self.output.push(reply);
    }

    /// Replies unless the client does not want to know.
    pub(crate) fn answer(&self, no_wait: bool, reply: &Reply<'_>) {
        if !no_wait {
            self.reply(reply);
        }
    }

    /// Ends its sending side; returns the deliveries that have to be requeued, before [`Channel::end_consumers`].
    pub(crate) fn silence(&mut self) -> Vec<Unsettled> {
        let mut unsettled = self.output.close();
        if let Some(transaction) = self.publisher.transaction() {
            unsettled.extend(transaction.take_deliveries());
        }
        self.session.broker.connections.channels_closed.increment();
        self.session.peer.set_unfinished(self.number, None);
        unsettled
    }

    /// Removes its consumers from their queues. What they had is there again by now, so that whoever follows them begins
    /// with that.
    pub(crate) fn end_consumers(&mut self) {
        for (tag, consuming) in self.consumers.drain() {
            self.session.peer.consumes_no_more(&consuming.queue);
            if let Err(fault) = self.session.broker.remove_consumer(&consuming.queue, consuming.id) {
                log::error!("consumer '{tag}' left, and its queue cannot be deleted: {fault}");
            }
        }
    }

    /// Waits until everything that was published on this channel is in its queues, so that what follows sees it.
    pub(crate) fn settle_publishes(&self) {
        if let Some(batch) = self.publisher.last_batch() {
            self.session.broker.persister.wait_through(batch);
        }
    }
}
