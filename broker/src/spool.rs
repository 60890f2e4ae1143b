//! The broker as a library: one durable queue in a folder, for a program that has to keep messages until it can pass
//! them on. No sockets and no protocol, the same log and the same promises as the server's.
//!
//! The folder is that of a broker with a single queue, `spool`: `broker --check-log` and `broker --salvage` read it, and
//! `docs/broker.md` describes its files.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use foundation::Shutdown;

use crate::codec::wire::{Malformed, Put, Reader};
use crate::error::Error;
use crate::log::definitions::{self, Definition};
use crate::log::folder_lock;
use crate::log::housekeeper;
use crate::log::persister::Progress;
use crate::log::record::{self, Message};
use crate::log::recovery;
use crate::log::storage::{DiskStorage, Storage};
use crate::log::stored_message::payload_at;
use crate::queues::delivery;
use crate::queues::store::{Store, StoreSettings};
use crate::queues::store_threads::StoreThreads;
use crate::queues::subscriber::Effects;
use crate::queues::topology::{QueueAttributes, Routes, SharedQueue};
use crate::sync::lock;

/// The name of the only queue.
const QUEUE: &str = "spool";
/// The flags of the properties that each message has: `delivery_mode`, `message_id` and timestamp (AMQP 0-9-1 §4.2.6.1).
const PROPERTY_FLAGS: u16 = 1 << 12 | 1 << 7 | 1 << 6;
/// The longest id, in bytes: a short string (AMQP 0-9-1 §4.2.5.3).
const ID_MAX_BYTES: usize = 255;
/// The largest body, in bytes.
const BODY_MAX_BYTES: usize = 16 << 20;
/// What a small message takes in the log, in bytes.
const SMALL_BYTES: u64 = 256;

/// The limits of a [`Spool`].
#[derive(Clone, Copy, Debug)]
pub struct SpoolOptions {
    /// Most messages that are stored and not acknowledged, default 100,000.
    pub max_messages: u64,
    /// Most bytes that they take in the log, default 256 MiB. A message takes about a hundred bytes besides its id and
    /// body. What was acknowledged may keep as much again for a while.
    pub max_bytes: u64,
    /// Bytes of each file of the log, default 1 MiB. Two files always exist.
    pub segment_bytes: u32,
    /// Nothing is accepted while less is free on the disk, default 64 MiB.
    pub disk_free_min_bytes: u64,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        Self {
            max_messages: 100_000,
            max_bytes: 256 << 20,
            segment_bytes: 1 << 20,
            disk_free_min_bytes: 64 << 20,
        }
    }
}

/// Why a message was not stored, as far as that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// It was not stored: a limit is reached, the disk is nearly full, or too slow to take it before the deadline.
    Full {
        /// Which limit it is.
        reason: &'static str,
    },
    /// It was not stored: its id is longer than 255 bytes, or its body than 16 MiB.
    TooLarge,
    /// It was not stored: the spool was closed, or its log failed before, with this message.
    Closed {
        /// What happened.
        reason: String,
    },
    /// It is not known to be durable at the deadline, or the log failed meanwhile: it may be stored, now or later.
    Unknown,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { reason } => write!(f, "the spool is full: {reason}"),
            Self::TooLarge => f.write_str("the message is too large for the spool"),
            Self::Closed { reason } => write!(f, "the spool takes nothing any more: {reason}"),
            Self::Unknown => f.write_str("the message was not stored in time, and may be stored later"),
        }
    }
}

impl std::error::Error for PublishError {}

/// A message that was taken and has to be acknowledged or given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpooledMessage {
    /// The publisher's name for it.
    pub id: String,
    /// What was published.
    pub body: Vec<u8>,
    /// When it was published, in whole seconds.
    pub stored_at: SystemTime,
    position: u64,
}

/// What is stored and not acknowledged, and what is about to be stored.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    messages: u64,
    bytes: u64,
}

/// One durable queue in a folder. All methods may be called from many threads at once.
///
/// A message is stored once [`Spool::publish`] returns: written and made durable, callers that come at the same time
/// sharing one fdatasync. It is given out, oldest first, until it is acknowledged, across restarts, crashes and power
/// failures. An acknowledgement is made durable within a second: what was acknowledged right before a crash may come
/// again.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use broker::{Spool, SpoolOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = std::env::temp_dir().join(format!("spool-example-{}", std::process::id()));
/// let spool = Spool::open(&folder, SpoolOptions::default())?;
/// spool.publish("order-1", b"first", Instant::now() + Duration::from_secs(5))?;
/// spool.publish("order-2", b"second", Instant::now() + Duration::from_secs(5))?;
/// assert_eq!(spool.count(), 2);
///
/// let messages = spool.take(100)?;
/// assert_eq!((messages[0].id.as_str(), messages[0].body.as_slice()), ("order-1", &b"first"[..]));
/// spool.acknowledge(&messages[..1]);
/// spool.give_back(&messages[1..]);
/// spool.close()?;
/// drop(spool); // Only now may somebody else have the folder.
///
/// let spool = Spool::open(&folder, SpoolOptions::default())?;
/// assert_eq!(spool.take(100)?[0].id, "order-2");
/// # drop(spool);
/// # std::fs::remove_dir_all(folder)?;
/// # Ok(())
/// # }
/// ```
pub struct Spool {
    store: Arc<Store>,
    queue: Arc<SharedQueue>,
    routes: Routes,
    options: SpoolOptions,
    usage: Mutex<Usage>,
    /// Locked while messages are taken, so that each caller gets neighbours, and looking at the oldest disturbs nobody.
    taking: Mutex<()>,
    threads: Mutex<Option<StoreThreads>>,
    /// Held for as long as the folder is ours.
    _lock: Option<File>,
}

impl Spool {
    /// Opens a folder, or creates it (with permissions 0700, its files 0600), and recovers what is in it.
    ///
    /// Fails if another process uses the folder, if it is that of a broker with other queues, or if a part of it cannot
    /// be read. The error says what to do then, and no file was changed.
    pub fn open(folder: &Path, options: SpoolOptions) -> Result<Self, Error> {
        let opened = DiskStorage::open(folder);
        let storage = opened.map_err(Error::io(format!("create {}", folder.display())))?;
        let lock = folder_lock::take(folder)?;
        let spool = Self::recover(Arc::new(storage), options, Some(lock))?;
        spool.start()?;
        Ok(spool)
    }

    /// Recovers what is in a folder. What is published is written once [`Spool::start`] was called.
    fn recover(storage: Arc<dyn Storage>, options: SpoolOptions, lock: Option<File>) -> Result<Self, Error> {
        let settings = StoreSettings {
            segment_bytes: options.segment_bytes,
            max_queues: 1,
            disk_free_min_bytes: options.disk_free_min_bytes,
        };
        let stored = definitions::load(&*storage, recovery::is_new(&*storage)?)?;
        let foreign =
            |known: &Definition<'_>| matches!(known, Definition::Queue { name, .. } if *name != QUEUE);
        if stored.definitions()?.iter().any(foreign) {
            let problem = "they are those of a broker with other queues: a spool needs a folder of its own";
            return Err(Error::format("definitions", problem));
        }
        let store = Arc::new(Store::recover(settings, storage, Shutdown::new())?);
        let attributes = QueueAttributes { durable: true, ..QueueAttributes::default() };
        let declared = store.topology.declare_queue(QUEUE, attributes, 0);
        let queue = declared.map_err(|fault| Error::format("definitions", fault.to_string()))?;
        // The disk may be nearly full from the beginning.
        housekeeper::keep(&*store)?;
        let usage = Usage {
            messages: queue.lock().waiting(),
            bytes: store.segment_table.segments().iter().map(|(_, segment)| segment.live_bytes).sum(),
        };
        Ok(Self {
            routes: [Arc::clone(&queue)].into(),
            store,
            queue,
            options,
            usage: Mutex::new(usage),
            taking: Mutex::default(),
            threads: Mutex::default(),
            _lock: lock,
        })
    }

    fn start(&self) -> Result<(), Error> {
        *lock(&self.threads) = Some(StoreThreads::start(&self.store)?);
        Ok(())
    }

    /// Stores a message, and returns once it is durable. `id` is for the caller alone: two messages may have the same.
    /// Waits until `deadline` at most.
    pub fn publish(&self, id: &str, body: &[u8], deadline: Instant) -> Result<(), PublishError> {
        if id.len() > ID_MAX_BYTES || body.len() > BODY_MAX_BYTES {
            return Err(PublishError::TooLarge);
        }
        if self.store.alarm.is_raised() {
            return Err(PublishError::Full { reason: "the disk is nearly full" });
        }
        let properties = properties(id, SystemTime::now());
        let message = Message { exchange: b"", routing_key: QUEUE.as_bytes(), properties: &properties, body };
        let bytes = record::total_bytes(record::message_bytes(&message, 1)) as u64;
        self.admit(bytes)?;
        let persister = &self.store.persister;
        let Some(batch) = persister.publish_until(&message, &self.routes, true, None, Some(deadline)) else {
            self.release(bytes);
            if Instant::now() >= deadline {
                return Err(PublishError::Full { reason: "the disk is too slow" });
            }
            let reason = self.closed().unwrap_or_default();
            return Err(PublishError::Closed { reason });
        };
        match persister.wait_until(batch, deadline) {
            Progress::Through => Ok(()),
            Progress::Pending | Progress::Ended => Err(PublishError::Unknown),
        }
    }

    /// Why even a small message would not be stored now, if that is so.
    pub fn refusal(&self) -> Option<PublishError> {
        if let Some(reason) = self.closed() {
            return Some(PublishError::Closed { reason });
        }
        if self.store.alarm.is_raised() {
            return Some(PublishError::Full { reason: "the disk is nearly full" });
        }
        self.exceeded(*lock(&self.usage), SMALL_BYTES).map(|reason| PublishError::Full { reason })
    }

    /// Counts a message that is about to be stored, if the limits allow it.
    fn admit(&self, bytes: u64) -> Result<(), PublishError> {
        let mut usage = lock(&self.usage);
        if let Some(reason) = self.exceeded(*usage, bytes) {
            return Err(PublishError::Full { reason });
        }
        usage.messages += 1;
        usage.bytes += bytes;
        Ok(())
    }

    /// The limit that keeps a message of so many bytes out.
    fn exceeded(&self, usage: Usage, bytes: u64) -> Option<&'static str> {
        match () {
            () if usage.messages >= self.options.max_messages => {
                Some("it holds as many messages as are allowed")
            }
            () if usage.bytes + bytes > self.options.max_bytes => {
                Some("it holds as many bytes as are allowed")
            }
            () => None,
        }
    }

    fn release(&self, bytes: u64) {
        let mut usage = lock(&self.usage);
        usage.messages = usage.messages.saturating_sub(1);
        usage.bytes = usage.bytes.saturating_sub(bytes);
    }

    /// Takes up to `most` messages, oldest first. Nobody else gets them until they are given back or the folder is
    /// opened again. Does not wait: an empty list means that there is nothing.
    pub fn take(&self, most: usize) -> Result<Vec<SpooledMessage>, Error> {
        let _taking = lock(&self.taking);
        let mut messages = Vec::new();
        while messages.len() < most {
            match self.take_one() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => {
                    self.give_back(&messages);
                    return Err(error);
                }
            }
        }
        Ok(messages)
    }

    fn take_one(&self) -> Result<Option<SpooledMessage>, Error> {
        let Some((entry, page, start, _)) = delivery::take(&self.store, &self.queue, false) else {
            // The queue is empty, unless the log could not be read.
            let closed =
                self.closed().map(|reason| Error::io("read the spool")(std::io::Error::other(reason)));
            return closed.map_or(Ok(None), Err);
        };
        let message = payload_at(&page, start).and_then(record::read_message);
        let parsed = message.and_then(|message| {
            let (id, stored_at) = read_properties(message.properties).ok()?;
            let (body, position) = (message.body.to_vec(), entry.position);
            Some(SpooledMessage { id: id.to_owned(), body, stored_at, position })
        });
        if parsed.is_none() {
            self.queue.lock().requeue(entry.position, &mut Effects::default());
            return Err(Error::format(QUEUE, "it holds a message that no spool has stored"));
        }
        Ok(parsed)
    }

    /// Forgets messages that were taken. What was given back meanwhile, or acknowledged before, is left alone.
    pub fn acknowledge(&self, messages: &[SpooledMessage]) {
        let mut state = self.queue.lock();
        let settled: Vec<_> = messages.iter().filter_map(|message| state.settle(message.position)).collect();
        self.store.persister.settle(&settled);
        drop(state);
        for settled in settled {
            self.release(settled.bytes);
        }
    }

    /// Puts messages that were taken back at their places.
    pub fn give_back(&self, messages: &[SpooledMessage]) {
        let mut state = self.queue.lock();
        for message in messages {
            state.requeue(message.position, &mut Effects::default());
        }
    }

    /// How many messages are stored and not acknowledged, those that were taken included.
    pub fn count(&self) -> u64 {
        let state = self.queue.lock();
        state.waiting() + state.unsettled() as u64
    }

    /// When the oldest message that nobody has taken was stored, in whole seconds. Reads the log.
    pub fn oldest(&self) -> Result<Option<SystemTime>, Error> {
        let _taking = lock(&self.taking);
        let oldest = self.take_one()?;
        self.give_back(oldest.as_slice());
        Ok(oldest.map(|message| message.stored_at))
    }

    /// Why nothing is accepted any more, if that is so: the log failed, or the spool was closed.
    pub fn closed(&self) -> Option<String> {
        let failure = self.store.failure();
        failure.or_else(|| self.store.shutdown.requested().then(|| "it was closed".to_owned()))
    }

    /// Writes what is under way, and ends in good order. Nothing is accepted from now on. Fails with what made the log
    /// fail, if something did. Dropping does the same, reports nothing, and lets go of the folder.
    pub fn close(&self) -> Result<(), Error> {
        let threads = lock(&self.threads).take();
        threads.map_or(Ok(()), StoreThreads::stop)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            log::debug!("the spool was closed: {error}");
        }
    }
}

/// The property list of a message.
fn properties(id: &str, stored_at: SystemTime) -> Vec<u8> {
    let seconds = stored_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut properties = Vec::with_capacity(id.len() + 12);
    properties.put_u16(PROPERTY_FLAGS).put(&[2]).put_short_string(id).put_u64(seconds);
    properties
}

fn read_properties(bytes: &[u8]) -> Result<(&str, SystemTime), Malformed> {
    let mut reader = Reader::new(bytes);
    if reader.u16()? != PROPERTY_FLAGS {
        return Err(Malformed);
    }
    let _delivery_mode = reader.u8()?;
    let id = reader.short_string()?;
    Ok((id, UNIX_EPOCH + Duration::from_secs(reader.u64()?)))
}

#[cfg(test)]
mod tests;
