//! Dead letters: messages that expired, were rejected, came back too often or had no room go to the exchange that their
//! queue names.
//!
//! Nothing is lost on the way. The message stays in its queue's books until its letter is written, as durably as the
//! letter has to be; only then it is settled. Whatever interrupts that, the message is still there and dies again.

use std::sync::Arc;

use crate::clock;
use crate::codec::properties::Properties;
use crate::log::owner::LogQueue;
use crate::log::record::{self, Message};
use crate::log::stored_message::{Fetch, StoredMessage, payload_at};
use crate::queues::arguments::DeadLetterTarget;
use crate::queues::backlog::Paged;
use crate::queues::death::{self, Dead, Death, Reason};
use crate::queues::shared_queue::SharedQueue;
use crate::queues::store::Store;
use crate::queues::topology::Routes;

/// Sends these messages of `queue` to where its dead letters go. No lock may be held: it may wait for room in the log.
pub(crate) fn send(store: &Store, queue: &SharedQueue, dead: Vec<Dead>) {
    if dead.is_empty() {
        return;
    }
    let target = queue.arguments().and_then(|arguments| arguments.dead_letters.as_ref());
    let (Some(target), Some(queue)) = (target, queue.shared()) else { return };
    for one in dead {
        let position = one.entry.position;
        let Some((page, start)) = read(store, &queue, one.entry, one.page) else { continue };
        let message = payload_at(&page, start).and_then(record::read_message);
        let letter = message.and_then(|message| write(store, &queue, target, &message, one.reason));
        let Some((letter, routes)) = letter.filter(|(_, routes)| !routes.is_empty()) else {
            // Nobody wants it: as with RabbitMQ, it ends here.
            LogQueue::settle(&*queue, position, &store.persister);
            continue;
        };
        let body = message.map_or(&[][..], |message| message.body);
        let message = Message {
            exchange: target.exchange.as_bytes(),
            routing_key: &letter.routing_key,
            properties: &letter.properties,
            body,
        };
        let origin = (Arc::clone(&queue), position);
        store.persister.publish_dead_letter(&message, &routes, one.entry.persistent, origin);
    }
    store.persister.kick();
}

/// What changes when a message becomes a dead letter.
struct Letter {
    routing_key: Vec<u8>,
    properties: Vec<u8>,
}

/// Finds out where the letter goes and what it says. None if the message cannot be understood.
fn write(
    store: &Store,
    queue: &SharedQueue,
    target: &DeadLetterTarget,
    message: &Message<'_>,
    reason: Reason,
) -> Option<(Letter, Routes)> {
    let drops_copies = target.routing_key.is_some();
    let death = Death { reason, queue: &queue.name, time: clock::now_ms() / 1000, drops_copies };
    let properties = death::properties(message, &death).ok()?;
    let keys = match &target.routing_key {
        Some(key) => vec![key.as_bytes()],
        None => death::routing_keys(message),
    };
    let texts: Vec<&str> = keys.iter().filter_map(|key| std::str::from_utf8(key).ok()).collect();
    let headers = Properties::read(&properties).ok()?.headers;
    // An exchange that does not exist leads nowhere.
    let found = store.topology.route(&target.exchange, &texts, headers);
    let mut routes = found.map(|routed| routed.queues.to_vec()).unwrap_or_default();
    if reason != Reason::Rejected {
        routes.retain(|queue| !death::is_cycle(&properties, &queue.name));
    }
    let routing_key = keys.first().map(|key| key.to_vec()).unwrap_or_default();
    Some((Letter { routing_key, properties }, routes.into()))
}

/// The record of a message. None if it is gone, because its queue was deleted, or if the log cannot be read, which ends
/// the store.
fn read(store: &Store, queue: &SharedQueue, entry: StoredMessage, page: Option<Paged>) -> Option<Paged> {
    if page.is_some() {
        return page;
    }
    let mut entry = entry;
    loop {
        let fetch = Fetch { at: entry.at, end: entry.at.offset + entry.length };
        match store.segment_table.read(fetch) {
            Ok(Some((_, page))) => return Some((Arc::new(page), 0)),
            // The log was rearranged; the queue knows the new place.
            Ok(None) => entry = queue.lock().dying_entry(entry.position)?,
            Err(error) => {
                store.fail(error);
                return None;
            }
        }
    }
}
