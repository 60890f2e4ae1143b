//! Moves messages from the log's batches into queues and from queues to consumers: the only place where a queue's wish
//! for a page becomes a read.

use std::sync::Arc;

use crate::error::Error;
use crate::log::owner::{Ledger, LogQueue};
use crate::log::record;
use crate::log::stored_message::{Fetch, StoredMessage, payload_at};
use crate::log::write_batch::BatchedMessage;
use crate::queues::dead_letters;
use crate::queues::queue::Taken;
use crate::queues::store::Store;
use crate::queues::subscriber::{Effects, SharedSubscriber, Subscriber as _};
use crate::queues::topology::SharedQueue;

/// What was appended for consumers is sent after this many bytes were read for them.
const SEND_BYTES: usize = 32 << 10;

/// Sends what was appended for these consumers.
fn wake(subscribers: &[SharedSubscriber]) {
    for subscriber in subscribers {
        subscriber.wake();
    }
}

impl LogQueue for SharedQueue {
    fn id(&self) -> u32 {
        self.id
    }

    fn is_durable(&self) -> bool {
        self.durable
    }

    fn wants(&self) -> u8 {
        self.wants
    }

    fn next_position(&self) -> u64 {
        Self::next_position(self)
    }

    fn take_over(&self, messages: &[BatchedMessage<Self>], bytes: &[u8], ledger: &impl Ledger) {
        let mut effects = Effects::default();
        let mut state = self.lock();
        for messages in messages.chunk_by(|message, next| message.at.slot == next.at.slot) {
            let (mut count, mut bytes_added) = (0, 0);
            for message in messages {
                let &BatchedMessage { at, start, length, persistent, timed, .. } = message;
                let Some(payload) = payload_at(bytes, start) else { continue };
                let place = record::message_places(payload).find(|(id, _)| *id == self.id);
                let Some((_, position)) = place else { continue };
                let entry = StoredMessage { position, at, length, persistent, redelivered: false, timed };
                if state.push(entry, payload, &mut effects) {
                    count += 1;
                    bytes_added += u64::from(length);
                }
                if std::mem::take(&mut effects.refused) {
                    message.refused.set(true);
                }
            }
            // Counted before anybody can settle it: the queue's lock is held, and what this very push settles is
            // only subtracted below.
            ledger.add(messages[0].at.slot, count, bytes_added);
        }
        ledger.settle(&effects.settled);
        drop(state);
        wake(&effects.wake);
    }

    fn settle(&self, position: u64, ledger: &impl Ledger) {
        let mut state = self.lock();
        if let Some(settled) = state.settle(position) {
            ledger.settle(&[settled]);
        }
    }

    fn delivery_count(&self, position: u64) -> u32 {
        self.lock().delivery_count(position)
    }

    fn holds(&self, position: u64, slot: u32) -> bool {
        self.lock().holds(position, slot)
    }

    fn relocate(&self, slots: &[u32], moved: &[StoredMessage], counted: impl FnOnce(u32, u64)) {
        let mut state = self.lock();
        let (count, bytes) = state.relocate(slots, moved);
        counted(count, bytes);
    }
}

/// A delivery that was not settled yet.
pub(crate) struct Unsettled {
    /// The number that its channel gave it.
    pub(crate) tag: u64,
    pub(crate) queue: Arc<SharedQueue>,
    pub(crate) position: u64,
    /// 0 for basic.get.
    pub(crate) consumer: u64,
}

impl Unsettled {
    /// One that was taken outside of any channel.
    pub(crate) fn got(queue: &Arc<SharedQueue>, position: u64) -> Self {
        Self { tag: 0, queue: Arc::clone(queue), position, consumer: 0 }
    }
}

/// Delivers as much of a queue as its consumers have room for. No lock is held while a page is read or a socket is
/// written.
pub(crate) fn pump(store: &Store, queue: &SharedQueue) {
    // Pages are small where a queue shares the log with many: what several of them hold is sent together.
    let (mut sleeping, mut unsent) = (Vec::new(), 0);
    loop {
        let mut effects = Effects::default();
        let mut state = queue.lock();
        let fetch = state.dispatch(&mut effects);
        store.persister.settle(&effects.settled);
        drop(state);
        sleeping.append(&mut effects.wake);
        if fetch.is_none() || unsent >= SEND_BYTES || !effects.dead.is_empty() {
            wake(&std::mem::take(&mut sleeping));
            unsent = 0;
        }
        dead_letters::send(store, queue, effects.dead);
        let Some(fetch) = fetch else { return };
        let Some(read) = fetch_page(store, queue, fetch) else { return wake(&sleeping) };
        unsent += read;
    }
}

/// Reads the page that a queue needs to go on. Returns its bytes; None if the log cannot be read, which ends the store.
pub(crate) fn fetch_page(store: &Store, queue: &SharedQueue, fetch: Fetch) -> Option<usize> {
    let page = narrow(store, queue, fetch)
        .and_then(|fetch| store.segment_table.read(fetch).map(|page| page.map(|page| (fetch, page))));
    match page {
        Ok(Some((fetch, (number, page)))) => {
            let bytes = page.len();
            queue.lock().install(fetch, number, &Arc::new(page));
            Some(bytes)
        }
        // The log was rearranged meanwhile; the queue knows the new place.
        Ok(None) => Some(0),
        Err(error) => {
            store.fail(error);
            None
        }
    }
}

/// Leaves out what belongs to other queues, if that is most of what would be read.
fn narrow(store: &Store, queue: &SharedQueue, fetch: Fetch) -> Result<Fetch, Error> {
    if !queue.lock().is_sparse() {
        return Ok(fetch);
    }
    let Some(narrowed) = store.segment_table.narrow(queue.id, fetch)? else { return Ok(fetch) };
    queue.lock().skip(fetch, narrowed.at);
    Ok(narrowed)
}

/// Takes the message at the head of a queue, for basic.get. Returns it with its page, where its record begins there,
/// and how many messages are left.
pub(crate) fn take(
    store: &Store,
    queue: &SharedQueue,
    no_ack: bool,
) -> Option<(StoredMessage, Arc<Vec<u8>>, usize, u64)> {
    loop {
        let mut effects = Effects::default();
        let mut state = queue.lock();
        let taken = state.take(no_ack, &mut effects);
        let left = state.waiting();
        store.persister.settle(&effects.settled);
        drop(state);
        dead_letters::send(store, queue, effects.dead);
        match taken {
            Taken::Empty => return None,
            Taken::Message(entry, page, start) => return Some((entry, page, start, left)),
            Taken::Fetch(fetch) => _ = fetch_page(store, queue, fetch)?,
        }
    }
}

/// What becomes of deliveries that are given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// The message is done with.
    Settle,
    /// The message failed for good, and becomes a dead letter if its queue has a place for these.
    Reject,
    /// The message returns to its place.
    Requeue,
}

/// Settles, rejects or requeues deliveries, and lets their queues go on.
pub(crate) fn end_deliveries(store: &Store, deliveries: &[Unsettled], settlement: Settlement) {
    let mut queues: Vec<&Arc<SharedQueue>> = Vec::new();
    for group in deliveries.chunk_by(|a, b| Arc::ptr_eq(&a.queue, &b.queue)) {
        let Some(first) = group.first() else { continue };
        let mut effects = Effects::default();
        let mut state = first.queue.lock();
        for one in group {
            match settlement {
                Settlement::Settle => effects.settled.extend(state.settle(one.position)),
                Settlement::Reject => state.reject(one.position, &mut effects),
                Settlement::Requeue => state.requeue(one.position, &mut effects),
            }
        }
        store.persister.settle(&effects.settled);
        store.persister.note_returns(&effects.returned);
        drop(state);
        dead_letters::send(store, &first.queue, effects.dead);
        if !queues.iter().any(|known| Arc::ptr_eq(known, &first.queue)) {
            queues.push(&first.queue);
        }
    }
    for queue in queues {
        pump(store, queue);
    }
}
