//! The log, the queues and recovery together, on a disk in memory that crashes, fails and rots: what was confirmed
//! and not acked is there afterwards, in order, and nothing else is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Environment, Shutdown};
use proptest::prelude::*;

use crate::batch::{Batch, Routes};
use crate::broker::Broker;
use crate::dispatch;
use crate::entry::payload_at;
use crate::error::Error;
use crate::housekeeper;
use crate::record::{self, Message};
use crate::settings::Settings;
use crate::storage::Storage;
use crate::testing::MemoryStorage;
use crate::topology::QueueAttributes;

/// Small enough that a few messages fill a segment.
const SEGMENT_BYTES: u32 = 1024;
const QUEUES: [&str; 2] = ["one", "two"];

/// A broker without its threads and sockets: every step is taken by the test.
struct Life {
    storage: Arc<MemoryStorage>,
    broker: Broker,
}

impl Life {
    fn begin(storage: MemoryStorage) -> Result<Self, Error> {
        let pairs = [("RABBITMQ_USER", "u"), ("RABBITMQ_PASSWORD", "p")];
        let mut settings = Settings::read(&Environment::from_pairs(pairs))?;
        settings.segment_bytes = SEGMENT_BYTES;
        let storage = Arc::new(storage);
        let shared: Arc<dyn Storage> = storage.clone();
        let broker = crate::assemble(settings, shared, Shutdown::new())?;
        Ok(Self { storage, broker })
    }

    fn declare(&self) {
        for name in QUEUES {
            let attributes = QueueAttributes { durable: true, auto_delete: false, owner: None };
            self.broker.topology.declare_queue(name, attributes, 1).unwrap();
        }
    }

    /// Publishes a message with a number to some queues.
    fn publish(&self, number: u64, queues: &[&str], persistent: bool, size: usize) {
        let routes: Vec<_> =
            queues.iter().map(|name| self.broker.topology.find_queue(name).unwrap()).collect();
        let routes: Routes = routes.into();
        let mut body = number.to_be_bytes().to_vec();
        body.resize(8 + size, b'.');
        let message =
            Message { exchange: b"", routing_key: queues[0].as_bytes(), properties: b"\0\0", body: &body };
        self.broker.persister.publish(&message, &routes, persistent, None);
    }

    /// Has the persister write what gathered. What was published before is confirmed if this succeeds.
    fn step(&self) -> Result<(), Error> {
        self.with_housekeeper(|| self.broker.persister.step(&mut Batch::default()).map(drop))
    }

    /// Does something while segments are prepared and merged beside it.
    fn with_housekeeper<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        housekeeper::keep(&self.broker)?;
        let (done, wal) = (AtomicBool::new(false), &self.broker.wal);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    if housekeeper::keep(&self.broker).is_err() {
                        wal.wake(true);
                        return;
                    }
                    wal.wait_for_change(Duration::from_millis(1));
                }
            });
            let outcome = work();
            done.store(true, Ordering::SeqCst);
            wal.wake(false);
            outcome
        })
    }

    /// Takes the message at the head; returns its position and number.
    fn get(&self, queue: &str) -> Option<(u64, u64, bool)> {
        let queue = self.broker.topology.find_queue(queue).unwrap();
        let (entry, page, start, _) = dispatch::take(&self.broker, &queue, false)?;
        let payload = payload_at(&page, start).unwrap();
        let body = record::read_message(payload).unwrap().body;
        let number = u64::from_be_bytes(*body.first_chunk().unwrap());
        Some((entry.position, number, entry.redelivered))
    }

    fn ack(&self, queue: &str, position: u64) {
        let queue = self.broker.topology.find_queue(queue).unwrap();
        let settled = queue.lock().settle(position).unwrap();
        self.broker.persister.settle(&[settled]);
    }

    fn requeue(&self, queue: &str, position: u64) {
        self.broker.topology.find_queue(queue).unwrap().lock().requeue(position);
    }

    /// Everything that waits, in order; it waits again afterwards.
    fn contents(&self, queue: &str) -> Vec<u64> {
        let taken: Vec<_> = std::iter::from_fn(|| self.get(queue)).collect();
        for (position, ..) in &taken {
            self.requeue(queue, *position);
        }
        taken.into_iter().map(|(_, number, _)| number).collect()
    }

    fn stop(&self) -> Result<(), Error> {
        self.broker.persister.stop();
        self.with_housekeeper(|| {
            while self.broker.persister.step(&mut Batch::default())? {}
            Ok(())
        })?;
        housekeeper::keep(&self.broker)?;
        let delivered: Vec<_> = self
            .broker
            .topology
            .queues()
            .iter()
            .map(|queue| (queue.id, queue.lock().delivered_through()))
            .collect();
        self.broker.persister.write_close(&delivered)
    }

    fn damage(&self) -> usize {
        self.storage.list().unwrap().iter().filter(|name| name.starts_with("damaged-")).count()
    }
}

/// One step of a random life.
#[derive(Clone, Debug)]
enum Step {
    Publish { queue: usize, both: bool, persistent: bool, size: usize },
    Write,
    Get(usize),
    Ack(usize, prop::sample::Index),
    Requeue(usize, prop::sample::Index),
    Purge(usize),
    Kill,
    PowerFailure(u64),
    Stop,
}

fn step() -> impl Strategy<Value = Step> {
    let queue = 0..QUEUES.len();
    prop_oneof![
        10 => (queue.clone(), any::<bool>(), prop::bool::weighted(0.8), 0usize..200)
            .prop_map(|(queue, both, persistent, size)| Step::Publish { queue, both, persistent, size }),
        8 => Just(Step::Write),
        8 => queue.clone().prop_map(Step::Get),
        7 => (queue.clone(), any::<prop::sample::Index>()).prop_map(|(queue, index)| Step::Ack(queue, index)),
        2 => (queue.clone(), any::<prop::sample::Index>()).prop_map(|(queue, index)| Step::Requeue(queue, index)),
        1 => queue.prop_map(Step::Purge),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::PowerFailure),
        1 => Just(Step::Stop),
    ]
}

/// What must and what may be in a queue.
#[derive(Default)]
struct Expected {
    /// Messages that wait, with whether they are persistent.
    waiting: BTreeMap<u64, bool>,
    /// Messages that are out: number to position.
    out: BTreeMap<u64, (u64, bool)>,
    /// Acked or purged, and the log may not know yet.
    settled: BTreeSet<u64>,
    /// Published, and not confirmed.
    unconfirmed: BTreeMap<u64, bool>,
}

/// A broker and the model of what it promised.
struct Model {
    life: Life,
    expected: [Expected; 2],
    next: u64,
}

impl Model {
    fn new() -> Self {
        let life = Life::begin(MemoryStorage::default()).unwrap();
        life.declare();
        Self { life, expected: Default::default(), next: 1 }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Publish { queue, both, persistent, size } => {
                let queues: Vec<usize> = if both { vec![0, 1] } else { vec![queue] };
                let names: Vec<_> = queues.iter().map(|queue| QUEUES[*queue]).collect();
                self.life.publish(self.next, &names, persistent, size);
                for queue in queues {
                    self.expected[queue].unconfirmed.insert(self.next, persistent);
                }
                self.next += 1;
                if self.next.is_multiple_of(3) {
                    // Batches stay small, so that one prepared segment is always enough.
                    self.write();
                }
            }
            Step::Write => self.write(),
            Step::Get(queue) => {
                let got = self.life.get(QUEUES[queue]);
                let expected = &mut self.expected[queue];
                let first = expected.waiting.pop_first();
                assert_eq!(
                    got.map(|(_, number, _)| number),
                    first.map(|(number, _)| number),
                    "the head of the queue"
                );
                if let (Some((position, number, _)), Some((_, persistent))) = (got, first) {
                    expected.out.insert(number, (position, persistent));
                }
            }
            Step::Ack(queue, index) => {
                let expected = &mut self.expected[queue];
                if !expected.out.is_empty() {
                    let number = *expected.out.keys().nth(index.index(expected.out.len())).unwrap();
                    let (position, _) = expected.out.remove(&number).unwrap();
                    self.life.ack(QUEUES[queue], position);
                    expected.settled.insert(number);
                }
            }
            Step::Requeue(queue, index) => {
                let expected = &mut self.expected[queue];
                if !expected.out.is_empty() {
                    let number = *expected.out.keys().nth(index.index(expected.out.len())).unwrap();
                    let (position, persistent) = expected.out.remove(&number).unwrap();
                    self.life.requeue(QUEUES[queue], position);
                    expected.waiting.insert(number, persistent);
                }
            }
            Step::Purge(queue) => {
                let shared = self.life.broker.topology.find_queue(QUEUES[queue]).unwrap();
                let settled = shared.lock().purge();
                self.life.broker.persister.settle(&settled);
                let expected = &mut self.expected[queue];
                expected.settled.extend(std::mem::take(&mut expected.waiting).into_keys());
            }
            Step::Kill => self.restart(self.life.storage.after_kill(), false),
            Step::PowerFailure(mut seed) => {
                let storage = self.life.storage.after_power_failure(|| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    seed >> 63 == 1
                });
                self.restart(storage, false);
            }
            Step::Stop => {
                self.write();
                self.life.stop().unwrap();
                self.restart(self.life.storage.after_power_failure(|| false), true);
            }
        }
    }

    fn write(&mut self) {
        let unwritten = self.expected.iter().any(|expected| !expected.unconfirmed.is_empty());
        if unwritten {
            self.life.step().unwrap();
        } else {
            housekeeper::keep(&self.life.broker).unwrap();
        }
        for expected in &mut self.expected {
            expected.waiting.append(&mut expected.unconfirmed);
        }
    }

    /// Starts anew on what a crash left, and checks every promise.
    fn restart(&mut self, storage: MemoryStorage, clean: bool) {
        self.life = Life::begin(storage).unwrap();
        for (name, expected) in QUEUES.iter().zip(&mut self.expected) {
            let found = self.life.contents(name);
            assert!(found.is_sorted_by(|a, b| a < b), "order is kept, nothing is repeated: {found:?}");
            let found: BTreeSet<u64> = found.into_iter().collect();
            let out = expected.out.iter().map(|(number, (_, persistent))| (*number, *persistent));
            let promised: BTreeMap<u64, bool> =
                expected.waiting.iter().map(|(n, p)| (*n, *p)).chain(out).collect();
            for (number, persistent) in &promised {
                assert_eq!(
                    found.contains(number),
                    *persistent,
                    "{name}: message {number} of {promised:?}, found {found:?}"
                );
            }
            for number in found.iter().filter(|number| !promised.contains_key(number)) {
                let forgotten = expected.settled.contains(number) && !clean;
                let unconfirmed = expected.unconfirmed.get(number) == Some(&true);
                assert!(forgotten || unconfirmed, "{name}: nobody owed message {number}");
            }
            *expected = Expected {
                waiting: found.into_iter().map(|number| (number, true)).collect(),
                ..Expected::default()
            };
        }
        assert_eq!(self.life.damage(), 0, "a crash is no damage");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_life_loses_what_it_promised(steps in prop::collection::vec(step(), 1..150)) {
        let mut model = Model::new();
        for step in steps {
            model.take(&step);
        }
        model.take(&Step::Kill);
        model.take(&Step::Stop);
    }
}

/// A small run: some messages acked, the rest waiting; segments roll. Returns the storage as kill -9 leaves it, and
/// what was acked.
fn small_run() -> (MemoryStorage, BTreeSet<u64>) {
    let life = Life::begin(MemoryStorage::default()).unwrap();
    life.declare();
    let mut acked = BTreeSet::new();
    for number in 1..=24 {
        life.publish(number, &["one"], true, 20);
        if number % 2 == 0 {
            life.step().unwrap();
        }
        if number % 4 == 0 {
            let (position, number, _) = life.get("one").unwrap();
            life.ack("one", position);
            acked.insert(number);
        }
    }
    life.publish(25, &["one"], true, 20);
    life.step().unwrap();
    (life.storage.after_kill(), acked)
}

/// The log files, oldest first.
fn logs(storage: &MemoryStorage) -> Vec<String> {
    let mut names = storage.list().unwrap();
    names.retain(|name| crate::wal::file_number(name).is_some());
    names.sort();
    names
}

/// Recovers, checks that a second recovery finds the same, then appends and recovers once more.
fn recover_and_go_on(storage: MemoryStorage) -> Vec<u64> {
    let life = Life::begin(storage).unwrap();
    let found = life.contents("one");
    assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
    let again = Life::begin(life.storage.after_power_failure(|| false)).unwrap();
    assert_eq!(again.contents("one"), found, "recovering twice is recovering once");
    again.publish(1_000, &["one"], true, 20);
    again.step().unwrap();
    let last = Life::begin(again.storage.after_power_failure(|| false)).unwrap();
    let mut expected = found.clone();
    expected.push(1_000);
    assert_eq!(last.contents("one"), expected, "what was appended after recovery is there");
    found
}

#[test]
fn a_log_cut_at_any_byte_keeps_everything_before_the_cut() {
    let (whole, acked) = small_run();
    let names = logs(&whole);
    assert!(names.len() >= 3, "{names:?}");
    let last = names.last().unwrap();
    let bytes = whole.bytes(last);
    let number = crate::wal::file_number(last).unwrap();
    let end = record::iterate(&bytes, number).last().map_or(0, |(at, found)| at + found.total);
    for cut in (0..=end).rev() {
        let storage = whole.after_kill();
        storage.set_bytes(last, bytes[..cut].to_vec());
        let found = recover_and_go_on(storage);
        // Messages whose record lies before the cut, and those of older segments.
        let before: BTreeSet<u64> = record::iterate(&bytes[..cut], number)
            .filter(|(_, found)| found.kind == record::Kind::Message)
            .map(|(_, found)| {
                let body = record::read_message(found.payload).unwrap().body;
                u64::from_be_bytes(*body.first_chunk().unwrap())
            })
            .collect();
        let missing: Vec<u64> =
            (1..=25).filter(|number| !found.contains(number) && !acked.contains(number)).collect();
        assert!(cut > 0 || !missing.is_empty(), "without the last segment something must be missing");
        let survived = missing.iter().all(|number| !before.contains(number));
        assert!(survived, "cut at {cut}: {missing:?} are lost, {before:?} were before");
    }
}

#[test]
fn a_log_with_any_byte_flipped_loses_at_most_that_batch_and_says_so() {
    let (whole, acked) = small_run();
    let names = logs(&whole);
    for name in &names {
        let bytes = whole.bytes(name);
        let is_last = name == names.last().unwrap();
        let end = record::iterate(&bytes, crate::wal::file_number(name).unwrap())
            .last()
            .map_or(0, |(at, found)| at + found.total);
        for at in 0..end {
            let storage = whole.after_kill();
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            storage.set_bytes(name, flipped);
            let life = Life::begin(storage.after_kill()).unwrap();
            let found = life.contents("one");
            let lost = (1..=25).filter(|number| !found.contains(number) && !acked.contains(number)).count();
            // A batch has at most two messages, and only the last of the log can pass for a torn write.
            assert!(lost <= 2, "{name} at {at}: {lost} are lost, found {found:?}");
            assert!(lost <= 1 || is_last, "{name} at {at}");
            assert!(life.damage() == 1 || is_last, "{name} at {at}: nothing was said");
            drop(life);
            recover_and_go_on(storage);
        }
    }
}

#[test]
fn damage_spares_other_queues() {
    let life = Life::begin(MemoryStorage::default()).unwrap();
    life.declare();
    for number in 1..=20 {
        life.publish(number, &[QUEUES[usize::from(number > 10)]], true, 20);
        life.step().unwrap();
    }
    let storage = life.storage.after_kill();
    let name = logs(&storage)[0].clone();
    let mut bytes = storage.bytes(&name);
    bytes[100..300].fill(0xaa);
    storage.set_bytes(&name, bytes);
    let life = Life::begin(storage).unwrap();
    assert_eq!(life.contents("two"), (11..=20).collect::<Vec<_>>());
    let one = life.contents("one");
    assert!(!one.is_empty() && one.len() < 10, "{one:?}");
    assert_eq!(life.damage(), 1);
}

#[test]
fn after_a_failed_write_or_sync_nothing_is_confirmed_and_nothing_confirmed_is_lost() {
    let mut failures = HashMap::new();
    for nth in 1..120 {
        let life = Life::begin(MemoryStorage::default()).unwrap();
        life.declare();
        life.storage.fuse.arm(nth, io::ErrorKind::Other);
        let mut confirmed = Vec::new();
        for number in 1..=40 {
            life.publish(number, &["one"], true, 30);
            match life.step() {
                Ok(()) => confirmed.push(number),
                Err(error) => {
                    let text = error.to_string();
                    *failures.entry(text.split(':').nth(1).unwrap_or("").to_owned()).or_insert(0) += 1;
                    break;
                }
            }
        }
        for lucky in [false, true] {
            let found = Life::begin(life.storage.after_power_failure(|| lucky)).unwrap().contents("one");
            assert!(
                found.starts_with(&confirmed),
                "call {nth}: {confirmed:?} were confirmed, {found:?} are there"
            );
            assert!(found.len() <= confirmed.len() + 1);
        }
    }
    assert!(failures.len() >= 3, "different calls were made to fail: {failures:?}");
}

#[test]
fn a_full_disk_raises_the_alarm_and_loses_nothing() {
    let life = Life::begin(MemoryStorage::default()).unwrap();
    life.declare();
    for number in 1..=5 {
        life.publish(number, &["one"], true, 20);
        life.step().unwrap();
    }
    assert!(!life.broker.alarm.is_raised());
    *life.storage.free.lock().unwrap() = Some(0);
    housekeeper::keep(&life.broker).unwrap();
    assert!(life.broker.alarm.is_raised(), "too little is free");
    *life.storage.free.lock().unwrap() = None;
    housekeeper::keep(&life.broker).unwrap();
    assert!(!life.broker.alarm.is_raised(), "it resumes by itself");
    // Now the disk is really full: nothing can be created. The prepared segment still takes acks.
    life.storage.fuse.arm(1, io::ErrorKind::StorageFull);
    let (position, ..) = life.get("one").unwrap();
    life.ack("one", position);
    assert!(housekeeper::keep(&life.broker).is_ok());
    life.storage.fuse.disarm();
    life.publish(6, &["one"], true, 20);
    life.step().unwrap();
    assert_eq!(Life::begin(life.storage.after_kill()).unwrap().contents("one"), [2, 3, 4, 5, 6]);
}

#[test]
fn one_old_message_does_not_keep_the_log() {
    let life = Life::begin(MemoryStorage::default()).unwrap();
    life.declare();
    life.publish(1, &["one"], true, 20);
    for number in 2..=500 {
        life.publish(number, &["two"], true, 20);
        life.step().unwrap();
        let (position, ..) = life.get("two").unwrap();
        life.ack("two", position);
    }
    // Another one that is out with a consumer.
    life.publish(501, &["two"], true, 20);
    life.step().unwrap();
    let (out, ..) = life.get("two").unwrap();
    for number in 502..=900 {
        life.publish(number, &["one"], true, 20);
        life.step().unwrap();
        let (position, ..) = life.get("one").unwrap();
        life.ack("one", position);
        if number == 700 {
            // The next get is of number 1's successor; keep 1 waiting by giving it back first.
            assert!(life.contents("one").len() < 400);
        }
    }
    life.step_acks();
    housekeeper::keep(&life.broker).unwrap();
    let files = logs(&life.storage);
    assert!(files.len() <= 4, "{files:?}");
    life.requeue("two", out);
    assert_eq!(life.contents("two"), [501]);
    let found = Life::begin(life.storage.after_kill()).unwrap();
    assert_eq!(found.contents("two"), [501]);
}

impl Life {
    /// Writes acks for which no publish waits.
    fn step_acks(&self) {
        self.publish(9_999, &["one"], false, 0);
        self.step().unwrap();
    }
}
