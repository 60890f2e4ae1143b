//! What all connections share: the store with its queues and log, the settings, and who is connected.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foundation::Shutdown;

use crate::error::Error;
use crate::log::storage::Storage;
use crate::logins::{Logins, Protocol};
use crate::protocol::connections::{Connections, Peer};
use crate::protocol::fault::Outcome;
use crate::protocol::memory::MemoryBudget;
use crate::protocol::transaction::UncommittedBytes;
use crate::queues::delivery;
use crate::queues::store::{Store, StoreSettings};
use crate::queues::topology::SharedQueue;
use crate::settings::Settings;
use crate::users::User;

/// The broker behind its connections.
pub(crate) struct Broker {
    pub(crate) store: Arc<Store>,
    pub(crate) settings: Settings,
    pub(crate) connections: Connections,
    pub(crate) memory: Arc<MemoryBudget>,
    pub(crate) uncommitted: UncommittedBytes,
    pub(crate) logins: Logins,
    /// Counts connections and consumers, so that each has its own number.
    next_id: AtomicU64,
}

/// Most of what connections ask of their broker is its store's.
impl Deref for Broker {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Broker {
    /// A broker without connections on top of what recovery finds.
    pub(crate) fn recover(
        settings: Settings,
        storage: Arc<dyn Storage>,
        shutdown: Shutdown,
    ) -> Result<Self, Error> {
        let store = StoreSettings {
            segment_bytes: settings.segment_bytes,
            max_queues: settings.max_queues,
            disk_free_min_bytes: settings.disk_free_min_bytes,
        };
        let store = Arc::new(Store::recover(store, storage, shutdown)?);
        let connections = Connections::new(settings.max_connections);
        let memory = MemoryBudget::new(settings.max_connections);
        let (uncommitted, logins) = (UncommittedBytes::default(), Logins::default());
        let next_id = AtomicU64::new(1);
        Ok(Self { store, settings, connections, memory, uncommitted, logins, next_id })
    }

    /// A number that no other connection or consumer has.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// The connections that are open.
    pub(crate) fn peers(&self) -> Vec<Arc<Peer>> {
        self.connections.all()
    }

    /// Closes connections that keep others waiting for memory because they hardly send or read.
    pub(crate) fn close_slow_connections(&self) {
        if !self.memory.is_short() {
            return;
        }
        for peer in self.peers().iter().filter(|peer| peer.is_too_slow()) {
            log::warn!("{}: connection dropped: it is too slow while memory is short", peer.address);
            peer.send_buffer.close();
        }
    }

    /// Whether the disk has room for a large message beyond what has to stay free. If it cannot be asked, the log will
    /// find out.
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        let needed = self.settings.disk_free_min_bytes.saturating_add(bytes as u64);
        self.segment_table.storage().free_bytes().map_or(true, |free| free >= needed)
    }

    /// The user who logs in; see [`Logins::log_in`].
    pub(crate) fn log_in(
        &self,
        credentials: (&[u8], &[u8]),
        client: Option<SocketAddr>,
        protocol: Protocol,
    ) -> Option<&User> {
        self.logins.log_in(&self.settings.users, credentials, client, protocol, &self.shutdown)
    }

    /// Removes a consumer from its queue, and the queue if that was the last one of an auto-delete queue.
    pub(crate) fn remove_consumer(&self, queue: &Arc<SharedQueue>, consumer: u64) -> Outcome {
        let mut state = queue.lock();
        let removed = state.remove_consumer(consumer).is_some();
        let unused = removed && queue.auto_delete && state.consumers().is_empty();
        drop(state);
        if unused {
            self.delete_queue_if(queue, |state| Ok(state.consumers().is_empty()), |_| {})?;
        } else {
            delivery::pump(self, queue);
        }
        Ok(())
    }
}
