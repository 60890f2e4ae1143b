//! The sending side of a channel, which other threads use: deliveries, confirms, and which deliveries are unsettled.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};

use crate::log::owner::ConfirmReceiver;
use crate::log::record::{self, Message};
use crate::protocol::codec::frame::put_content;
use crate::protocol::codec::reply::{Delivered, Reply};
use crate::protocol::send_buffer::SendBuffer;
use crate::queues::delivery::Unsettled;
use crate::queues::subscriber::{Delivery, Subscriber};
use crate::queues::topology::SharedQueue;
use crate::sync::lock;

/// What other threads may send on a channel while it is open.
pub(crate) struct ChannelOutput {
    channel: u16,
    frame_max: u32,
    send_buffer: Arc<SendBuffer>,
    state: Mutex<State>,
}

struct State {
    open: bool,
    next_tag: u64,
    /// Unsettled deliveries in the order of their tags.
    unsettled: VecDeque<Unsettled>,
    /// The channel's own limit (basic.qos with global=true); 0 for none.
    prefetch: u32,
    /// Unsettled deliveries to consumers, which that limit counts.
    to_consumers: u32,
    /// What is noted only to be shown.
    notes: Notes,
}

/// What was set up on a channel.
#[derive(Clone, Debug, Default)]
struct Notes {
    /// The limit of consumers that start from now on (basic.qos with global=false).
    consumer_prefetch: u16,
    /// Confirms are selected.
    confirms: bool,
    /// The numbers and tags of its consumers.
    consumers: Vec<(u64, Arc<str>)>,
}

/// A channel at one moment, for people who look at it.
#[derive(Clone, Debug)]
pub(crate) struct ChannelFigures {
    pub(crate) number: u16,
    pub(crate) unsettled: usize,
    pub(crate) prefetch: u32,
    pub(crate) consumer_prefetch: u16,
    pub(crate) confirms: bool,
    /// The numbers and tags of its consumers.
    pub(crate) consumers: Vec<(u64, Arc<str>)>,
}

impl ChannelOutput {
    pub(crate) fn new(channel: u16, frame_max: u32, send_buffer: Arc<SendBuffer>) -> Arc<Self> {
        let state = State {
            open: true,
            next_tag: 1,
            unsettled: VecDeque::new(),
            prefetch: 0,
            to_consumers: 0,
            notes: Notes::default(),
        };
        Arc::new(Self { channel, frame_max, send_buffer, state: Mutex::new(state) })
    }

    /// How the channel stands; None once it is closed.
    pub(crate) fn figures(&self) -> Option<ChannelFigures> {
        let state = lock(&self.state);
        let Notes { consumer_prefetch, confirms, consumers } = &state.notes;
        state.open.then(|| ChannelFigures {
            number: self.channel,
            unsettled: state.unsettled.len(),
            prefetch: state.prefetch,
            consumer_prefetch: *consumer_prefetch,
            confirms: *confirms,
            consumers: consumers.clone(),
        })
    }

    /// Notes, to be shown, that confirms were selected.
    pub(crate) fn note_confirms(&self) {
        lock(&self.state).notes.confirms = true;
    }

    /// Notes, to be shown, the limit of consumers that start from now on.
    pub(crate) fn note_consumer_prefetch(&self, limit: u16) {
        lock(&self.state).notes.consumer_prefetch = limit;
    }

    /// Notes, to be shown, a consumer.
    pub(crate) fn note_consumer(&self, id: u64, tag: &str) {
        lock(&self.state).notes.consumers.push((id, tag.into()));
    }

    /// Notes that the consumer with this tag is gone.
    pub(crate) fn note_cancel(&self, tag: &str) {
        lock(&self.state).notes.consumers.retain(|(_, known)| &**known != tag);
    }

    pub(crate) fn channel(&self) -> u16 {
        self.channel
    }

    /// Sends a method on the channel while it is open. The caller owes a flush.
    pub(crate) fn push(&self, reply: &Reply<'_>) {
        self.push_content(|out, channel| reply.put(out, channel));
    }

    /// Sends a method with content on the channel while it is open. The caller owes a flush.
    pub(crate) fn push_content(&self, fill: impl FnOnce(&mut Vec<u8>, u16)) {
        if lock(&self.state).open {
            self.send_buffer.push(|out| fill(out, self.channel));
        }
    }

    /// Sends a message, as `method` puts it, and remembers that it is unsettled. Returns what [`SendBuffer::push`] does;
    /// None if the record cannot be understood.
    fn deliver<'m>(
        &self,
        state: &mut State,
        queue: Arc<SharedQueue>,
        delivery: &Delivery<'m>,
        method: impl FnOnce(Delivered<'m>) -> Reply<'m>,
    ) -> Option<bool> {
        let Message { exchange, routing_key, properties, body } = record::read_message(delivery.payload)?;
        let (tag, redelivered) = (state.next_tag, delivery.entry.redelivered);
        state.next_tag += 1;
        let first = self.send_buffer.push(|out| {
            method(Delivered { tag, redelivered, exchange, routing_key }).put(out, self.channel);
            put_content(out, self.channel, properties, body, self.frame_max);
        });
        if !delivery.no_ack {
            let (position, consumer) = (delivery.entry.position, delivery.consumer);
            state.unsettled.push_back(Unsettled { tag, queue, position, consumer });
            state.to_consumers += u32::from(consumer != 0);
        }
        Some(first)
    }

    /// Answers a basic.get with a message.
    pub(crate) fn push_get(&self, queue: &Arc<SharedQueue>, delivery: &Delivery<'_>, messages: u32) {
        let method = |delivered| Reply::BasicGetOk { delivered, messages };
        self.deliver(&mut lock(&self.state), Arc::clone(queue), delivery, method);
    }

    /// Sets the channel's own limit.
    pub(crate) fn set_prefetch(&self, limit: u16) {
        lock(&self.state).prefetch = limit.into();
    }

    /// Takes the deliveries that `tag` settles out of the unsettled ones. None if there is no such delivery.
    pub(crate) fn settle(&self, tag: u64, multiple: bool) -> Option<Vec<Unsettled>> {
        let mut state = lock(&self.state);
        let settled: Vec<Unsettled> = if multiple && tag == 0 {
            state.unsettled.drain(..).collect()
        } else {
            let index = state.unsettled.binary_search_by_key(&tag, |unsettled| unsettled.tag).ok()?;
            if multiple {
                state.unsettled.drain(..=index).collect()
            } else {
                state.unsettled.remove(index).into_iter().collect()
            }
        };
        let to_consumers = settled.iter().filter(|unsettled| unsettled.consumer != 0).count();
        state.to_consumers -= u32::try_from(to_consumers).unwrap_or(u32::MAX);
        Some(settled)
    }

    /// Sends nothing from now on, and gives up all unsettled deliveries.
    pub(crate) fn close(&self) -> Vec<Unsettled> {
        let mut state = lock(&self.state);
        state.open = false;
        state.to_consumers = 0;
        state.unsettled.drain(..).collect()
    }
}

impl State {
    /// Whether the channel takes another delivery. Its own limit counts what has to be acked, but once it is reached,
    /// it holds back everything, as RabbitMQ's does.
    fn has_room(&self) -> bool {
        self.open && (self.prefetch == 0 || self.to_consumers < self.prefetch)
    }
}

impl ConfirmReceiver for ChannelOutput {
    fn confirm(&self, tag: u64, multiple: bool) {
        self.push(&Reply::BasicAck { tag, multiple });
    }

    fn flush(&self) {
        self.send_buffer.flush();
    }
}

/// A consumer of a channel, as its queue sees it.
pub(crate) struct ChannelSubscriber {
    pub(crate) output: Arc<ChannelOutput>,
    pub(crate) consumer_tag: Arc<str>,
    pub(crate) queue: Weak<SharedQueue>,
    /// The client understands a basic.cancel that the broker sends.
    pub(crate) cancel_notify: bool,
}

impl Subscriber for ChannelSubscriber {
    fn is_open(&self) -> bool {
        lock(&self.output.state).has_room() && self.output.send_buffer.has_room()
    }

    fn offer(&self, delivery: &Delivery<'_>) -> Option<bool> {
        let mut state = lock(&self.output.state);
        let send_buffer = &self.output.send_buffer;
        if !state.has_room() || !send_buffer.has_room() || !send_buffer.reserve(delivery.payload.len()) {
            return None;
        }
        let method = |delivered| Reply::BasicDeliver { consumer_tag: &self.consumer_tag, delivered };
        self.output.deliver(&mut state, self.queue.upgrade()?, delivery, method)
    }

    fn wake(&self) {
        self.output.send_buffer.flush();
    }

    fn cancel(&self) {
        self.output.note_cancel(&self.consumer_tag);
        if self.cancel_notify {
            self.output.push(&Reply::BasicCancel { consumer_tag: &self.consumer_tag });
            self.output.send_buffer.flush();
        }
    }
}
