//! The orders that this gateway has accepted recently: under which key, which order, and where it is. Bounded, and kept
//! in memory only.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

/// Most orders that are remembered.
const ORDERS_MAX: usize = 16_384;

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
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    orders: HashMap<u128, (u64, Place)>,
    /// The keys of `orders`, oldest first.
    keys: VecDeque<u128>,
}

impl RecentOrders {
    pub(crate) fn new() -> Self {
        Self { hashers: [RandomState::new(), RandomState::new()], state: Mutex::default() }
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
        let (key, body) = (self.key(message_id), self.digest(body));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.orders.get(&key) {
            Some((known, _)) if *known != body => return Err(KeyUsed),
            Some(_) => {}
            None => state.insert(key, body, Place::Underway),
        }
        Ok(())
    }

    /// Notes where an order is now.
    pub(crate) fn put(&self, message_id: &str, body: &[u8], place: Place) {
        let (key, body) = (self.key(message_id), self.digest(body));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.orders.get_mut(&key) {
            // A repetition that went another way changes nothing: the broker has the order.
            Some((_, known)) if *known == Place::Queue => {}
            Some((_, known)) => *known = place,
            None => state.insert(key, body, place),
        }
    }

    /// Notes that an order was not placed, so that its key can be used again.
    pub(crate) fn forget(&self, message_id: &str) {
        let key = self.key(message_id);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.orders.get(&key).is_some_and(|(_, place)| *place == Place::Underway) {
            state.orders.remove(&key);
            state.keys.retain(|known| *known != key);
        }
    }

    /// Where an order is, if it is remembered.
    pub(crate) fn place(&self, message_id: &str) -> Option<Place> {
        let key = self.key(message_id);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.orders.get(&key).map(|(_, place)| *place)
    }
}

impl State {
    fn insert(&mut self, key: u128, body: u64, place: Place) {
        if self.keys.len() >= ORDERS_MAX
            && let Some(oldest) = self.keys.pop_front()
        {
            self.orders.remove(&oldest);
        }
        self.keys.push_back(key);
        self.orders.insert(key, (body, place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_for_one_order_until_it_is_forgotten() {
        let recent = RecentOrders::new();
        assert_eq!(recent.begin("k", b"one"), Ok(()));
        assert_eq!((recent.begin("k", b"one"), recent.begin("k", b"two")), (Ok(()), Err(KeyUsed)));
        assert_eq!(recent.place("k"), Some(Place::Underway));
        recent.forget("k");
        assert_eq!((recent.place("k"), recent.begin("k", b"two")), (None, Ok(())));
        recent.put("k", b"two", Place::Outbox);
        recent.forget("k");
        assert_eq!(recent.place("k"), Some(Place::Outbox), "what was accepted is not forgotten");
        recent.put("k", b"two", Place::Queue);
        recent.put("k", b"two", Place::Outbox);
        assert_eq!(recent.place("k"), Some(Place::Queue));
    }

    #[test]
    fn the_oldest_is_forgotten_for_the_newest() {
        let recent = RecentOrders::new();
        for number in 0..=ORDERS_MAX {
            recent.begin(&number.to_string(), b"order").unwrap();
        }
        assert_eq!((recent.place("0"), recent.place("1")), (None, Some(Place::Underway)));
        let state = recent.state.lock().unwrap();
        assert_eq!((state.orders.len(), state.keys.len()), (ORDERS_MAX, ORDERS_MAX));
    }
}
