//! The orders that this gateway has accepted recently: under which key, which order, where it is, and since when. Bounded,
//! and kept in memory only.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::billing_activity::BillingActivity;

/// Most orders that are remembered. A hash table in which entries come and go doubles when it is more than half full; this
/// is half of one with 32,768 places (7 of 8 of which may be taken). Each place takes 37 bytes, and each key 8 more:
/// 1.3 MiB in all.
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

/// What is known of an order. A time is `None` if the order did not get there, or if nobody knows when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecentOrder {
    pub(crate) place: Place,
    /// When this gateway was asked to place it, for the first time.
    pub(crate) placed_at: Option<SystemTime>,
    /// When it was stored in the outbox.
    pub(crate) kept_at: Option<SystemTime>,
    /// When the broker confirmed it.
    pub(crate) confirmed_at: Option<SystemTime>,
    /// Another order was refused under its key.
    pub(crate) is_contested: bool,
    /// It is in the queue for sure: billing is not known to have done anything since the order was first heard of.
    pub(crate) must_be_waiting: bool,
}

/// Remembers the latest orders.
pub(crate) struct RecentOrders {
    /// Keyed with random numbers, so that nobody can find two keys or orders that are taken for one another.
    hashers: [RandomState; 2],
    billing_activity: Arc<BillingActivity>,
    state: Mutex<State>,
}

/// Stands for a message id: 64 bits, so that no two that are remembered at a time are alike by chance. As bytes, since a
/// number would have to be aligned and take more room in the table.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key([u8; 8]);

/// What is remembered of an order.
struct Entry {
    /// Stands for the order. If another one under the same key is taken for it by chance, billing still notices.
    order: u32,
    /// [`BillingActivity::progress`] when it was first heard of.
    progress: u32,
    placed: Moment,
    kept: Moment,
    confirmed: Moment,
    place: Place,
    /// It was placed more than once.
    is_repeated: bool,
    /// Another order was refused under its key.
    is_contested: bool,
}

impl Entry {
    fn new(order: u32, progress: u32) -> Self {
        let unknown = Moment::default();
        Self {
            order,
            progress,
            placed: unknown,
            kept: unknown,
            confirmed: unknown,
            place: Place::Underway,
            is_repeated: false,
            is_contested: false,
        }
    }

    /// Notes when it was kept, unless that is known. The outbox counts in whole seconds, but it came after the request.
    fn keep(&mut self, at: Moment) {
        self.kept = self.kept.or(if at.ms() < self.placed.ms() { self.placed } else { at });
    }
}

/// A time in milliseconds since 2020, in five bytes: enough until 2054. Zero if it is not known.
#[derive(Clone, Copy, Default)]
struct Moment([u8; 5]);

impl Moment {
    /// The beginning of 2020, counted from that of 1970.
    const BEGIN: Duration = Duration::from_secs(1_577_836_800);

    fn new(at: SystemTime) -> Self {
        let since = at.duration_since(UNIX_EPOCH + Self::BEGIN).unwrap_or_default();
        let ms = u64::try_from(since.as_millis()).ok().filter(|ms| *ms < 1 << 40);
        let mut moment = Self::default();
        moment.0.copy_from_slice(&ms.unwrap_or_default().to_le_bytes()[..5]);
        moment
    }

    fn now() -> Self {
        Self::new(SystemTime::now())
    }

    fn ms(self) -> u64 {
        let mut bytes = [0; 8];
        bytes[..5].copy_from_slice(&self.0);
        u64::from_le_bytes(bytes)
    }

    fn or(self, other: Self) -> Self {
        if self.ms() > 0 { self } else { other }
    }

    fn time(self) -> Option<SystemTime> {
        (self.ms() > 0).then(|| UNIX_EPOCH + Self::BEGIN + Duration::from_millis(self.ms()))
    }
}

#[derive(Default)]
struct State {
    orders: HashMap<Key, Entry>,
    /// The keys of `orders`, oldest first.
    keys: VecDeque<Key>,
}

impl RecentOrders {
    pub(crate) fn new(billing_activity: Arc<BillingActivity>) -> Self {
        let hashers = [RandomState::new(), RandomState::new()];
        Self { hashers, billing_activity, state: Mutex::default() }
    }

    fn key(&self, message_id: &str) -> Key {
        Key(self.hashers[0].hash_one(message_id).to_ne_bytes())
    }

    /// What stands for an order, which is only compared with another one under the same key.
    fn digest(&self, body: &[u8]) -> u32 {
        (self.hashers[1].hash_one(body) >> 32) as u32
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
            None => state.insert(key, Entry { placed: Moment::now(), ..Entry::new(order, progress) }),
        }
        Ok(())
    }

    /// Notes that an order was stored in the outbox at this time.
    pub(crate) fn note_kept(&self, message_id: &str, body: &[u8], at: SystemTime) {
        self.note(message_id, body, |known| {
            known.place = Place::Outbox;
            known.keep(Moment::new(at));
        });
    }

    /// Notes that the broker has confirmed an order, which was stored in the outbox before if there is a time for that.
    pub(crate) fn note_confirmed(&self, message_id: &str, body: &[u8], kept_at: Option<SystemTime>) {
        self.note(message_id, body, |known| {
            known.place = Place::Queue;
            if let Some(at) = kept_at {
                known.keep(Moment::new(at));
            }
            known.confirmed = Moment::now();
        });
    }

    fn note(&self, message_id: &str, body: &[u8], change: impl FnOnce(&mut Entry)) {
        let (key, order) = (self.key(message_id), self.digest(body));
        let progress = self.billing_activity.progress();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.orders.get_mut(&key) {
            // A repetition that went another way changes nothing: the broker has the order.
            Some(known) if known.place == Place::Queue => {}
            Some(known) => change(known),
            None => {
                let mut entry = Entry::new(order, progress);
                change(&mut entry);
                state.insert(key, entry);
            }
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

    /// What is known of an order, if it is remembered.
    pub(crate) fn find(&self, message_id: &str) -> Option<RecentOrder> {
        let key = self.key(message_id);
        let progress = self.billing_activity.progress();
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.orders.get(&key).map(|known| RecentOrder {
            place: known.place,
            placed_at: known.placed.time(),
            kept_at: known.kept.time(),
            confirmed_at: known.confirmed.time(),
            is_contested: known.is_contested,
            must_be_waiting: known.place == Place::Queue && known.progress == progress,
        })
    }
}

impl State {
    fn insert(&mut self, key: Key, entry: Entry) {
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

    fn place(recent: &RecentOrders, key: &str) -> Option<Place> {
        recent.find(key).map(|known| known.place)
    }

    fn must_be_waiting(recent: &RecentOrders, key: &str) -> bool {
        recent.find(key).is_some_and(|known| known.must_be_waiting)
    }

    fn at_s(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_key_stands_for_one_order_until_it_is_forgotten() {
        let recent = RecentOrders::new(Arc::default());
        let is_contested = || recent.find("k").is_some_and(|known| known.is_contested);
        assert_eq!(recent.begin("k", b"one"), Ok(()));
        assert!(!is_contested());
        assert_eq!(recent.begin("k", b"two"), Err(KeyUsed));
        assert!(is_contested());
        assert_eq!(place(&recent, "k"), Some(Place::Underway));
        assert!(recent.forget("k"));
        assert_eq!((place(&recent, "k"), recent.begin("k", b"two")), (None, Ok(())));
        recent.note_kept("k", b"two", SystemTime::now());
        assert!(!recent.forget("k"));
        assert_eq!(place(&recent, "k"), Some(Place::Outbox), "what was accepted is not forgotten");
        recent.note_confirmed("k", b"two", None);
        recent.note_kept("k", b"two", SystemTime::now());
        assert_eq!(place(&recent, "k"), Some(Place::Queue));
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
        assert!(!must_be_waiting(&recent, "k"), "it is not in the queue");
        recent.note_confirmed("k", b"one", None);
        assert!(must_be_waiting(&recent, "k") && !must_be_waiting(&recent, "other"));
        billing_activity.note_gap();
        assert!(!must_be_waiting(&recent, "k"));
        // It may have been settled while its confirm was on the way.
        recent.begin("l", b"one").unwrap();
        billing_activity.note_gap();
        recent.note_confirmed("l", b"one", None);
        assert!(!must_be_waiting(&recent, "l"));
    }

    #[test]
    fn the_time_of_each_step_is_that_of_the_first_time() {
        let recent = RecentOrders::new(Arc::default());
        let times = |key: &str| {
            let known = recent.find(key).unwrap();
            (known.placed_at, known.kept_at, known.confirmed_at)
        };
        recent.begin("k", b"one").unwrap();
        let (placed, kept, confirmed) = times("k");
        let placed = placed.unwrap();
        assert!(placed.elapsed().unwrap() < Duration::from_secs(60));
        assert_eq!((kept, confirmed), (None, None));
        recent.begin("k", b"one").unwrap();
        let later = placed + Duration::from_millis(1_234);
        recent.note_kept("k", b"one", later);
        recent.note_kept("k", b"one", later + Duration::from_secs(1));
        assert_eq!(times("k"), (Some(placed), Some(later), None));
        recent.note_confirmed("k", b"one", Some(placed));
        let confirmed = times("k").2.unwrap();
        assert!(confirmed >= placed);
        recent.note_confirmed("k", b"one", None);
        assert_eq!(times("k"), (Some(placed), Some(later), Some(confirmed)));
        // One of before the last start: only the outbox knows something, in whole seconds.
        recent.note_kept("old", b"one", at_s(1_800_000_000));
        assert_eq!(times("old"), (None, Some(at_s(1_800_000_000)), None));
        // The outbox may pass an order on before its request goes on.
        recent.begin("soon", b"one").unwrap();
        recent.note_confirmed("soon", b"one", Some(at_s(1_700_000_000)));
        assert_eq!(times("soon").0, times("soon").1);
    }

    #[test]
    fn a_moment_is_exact_to_the_millisecond_or_unknown() {
        let exact = at_s(1_900_000_000) + Duration::from_millis(7);
        assert_eq!(Moment::new(exact).time(), Some(exact));
        for unknown in [at_s(0), at_s(1_577_836_800), at_s(1_577_836_800 + (1 << 40) / 1000 + 1)] {
            assert_eq!(Moment::new(unknown).time(), None);
        }
    }

    #[test]
    fn the_oldest_is_forgotten_for_the_newest() {
        let recent = RecentOrders::new(Arc::default());
        for number in 0..=ORDERS_MAX {
            recent.begin(&number.to_string(), b"order").unwrap();
        }
        assert_eq!((place(&recent, "0"), place(&recent, "1")), (None, Some(Place::Underway)));
        let state = recent.state.lock().unwrap();
        assert_eq!((state.orders.len(), state.keys.len()), (ORDERS_MAX, ORDERS_MAX));
        // The table has one more byte for each place.
        let table = 32_768 * (size_of::<(Key, Entry)>() + 1);
        let bytes = table + state.keys.capacity() * size_of::<Key>();
        assert!(bytes <= 1_343_488, "{bytes} bytes");
    }
}
