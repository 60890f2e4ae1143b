//! The orders that this gateway has accepted recently: under which key, which order, and where it is. Bounded, and kept
//! in memory only.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use crate::billing_activity::BillingActivity;

/// Most orders that are remembered. A hash table in which entries come and go doubles when it is more than half full; this
/// is half of one with 32,768 places (7 of 8 of which may be taken), about 1 MiB.
const ORDERS_MAX: usize = 14_336;

/// Where an order is, as far as this gateway knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is on its way to the broker, or nobody knows whether it got there.
    Underway,
    /// It waits in the outbox.
    Outbox,
    /// The broker has confirmed it.
    Queue,
}

/// Another order was placed under the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyUsed;

/// Remembers the latest orders.
pub(crate) struct RecentOrders {
    /// Keyed with random numbers, so that nobody can find two keys or orders that are taken for one another.
    hashers: [RandomState; 2],
    billing_activity: Arc<BillingActivity>,
    state: Mutex<State>,
}

/// What is remembered of an order.
struct Entry {
    order: u64,
    /// [`BillingActivity::progress`] when it was first heard of.
    progress: u32,
    place: Place,
    /// It was placed more than once.
    is_repeated: bool,
    /// Another order was refused under its key.
    is_contested: bool,
}

impl Entry {
    fn new(order: u64, progress: u32, place: Place) -> Self {
        Self { order, progress, place, is_repeated: false, is_contested: false }
    }
}

#[derive(Default)]
struct State {
    orders: HashMap<u128, Entry>,
    /// The keys of `orders`, oldest first.
    keys: VecDeque<u128>,
}

impl RecentOrders {
    pub(crate) fn new(billing_activity: Arc<BillingActivity>) -> Self {
        let hashers = [RandomState::new(), RandomState::new()];
        Self { hashers, billing_activity, state: Mutex::default() }
    }

    /// What stands for a key: large enough that no two are alike by chance.
    fn key(&self, message_id: &str) -> u128 {
        let [high, low] = self.hashers.each_ref().map(|hasher| u128::from(hasher.hash_one(message_id)));
        high << 64 | low
    }

    /// What stands for an order, which is only compared with another one under the same key.
    fn digest(&self, body: &[u8]) -> u64 {
        self.hashers[0].hash_one(body)
    }

    /// Notes that an order is being placed. Fails if another one is known under this key.
    pub(crate) fn begin(&self, message_id: &str, body: &[u8]) -> Result<(), KeyUsed> {
        let (key, order) = (self.key(message_id), self.digest(body));
        let progress = self.billing_activity.progress();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.orders.get_mut(&key) {
            Some(known) if known.order != order => {
                known.is_contested = true;
                return Err(KeyUsed);
            }
            Some(known) => known.is_repeated = true,
            None => state.insert(key, Entry::new(order, progress, Place::Underway)),
        }
        Ok(())
    }

    /// Notes where an order is now.
    pub(crate) fn put(&self, message_id: &str, body: &[u8], place: Place) {
        let (key, order) = (self.key(message_id), self.digest(body));
        let progress = self.billing_activity.progress();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.orders.get_mut(&key) {
            // A repetition that went another way changes nothing: the broker has the order.
            Some(known) if known.place == Place::Queue => {}
            Some(known) => known.place = place,
            None => state.insert(key, Entry::new(order, progress, place)),
        }
    }

    /// Notes that an attempt to place an order has failed for sure. If there was no other attempt, its key can be used
    /// again; returns whether that is so.
    pub(crate) fn forget(&self, message_id: &str) -> bool {
        let key = self.key(message_id);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let was_only_attempt =
            state.orders.get(&key).is_some_and(|known| known.place == Place::Underway && !known.is_repeated);
        if was_only_attempt {
            state.orders.remove(&key);
            state.keys.retain(|known| *known != key);
        }
        was_only_attempt
    }

    /// Where an order is, if it is remembered.
    pub(crate) fn place(&self, message_id: &str) -> Option<Place> {
        let key = self.key(message_id);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.orders.get(&key).map(|known| known.place)
    }

    /// Whether another order was refused under the key of this one.
    pub(crate) fn is_contested(&self, message_id: &str) -> bool {
        let key = self.key(message_id);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.orders.get(&key).is_some_and(|known| known.is_contested)
    }

    /// Whether an order in the queue is still there for sure: billing is not known to have done anything since the order
    /// was first heard of.
    pub(crate) fn must_be_waiting(&self, message_id: &str) -> bool {
        let key = self.key(message_id);
        let progress = self.billing_activity.progress();
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = state.orders.get(&key);
        known.is_some_and(|known| known.place == Place::Queue && known.progress == progress)
    }
}

impl State {
    fn insert(&mut self, key: u128, entry: Entry) {
        if self.keys.len() >= ORDERS_MAX
            && let Some(oldest) = self.keys.pop_front()
        {
            self.orders.remove(&oldest);
        }
        self.keys.push_back(key);
        self.orders.insert(key, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_for_one_order_until_it_is_forgotten() {
        let recent = RecentOrders::new(Arc::default());
        assert_eq!(recent.begin("k", b"one"), Ok(()));
        assert!(!recent.is_contested("k"));
        assert_eq!(recent.begin("k", b"two"), Err(KeyUsed));
        assert!(recent.is_contested("k"));
        assert_eq!(recent.place("k"), Some(Place::Underway));
        assert!(recent.forget("k"));
        assert_eq!((recent.place("k"), recent.begin("k", b"two")), (None, Ok(())));
        recent.put("k", b"two", Place::Outbox);
        assert!(!recent.forget("k"));
        assert_eq!(recent.place("k"), Some(Place::Outbox), "what was accepted is not forgotten");
        recent.put("k", b"two", Place::Queue);
        recent.put("k", b"two", Place::Outbox);
        assert_eq!(recent.place("k"), Some(Place::Queue));
    }

    #[test]
    fn an_order_that_was_tried_twice_is_not_forgotten() {
        let recent = RecentOrders::new(Arc::default());
        assert_eq!((recent.begin("k", b"one"), recent.begin("k", b"one")), (Ok(()), Ok(())));
        // The other attempt may have stored it, or may do so now.
        assert!(!recent.forget("k") && !recent.forget("k"));
        assert_eq!(recent.begin("k", b"two"), Err(KeyUsed));
        assert!(!recent.forget("never tried"));
    }

    #[test]
    fn an_order_waits_for_sure_only_until_billing_may_have_settled_it() {
        let billing_activity = Arc::new(BillingActivity::default());
        let recent = RecentOrders::new(billing_activity.clone());
        recent.begin("k", b"one").unwrap();
        assert!(!recent.must_be_waiting("k"), "it is not in the queue");
        recent.put("k", b"one", Place::Queue);
        assert!(recent.must_be_waiting("k") && !recent.must_be_waiting("other"));
        billing_activity.note_gap();
        assert!(!recent.must_be_waiting("k"));
        // It may have been settled while its confirm was on the way.
        recent.begin("l", b"one").unwrap();
        billing_activity.note_gap();
        recent.put("l", b"one", Place::Queue);
        assert!(!recent.must_be_waiting("l"));
    }

    #[test]
    fn the_oldest_is_forgotten_for_the_newest() {
        let recent = RecentOrders::new(Arc::default());
        for number in 0..=ORDERS_MAX {
            recent.begin(&number.to_string(), b"order").unwrap();
        }
        assert_eq!((recent.place("0"), recent.place("1")), (None, Some(Place::Underway)));
        let state = recent.state.lock().unwrap();
        assert_eq!((state.orders.len(), state.keys.len()), (ORDERS_MAX, ORDERS_MAX));
    }
}
