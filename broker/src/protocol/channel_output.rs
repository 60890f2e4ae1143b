//! The sending side of a channel, which other threads use: deliveries, confirms, and which deliveries are unsettled.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use crate::log::record::{self, Message};
use crate::log::write_batch::ConfirmReceiver;
use crate::protocol::age_of_deliveries::AgeOfDeliveries;
use crate::protocol::codec::frame::put_content;
use crate::protocol::codec::reply::{Delivered, Reply};
use crate::protocol::send_buffer::SendBuffer;
use crate::queues::death;
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

#[derive(Default)]
struct State {
    open: bool,
    next_tag: u64,
    /// Unsettled deliveries in the order of their tags.
    unsettled: VecDeque<Unsettled>,
    /// The channel's own limit (basic.qos with global=true); 0 for none.
    prefetch: u32,
    /// Unsettled deliveries to consumers, which that limit counts.
    to_consumers: u32,
    /// The tags of consumers that ended because their queues did, and that the channel does not know of yet.
    cancelled: Vec<Arc<str>>,
    age: AgeOfDeliveries,
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
    /// Transactions are selected.
    transactional: bool,
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
    pub(crate) transactional: bool,
    /// The numbers and tags of its consumers.
    pub(crate) consumers: Vec<(u64, Arc<str>)>,
}

impl ChannelOutput {
    pub(crate) fn new(channel: u16, frame_max: u32, send_buffer: Arc<SendBuffer>) -> Arc<Self> {
        let state = State { open: true, next_tag: 1, ..State::default() };
        Arc::new(Self { channel, frame_max, send_buffer, state: Mutex::new(state) })
    }

    /// How the channel stands; None once it is closed.
    pub(crate) fn figures(&self) -> Option<ChannelFigures> {
        let state = lock(&self.state);
        let Notes { consumer_prefetch, confirms, transactional, consumers } = &state.notes;
        state.open.then(|| ChannelFigures {
            number: self.channel,
            unsettled: state.unsettled.len(),
            prefetch: state.prefetch,
            consumer_prefetch: *consumer_prefetch,
            confirms: *confirms,
            transactional: *transactional,
            consumers: consumers.clone(),
        })
    }

    /// Notes, to be shown, that confirms were selected.
    pub(crate) fn note_confirms(&self) {
        lock(&self.state).notes.confirms = true;
    }

    /// Notes, to be shown, that transactions were selected.
    pub(crate) fn note_transactions(&self) {
        lock(&self.state).notes.transactional = true;
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
        let counted = match delivery.returns {
            Some(count) => death::with_delivery_count(properties, count).ok(),
            None => None,
        };
        let properties = counted.as_deref().unwrap_or(properties);
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
        let settled = state.take(tag, multiple)?;
        state.release(&settled);
        Some(settled)
    }

    /// Like [`ChannelOutput::settle`], but the deliveries count for the channel's limit until they are released or
    /// restored.
    pub(crate) fn withhold(&self, tag: u64, multiple: bool) -> Option<Vec<Unsettled>> {
        lock(&self.state).take(tag, multiple)
    }

    /// Withheld deliveries are settled.
    pub(crate) fn release(&self, withheld: &[Unsettled]) {
        lock(&self.state).release(withheld);
    }

    /// Withheld deliveries are unsettled again.
    pub(crate) fn restore(&self, withheld: Vec<Unsettled>) {
        let mut state = lock(&self.state);
        state.unsettled.extend(withheld);
        state.unsettled.make_contiguous().sort_unstable_by_key(|unsettled| unsettled.tag);
    }

    /// The tags of the consumers that ended because their queues did since this was last asked.
    pub(crate) fn take_cancelled(&self) -> Vec<Arc<str>> {
        std::mem::take(&mut lock(&self.state).cancelled)
    }

    /// Whether a delivery is unsettled for `timeout`. It is noticed only if this is called several times in that time.
    pub(crate) fn is_overdue(&self, now: Instant, timeout: Duration) -> bool {
        let mut state = lock(&self.state);
        let State { age, unsettled, next_tag, .. } = &mut *state;
        let first = unsettled.front().map(|unsettled| unsettled.tag);
        age.is_overdue(first, *next_tag, now, timeout)
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
    /// Takes the deliveries that `tag` names out of the unsettled ones. None if there is no such delivery.
    fn take(&mut self, tag: u64, multiple: bool) -> Option<Vec<Unsettled>> {
        if multiple && tag == 0 {
            return Some(self.unsettled.drain(..).collect());
        }
        let index = self.unsettled.binary_search_by_key(&tag, |unsettled| unsettled.tag).ok()?;
        Some(if multiple {
            self.unsettled.drain(..=index).collect()
        } else {
            self.unsettled.remove(index).into_iter().collect()
        })
    }

    /// The channel's limit counts these deliveries no more.
    fn release(&mut self, settled: &[Unsettled]) {
        let to_consumers = settled.iter().filter(|unsettled| unsettled.consumer != 0).count();
        self.to_consumers -= u32::try_from(to_consumers).unwrap_or(u32::MAX);
    }

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

    fn refuse(&self, tag: u64) {
        self.push(&Reply::BasicNack { tag });
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
        lock(&self.output.state).cancelled.push(Arc::clone(&self.consumer_tag));
        if self.cancel_notify {
            self.output.push(&Reply::BasicCancel { consumer_tag: &self.consumer_tag });
            self.output.send_buffer.flush();
        }
    }
}
