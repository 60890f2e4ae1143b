//! What gathers in memory between two writes of the log.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use crate::log::segment_table::Chunk;
use crate::log::stored_message::Location;

/// Publishers wait while the gathering batch holds this much; TCP then slows their clients.
pub(crate) const LIMIT_BYTES: usize = 1 << 20;

/// The queues that a message goes to.
pub(crate) type Routes<Q> = Arc<[Arc<Q>]>;

/// A publisher who waits for confirms, each with a tag of its own. No method blocks.
pub(crate) trait ConfirmReceiver: Send + Sync {
    /// The message with this tag is safe; with `multiple` all before it, too.
    fn confirm(&self, tag: u64, multiple: bool);
    /// A queue did not take the message with this tag.
    fn refuse(&self, tag: u64);
    /// There is no further confirm for the moment.
    fn flush(&self);
}

/// Whom to tell that a message is safe.
#[derive(Clone)]
pub(crate) struct Confirm {
    pub(crate) receiver: Arc<dyn ConfirmReceiver>,
    pub(crate) tag: u64,
}

/// What gathers between two writes of the log.
pub(crate) struct WriteBatch<Q> {
    pub(crate) bytes: Vec<u8>,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) items: Vec<BatchedMessage<Q>>,
    pub(crate) confirms: Vec<(Confirm, u64)>,
    /// Confirms of a single message that a queue may refuse: their places among `confirms` and the message's among
    /// `items`.
    pub(crate) conditional: Vec<(usize, usize)>,
    /// Messages that became dead letters of this batch: their queues and positions there. They are settled when it is
    /// written.
    pub(crate) origins: Vec<(Arc<Q>, u64)>,
    /// When the first message came that wants a confirm.
    pub(crate) since: Option<Instant>,
    /// Segments that end in this batch, with their ends.
    pub(crate) sealed: Vec<(u32, u32)>,
    /// It has to be durable before its messages are confirmed, or before anything else is written.
    pub(crate) sync: bool,
    /// The segment in which it ends.
    pub(crate) segment: u32,
}

/// A message of a batch.
pub(crate) struct BatchedMessage<Q> {
    pub(crate) routes: Routes<Q>,
    pub(crate) at: Location,
    /// Where its record begins in the batch.
    pub(crate) start: usize,
    pub(crate) length: u32,
    pub(crate) persistent: bool,
    /// Its record says when it came in.
    pub(crate) timed: bool,
    /// A queue refused it because it is full.
    pub(crate) refused: Cell<bool>,
}

impl<Q> Default for WriteBatch<Q> {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            chunks: Vec::new(),
            items: Vec::new(),
            confirms: Vec::new(),
            conditional: Vec::new(),
            origins: Vec::new(),
            since: None,
            sealed: Vec::new(),
            sync: false,
            segment: 0,
        }
    }
}

impl<Q> WriteBatch<Q> {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.confirms.is_empty()
    }

    /// Empties it, and gives back what a large message made it grow to.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(2 * LIMIT_BYTES);
        self.chunks.clear();
        self.items.clear();
        self.confirms.clear();
        self.conditional.clear();
        self.origins.clear();
        self.since = None;
        self.sealed.clear();
        self.sync = false;
    }
}
