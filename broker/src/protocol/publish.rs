//! Publishing: from basic.publish over its content frames to the log.

use std::sync::Arc;
use std::time::Duration;

use crate::log::record::Message;
use crate::log::write_batch::{Confirm, ConfirmReceiver};
use crate::protocol::carbon_copies;
use crate::protocol::channel_output::ChannelOutput;
use crate::protocol::codec::frame::{Frame, FrameKind, put_content};
use crate::protocol::codec::properties::Properties;
use crate::protocol::codec::reply::Reply;
use crate::protocol::codec::wire::Reader;
use crate::protocol::fault::{
    ACCESS_REFUSED, FRAME_ERROR, Fault, Outcome, PRECONDITION_FAILED, SYNTAX_ERROR, UNEXPECTED_FRAME,
};
use crate::protocol::memory::{BodyMemory, Pace};
use crate::protocol::session::Session;
use crate::protocol::throttle::Shortage;
use crate::protocol::transaction::{StagedMessage, Transaction, UncommittedBytes};
use crate::queues::arguments::check_expiration;
use crate::queues::bindings::Routed;
use crate::queues::topology::{Routes, Topology};

/// A buffer that grew beyond this for a large message is given back.
const KEEP_BYTES: usize = 64 << 10;
/// While publishers wait for disk space, how often they look whether their client is still there.
const BLOCKED_POLL: Duration = Duration::from_millis(250);
/// While a large message waits for disk space, the least time between two looks at the disk.
const ROOM_POLL: Duration = Duration::from_millis(20);

/// RabbitMQ's pseudo-queue for answers that go straight to the channel that asked. Nobody can consume from it here.
pub(crate) const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// The publishing half of a channel.
#[derive(Default)]
pub(crate) struct Publisher {
    stage: Stage,
    exchange: String,
    routing_key: String,
    mandatory: bool,
    properties: Vec<u8>,
    persistent: bool,
    body: Vec<u8>,
    /// What an unfinished body takes of the memory that all share.
    memory: Option<BodyMemory>,
    /// Routing keys that its headers add to its own.
    further_keys: Vec<String>,
    /// The tag of the next message, once confirms are selected.
    next_tag: Option<u64>,
    last_batch: Option<u64>,
    /// Where [`Publisher::exchange`] and [`Publisher::routing_key`] led at this version of the topology.
    route: Option<(u64, Routes)>,
    /// Where everything goes until it is committed, once transactions are selected.
    transaction: Option<Transaction>,
}

/// What frame is expected next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Method,
    Header,
    /// This many bytes are missing.
    Body(usize),
}

impl Publisher {
    /// Whether the next frame must carry content. After a fault, whether the frame that failed had to.
    pub(crate) fn expects_content(&self) -> bool {
        self.stage != Stage::Method
    }

    pub(crate) fn last_batch(&self) -> Option<u64> {
        self.last_batch
    }

    pub(crate) fn select_confirms(&mut self) -> Outcome {
        if self.transaction.is_some() {
            return Fault::channel(PRECONDITION_FAILED, "cannot switch from tx to confirm mode");
        }
        self.next_tag.get_or_insert(1);
        Ok(())
    }

    pub(crate) fn select_transactions(&mut self, uncommitted: &UncommittedBytes) -> Outcome {
        if self.next_tag.is_some() {
            return Fault::channel(PRECONDITION_FAILED, "cannot switch from confirm to tx mode");
        }
        self.transaction.get_or_insert_with(|| Transaction::new(uncommitted.clone()));
        Ok(())
    }

    pub(crate) fn transaction(&mut self) -> Option<&mut Transaction> {
        self.transaction.as_mut()
    }

    /// basic.publish. Fails with 404 if the exchange does not exist.
    pub(crate) fn begin(
        &mut self,
        session: &Session,
        exchange: &str,
        routing_key: &str,
        mandatory: bool,
    ) -> Outcome {
        check_exchange(&session.broker.topology, exchange)?;
        if self.exchange != exchange || self.routing_key != routing_key {
            self.route = None;
            exchange.clone_into(&mut self.exchange);
            routing_key.clone_into(&mut self.routing_key);
        }
        self.mandatory = mandatory;
        self.stage = Stage::Header;
        Ok(())
    }

    /// A header or body frame.
    pub(crate) fn content(
        &mut self,
        session: &Session,
        output: &Arc<ChannelOutput>,
        frame: Frame<'_>,
    ) -> Outcome {
        match (self.stage, frame.kind) {
            (Stage::Header, FrameKind::Header) => self.header(session, output, frame.payload),
            (Stage::Body(missing), FrameKind::Body) => self.body(session, output, missing, frame.payload),
            _ => self.refuse_frame(),
        }
    }

    /// Refuses a frame of a kind that is not expected.
    pub(crate) fn refuse_frame<T>(&self) -> Outcome<T> {
        let (wanted, kind) = match self.stage {
            Stage::Method => ("method frame", "method"),
            Stage::Header => ("content header for class 60", "content header"),
            Stage::Body(_) => ("content body", "content body"),
        };
        Fault::connection(UNEXPECTED_FRAME, format!("expected {wanted}, got non {kind} frame instead"))
    }

    fn header(&mut self, session: &Session, output: &Arc<ChannelOutput>, payload: &[u8]) -> Outcome {
        let mut reader = Reader::new(payload);
        let (Ok(class), Ok(weight), Ok(size)) = (reader.u16(), reader.u16(), reader.u64()) else {
            return Fault::connection(FRAME_ERROR, "the content header cannot be decoded");
        };
        if class != 60 {
            let text = format!("expected content header for class 60, got one for class {class} instead");
            return Fault::connection(UNEXPECTED_FRAME, text);
        }
        if weight != 0 {
            return self.refuse_frame();
        }
        let Ok(properties) = Properties::read(reader.rest()) else {
            return Fault::connection(SYNTAX_ERROR, "the message properties cannot be decoded");
        };
        let limit = session.broker.settings.body_max_bytes;
        let Some(missing) = usize::try_from(size).ok().filter(|size| *size <= limit) else {
            let text = format!("message size {size} is larger than configured max size {limit}");
            return Fault::channel(PRECONDITION_FAILED, text);
        };
        check_properties(&properties, &session.agreement.user)?;
        self.persistent = properties.persistent;
        self.properties.clear();
        carbon_copies::put_without_bcc(&mut self.properties, reader.rest(), &properties);
        self.further_keys = carbon_copies::routing_keys(properties.headers)?;
        self.stage = Stage::Body(missing);
        if missing == 0 { self.complete(session, output, b"") } else { Ok(()) }
    }

    fn body(
        &mut self,
        session: &Session,
        output: &Arc<ChannelOutput>,
        missing: usize,
        payload: &[u8],
    ) -> Outcome {
        if payload.len() > missing {
            return Fault::connection(UNEXPECTED_FRAME, "the body is longer than its header says");
        }
        let left = missing - payload.len();
        if left == 0 && self.body.is_empty() {
            // The usual message has one body frame, and is copied only into the log.
            return self.complete(session, output, payload);
        }
        self.grow(session, output.channel(), payload.len(), missing)?;
        self.body.extend_from_slice(payload);
        self.stage = Stage::Body(left);
        if left > 0 {
            return Ok(());
        }
        session.peer.set_unfinished(output.channel(), None);
        let _memory = self.memory.take();
        let mut body = std::mem::take(&mut self.body);
        let outcome = self.complete(session, output, &body);
        body.clear();
        body.shrink_to(KEEP_BYTES);
        self.body = body;
        outcome
    }

    /// Makes room for a part of a body, half as much again if it has to grow; waits while there is no memory for it.
    fn grow(&mut self, session: &Session, channel: u16, bytes: usize, missing: usize) -> Outcome {
        let (broker, peer) = (&session.broker, &session.peer);
        let memory = self.memory.get_or_insert_with(|| BodyMemory::new(&broker.memory));
        let length = self.body.len();
        let room = match self.body.capacity() - length {
            room if room >= bytes => 0,
            _ => missing.min(bytes.max(length / 2)),
        };
        let bytes_more = (length + room).saturating_sub(self.body.capacity());
        if bytes_more > 0 && !memory.grow(bytes_more, missing) {
            // Nobody shall wait for a client that cannot send.
            peer.set_unfinished(channel, None);
            broker.persister.kick();
            peer.send_buffer.flush();
            peer.throttle.set(Shortage::Memory, true);
            while !memory.grow(bytes_more, missing) {
                broker.memory.wait(BLOCKED_POLL);
                if peer.send_buffer.is_closed() || broker.shutdown.requested() {
                    return Fault::gone("the connection ended while its message waited for memory");
                }
            }
            peer.throttle.set(Shortage::Memory, false);
            // The client could not send meanwhile.
            memory.pace = Pace::begin();
        }
        self.body.reserve_exact(room);
        memory.pace.advance(bytes);
        peer.set_unfinished(channel, Some(memory.pace));
        Ok(())
    }

    /// Hands the whole message to the log.
    fn complete(&mut self, session: &Session, output: &Arc<ChannelOutput>, body: &[u8]) -> Outcome {
        wait_for_space(session, body.len())?;
        let routes = self.route(session)?;
        self.stage = Stage::Method;
        if let Some(transaction) = &mut self.transaction {
            return transaction.publish(StagedMessage {
                exchange: self.exchange.clone(),
                routing_key: self.routing_key.clone(),
                properties: self.properties.clone(),
                body: body.to_vec(),
                routes,
                persistent: self.persistent,
                mandatory: self.mandatory,
            });
        }
        let confirm = self.next_tag.as_mut().map(|next| {
            let tag = *next;
            *next += 1;
            let receiver: Arc<dyn ConfirmReceiver> = output.clone();
            Confirm { receiver, tag }
        });
        let message = Message {
            exchange: self.exchange.as_bytes(),
            routing_key: self.routing_key.as_bytes(),
            properties: &self.properties,
            body,
        };
        if routes.is_empty() {
            leave_unrouted(session, output, &message, self.mandatory);
        }
        if routes.is_empty() && confirm.is_none() {
            return Ok(());
        }
        let batch = session.broker.persister.publish(&message, &routes, self.persistent, confirm);
        self.last_batch = Some(batch);
        Ok(())
    }

    /// The queues for this message; looked up only when the last message went elsewhere or something was rebound, or if
    /// they depend on its headers.
    fn route(&mut self, session: &Session) -> Outcome<Routes> {
        let topology = &session.broker.topology;
        let version = topology.version();
        if let Some((known, routes)) = &self.route
            && *known == version
            && self.further_keys.is_empty()
        {
            return Ok(Arc::clone(routes));
        }
        let headers = Properties::read(&self.properties).unwrap_or_default().headers;
        let further_keys = self.further_keys.iter().map(String::as_str);
        let keys: Vec<&str> = std::iter::once(self.routing_key.as_str()).chain(further_keys).collect();
        let Routed { queues, depends_on_headers } = topology.route(&self.exchange, &keys, headers)?;
        let keep = !depends_on_headers && self.further_keys.is_empty();
        self.route = keep.then(|| (version, Arc::clone(&queues)));
        Ok(queues)
    }
}

/// No queue is bound for a message. It is counted, and returned if its publisher wanted that.
pub(crate) fn leave_unrouted(
    session: &Session,
    output: &ChannelOutput,
    message: &Message<'_>,
    mandatory: bool,
) {
    if mandatory {
        session.broker.counts.returned.increment();
        return_unroutable(session, output, message);
    } else {
        session.broker.counts.dropped.increment();
    }
}

/// basic.return: no queue is bound, and the client wanted to know. It goes out before the confirm.
fn return_unroutable(session: &Session, output: &ChannelOutput, message: &Message<'_>) {
    let Message { exchange, routing_key, properties, body } = *message;
    output.push_content(|out, channel| {
        Reply::BasicReturn { code: 312, text: "NO_ROUTE", exchange, routing_key }.put(out, channel);
        put_content(out, channel, properties, body, session.agreement.frame_max);
    });
}

/// Refuses messages for an exchange that does not exist or that takes none from clients.
pub(crate) fn check_exchange(topology: &Topology, exchange: &str) -> Outcome {
    if !exchange.is_empty() && topology.exchange_is_internal(exchange)? {
        let text = format!("cannot publish to internal exchange '{exchange}' in vhost '/'");
        return Fault::channel(ACCESS_REFUSED, text);
    }
    Ok(())
}

/// Refuses properties that claim what is not so, or cannot be kept. `user` is who publishes.
pub(crate) fn check_properties(properties: &Properties<'_>, user: &str) -> Outcome {
    if let Some(claimed) = properties.user_id
        && claimed != user
    {
        let text = format!("user_id property set to '{claimed}' but authenticated user was '{user}'");
        return Fault::channel(PRECONDITION_FAILED, text);
    }
    if properties.reply_to == Some(DIRECT_REPLY_TO.as_bytes()) {
        return Fault::channel(PRECONDITION_FAILED, "fast reply consumer does not exist");
    }
    properties.expiration.map_or(Ok(()), check_expiration)
}

/// Holds a publisher up while the disk is nearly full, or would be with a message of this size. Its client was told of
/// the former; see [`crate::protocol::throttle`].
pub(crate) fn wait_for_space(session: &Session, bytes: usize) -> Outcome {
    let (broker, send_buffer) = (&session.broker, &session.peer.send_buffer);
    // What fits into the segment that is prepared needs no further room.
    let is_large = bytes > broker.settings.segment_bytes as usize / 2;
    if !broker.alarm.is_raised() && (!is_large || broker.has_room_for(bytes)) {
        return Ok(());
    }
    broker.persister.kick();
    send_buffer.flush();
    while broker.alarm.wait(BLOCKED_POLL) || (is_large && !broker.has_room_for(bytes)) {
        if send_buffer.is_closed() || broker.shutdown.requested() {
            return Fault::gone("the connection ended while its publishes waited for disk space");
        }
        broker.shutdown.wait_timeout(ROOM_POLL);
    }
    Ok(())
}
