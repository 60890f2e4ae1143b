//! What all connections share: the store with its queues and log, the settings, and who is connected.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use foundation::Shutdown;

use crate::counters::ConnectionCounters;
use crate::error::Error;
use crate::log::storage::Storage;
use crate::logins::{Logins, Protocol};
use crate::protocol::channel_output::ChannelOutput;
use crate::protocol::client::ClientFacts;
use crate::protocol::fault::Outcome;
use crate::protocol::send_buffer::SendBuffer;
use crate::protocol::throttle::Throttle;
use crate::queues::delivery;
use crate::queues::store::{Store, StoreSettings};
use crate::queues::topology::SharedQueue;
use crate::settings::Settings;
use crate::sync::lock;
use crate::users::User;

/// The broker behind its connections.
pub(crate) struct Broker {
    pub(crate) store: Arc<Store>,
    pub(crate) settings: Settings,
    pub(crate) counters: ConnectionCounters,
    pub(crate) logins: Logins,
    connections: Mutex<HashMap<u64, Arc<Peer>>>,
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

/// What others need to know of a connection.
pub(crate) struct Peer {
    pub(crate) id: u64,
    pub(crate) address: String,
    pub(crate) send_buffer: Arc<SendBuffer>,
    pub(crate) throttle: Throttle,
    /// What the client said of itself; empty until its handshake is over.
    pub(crate) client: OnceLock<ClientFacts>,
    /// Its channels, also those that were closed.
    channels: Mutex<Vec<Weak<ChannelOutput>>>,
    /// The queues that it consumes from: they are tried again when its socket has room.
    consumed: Mutex<Vec<Arc<SharedQueue>>>,
}

impl Peer {
    pub(crate) fn new(id: u64, address: String, send_buffer: Arc<SendBuffer>) -> Arc<Self> {
        let throttle = Throttle::new(Arc::clone(&send_buffer));
        Arc::new(Self {
            id,
            address,
            send_buffer,
            throttle,
            client: OnceLock::new(),
            channels: Mutex::default(),
            consumed: Mutex::new(Vec::new()),
        })
    }

    /// A channel was opened.
    pub(crate) fn add_channel(&self, channel: &Arc<ChannelOutput>) {
        let mut channels = lock(&self.channels);
        channels.retain(|known| known.strong_count() > 0);
        channels.push(Arc::downgrade(channel));
    }

    /// The channels that are open.
    pub(crate) fn channels(&self) -> Vec<Arc<ChannelOutput>> {
        let open = |channel: &Arc<ChannelOutput>| channel.figures().is_some();
        lock(&self.channels).iter().filter_map(Weak::upgrade).filter(open).collect()
    }

    /// Where the client is.
    pub(crate) fn socket_addr(&self) -> Option<SocketAddr> {
        self.address.parse().ok()
    }

    /// A consumer of `queue` was added.
    pub(crate) fn consumes(&self, queue: &Arc<SharedQueue>) {
        lock(&self.consumed).push(Arc::clone(queue));
    }

    /// A consumer of `queue` was removed.
    pub(crate) fn consumes_no_more(&self, queue: &SharedQueue) {
        let mut consumed = lock(&self.consumed);
        if let Some(index) = consumed.iter().position(|known| known.id == queue.id) {
            consumed.swap_remove(index);
        }
    }

    /// The queues that it consumes from, each once.
    pub(crate) fn consumed(&self) -> Vec<Arc<SharedQueue>> {
        let mut queues = lock(&self.consumed).clone();
        queues.sort_unstable_by_key(|queue| queue.id);
        queues.dedup_by_key(|queue| queue.id);
        queues
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
        Ok(Self {
            store,
            settings,
            counters: ConnectionCounters::default(),
            logins: Logins::default(),
            connections: Mutex::default(),
            next_id: AtomicU64::new(1),
        })
    }

    /// A number that no other connection or consumer has.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Admits a connection, unless there are too many.
    pub(crate) fn admit(&self, peer: &Arc<Peer>) -> bool {
        let mut connections = lock(&self.connections);
        let room = connections.len() < self.settings.max_connections;
        if room {
            connections.insert(peer.id, Arc::clone(peer));
            self.counters.connections_opened.increment();
        }
        room
    }

    pub(crate) fn dismiss(&self, id: u64) {
        if lock(&self.connections).remove(&id).is_some() {
            self.counters.connections_closed.increment();
        }
    }

    /// The connections that are open.
    pub(crate) fn peers(&self) -> Vec<Arc<Peer>> {
        lock(&self.connections).values().cloned().collect()
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
            self.delete_queue(queue)?;
        } else {
            delivery::pump(self, queue);
        }
        Ok(())
    }
}
