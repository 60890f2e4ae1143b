//! Logs that were cut or rotted are recovered: everything that can be read is there, and what was lost is told.

use std::collections::BTreeSet;

use super::life::{Life, QUEUES, logs};
use super::memory_storage::MemoryStorage;
use crate::record;

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
