//! One budget for the memory that clients make the process hold: messages that have not arrived completely, and what
//! waits to be sent to clients that do not read.
//!
//! Every connection may always hold a small allowance, which is not counted, so that clients that behave are served
//! while others use up the budget. At the limit, consumers get no more deliveries and publishers of large messages
//! wait. So that waiting ends, one publisher and one delivery at a time may exceed the limit, and a connection that
//! keeps others waiting because it hardly sends or reads is closed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::sync::lock;

/// What all connections together may hold beyond their allowances.
const LIMIT_BYTES: usize = 16 << 20;
/// All allowances together.
const ALLOWANCES_BYTES: usize = 16 << 20;
/// While others wait, a client that sends and reads nothing for this long is closed,
const GRACE: Duration = Duration::from_secs(3);
/// and one that is slower than this in the end.
const MIN_BYTES_PER_S: u64 = 256 << 10;

/// Somebody who was refused memory for a delivery and does not wait for it.
pub(crate) trait Refused: Send + Sync {
    /// There may be memory now. Called without any lock of the budget.
    fn retry(&self);
}

/// The budget of the process.
pub(crate) struct MemoryBudget {
    /// What a connection may have waiting for it without being counted.
    allowance: usize,
    used: AtomicUsize,
    /// Somebody is in `refused`.
    has_refused: AtomicBool,
    state: Mutex<State>,
    /// Something was given back.
    freed: Condvar,
}

#[derive(Default)]
struct State {
    /// Those who are told when there may be memory again.
    refused: Vec<Weak<dyn Refused>>,
    /// What is missing of the messages that wait, by the number of each.
    waiting: BTreeMap<u64, usize>,
    /// Who else waits.
    others: usize,
    /// The number of the last message that came.
    last: u64,
    /// A publisher is exceeding the limit.
    exceeding: bool,
    /// A delivery is exceeding the limit.
    delivery_exceeds: bool,
}

impl MemoryBudget {
    /// A budget that is shared by this many connections.
    pub(crate) fn new(connections: usize) -> Arc<Self> {
        Arc::new(Self {
            allowance: (ALLOWANCES_BYTES / connections.max(1)).clamp(4 << 10, 64 << 10),
            used: AtomicUsize::new(0),
            has_refused: AtomicBool::new(false),
            state: Mutex::default(),
            freed: Condvar::new(),
        })
    }

    pub(crate) fn allowance(&self) -> usize {
        self.allowance
    }

    /// Bytes that are counted now, and how many may be.
    pub(crate) fn usage(&self) -> (usize, usize) {
        (self.used.load(Ordering::Relaxed), LIMIT_BYTES)
    }

    /// Whether somebody waits for memory.
    pub(crate) fn is_short(&self) -> bool {
        self.has_refused.load(Ordering::Relaxed) || {
            let state = lock(&self.state);
            state.others > 0 || !state.waiting.is_empty()
        }
    }

    /// Takes as many bytes, if that does not exceed the limit.
    pub(crate) fn try_take(&self, bytes: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= LIMIT_BYTES);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// Lets a delivery exceed the limit, if no other does: a message may be as large as the whole budget. Whoever was
    /// allowed to owes a [`MemoryBudget::end_exceeding`].
    pub(crate) fn begin_exceeding(&self) -> bool {
        !std::mem::replace(&mut lock(&self.state).delivery_exceeds, true)
    }

    pub(crate) fn end_exceeding(&self) {
        lock(&self.state).delivery_exceeds = false;
    }

    /// Counts bytes that are there already.
    pub(crate) fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives bytes back and lets those go on who wait.
    pub(crate) fn release(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        let refused = {
            let mut state = lock(&self.state);
            if state.others > 0 {
                self.freed.notify_all();
            }
            self.has_refused.store(false, Ordering::Relaxed);
            std::mem::take(&mut state.refused)
        };
        for one in refused.iter().filter_map(Weak::upgrade) {
            one.retry();
        }
    }

    /// Remembers somebody who was refused, to be told when there is room again.
    pub(crate) fn remember(&self, refused: Weak<dyn Refused>) {
        let mut state = lock(&self.state);
        if !state.refused.iter().any(|known| known.ptr_eq(&refused)) {
            state.refused.push(refused);
        }
        self.has_refused.store(true, Ordering::Relaxed);
    }

    /// Waits until something is given back, at most for `timeout`.
    pub(crate) fn wait(&self, timeout: Duration) {
        let mut state = lock(&self.state);
        state.others += 1;
        let (mut state, _) = self.freed.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner);
        state.others -= 1;
    }
}

/// The memory that the unfinished message of a channel takes. Given back when this is dropped.
pub(crate) struct BodyMemory {
    budget: Arc<MemoryBudget>,
    number: u64,
    bytes: usize,
    exceeds: bool,
    /// It is among those that wait.
    waits: bool,
    /// How fast the message arrives.
    pub(crate) pace: Pace,
}

impl BodyMemory {
    pub(crate) fn new(budget: &Arc<MemoryBudget>) -> Self {
        let mut state = lock(&budget.state);
        state.last += 1;
        Self {
            budget: Arc::clone(budget),
            number: state.last,
            bytes: 0,
            exceeds: false,
            waits: false,
            pace: Pace::begin(),
        }
    }

    /// Takes `bytes` more of a message of which `missing` are missing. False if they have to be waited for.
    pub(crate) fn grow(&mut self, bytes: usize, missing: usize) -> bool {
        if !self.budget.try_take(bytes) {
            if !self.exceeds && !self.may_exceed(missing) {
                return false;
            }
            self.budget.take(bytes);
        }
        if self.waits {
            lock(&self.budget.state).waiting.remove(&self.number);
            self.waits = false;
        }
        self.bytes += bytes;
        true
    }

    /// Lets the message exceed the limit, if no other does and of those that wait it is the one that ends soonest.
    fn may_exceed(&mut self, missing: usize) -> bool {
        let mut state = lock(&self.budget.state);
        let soonest = state.waiting.values().min().is_none_or(|least| missing <= *least);
        self.exceeds = soonest && !state.exceeding;
        if self.exceeds {
            state.exceeding = true;
        } else {
            state.waiting.insert(self.number, missing);
            self.waits = true;
        }
        self.exceeds
    }
}

impl Drop for BodyMemory {
    fn drop(&mut self) {
        let mut state = lock(&self.budget.state);
        state.waiting.remove(&self.number);
        state.exceeding &= !self.exceeds;
        drop(state);
        self.budget.release(self.bytes);
    }
}

/// How fast a client sends or reads something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    begun: Instant,
    /// When the last part of it came or went.
    advanced: Instant,
    bytes: u64,
}

impl Pace {
    pub(crate) fn begin() -> Self {
        let now = Instant::now();
        Self { begun: now, advanced: now, bytes: 0 }
    }

    pub(crate) fn advance(&mut self, bytes: usize) {
        self.advanced = Instant::now();
        self.bytes += bytes as u64;
    }

    /// Whether it is too slow to keep others waiting.
    pub(crate) fn is_too_slow(&self) -> bool {
        let enough = GRACE + Duration::from_secs(self.bytes / MIN_BYTES_PER_S);
        self.advanced.elapsed() > GRACE || self.begun.elapsed() > enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_at_a_time_exceeds_the_limit() {
        let budget = MemoryBudget::new(10);
        let (mut first, mut second) = (BodyMemory::new(&budget), BodyMemory::new(&budget));
        assert!(first.grow(LIMIT_BYTES, 9000));
        assert!(second.grow(1000, 2000), "somebody has to be able to end");
        let mut third = BodyMemory::new(&budget);
        assert!(!third.grow(1, 5000) && !first.grow(1, 9000));
        assert!(budget.is_short());
        assert!(second.grow(1000, 1000));
        drop(second);
        // Only a thousand bytes more are used than the limit.
        budget.take(1000);
        assert!(!first.grow(1, 9000), "the other one ends sooner");
        assert!(third.grow(1, 5000) && !first.grow(1, 9000));
        drop(third);
        assert!(first.grow(1, 9000));
        drop(first);
        budget.release(1000);
        assert_eq!(budget.usage().0, 0);
        assert!(!budget.is_short());
    }

    #[test]
    fn allowances_shrink_with_the_number_of_connections() {
        assert_eq!(MemoryBudget::new(8).allowance(), 64 << 10);
        assert_eq!(MemoryBudget::new(2048).allowance(), 8 << 10);
    }
}
