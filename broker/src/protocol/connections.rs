//! The connections that are open, and which of them make room when there are as many as the process can have.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use foundation::metrics::Counter;

use crate::protocol::channel_output::ChannelOutput;
use crate::protocol::client::ClientFacts;
use crate::protocol::fault::{Fault, Outcome, RESOURCE_ERROR};
use crate::protocol::memory::Pace;
use crate::protocol::send_buffer::SendBuffer;
use crate::protocol::throttle::Throttle;
use crate::queues::topology::SharedQueue;
use crate::sync::lock;

/// The most channels of all connections; each takes about 700 bytes.
pub(crate) const MAX_CHANNELS: usize = 32_768;
/// The most consumers of all channels; each takes about 300 bytes.
pub(crate) const MAX_CONSUMERS: usize = 32_768;
/// How long a new connection waits for others to make room for it.
const DISPLACE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long it waits for one of them before another has to go: the thread of one may be busy refusing a login.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(100);
/// Refused connections are reported at most this often.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// How far a client has come. The first to make room are those that have said least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Progress {
    /// It has sent nothing.
    Silent,
    /// It has sent something, and is not logged in.
    Handshaking,
    /// It is logged in, and never makes room for another.
    Open,
    /// It is being closed to make room.
    Leaving,
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
    progress: AtomicU8,
    /// The unfinished messages of its channels, and how fast they arrive.
    unfinished: Mutex<HashMap<u16, Pace>>,
    /// The queues that it consumes from: they are tried again when its socket has room.
    consumed: Mutex<Vec<Arc<SharedQueue>>>,
    /// The consumers of all connections.
    consumers: Arc<AtomicUsize>,
}

impl Peer {
    pub(crate) fn new(
        id: u64,
        address: String,
        send_buffer: Arc<SendBuffer>,
        consumers: Arc<AtomicUsize>,
    ) -> Arc<Self> {
        let throttle = Throttle::new(Arc::clone(&send_buffer));
        let progress = AtomicU8::new(Progress::Silent as u8);
        Arc::new(Self {
            id,
            address,
            send_buffer,
            throttle,
            client: OnceLock::new(),
            channels: Mutex::default(),
            progress,
            unfinished: Mutex::default(),
            consumed: Mutex::default(),
            consumers,
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

    /// Notes how fast a message arrives on a channel; None if nobody can wait for it.
    pub(crate) fn set_unfinished(&self, channel: u16, pace: Option<Pace>) {
        let mut unfinished = lock(&self.unfinished);
        match pace {
            Some(pace) => unfinished.insert(channel, pace),
            None => unfinished.remove(&channel),
        };
    }

    /// Whether it sends or reads too slowly to keep others waiting for memory.
    pub(crate) fn is_too_slow(&self) -> bool {
        self.send_buffer.is_too_slow() || lock(&self.unfinished).values().any(Pace::is_too_slow)
    }

    /// Notes how far the client has come. One that is leaving stays so.
    pub(crate) fn set_progress(&self, progress: Progress) {
        let raised = |known| (known != Progress::Leaving as u8).then_some(progress as u8);
        // It fails only if the client is leaving, which is what shall stay.
        let _ = self.progress.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raised);
    }

    fn has_come_to(&self, progress: Progress) -> bool {
        self.progress.load(Ordering::Relaxed) == progress as u8
    }

    /// A consumer of `queue` was added.
    pub(crate) fn consumes(&self, queue: &Arc<SharedQueue>) {
        lock(&self.consumed).push(Arc::clone(queue));
        self.consumers.fetch_add(1, Ordering::Relaxed);
    }

    /// A consumer of `queue` was removed.
    pub(crate) fn consumes_no_more(&self, queue: &SharedQueue) {
        let mut consumed = lock(&self.consumed);
        if let Some(index) = consumed.iter().position(|known| known.id == queue.id) {
            consumed.swap_remove(index);
            self.consumers.fetch_sub(1, Ordering::Relaxed);
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

/// All connections of the process.
pub(crate) struct Connections {
    limit: usize,
    peers: Mutex<HashMap<u64, Arc<Peer>>>,
    /// A connection is gone.
    gone: Condvar,
    /// Connections that found a place, those of them that ended, and their channels.
    pub(crate) opened: Counter,
    pub(crate) closed: Counter,
    pub(crate) channels_opened: Counter,
    pub(crate) channels_closed: Counter,
    /// The consumers of all connections.
    pub(crate) consumers: Arc<AtomicUsize>,
    /// Connections that found no place.
    pub(crate) refused: Counter,
    /// Connections that were closed before their login, so that a newer one found a place.
    pub(crate) displaced: Counter,
    /// When refusals were last reported, and how many there had been.
    reported: Mutex<Option<(Instant, u64)>>,
}

impl Connections {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            peers: Mutex::default(),
            gone: Condvar::new(),
            opened: Counter::default(),
            closed: Counter::default(),
            channels_opened: Counter::default(),
            channels_closed: Counter::default(),
            consumers: Arc::default(),
            refused: Counter::default(),
            displaced: Counter::default(),
            reported: Mutex::default(),
        }
    }

    /// How many there may be.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Fails with 506 if there are as many channels as there may be.
    pub(crate) fn check_channels(&self) -> Outcome {
        // One that closes meanwhile must not make the difference negative.
        let closed = self.channels_closed.get();
        if self.channels_opened.get().saturating_sub(closed) < MAX_CHANNELS as u64 {
            return Ok(());
        }
        Fault::connection(RESOURCE_ERROR, format!("there are {MAX_CHANNELS} channels, the most allowed"))
    }

    /// Fails with 506 if there are as many consumers as there may be.
    pub(crate) fn check_consumers(&self) -> Outcome {
        if self.consumers.load(Ordering::Relaxed) < MAX_CONSUMERS {
            return Ok(());
        }
        Fault::channel(RESOURCE_ERROR, format!("there are {MAX_CONSUMERS} consumers, the most allowed"))
    }

    /// Admits a connection. If there is no place, the oldest connection that has sent nothing is closed for it, else
    /// the oldest that is not logged in; false if all are.
    pub(crate) fn admit(&self, peer: &Arc<Peer>) -> bool {
        let deadline = Instant::now() + DISPLACE_TIMEOUT;
        let mut peers = lock(&self.peers);
        while peers.len() >= self.limit {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.displace(&peers) {
                return self.refuse(peer);
            }
            let full = |peers: &mut HashMap<_, _>| peers.len() >= self.limit;
            let wait = left.min(LEAVE_TIMEOUT);
            let waited = self.gone.wait_timeout_while(peers, wait, full);
            peers = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        peers.insert(peer.id, Arc::clone(peer));
        self.opened.increment();
        true
    }

    /// Begins to close a connection that is not logged in. True if a place will be free soon.
    fn displace(&self, peers: &HashMap<u64, Arc<Peer>>) -> bool {
        let oldest =
            |progress| peers.values().filter(|peer| peer.has_come_to(progress)).min_by_key(|peer| peer.id);
        if let Some(oldest) = oldest(Progress::Silent).or_else(|| oldest(Progress::Handshaking)) {
            oldest.set_progress(Progress::Leaving);
            oldest.send_buffer.close();
            self.displaced.add(1);
            return true;
        }
        peers.values().any(|peer| peer.has_come_to(Progress::Leaving))
    }

    /// Counts a refusal, and reports it unless others were reported just now.
    fn refuse(&self, peer: &Peer) -> bool {
        self.refused.add(1);
        let total = self.refused.get();
        let mut reported = lock(&self.reported);
        if reported.is_none_or(|(when, _)| when.elapsed() >= REPORT_INTERVAL) {
            let more = total - reported.map_or(0, |(_, before)| before);
            log::warn!(
                "{} connections refused, the last from {}: there are {}",
                more,
                peer.address,
                self.limit
            );
            *reported = Some((Instant::now(), total));
        }
        false
    }

    pub(crate) fn dismiss(&self, id: u64) {
        if lock(&self.peers).remove(&id).is_some() {
            self.closed.increment();
        }
        self.gone.notify_all();
    }

    /// The connections that are open.
    pub(crate) fn all(&self) -> Vec<Arc<Peer>> {
        lock(&self.peers).values().cloned().collect()
    }
}
