//! The sending side of a channel, which other threads use: deliveries, confirms, and which deliveries are unsettled.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};

use crate::codec::frame::put_content;
use crate::codec::reply::{Delivered, Reply};
use crate::outbox::Outbox;
use crate::record::{self, Message};
use crate::sink::{Delivery, Sink};
use crate::sync::lock;
use crate::topology::SharedQueue;

/// What other threads may send on a channel while it is open.
pub(crate) struct Outlet {
    channel: u16,
    frame_max: u32,
    outbox: Arc<Outbox>,
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
}

/// A delivery that was not settled yet.
pub(crate) struct Unsettled {
    tag: u64,
    pub(crate) queue: Arc<SharedQueue>,
    pub(crate) position: u64,
    /// 0 for basic.get.
    consumer: u64,
}

impl Outlet {
    pub(crate) fn new(channel: u16, frame_max: u32, outbox: Arc<Outbox>) -> Arc<Self> {
        let state =
            State { open: true, next_tag: 1, unsettled: VecDeque::new(), prefetch: 0, to_consumers: 0 };
        Arc::new(Self { channel, frame_max, outbox, state: Mutex::new(state) })
    }

    pub(crate) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Sends a method on the channel while it is open. The caller owes a flush.
    pub(crate) fn push(&self, reply: &Reply<'_>) {
        self.push_content(|out, channel| reply.put(out, channel));
    }

    /// Sends a method with content on the channel while it is open. The caller owes a flush.
    pub(crate) fn push_content(&self, fill: impl FnOnce(&mut Vec<u8>, u16)) {
        if lock(&self.state).open {
            self.outbox.push(|out| fill(out, self.channel));
        }
    }

    /// Sends a message, as `method` puts it, and remembers that it is unsettled. Returns what [`Outbox::push`] does;
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
        let first = self.outbox.push(|out| {
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

/// A consumer of a channel, as its queue sees it.
#[derive(Clone)]
pub(crate) struct ConsumerSink {
    pub(crate) outlet: Arc<Outlet>,
    pub(crate) consumer_tag: Arc<str>,
    pub(crate) queue: Weak<SharedQueue>,
    /// The client understands a basic.cancel that the broker sends.
    pub(crate) cancel_notify: bool,
}

impl ConsumerSink {
    /// Tells the client that its consumer is gone because the queue is, if it understands that.
    pub(crate) fn cancel(&self) {
        if self.cancel_notify {
            self.outlet.push(&Reply::BasicCancel { consumer_tag: &self.consumer_tag });
            self.outlet.outbox.flush();
        }
    }
}

impl Sink for ConsumerSink {
    fn is_open(&self) -> bool {
        lock(&self.outlet.state).has_room() && self.outlet.outbox.has_room()
    }

    fn offer(&self, delivery: &Delivery<'_>) -> Option<bool> {
        let mut state = lock(&self.outlet.state);
        if !state.has_room() || !self.outlet.outbox.has_room() {
            return None;
        }
        let method = |delivered| Reply::BasicDeliver { consumer_tag: &self.consumer_tag, delivered };
        self.outlet.deliver(&mut state, self.queue.upgrade()?, delivery, method)
    }
}
