//! The thread that looks after queues when nobody uses them: it drops or dead-letters what expired or has no room, and
//! deletes queues that were unused for too long.

use std::sync::Arc;

use crate::queues::dead_letters;
use crate::queues::delivery;
use crate::queues::queue::Queue;
use crate::queues::store::Store;
use crate::queues::subscriber::{Effects, SharedSubscriber};
use crate::queues::topology::SharedQueue;

/// The most pages of one queue that are gone through at a time, so that no queue keeps others waiting.
const MOST_PAGES: usize = 16;

/// The body of the thread; ends when the timers are stopped.
pub(crate) fn run(store: &Store) {
    while let Some(due) = store.topology.timers().wait() {
        for queue in due {
            look_after(store, &queue);
        }
    }
}

/// Does what is due in a queue, or the first part of it; false if there is more to do.
pub(crate) fn look_after(store: &Store, queue: &Arc<SharedQueue>) -> bool {
    for _ in 0..MOST_PAGES {
        let mut effects = Effects::default();
        let mut state = queue.lock();
        if !state.is_watched() {
            return true;
        }
        if state.has_ended() {
            state.end_upkeep();
            drop(state);
            end(store, queue);
            return true;
        }
        state.begin_upkeep();
        effects.dead = state.take_pending();
        let fetch = state.trim(&mut effects).or_else(|| state.expire(&mut effects));
        if fetch.is_none() {
            state.end_upkeep();
        }
        store.persister.settle(&effects.settled);
        drop(state);
        dead_letters::send(store, queue, effects.dead);
        let Some(fetch) = fetch else { return true };
        if delivery::fetch_page(store, queue, fetch).is_none() {
            return true;
        }
    }
    // The guard sets the timer, and this thread comes back after other queues had their turn.
    queue.lock().end_upkeep();
    false
}

/// Deletes a queue that was unused for too long, unless somebody uses it after all.
fn end(store: &Store, queue: &Arc<SharedQueue>) {
    let ended = |state: &Queue<SharedSubscriber>| Ok(state.has_ended());
    log::debug!("queue '{}' expires: nobody used it", queue.name);
    if let Err(fault) = store.delete_queue_if(queue, ended, |_| {}) {
        log::error!("queue '{}' expires and cannot be deleted: {fault}", queue.name);
        queue.lock().touch();
    }
}
