//! Logs that cannot be started any more: `--check-log` tells what is there, `--salvage` goes on with that.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::damage::{Folder, Seeded, apply, folder, snapshot, spoil};
use super::life::{Life, logs};
use super::memory_storage::MemoryStorage;
use crate::log::check;
use crate::log::definitions;
use crate::log::salvage;
use crate::log::storage::Storage;

const SEGMENT_BYTES: u32 = 1024;

/// What is in all queues.
fn contents(life: &Life) -> BTreeSet<u64> {
    life.broker.topology.queues().iter().flat_map(|queue| life.contents(&queue.name)).collect()
}

/// Checks a salvaged folder: it starts without a word, and has all but the messages that were hit.
fn check_salvaged(folder: &Folder, storage: &MemoryStorage, hit: &BTreeSet<u64>, what: &str) {
    assert!(check::report(storage).unwrap().1, "{what}");
    let life = Life::begin(storage.after_power_failure(|| false)).unwrap();
    assert!(life.findings.is_empty(), "{what}: {:?}", life.findings);
    let found = contents(&life);
    let lost: Vec<_> = folder.contents.difference(&found).filter(|one| !hit.contains(one)).collect();
    assert!(lost.is_empty(), "{what}: {lost:?} are lost");
    assert!(found.iter().all(|one| folder.contents.contains(one) || folder.acked.contains(one)), "{what}");
    life.publish(100, &["one"], true, 20);
    life.step().unwrap();
    assert!(Life::begin(life.storage.after_kill()).unwrap().contents("one").ends_with(&[100]), "{what}");
}

#[test]
fn what_can_be_read_goes_on_and_every_damaged_byte_is_kept() {
    let folder = folder();
    let names = folder.names();
    let mut seeded = Seeded(7);
    let mut salvaged = 0;
    for round in 0..400 {
        let mut damage = BTreeMap::new();
        for _ in 0..=seeded.below(3) {
            let name = &names[seeded.below(names.len())];
            damage.insert(name.clone(), spoil(&folder.storage.bytes(name), &mut seeded));
        }
        let what = format!("round {round}");
        let storage = folder.storage.after_kill();
        apply(&storage, &damage);
        let before = snapshot(&storage);
        let starts = Life::begin(storage.after_kill()).is_ok();
        check::report(&storage).unwrap();
        assert_eq!(snapshot(&storage), before, "{what}: checking changes nothing");
        let said = salvage::salvage(&storage, SEGMENT_BYTES).unwrap();
        if starts {
            assert_eq!(snapshot(&storage), before, "{what}: {said}");
            continue;
        }
        salvaged += 1;
        let kept: BTreeSet<Vec<u8>> = snapshot(&storage).into_values().collect();
        assert!(before.values().all(|bytes| kept.contains(bytes)), "{what}");
        check_salvaged(&folder, &storage, &folder.hit(&damage), &what);
    }
    assert!(salvaged > 100, "{salvaged}");
}

#[test]
fn without_definitions_queues_are_found_by_the_keys_of_their_messages() {
    let folder = folder();
    let storage = folder.storage.after_kill();
    for name in definitions::FILES {
        storage.remove(name).unwrap();
    }
    let (text, fine) = check::report(&storage).unwrap();
    assert!(!fine && text.contains("neither copy can be read"), "{text}");
    salvage::salvage(&storage, SEGMENT_BYTES).unwrap();
    check_salvaged(&folder, &storage, &BTreeSet::new(), "without definitions");
}

#[test]
fn an_interrupted_salvage_is_completed() {
    let folder = folder();
    let damaged = folder.storage.after_kill();
    let middle = logs(&damaged)[2].clone();
    let hit = folder.hit(&BTreeMap::from([(middle.clone(), None)]));
    damaged.remove(&middle).unwrap();
    damaged.sync_folder().unwrap();
    for nth in 1..200 {
        let storage = damaged.after_kill();
        storage.fuse.arm(nth, io::ErrorKind::Other);
        let outcome = salvage::salvage(&storage, SEGMENT_BYTES);
        let storage = if nth % 2 == 0 { storage.after_kill() } else { storage.after_power_failure(|| false) };
        if outcome.is_ok() {
            assert!(nth > 20, "it was interrupted everywhere: {nth}");
            return check_salvaged(&folder, &storage, &hit, "not interrupted");
        }
        // It may just have got to its end; in between the broker refuses.
        if Life::begin(storage.after_kill()).is_err() {
            salvage::salvage(&storage, SEGMENT_BYTES).unwrap();
        }
        check_salvaged(&folder, &storage, &hit, &format!("interrupted at call {nth}"));
    }
    panic!("it never came to its end");
}

#[test]
fn nothing_is_done_where_nothing_is_wrong_or_nothing_can_be_read() {
    let folder = folder();
    let before = snapshot(&folder.storage);
    assert!(salvage::salvage(&folder.storage, SEGMENT_BYTES).unwrap().contains("nothing was done"));
    assert_eq!(snapshot(&folder.storage), before);
    for name in logs(&folder.storage) {
        folder.storage.put(&name, vec![0xaa; 900]);
    }
    let before = snapshot(&folder.storage);
    assert!(salvage::salvage(&folder.storage, SEGMENT_BYTES).is_err());
    assert_eq!(snapshot(&folder.storage), before);
}
