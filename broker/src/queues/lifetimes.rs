//! When the message at the head of a queue expires, as far as that is known without reading the log. No I/O.

use std::cmp::min;

use crate::codec::properties::Properties;
use crate::log::record;

/// A time that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

/// What a queue knows of the lives of its messages. Times are in milliseconds since 1970.
#[derive(Debug)]
pub(super) struct Lifetimes {
    /// Something may limit the life of a message that waits.
    pub(super) any: bool,
    /// Messages may expire in another order than they came in.
    mixed: bool,
    /// When the message at a position expires.
    known: Option<(u64, u64)>,
    /// When the queue is due to be looked after: the timers know of that.
    pub(super) scheduled: u64,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { any: false, mixed: false, known: None, scheduled: NEVER }
    }
}

/// When a stored message expires in a queue with this `ttl` for all of its messages.
pub(super) fn expiry(payload: &[u8], ttl: Option<u64>) -> u64 {
    let Some(arrived) = record::arrival(payload) else { return NEVER };
    let own = own_ttl(payload);
    match own.into_iter().chain(ttl).min() {
        None => NEVER,
        Some(life) => arrived.saturating_add(life),
    }
}

/// The life that the publisher gave the message, in milliseconds.
fn own_ttl(payload: &[u8]) -> Option<u64> {
    let properties = record::read_message(payload)?.properties;
    Properties::read(properties).ok()?.expiration?.trim_start_matches('+').parse().ok()
}

impl Lifetimes {
    /// There are messages from an earlier life whose lives are limited.
    pub(super) fn restore(&mut self) {
        (self.any, self.mixed, self.known) = (true, true, None);
    }

    /// A message that expires at `expiry` was appended at `position`; `is_first` if nothing waits before it,
    /// `is_alone` if nothing is out that may come back, either.
    pub(super) fn added(
        &mut self,
        position: u64,
        expiry: u64,
        payload: &[u8],
        is_first: bool,
        is_alone: bool,
    ) {
        if is_first {
            self.known = Some((position, expiry));
            self.mixed &= !is_alone;
        }
        self.any = true;
        self.mixed |= own_ttl(payload).is_some();
    }

    /// A message came back: it may be the first one now.
    pub(super) fn came_back(&mut self) {
        (self.any, self.known) = (true, None);
    }

    /// It is known when the message at `position`, the first one, expires.
    pub(super) fn learned(&mut self, position: u64, expiry: u64) {
        self.known = Some((position, expiry));
    }

    /// When the message at `first`, the first one, expires: NEVER if nothing waits, 0 if somebody has to look.
    pub(super) fn next(&self, first: Option<u64>) -> u64 {
        let Some(first) = first.filter(|_| self.any) else { return NEVER };
        match self.known {
            // If all have the same time to live, those behind expire later.
            Some((position, expiry)) if position == first || (!self.mixed && position < first) => expiry,
            _ => 0,
        }
    }

    /// Notes that the queue is due at `due`. Returns when it was before, if that is later.
    pub(super) fn schedule(&mut self, due: u64) -> Option<u64> {
        let earlier = min(due, self.scheduled);
        (earlier < self.scheduled).then(|| std::mem::replace(&mut self.scheduled, earlier))
    }
}
