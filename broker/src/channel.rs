//! A channel: what a client set up on it, and the methods that concern it alone. Methods about queues and exchanges
//! are in [`crate::declare`], about consuming in [`crate::consume`], publishing is in [`crate::publish`].

use std::collections::HashMap;
use std::sync::Arc;

use crate::codec::frame::Frame;
use crate::codec::method::{Basic, Channel as ChannelMethod, Method};
use crate::codec::reply::Reply;
use crate::connection::Session;
use crate::fault::{CHANNEL_ERROR, COMMAND_INVALID, Fault, NOT_IMPLEMENTED, Outcome, UNEXPECTED_FRAME};
use crate::outlet::{Outlet, Unsettled};
use crate::publish::Publisher;
use crate::topology::SharedQueue;

/// An open channel.
pub(crate) struct Channel {
    pub(crate) number: u16,
    /// Its sending side, which queues and the persister share.
    pub(crate) outlet: Arc<Outlet>,
    /// Consumers by tag.
    pub(crate) consumers: HashMap<String, Consuming>,
    /// The limit that consumers get which start from now on (basic.qos with global=false).
    pub(crate) prefetch: u16,
    /// The channel has a limit of its own (basic.qos with global=true).
    pub(crate) limited: bool,
    /// The queue that an empty name stands for.
    pub(crate) last_queue: String,
    pub(crate) publisher: Publisher,
}

/// A consumer as its channel knows it.
pub(crate) struct Consuming {
    pub(crate) id: u64,
    pub(crate) queue: Arc<SharedQueue>,
}

impl Channel {
    pub(crate) fn new(session: &Session, number: u16) -> Self {
        let outbox = Arc::clone(&session.peer.outbox);
        Self {
            number,
            outlet: Outlet::new(number, session.agreement.frame_max, outbox),
            consumers: HashMap::new(),
            prefetch: 0,
            limited: false,
            last_queue: String::new(),
            publisher: Publisher::default(),
        }
    }

    /// Handles a method; false means that the client closes the channel.
    pub(crate) fn method(&mut self, session: &Session, method: Method<'_>) -> Outcome<bool> {
        if self.publisher.expects_content() {
            let text = "expected content header for class 60, got a method frame instead";
            return Fault::connection(UNEXPECTED_FRAME, text);
        }
        match method {
            Method::Basic(Basic::Publish { exchange, routing_key, mandatory, immediate }) => {
                if immediate {
                    return Fault::connection(NOT_IMPLEMENTED, "immediate=true");
                }
                self.publisher.begin(session, exchange, routing_key, mandatory)?;
            }
            Method::Basic(method) => self.basic(session, method)?,
            Method::Queue(method) => self.queue(session, method)?,
            Method::Exchange(method) => self.exchange(session, method)?,
            Method::ConfirmSelect { no_wait } => {
                self.publisher.select_confirms();
                if !no_wait {
                    self.reply(&Reply::ConfirmSelectOk);
                }
            }
            Method::Channel(method) => return self.channel(&method),
            Method::Connection(_) => {
                return Fault::connection(COMMAND_INVALID, "a connection method on a channel");
            }
            Method::Unsupported => return Fault::connection(NOT_IMPLEMENTED, "unknown method"),
        }
        Ok(true)
    }

    fn channel(&mut self, method: &ChannelMethod<'_>) -> Outcome<bool> {
        match method {
            ChannelMethod::Open => Fault::connection(CHANNEL_ERROR, "second 'channel.open' seen"),
            ChannelMethod::Flow { active: true } => {
                self.reply(&Reply::ChannelFlowOk { active: true });
                Ok(true)
            }
            ChannelMethod::Flow { active: false } => Fault::connection(NOT_IMPLEMENTED, "active=false"),
            ChannelMethod::Close { code, text } => {
                log::debug!("client closes channel {}: {code} {text}", self.number);
                Ok(false)
            }
            ChannelMethod::FlowOk | ChannelMethod::CloseOk => Ok(true),
        }
    }

    /// Handles a header or body frame.
    pub(crate) fn content(&mut self, session: &Session, frame: Frame<'_>) -> Outcome {
        self.publisher.content(session, &self.outlet, frame)
    }

    pub(crate) fn reply(&self, reply: &Reply<'_>) {
        self.outlet.push(reply);
    }

    /// Ends its consumers and its sending side; returns the deliveries that have to be requeued.
    pub(crate) fn silence(&mut self, session: &Session) -> Vec<Unsettled> {
        let unsettled = self.outlet.close();
        for (tag, consuming) in self.consumers.drain() {
            session.peer.consumes_no_more(&consuming.queue);
            if let Err(fault) = session.broker.remove_consumer(&consuming.queue, consuming.id) {
                log::error!("consumer '{tag}' left, and its queue cannot be deleted: {fault}");
            }
        }
        unsettled
    }

    /// Waits until everything that was published on this channel is in its queues, so that what follows sees it.
    pub(crate) fn settle_publishes(&self, session: &Session) {
        if let Some(batch) = self.publisher.last_batch() {
            session.broker.persister.wait_through(batch);
        }
    }
}
