//! Data folders that were cut, garbled, mixed up or robbed of files: whatever is not in the damaged bytes is delivered,
//! or the broker refuses to start, changes nothing, and delivers everything once the folder is restored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use super::life::{Life, QUEUES, logs};
use super::memory_storage::MemoryStorage;
use crate::log::definitions;
use crate::log::housekeeper;
use crate::log::prepare;
use crate::log::record::{self, MAGIC, Origin, RecordKind};
use crate::log::recovery;
use crate::log::segment_table::{NEXT, file_name, file_number};
use crate::log::storage::Storage;
use crate::log::survey::Severity;

/// A folder as kill -9 leaves it, and what is in its queues.
pub(super) struct Folder {
    pub(super) storage: MemoryStorage,
    /// Waiting messages of both queues.
    pub(super) contents: BTreeSet<u64>,
    /// Messages that were acked: they may come back if the acks are damaged.
    pub(super) acked: BTreeSet<u64>,
}

/// Several segments, two queues, acks, a merge, and three lives: one stopped in good order, one killed.
pub(super) fn folder() -> Folder {
    let mut life = Life::begin(MemoryStorage::default()).unwrap();
    life.declare();
    let mut acked = BTreeSet::new();
    for number in 1..=72 {
        let queue = QUEUES[usize::from(number % 3 == 0)];
        life.publish(number, &[queue], true, 20);
        if number % 2 == 0 {
            life.step().unwrap();
        }
        // Message 1 stays for ever; most of its neighbours go, so that their segments are merged.
        if number > 2 && number < 40 && number % 2 == 0 {
            for queue in QUEUES {
                let (kept, next) = (life.get(queue), life.get(queue));
                if let Some((position, number, _)) = next {
                    life.ack(queue, position);
                    acked.insert(number);
                }
                if let Some((position, ..)) = kept {
                    life.requeue(queue, position);
                }
            }
        }
        if number == 44 {
            life.stop().unwrap();
            life = Life::begin(life.storage.after_kill()).unwrap();
        }
        if number == 58 {
            life = Life::begin(life.storage.after_kill()).unwrap();
        }
    }
    life.step_acks();
    housekeeper::keep(&*life.broker).unwrap();
    let mut contents: BTreeSet<u64> = QUEUES.iter().flat_map(|queue| life.contents(queue)).collect();
    // The transient message that carried the acks.
    contents.retain(|number| *number <= 72);
    Folder { storage: life.storage.after_kill(), contents, acked }
}

fn origin(storage: &MemoryStorage, name: &str) -> Option<Origin> {
    let salt = definitions::load(storage, false).unwrap().header.unwrap().salt;
    file_number(name).map(|segment| Origin { salt, segment })
}

/// The messages of a file, each with the stretch of bytes that its record takes.
pub(super) fn messages(storage: &MemoryStorage, name: &str) -> BTreeMap<u64, (usize, usize)> {
    let Some(origin) = origin(storage, name) else { return BTreeMap::new() };
    let bytes = storage.bytes(name);
    let records = record::iterate(&bytes[MAGIC.len().min(bytes.len())..], origin);
    let messages = records.filter(|(_, found)| found.kind == RecordKind::Message);
    let numbered = messages.map(|(at, found)| {
        let body = record::read_message(found.payload).unwrap().body;
        let start = MAGIC.len() + at;
        (u64::from_be_bytes(*body.first_chunk().unwrap()), (start, start + found.total))
    });
    numbered.collect()
}

/// All files and their bytes.
pub(super) fn snapshot(storage: &MemoryStorage) -> BTreeMap<String, Vec<u8>> {
    let names = storage.list().unwrap();
    names.into_iter().map(|name| (name.clone(), storage.bytes(&name))).collect()
}

/// What became of a damaged folder.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    /// It came up and said that something was wrong.
    Told,
    /// It came up as if nothing was.
    Silent,
    Refused,
}

impl Folder {
    /// Starts a broker on a damaged copy and checks the promise; `hit` tells which messages are in the damaged bytes.
    fn check(&self, damaged: MemoryStorage, hit: &BTreeSet<u64>, what: &str) -> Ending {
        match Life::begin(damaged) {
            Err(error) => {
                let text = error.to_string();
                assert!(
                    text.contains("nothing was changed") || text.contains("definitions"),
                    "{what}: {text}"
                );
                Ending::Refused
            }
            Ok(life) => {
                let found: BTreeSet<u64> = QUEUES
                    .iter()
                    .flat_map(|queue| {
                        let found = life.contents(queue);
                        assert!(found.is_sorted_by(|a, b| a < b), "{what}: {found:?}");
                        found
                    })
                    .collect();
                let lost: Vec<_> =
                    self.contents.difference(&found).filter(|one| !hit.contains(one)).collect();
                assert!(lost.is_empty(), "{what}: {lost:?} are lost");
                let strange: Vec<_> =
                    found.difference(&self.contents).filter(|one| !self.acked.contains(one)).collect();
                assert!(strange.is_empty(), "{what}: {strange:?} were never there");
                if life.findings.is_empty() { Ending::Silent } else { Ending::Told }
            }
        }
    }

    /// The same for a refusal: it changed nothing, so that the folder delivers everything once it is restored.
    fn check_refusal(&self, damage: &BTreeMap<String, Option<Vec<u8>>>, what: &str) -> Ending {
        let damaged = self.storage.after_kill();
        apply(&damaged, damage);
        let hit = self.hit(damage);
        let left = damaged.share();
        let before = snapshot(&left);
        let ending = self.check(damaged, &hit, what);
        if ending == Ending::Refused {
            assert_eq!(snapshot(&left), before, "{what}: a refusal changes nothing");
            let originals: BTreeMap<_, _> =
                damage.keys().map(|name| (name.clone(), Some(self.storage.bytes(name)))).collect();
            apply(&left, &originals);
            assert_eq!(self.check(left, &BTreeSet::new(), what), Ending::Silent, "{what}: restored");
        }
        ending
    }

    /// The messages that are in the damaged bytes.
    pub(super) fn hit(&self, damage: &BTreeMap<String, Option<Vec<u8>>>) -> BTreeSet<u64> {
        let mut hit = BTreeSet::new();
        for (name, bytes) in damage {
            let original = self.storage.bytes(name);
            let same = |from: usize, to: usize| {
                bytes.as_ref().is_some_and(|bytes| bytes.get(from..to) == original.get(from..to))
            };
            let all = messages(&self.storage, name).into_iter();
            hit.extend(all.filter(|(_, (from, to))| !same(*from, *to)).map(|(number, _)| number));
        }
        hit
    }

    pub(super) fn names(&self) -> Vec<String> {
        let mut names = self.storage.list().unwrap();
        names.sort();
        names
    }
}

pub(super) fn apply(storage: &MemoryStorage, damage: &BTreeMap<String, Option<Vec<u8>>>) {
    for (name, bytes) in damage {
        match bytes {
            Some(bytes) => storage.put(name, bytes.clone()),
            None => storage.remove(name).unwrap(),
        }
    }
}

/// Every byte up to the last that is not zero, and some of the zeros behind it.
fn places(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    (0..end).chain((end..bytes.len()).step_by(61))
}

/// A small generator of numbers that are the same in every run.
pub(super) struct Seeded(pub(super) u64);

impl Seeded {
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit.max(1)
    }
}

/// One file's damage.
pub(super) fn spoil(bytes: &[u8], seeded: &mut Seeded) -> Option<Vec<u8>> {
    let mut spoiled = bytes.to_vec();
    match seeded.below(6) {
        0 | 1 if !bytes.is_empty() => {
            for _ in 0..=seeded.below(4) {
                let at = seeded.below(bytes.len());
                spoiled[at] ^= 1 << seeded.below(8);
            }
        }
        2 => spoiled.truncate(seeded.below(bytes.len())),
        3 => spoiled.iter_mut().for_each(|byte| *byte = u8::try_from(seeded.below(256)).unwrap()),
        4 => spoiled.clear(),
        _ => return None,
    }
    Some(spoiled)
}

#[test]
fn the_folder_is_as_the_tests_need_it() {
    let folder = folder();
    let names = folder.names();
    assert!(logs(&folder.storage).len() >= 5, "{names:?}");
    assert!(
        names.contains(&NEXT.to_owned()) && names.contains(&definitions::FILES[1].to_owned()),
        "{names:?}"
    );
    let starts = logs(&folder.storage).into_iter().map(|name| {
        let bytes = folder.storage.bytes(&name);
        let (_, start) =
            record::iterate(&bytes[8..], origin(&folder.storage, &name).unwrap()).next().unwrap();
        (file_number(&name).unwrap(), record::read_start(start.payload).unwrap().replaces)
    });
    assert!(starts.into_iter().any(|(number, replaces)| replaces < number), "one was merged");
    assert!(folder.contents.contains(&1) && folder.contents.contains(&72));
    assert!(folder.acked.len() > 20 && folder.contents.len() > 20, "{:?}", folder.contents);
    assert_eq!(folder.check(folder.storage.after_kill(), &BTreeSet::new(), "whole"), Ending::Silent);
}

#[test]
fn every_flipped_byte_costs_at_most_what_is_in_it() {
    let folder = folder();
    let mut endings: BTreeMap<String, Vec<Ending>> = BTreeMap::new();
    for name in folder.names() {
        let bytes = folder.storage.bytes(&name);
        for at in places(&bytes) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            let damage = BTreeMap::from([(name.clone(), Some(flipped))]);
            let ending = folder.check_refusal(&damage, &format!("{name} flipped at {at}"));
            endings.entry(name.clone()).or_default().push(ending);
        }
    }
    for (name, endings) in endings {
        let refused = endings.iter().filter(|ending| **ending == Ending::Refused).count();
        assert_eq!(refused, 0, "{name}: one byte stops nothing");
        let silent = endings.iter().filter(|ending| **ending == Ending::Silent).count();
        assert!(file_number(&name).is_some() || silent == 0, "{name}: {silent}");
    }
}

#[test]
fn every_cut_costs_at_most_what_is_behind_it() {
    let folder = folder();
    for name in folder.names() {
        let bytes = folder.storage.bytes(&name);
        for cut in places(&bytes) {
            let damage = BTreeMap::from([(name.clone(), Some(bytes[..cut].to_vec()))]);
            let ending = folder.check_refusal(&damage, &format!("{name} cut at {cut}"));
            let must_refuse = file_number(&name).is_some() && cut < 8 + record::HEADER_BYTES;
            assert!(ending == Ending::Refused || !must_refuse, "{name} cut at {cut}: {ending:?}");
        }
    }
}

#[test]
fn a_file_that_is_garbled_emptied_or_gone_stops_the_start_or_costs_only_itself() {
    let folder = folder();
    let oldest = logs(&folder.storage)[0].clone();
    for name in folder.names() {
        let bytes = folder.storage.bytes(&name);
        let inverted: Vec<u8> = bytes.iter().map(|byte| byte ^ 0xa5).collect();
        let is_log = file_number(&name).is_some();
        for (how, bytes) in [
            ("garbled", Some(inverted)),
            ("emptied", Some(Vec::new())),
            ("zeroed", Some(vec![0; bytes.len()])),
            ("gone", None),
        ] {
            let damage = BTreeMap::from([(name.clone(), bytes)]);
            let ending = folder.check_refusal(&damage, &format!("{name} {how}"));
            // Nobody can tell that the oldest one is gone.
            let may_go = name == oldest && how == "gone";
            assert_eq!(ending == Ending::Refused, is_log && !may_go, "{name} {how}: {ending:?}");
        }
    }
}

#[test]
fn files_that_changed_places_are_known_for_what_they_are() {
    let folder = folder();
    let names = folder.names();
    for (index, one) in names.iter().enumerate() {
        for other in &names[index + 1..] {
            let swapped = BTreeMap::from([
                (one.clone(), Some(folder.storage.bytes(other))),
                (other.clone(), Some(folder.storage.bytes(one))),
            ]);
            let ending = folder.check_refusal(&swapped, &format!("{one} and {other} swapped"));
            let definitions =
                definitions::FILES.contains(&one.as_str()) && definitions::FILES.contains(&other.as_str());
            assert_eq!(ending == Ending::Refused, !definitions, "{one} and {other}: {ending:?}");
        }
    }
}

#[test]
fn whatever_is_combined_nothing_else_is_lost() {
    let folder = folder();
    let names = folder.names();
    let mut seeded = Seeded(20_240_229);
    let mut endings = [0, 0];
    for round in 0..1_000 {
        let mut damage = BTreeMap::new();
        for _ in 0..2 + seeded.below(3) {
            let name = &names[seeded.below(names.len())];
            damage.insert(name.clone(), spoil(&folder.storage.bytes(name), &mut seeded));
        }
        let ending = folder.check_refusal(&damage, &format!("round {round}"));
        endings[usize::from(ending == Ending::Refused)] += 1;
    }
    assert!(endings.iter().all(|count| *count > 100), "{endings:?}");
}

#[test]
fn a_damaged_segment_is_kept_until_it_is_wanted_no_more_and_then_set_aside() {
    let folder = folder();
    let name = logs(&folder.storage)[1].clone();
    let mut bytes = folder.storage.bytes(&name);
    let (number, (from, _)) = messages(&folder.storage, &name).pop_first().unwrap();
    bytes[from + 40] ^= 1;
    folder.storage.put(&name, bytes.clone());
    let mut life = Life::begin(folder.storage.after_kill()).unwrap();
    let text = life.findings.iter().map(ToString::to_string).collect::<String>();
    assert!(text.contains(&name) && text.contains(&format!("from offset {from} ")), "{text}");
    assert!(QUEUES.iter().all(|queue| !life.contents(queue).contains(&number)));
    // Restored after the broker went on without it, it has its message again.
    life.publish(100, &["one"], true, 20);
    life.step().unwrap();
    let restored = life.storage.after_kill();
    let mut whole = bytes.clone();
    whole[from + 40] ^= 1;
    restored.put(&name, whole);
    let restored = Life::begin(restored).unwrap();
    assert!(QUEUES.iter().any(|queue| restored.contents(queue).contains(&number)));
    assert!(restored.contents("one").ends_with(&[100]));
    // Drained, its segment is not removed but set aside.
    for _ in 0..2 {
        for queue in QUEUES {
            while let Some((position, ..)) = life.get(queue) {
                life.ack(queue, position);
            }
        }
        if logs(&life.storage).contains(&name) {
            // Nor is that done while no file can be opened, to see which names are taken.
            assert!(prepare::prepare(&life.broker.segment_table).unwrap());
            life.storage.shortage.store(1, Ordering::SeqCst);
            housekeeper::keep(&*life.broker).unwrap();
            assert_eq!(life.storage.bytes(&name), bytes);
        }
        life.step_acks();
        housekeeper::keep(&*life.broker).unwrap();
        assert_eq!(life.storage.bytes(&format!("damaged-{name}")), bytes);
        life = Life::begin(life.storage.after_kill()).unwrap();
        assert!(life.findings.is_empty(), "{:?}", life.findings);
    }
}

#[test]
fn the_last_message_is_read_again_if_it_is_restored_after_the_broker_went_on_without_it() {
    let life = Life::begin(MemoryStorage::default()).unwrap();
    life.declare();
    for number in 1..=3 {
        life.publish(number, &["one"], true, 20);
        life.step().unwrap();
    }
    let storage = life.storage.after_kill();
    let name = logs(&storage).pop().unwrap();
    let whole = storage.bytes(&name);
    let mut bytes = whole.clone();
    bytes[messages(&storage, &name)[&3].0 + 60] ^= 1;
    storage.put(&name, bytes.clone());
    let life = Life::begin(storage).unwrap();
    assert_eq!((life.contents("one"), life.findings.len()), (vec![1, 2], 1));
    assert_eq!(life.storage.bytes(&name), bytes, "the file is not touched");
    life.publish(4, &["one"], true, 20);
    life.step().unwrap();
    let storage = life.storage.after_kill();
    assert!(Life::begin(storage.after_kill()).unwrap().findings.is_empty(), "it is told once");
    storage.put(&name, whole);
    let life = Life::begin(storage).unwrap();
    assert_eq!(life.contents("one"), [1, 2, 3, 4]);
}

#[test]
fn a_segment_that_the_definitions_know_was_not_only_begun() {
    let life = Life::begin(MemoryStorage::default()).unwrap();
    life.declare();
    life.publish(1, &["one"], true, 20);
    life.step().unwrap();
    let storage = life.storage.after_kill();
    let name = logs(&storage).pop().unwrap();
    let length = storage.bytes(&name).len();
    storage.put(&name, vec![0; length]);
    let error = Life::begin(storage.after_kill()).err().unwrap().to_string();
    assert!(error.contains("it holds nothing but zeros"), "{error}");
    storage.remove(&name).unwrap();
    let error = Life::begin(storage.after_kill()).err().unwrap().to_string();
    assert!(error.contains("it is missing, or a later one is"), "{error}");
}

#[test]
fn a_queue_that_the_definitions_lack_stops_the_start_and_one_that_was_deleted_does_not() {
    let life = Life::begin(MemoryStorage::default()).unwrap();
    let old = definitions::FILES.map(|name| life.storage.bytes(name));
    life.declare();
    for (number, queue) in (1..).zip(QUEUES) {
        life.publish(number, &[queue], true, 20);
    }
    life.step().unwrap();
    let storage = life.storage.after_kill();
    for (name, bytes) in definitions::FILES.into_iter().zip(old) {
        storage.put(name, bytes);
    }
    let error = Life::begin(storage).err().unwrap().to_string();
    assert!(error.contains("queue 1, which the definitions lack"), "{error}");
    let queue = life.broker.topology.find_queue("one").unwrap();
    // The definitions are saved before the messages are settled, and the power fails in between.
    drop(life.broker.topology.remove_queue(&queue, |_| Ok(true)).unwrap());
    let life = Life::begin(life.storage.after_kill()).unwrap();
    assert_eq!(life.contents("two"), [2]);
    assert!(life.findings.is_empty());
}

#[test]
fn a_life_that_wrote_nothing_still_marks_what_it_may_have_delivered() {
    let life = Life::begin(MemoryStorage::default()).unwrap();
    life.declare();
    life.publish(1, &["one"], true, 20);
    life.step().unwrap();
    life.stop().unwrap();
    let life = Life::begin(life.storage.after_power_failure(|| false)).unwrap();
    assert_eq!(life.get("one").map(|(_, number, redelivered)| (number, redelivered)), Some((1, false)));
    let life = Life::begin(life.storage.after_power_failure(|| false)).unwrap();
    assert_eq!(life.get("one").map(|(_, number, redelivered)| (number, redelivered)), Some((1, true)));
}

#[test]
fn acks_are_durable_soon_although_nothing_else_happens() {
    let life = Life::begin(MemoryStorage::default()).unwrap();
    life.declare();
    life.publish(1, &["one"], true, 20);
    life.step().unwrap();
    let (position, ..) = life.get("one").unwrap();
    life.ack("one", position);
    // The acks themselves, then nothing but the sync.
    life.step().unwrap();
    assert_eq!(Life::begin(life.storage.after_power_failure(|| false)).unwrap().contents("one"), [1]);
    life.step().unwrap();
    assert!(Life::begin(life.storage.after_power_failure(|| false)).unwrap().contents("one").is_empty());
}

#[test]
fn a_highest_segment_without_a_byte_written_was_only_begun() {
    let folder = folder();
    let highest = file_number(logs(&folder.storage).last().unwrap()).unwrap();
    folder.storage.put(&file_name(highest + 1), vec![0; 1024]);
    assert_eq!(folder.check(folder.storage.after_kill(), &BTreeSet::new(), "begun"), Ending::Silent);
    // Two of them cannot be.
    folder.storage.put(&file_name(highest + 2), vec![0; 1024]);
    assert_eq!(folder.check(folder.storage.after_kill(), &BTreeSet::new(), "twice"), Ending::Refused);
    let found = recovery::examine(&folder.storage, false).unwrap().0.findings;
    assert!(found.iter().any(|finding| finding.severity == Severity::Refusal));
}
