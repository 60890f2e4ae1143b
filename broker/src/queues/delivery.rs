//! Moves messages from queues to consumers: the only place where a queue's wish for a page becomes a read.

use std::sync::Arc;

use crate::broker::Broker;
use crate::log::stored_message::{Fetch, StoredMessage};
use crate::protocol::channel_output::{ChannelSubscriber, Unsettled};
use crate::queues::queue::Taken;
use crate::queues::subscriber::Effects;
use crate::queues::topology::SharedQueue;

/// Sends what was appended for these consumers.
pub(crate) fn wake(subscribers: &[ChannelSubscriber]) {
    for subscriber in subscribers {
        subscriber.output.send_buffer().flush();
    }
}

/// Delivers as much of a queue as its consumers have room for. No lock is held while a page is read or a socket is
/// written.
pub(crate) fn pump(broker: &Broker, queue: &SharedQueue) {
    loop {
        let mut effects = Effects::default();
        let mut state = queue.lock();
        let fetch = state.dispatch(&mut effects);
        broker.persister.settle(&effects.settled);
        drop(state);
        wake(&effects.wake);
        let Some(fetch) = fetch else { return };
        if !fetch_page(broker, queue, fetch) {
            return;
        }
    }
}

/// Reads the page that a queue needs to go on. False if the log cannot be read, which ends the broker.
fn fetch_page(broker: &Broker, queue: &SharedQueue, fetch: Fetch) -> bool {
    match broker.segment_table.read(fetch) {
        Ok(Some((number, page))) => queue.lock().install(fetch, number, &Arc::new(page)),
        // The log was rearranged meanwhile; the queue knows the new place.
        Ok(None) => {}
        Err(error) => {
            broker.fail(error);
            return false;
        }
    }
    true
}

/// Takes the message at the head of a queue, for basic.get. Returns it with its page, where its record begins there,
/// and how many messages are left.
pub(crate) fn take(
    broker: &Broker,
    queue: &SharedQueue,
    no_ack: bool,
) -> Option<(StoredMessage, Arc<Vec<u8>>, usize, u64)> {
    loop {
        let mut effects = Effects::default();
        let mut state = queue.lock();
        let taken = state.take(no_ack, &mut effects);
        let left = state.waiting();
        broker.persister.settle(&effects.settled);
        drop(state);
        match taken {
            Taken::Empty => return None,
            Taken::Message(entry, page, start) => return Some((entry, page, start, left)),
            Taken::Fetch(fetch) if !fetch_page(broker, queue, fetch) => return None,
            Taken::Fetch(_) => {}
        }
    }
}

/// What becomes of deliveries that are given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// The message is done with: acked, or rejected for good.
    Settle,
    /// The message returns to its place.
    Requeue,
}

/// Settles or requeues deliveries, and lets their queues go on.
pub(crate) fn end_deliveries(broker: &Broker, deliveries: &[Unsettled], settlement: Settlement) {
    let mut queues: Vec<&Arc<SharedQueue>> = Vec::new();
    for group in deliveries.chunk_by(|a, b| Arc::ptr_eq(&a.queue, &b.queue)) {
        let Some(first) = group.first() else { continue };
        let mut state = first.queue.lock();
        match settlement {
            Settlement::Settle => {
                let settled: Vec<_> = group.iter().filter_map(|one| state.settle(one.position)).collect();
                broker.persister.settle(&settled);
            }
            Settlement::Requeue => group.iter().for_each(|one| state.requeue(one.position)),
        }
        drop(state);
        if !queues.iter().any(|known| Arc::ptr_eq(known, &first.queue)) {
            queues.push(&first.queue);
        }
    }
    for queue in queues {
        pump(broker, queue);
    }
}
