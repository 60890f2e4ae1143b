//! What all connections share: topology, log, users, and the ways in which the whole broker can be held up or end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::Shutdown;

use crate::dispatch;
use crate::error::Error;
use crate::fault::Outcome;
use crate::outbox::Outbox;
use crate::persister::Persister;
use crate::settings::Settings;
use crate::topology::{SharedQueue, Topology};
use crate::wal::Wal;

/// The broker behind its connections.
pub(crate) struct Broker {
    pub(crate) settings: Settings,
    pub(crate) topology: Topology,
    pub(crate) persister: Persister,
    pub(crate) wal: Arc<Wal>,
    pub(crate) alarm: Alarm,
    pub(crate) shutdown: Shutdown,
    connections: Mutex<HashMap<u64, Arc<Peer>>>,
    /// Counts connections and consumers, so that each has its own number.
    next_id: AtomicU64,
    /// What made the broker give up.
    failure: Mutex<Option<Error>>,
}

/// What others need to know of a connection.
pub(crate) struct Peer {
    pub(crate) id: u64,
    pub(crate) address: String,
    pub(crate) outbox: Arc<Outbox>,
    /// The queues that it consumes from: they are tried again when its socket has room.
    consumed: Mutex<Vec<Arc<SharedQueue>>>,
}

impl Peer {
    pub(crate) fn new(id: u64, address: String, outbox: Arc<Outbox>) -> Arc<Self> {
        Arc::new(Self { id, address, outbox, consumed: Mutex::new(Vec::new()) })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<SharedQueue>>> {
        self.consumed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A consumer of `queue` was added.
    pub(crate) fn consumes(&self, queue: &Arc<SharedQueue>) {
        self.lock().push(Arc::clone(queue));
    }

    /// A consumer of `queue` was removed.
    pub(crate) fn consumes_no_more(&self, queue: &SharedQueue) {
        let mut consumed = self.lock();
        if let Some(index) = consumed.iter().position(|known| known.id == queue.id) {
            consumed.swap_remove(index);
        }
    }

    /// The queues that it consumes from, each once.
    pub(crate) fn consumed(&self) -> Vec<Arc<SharedQueue>> {
        let mut queues = self.lock().clone();
        queues.sort_unstable_by_key(|queue| queue.id);
        queues.dedup_by_key(|queue| queue.id);
        queues
    }
}

impl Broker {
    pub(crate) fn new(
        settings: Settings,
        topology: Topology,
        persister: Persister,
        wal: Arc<Wal>,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            settings,
            topology,
            persister,
            wal,
            alarm: Alarm::default(),
            shutdown,
            connections: Mutex::new(HashMap::new()),
            next_id: AtomicU64::new(1),
            failure: Mutex::new(None),
        }
    }

    /// A number that no other connection or consumer has.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Arc<Peer>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a connection, unless there are too many.
    pub(crate) fn admit(&self, peer: &Arc<Peer>) -> bool {
        let mut connections = self.connections();
        let room = connections.len() < self.settings.max_connections;
        if room {
            connections.insert(peer.id, Arc::clone(peer));
        }
        room
    }

    pub(crate) fn dismiss(&self, id: u64) {
        self.connections().remove(&id);
    }

    /// The connections that are open.
    pub(crate) fn peers(&self) -> Vec<Arc<Peer>> {
        self.connections().values().cloned().collect()
    }

    /// Deletes a queue with everything in it and tells its consumers. Returns how many messages waited.
    pub(crate) fn delete_queue(&self, queue: &SharedQueue) -> Outcome<u64> {
        if !self.topology.remove_queue(queue)? {
            return Ok(0);
        }
        let mut state = queue.lock();
        let waiting = state.waiting();
        let (settled, consumers) = state.delete();
        self.persister.settle(&settled);
        drop(state);
        for consumer in consumers {
            consumer.sink.cancel();
        }
        Ok(waiting)
    }

    /// Removes a consumer from its queue, and the queue if that was the last one of an auto-delete queue.
    pub(crate) fn remove_consumer(&self, queue: &Arc<SharedQueue>, consumer: u64) -> Outcome {
        let mut state = queue.lock();
        let removed = state.remove_consumer(consumer).is_some();
        let unused = removed && queue.auto_delete && state.consumers().is_empty();
        drop(state);
        if unused {
            self.delete_queue(queue)?;
        } else {
            dispatch::pump(self, queue);
        }
        Ok(())
    }

    /// Gives up: the process ends with this error. Only the first one counts.
    pub(crate) fn fail(&self, error: Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.is_none() {
            log::error!("{error}");
            *failure = Some(error);
        }
        drop(failure);
        self.shutdown.request();
    }

    /// What made the broker give up, if something did.
    pub(crate) fn take_failure(&self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Raised while the disk is nearly full. Publishers wait for it to be lowered.
#[derive(Default)]
pub(crate) struct Alarm {
    raised: Mutex<bool>,
    lowered: Condvar,
}

impl Alarm {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises or lowers the alarm; tells whether that changed it.
    pub(crate) fn set(&self, raised: bool) -> bool {
        let changed = std::mem::replace(&mut *self.lock(), raised) != raised;
        self.lowered.notify_all();
        changed
    }

    pub(crate) fn is_raised(&self) -> bool {
        *self.lock()
    }

    /// Waits until the alarm is lowered, or for `timeout`; tells whether it still is raised.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let waited = self.lowered.wait_timeout_while(self.lock(), timeout, |raised| *raised);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
