//! What a queue with arguments keeps besides its messages: how much waits, how often messages came back, since when it
//! is unused. Most queues have none of this. No I/O.

use std::collections::HashMap;
use std::sync::Arc;

use crate::log::record;
use crate::queues::arguments::{Arguments, Overflow};
use crate::queues::death::Dead;

/// The most dead letters that wait to be fetched.
const MOST_PENDING: usize = 1 << 16;

/// The rules that a queue's arguments set, and what has to be known to keep them.
pub(super) struct Rules {
    pub(super) arguments: Arc<Arguments>,
    /// Bytes of the bodies that wait, if they are limited.
    body_bytes: u64,
    /// The length of each body that is out, if their bytes are limited.
    out: HashMap<u64, u64>,
    /// How often messages came back, if the queue counts that.
    counts: HashMap<u64, u32>,
    /// Dead letters that somebody has to fetch.
    pub(super) pending: Vec<Dead>,
    /// When it was last used, in milliseconds since 1970.
    pub(super) used: u64,
}

impl Rules {
    pub(super) fn new(arguments: Arc<Arguments>, now: u64) -> Self {
        Self {
            arguments,
            body_bytes: 0,
            out: HashMap::new(),
            counts: HashMap::new(),
            pending: Vec::new(),
            used: now,
        }
    }

    /// Takes over what recovery found.
    pub(super) fn restore(&mut self, body_bytes: u64, counts: HashMap<u64, u32>) {
        self.body_bytes = body_bytes;
        if self.arguments.is_quorum {
            self.counts = counts;
        }
    }

    fn is_within(&self, waiting: u64, body_bytes: u64) -> bool {
        self.arguments.max_length.is_none_or(|limit| waiting <= limit)
            && self.arguments.max_bytes.is_none_or(|limit| body_bytes <= limit)
    }

    /// Whether messages have to be dropped from the head.
    pub(super) fn is_over(&self, waiting: u64) -> bool {
        self.arguments.overflow == Overflow::DropHead && !self.is_within(waiting, self.body_bytes)
    }

    /// Whether a new message is refused because the queue is full.
    /// If very many dead letters wait to be fetched, it is taken although there is no room, so that they do not grow
    /// without bounds.
    pub(super) fn refuses(&self, waiting: u64, payload: &[u8]) -> bool {
        self.arguments.rejects_publishes() && self.pending.len() < MOST_PENDING && {
            let body = if self.arguments.max_bytes.is_some() { record::body_length(payload) } else { 0 };
            !self.is_within(waiting + 1, self.body_bytes + body)
        }
    }

    /// A message with this payload waits from now on.
    pub(super) fn added(&mut self, payload: &[u8]) {
        if self.arguments.max_bytes.is_some() {
            self.body_bytes += record::body_length(payload);
        }
    }

    /// The message with this payload does not wait any more, and no other if `is_empty`.
    pub(super) fn removed(&mut self, payload: &[u8], is_empty: bool) {
        if is_empty {
            self.body_bytes = 0;
        } else if self.arguments.max_bytes.is_some() {
            self.body_bytes = self.body_bytes.saturating_sub(record::body_length(payload));
        }
    }

    /// The message with this payload goes out, and may come back.
    pub(super) fn went_out(&mut self, position: u64, payload: &[u8]) {
        if self.arguments.max_bytes.is_some() {
            self.out.insert(position, record::body_length(payload));
        }
    }

    /// A message that was out waits again.
    pub(super) fn waits_again(&mut self, position: u64) {
        self.body_bytes += self.out.remove(&position).unwrap_or(0);
    }

    /// A message came back. Returns how often it did by now, if the queue counts that.
    pub(super) fn came_back(&mut self, position: u64) -> Option<u32> {
        if !self.arguments.is_quorum {
            return None;
        }
        let count = self.counts.entry(position).or_default();
        *count = count.saturating_add(1);
        Some(*count)
    }

    /// Whether a message may not come back so often.
    pub(super) fn is_too_often(&self, count: u32) -> bool {
        self.arguments.delivery_limit.is_some_and(|limit| u64::from(count) > limit)
    }

    pub(super) fn count(&self, position: u64) -> u32 {
        self.counts.get(&position).copied().unwrap_or(0)
    }

    /// A message is gone.
    pub(super) fn forget(&mut self, position: u64) {
        self.out.remove(&position);
        self.counts.remove(&position);
    }

    /// Nothing waits any more; `is_out` tells which messages are still there.
    pub(super) fn purged(&mut self, is_out: impl Fn(u64) -> bool) {
        self.body_bytes = 0;
        self.counts.retain(|position, _| is_out(*position));
    }
}
