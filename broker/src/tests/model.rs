//! Random lives of a broker, with crashes and restarts, against a model of what it promised: what was confirmed and
//! not acked is there afterwards, in order, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::life::{DEAD, Life, QUEUES};
use super::memory_storage::MemoryStorage;
use crate::log::housekeeper;

/// One step of a random life.
#[derive(Clone, Debug)]
enum Step {
    Publish { queue: usize, both: bool, persistent: bool, size: usize },
    Write,
    Get(usize),
    Ack(usize, prop::sample::Index),
    Requeue(usize, prop::sample::Index),
    Reject(usize, prop::sample::Index),
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
        3 => (queue.clone(), any::<prop::sample::Index>()).prop_map(|(queue, index)| Step::Reject(queue, index)),
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
    /// Rejected, and the dead letter is not written.
    dying: BTreeMap<u64, bool>,
}

/// A broker and the model of what it promised.
struct Model {
    life: Life,
    expected: [Expected; 2],
    /// Dead letters that are written, with whether they are persistent.
    letters: BTreeMap<u64, bool>,
    next: u64,
}

impl Model {
    fn new() -> Self {
        let life = Life::begin(MemoryStorage::default()).unwrap();
        life.declare();
        Self { life, expected: Default::default(), letters: BTreeMap::new(), next: 1 }
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
            Step::Reject(queue, index) => {
                let expected = &mut self.expected[queue];
                if !expected.out.is_empty() {
                    let number = *expected.out.keys().nth(index.index(expected.out.len())).unwrap();
                    let (position, persistent) = expected.out.remove(&number).unwrap();
                    self.life.reject(QUEUES[queue], position);
                    expected.dying.insert(number, persistent);
                    if expected.dying.len() > 2 {
                        self.write();
                    }
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
        let is_unwritten =
            |expected: &Expected| !expected.unconfirmed.is_empty() || !expected.dying.is_empty();
        let unwritten = self.expected.iter().any(is_unwritten);
        if unwritten {
            self.life.step().unwrap();
        } else {
            housekeeper::keep(&*self.life.broker).unwrap();
        }
        for expected in &mut self.expected {
            expected.waiting.append(&mut expected.unconfirmed);
            expected.settled.extend(expected.dying.keys());
            self.letters.append(&mut expected.dying);
        }
    }

    /// Starts anew on what a crash left, and checks every promise.
    fn restart(&mut self, storage: MemoryStorage, clean: bool) {
        self.life = Life::begin(storage).unwrap();
        let letters: BTreeSet<u64> = self.life.contents(DEAD).into_iter().collect();
        for (number, persistent) in &self.letters {
            assert_eq!(letters.contains(number), *persistent, "dead letter {number}, found {letters:?}");
        }
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
            for (number, persistent) in &expected.dying {
                let is_there = found.contains(number) || letters.contains(number);
                assert!(is_there || !persistent, "{name}: message {number} died and is nowhere");
            }
            for number in found.iter().filter(|number| !promised.contains_key(number)) {
                let forgotten = expected.settled.contains(number) && !clean;
                let unconfirmed = expected.unconfirmed.get(number) == Some(&true);
                let dying = expected.dying.contains_key(number);
                assert!(forgotten || unconfirmed || dying, "{name}: nobody owed message {number}");
            }
            *expected = Expected {
                waiting: found.into_iter().map(|number| (number, true)).collect(),
                ..Expected::default()
            };
        }
        self.letters = letters.into_iter().map(|number| (number, true)).collect();
        assert_eq!(self.life.damage(), 0, "a crash is no damage: {:?}", self.life.findings);
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
