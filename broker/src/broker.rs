//! What all connections share: topology, log, users, and the ways in which the whole broker can be held up or end.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use foundation::Shutdown;

use crate::counters::Counters;
use crate::error::Error;
use crate::log::definitions::{self, Header};
use crate::log::persister::Persister;
use crate::log::prepare;
use crate::log::recovery;
use crate::log::salvage;
use crate::log::segment_table::SegmentTable;
use crate::log::storage::Storage;
use crate::logins::{Logins, Protocol};
use crate::protocol::channel_output::ChannelOutput;
use crate::protocol::client::ClientFacts;
use crate::protocol::fault::Outcome;
use crate::protocol::send_buffer::SendBuffer;
use crate::protocol::throttle::Throttle;
use crate::queues::delivery;
use crate::queues::topology::{SharedQueue, Topology};
use crate::settings::Settings;
use crate::sync::lock;
use crate::users::User;

/// The broker behind its connections.
pub(crate) struct Broker {
    pub(crate) settings: Settings,
    pub(crate) topology: Topology,
    pub(crate) persister: Persister,
    pub(crate) segment_table: Arc<SegmentTable>,
    pub(crate) alarm: Alarm,
    pub(crate) shutdown: Shutdown,
    pub(crate) counters: Counters,
    pub(crate) logins: Logins,
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
    /// Puts the parts together on top of what recovery finds.
    pub(crate) fn recover(
        settings: Settings,
        storage: Arc<dyn Storage>,
        shutdown: Shutdown,
    ) -> Result<Self, Error> {
        let started = Instant::now();
        salvage::refuse_interrupted(&*storage)?;
        let stored = definitions::load(&*storage, recovery::is_new(&*storage)?)?;
        let header = stored.header.unwrap_or_else(Header::new);
        let recovered =
            recovery::survey(&*storage, header, &stored)?.take_over(&*storage, settings.segment_bytes)?;
        let definitions = stored.definitions()?;
        let topology = Topology::new(Arc::clone(&storage), header, definitions, settings.max_queues);
        let mut recovered_queues = recovered.queues;
        let (mut messages, queues) = (0, topology.queues());
        for queue in &queues {
            queue.set_next_position(recovered.first_position);
            if let Some(found) = recovered_queues.remove(&queue.id) {
                queue.set_next_position(found.next_position);
                let mut state = queue.lock();
                state.restore(found.runs, found.redelivered_through);
                messages += state.waiting();
            }
        }
        let took = started.elapsed().as_millis();
        log::info!("recovered {messages} messages in {} durable queues within {took} ms", queues.len());
        if stored.header.is_none() {
            // Before the first record, so that a log always has definitions with its salt.
            topology.save_first()?;
        }
        let (segments, prepared) = (recovered.segments, recovered.prepared);
        let segment_table =
            Arc::new(SegmentTable::new(storage, header.salt, settings.segment_bytes, segments, prepared));
        let persister = Persister::new(Arc::clone(&segment_table), recovered.position);
        if prepare::prepare(&segment_table)? {
            persister.begin()?;
        } else {
            log::error!("the disk is full: nothing can be written before there is room again");
        }
        Ok(Self {
            settings,
            topology,
            persister,
            segment_table,
            alarm: Alarm::default(),
            shutdown,
            counters: Counters::default(),
            logins: Logins::default(),
            connections: Mutex::default(),
            next_id: AtomicU64::new(1),
            failure: Mutex::default(),
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

    /// Drops everything that waits in a queue. Returns how many messages that were.
    pub(crate) fn purge(&self, queue: &SharedQueue) -> u64 {
        let mut state = queue.lock();
        let messages = state.waiting();
        let settled = state.purge();
        self.persister.settle(&settled);
        messages
    }

    /// Deletes a queue with everything in it and tells its consumers. Returns how many messages waited.
    pub(crate) fn delete_queue(&self, queue: &SharedQueue) -> Outcome<u64> {
        let mut deleted = lock(&self.counters.deleted_queues);
        if !self.topology.remove_queue(queue)? {
            return Ok(0);
        }
        let mut state = queue.lock();
        let waiting = state.waiting();
        let (settled, consumers) = state.delete();
        self.persister.settle(&settled);
        *deleted += std::mem::take(&mut state.counts);
        drop(state);
        drop(deleted);
        self.counters.queues_deleted.increment();
        for consumer in consumers {
            consumer.subscriber.cancel();
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
            delivery::pump(self, queue);
        }
        Ok(())
    }

    /// Gives up: the process ends with this error. Only the first one counts.
    pub(crate) fn fail(&self, error: Error) {
        let mut failure = lock(&self.failure);
        if failure.is_none() {
            log::error!("{error}");
            *failure = Some(error);
        }
        drop(failure);
        self.shutdown.request();
    }

    /// What made the broker give up, if something did.
    pub(crate) fn take_failure(&self) -> Option<Error> {
        lock(&self.failure).take()
    }
}

/// Raised while the disk is nearly full. Publishers wait for it to be lowered.
#[derive(Default)]
pub(crate) struct Alarm {
    raised: Mutex<bool>,
    lowered: Condvar,
}

impl Alarm {
    /// Raises or lowers the alarm; tells whether that changed it.
    pub(crate) fn set(&self, raised: bool) -> bool {
        let changed = std::mem::replace(&mut *lock(&self.raised), raised) != raised;
        self.lowered.notify_all();
        changed
    }

    pub(crate) fn is_raised(&self) -> bool {
        *lock(&self.raised)
    }

    /// Waits until the alarm is lowered, or for `timeout`; tells whether it still is raised.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let waited = self.lowered.wait_timeout_while(lock(&self.raised), timeout, |raised| *raised);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
