//! A disk that fails or is full, and a log that must not grow for ever.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::life::{Life, logs};
use super::memory_storage::MemoryStorage;
use crate::log::housekeeper;
use crate::log::persister::Progress;
use crate::log::prepare;
use crate::log::record::Message;
use crate::log::write_batch::WriteBatch;
use crate::queues::queue::Queue;
use crate::queues::store_threads::StoreThreads;
use crate::queues::subscriber::SharedSubscriber;
use crate::queues::topology::Routes;

const MESSAGE: Message<'_> =
    Message { exchange: b"", routing_key: b"one", properties: b"\0\0", body: b"body" };

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
fn what_an_ended_log_did_not_take_is_not_through() {
    let life = Life::begin(MemoryStorage::default()).unwrap();
    life.declare();
    life.publish(1, &["one"], true, 20);
    life.step().unwrap();
    life.broker.persister.end();
    let batch = life.publish(2, &["one"], true, 20);
    assert!(!life.broker.persister.wait_through(batch), "nobody may be told that it is stored");
}

#[test]
fn a_log_that_fails_under_the_publisher_that_writes_it_has_failed_for_all() {
    let life = Life::begin(MemoryStorage::default()).unwrap();
    life.declare();
    let store = Arc::clone(&life.broker.store);
    let threads = StoreThreads::start(&store).unwrap();
    let queue = life.broker.topology.find_queue("one").unwrap();
    let routes: Routes = vec![queue].into();
    let publish = |number: u64| {
        let message = Message { body: &number.to_be_bytes(), ..MESSAGE };
        let batch = store.persister.publish(&message, &routes, true, None);
        store.persister.write_or_kick();
        batch
    };
    let confirmed: Vec<u64> = (1..=200).collect();
    for number in &confirmed {
        assert!(store.persister.wait_through(publish(*number)));
    }
    life.storage.fuse.arm(1, io::ErrorKind::Other);
    let soon = Instant::now() + Duration::from_secs(30);
    assert_eq!(
        store.persister.wait_until(publish(201), soon),
        Progress::Ended,
        "nobody is told that it is stored"
    );
    assert!(threads.stop().is_err(), "the log's thread ends with the failure");
    let next = Life::begin(life.storage.after_power_failure(|| false)).unwrap();
    assert_eq!((next.contents("one"), next.damage()), (confirmed, 0));
}

#[test]
fn a_queue_whose_deletion_failed_keeps_what_is_confirmed_after_that() {
    // Two files are written, synced and renamed, and the folder is synced.
    for nth in 1..=9 {
        let life = Life::begin(MemoryStorage::default()).unwrap();
        life.declare();
        let queue = life.broker.topology.find_queue("one").unwrap();
        housekeeper::keep(&*life.broker).unwrap();
        life.storage.fuse.arm(nth, io::ErrorKind::Other);
        let deleted = life.broker.delete_queue(&queue);
        life.storage.fuse.disarm();
        assert!(deleted.is_err(), "call {nth}");
        life.publish(1, &["one"], true, 20);
        life.step().unwrap();
        for storage in [life.storage.after_kill(), life.storage.after_power_failure(|| true)] {
            assert_eq!(Life::begin(storage).unwrap().contents("one"), [1], "call {nth}");
        }
    }
}

#[test]
fn a_queue_that_has_to_be_empty_takes_no_message_with_it() {
    let life = Life::begin(MemoryStorage::default()).unwrap();
    life.declare();
    let queue = life.broker.topology.find_queue("one").unwrap();
    housekeeper::keep(&*life.broker).unwrap();
    // It was asked, and the definitions without it cannot be written yet.
    let (asked, held) = (AtomicU32::new(0), life.storage.fuse.hold_syncs());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let is_empty = |state: &Queue<SharedSubscriber>| {
                asked.fetch_add(1, Ordering::SeqCst);
                Ok(state.waiting() == 0)
            };
            life.broker.delete_queue_if(&queue, is_empty, |waited| assert_eq!(waited, 0)).unwrap();
        });
        while asked.load(Ordering::SeqCst) < 2 {
            std::thread::yield_now();
        }
        let step = scope.spawn(|| {
            life.broker.persister.publish(&MESSAGE, &vec![Arc::clone(&queue)].into(), false, None);
            life.broker.persister.step(&mut WriteBatch::default()).unwrap();
        });
        let deadline = Instant::now() + Duration::from_millis(200);
        while !step.is_finished() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        drop(held);
    });
    assert!(life.broker.topology.find_queue("one").is_none());
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
    housekeeper::keep(&*life.broker).unwrap();
    assert!(life.broker.alarm.is_raised(), "too little is free");
    *life.storage.free.lock().unwrap() = None;
    housekeeper::keep(&*life.broker).unwrap();
    assert!(!life.broker.alarm.is_raised(), "it resumes by itself");
    // Now the disk is really full: nothing can be created. The prepared segment still takes acks.
    life.storage.fuse.arm(1, io::ErrorKind::StorageFull);
    let (position, ..) = life.get("one").unwrap();
    life.ack("one", position);
    assert!(housekeeper::keep(&*life.broker).is_ok());
    life.storage.fuse.disarm();
    life.publish(6, &["one"], true, 20);
    life.step().unwrap();
    assert_eq!(Life::begin(life.storage.after_kill()).unwrap().contents("one"), [2, 3, 4, 5, 6]);
}

#[test]
fn too_many_open_files_make_the_log_wait_and_cost_nothing() {
    let life = Life::begin(MemoryStorage::default()).unwrap();
    life.declare();
    let numbers: Vec<u64> = (1..=100).collect();
    let short = |life: &Life, times| life.storage.shortage.store(times, Ordering::SeqCst);
    let is_over = |life: &Life| life.storage.shortage.load(Ordering::SeqCst) == 0;
    for number in &numbers {
        // Preparing a segment fails, noting one, and merging.
        short(&life, (number % 5) as u32);
        life.publish(*number, &["one"], true, 20);
        life.publish(1000 + number, &["two"], true, 20);
        life.step().unwrap();
        let (position, ..) = life.get("two").unwrap();
        life.ack("two", position);
    }
    short(&life, 0);
    life.step_acks();
    assert!(!life.broker.alarm.is_raised(), "it goes on by itself");
    // In the next life no segment is open yet: each has to be opened to be read.
    let next = Life::begin(life.storage.after_kill()).unwrap();
    assert_eq!((next.damage(), next.findings.len()), (0, 0), "{:?}", next.findings);
    short(&next, 3);
    assert_eq!(next.contents("one"), numbers);
    assert!(is_over(&next), "files were opened");
    for times in 0..4 {
        short(&next, times);
        housekeeper::keep(&*next.broker).unwrap();
    }
    short(&next, 0);
    housekeeper::keep(&*next.broker).unwrap();
    assert!(!next.broker.alarm.is_raised());
    next.publish(2000, &["one"], true, 20);
    next.step().unwrap();
    let last = Life::begin(next.storage.after_kill()).unwrap();
    assert_eq!((last.contents("one").len(), last.damage()), (101, 0));
}

#[test]
fn a_full_disk_does_not_hold_up_the_end() {
    let life = Life::begin(MemoryStorage::default()).unwrap();
    life.declare();
    let store = Arc::clone(&life.broker.store);
    let threads = StoreThreads::start(&store).unwrap();
    let queue = life.broker.topology.find_queue("one").unwrap();
    let routes: Routes = vec![Arc::clone(&queue)].into();
    // It lives for 300 ms and becomes a dead letter then.
    let living = Message { properties: b"\x01\0\x03300", ..MESSAGE };
    let batch = store.persister.publish(&living, &routes, true, None);
    assert!(store.persister.wait_through(batch));
    life.storage.is_full.store(true, Ordering::SeqCst);
    let body = vec![0; 100_000];
    let large = Message { body: &body, ..MESSAGE };
    let soon = || Some(Instant::now() + Duration::from_millis(100));
    while store.persister.publish_until(&large, &routes, true, None, soon()).is_some() {}
    let deadline = Instant::now() + Duration::from_secs(30);
    while queue.lock().dying_entry(1).is_none() {
        assert!(Instant::now() < deadline, "it expires");
        std::thread::sleep(Duration::from_millis(1));
    }
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || sender.send(threads.stop().is_ok()));
    let in_good_order = ended.recv_timeout(Duration::from_secs(30)).expect("it ends");
    assert!(!in_good_order, "what was published could not be written");
}

#[test]
fn an_interrupted_merge_costs_nothing_and_is_no_damage() {
    // What a merge leaves is merged again with what comes after it.
    let run = |merges: u64, nth: i64| {
        let life = Life::begin(MemoryStorage::default()).unwrap();
        life.declare();
        life.publish(1, &["one"], true, 20);
        for number in 2..=20 * merges {
            life.publish(number, &["two"], true, 20);
            life.step().unwrap();
            let (position, ..) = life.get("two").unwrap();
            life.ack("two", position);
        }
        life.step().unwrap();
        let before = logs(&life.storage).len();
        // Acks of another 60 messages are written without the housekeeper, who then has to merge.
        for number in 1_001..=1_020 {
            life.publish(number, &["two"], true, 20);
            life.broker.persister.step(&mut WriteBatch::default()).unwrap();
            if !life.broker.segment_table.is_prepared() {
                prepare::prepare(&life.broker.segment_table).unwrap();
            }
            let (position, ..) = life.get("two").unwrap();
            life.ack("two", position);
        }
        life.broker.persister.step(&mut WriteBatch::default()).unwrap();
        assert!(logs(&life.storage).len() > before);
        life.storage.fuse.arm(nth, io::ErrorKind::Other);
        let outcome = housekeeper::keep(&*life.broker);
        (life, outcome.is_ok())
    };
    for merges in [1, 4] {
        for nth in 1.. {
            let (life, complete) = run(merges, nth);
            let crashes = [
                life.storage.after_kill(),
                life.storage.after_power_failure(|| true),
                life.storage.after_power_failure(|| false),
            ];
            for storage in crashes {
                let next = Life::begin(storage).unwrap();
                assert_eq!(next.damage(), 0, "call {nth}: {:?}", next.findings);
                assert_eq!(next.contents("one"), [1], "call {nth}");
                assert!(next.contents("two").len() <= 1, "call {nth}");
                housekeeper::keep(&*next.broker).unwrap();
                let last = Life::begin(next.storage.after_kill()).unwrap();
                assert_eq!((last.contents("one"), last.damage()), (vec![1], 0), "call {nth}");
            }
            if complete {
                assert!(nth > 5, "it was interrupted everywhere: {nth}");
                break;
            }
        }
    }
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
    housekeeper::keep(&*life.broker).unwrap();
    let files = logs(&life.storage);
    assert!(files.len() <= 4, "{files:?}");
    life.requeue("two", out);
    assert_eq!(life.contents("two"), [501]);
    let found = Life::begin(life.storage.after_kill()).unwrap();
    assert_eq!(found.contents("two"), [501]);
}

#[test]
fn a_record_that_is_larger_than_a_segment_waits_until_the_disk_has_room() {
    let mut waited = 0;
    for nth in 1..12 {
        let life = Life::begin(MemoryStorage::default()).unwrap();
        life.declare();
        life.publish(1, &["one"], true, 20);
        life.step().unwrap();
        // The segment that it begins is prepared: nobody prepares another one beside it.
        housekeeper::keep(&*life.broker).unwrap();
        life.publish(2, &["one"], true, 10_000);
        life.storage.fuse.arm(nth, io::ErrorKind::StorageFull);
        let (was_full, stored) = std::thread::scope(|scope| {
            let step = scope.spawn(|| life.broker.persister.step(&mut WriteBatch::default()));
            while !step.is_finished() && !life.storage.fuse.has_burnt() {
                std::thread::yield_now();
            }
            let was_full = life.storage.fuse.has_burnt();
            life.storage.fuse.disarm();
            (was_full, step.join().unwrap().is_ok())
        });
        if was_full && stored {
            waited += 1;
            assert_eq!(Life::begin(life.storage.after_kill()).unwrap().contents("one"), [1, 2]);
        }
    }
    // Other calls fail for good: blocks that are there already are no matter of room.
    assert!(waited > 0, "growing fails");
}

#[test]
fn a_large_message_leaves_free_what_has_to_stay_free() {
    let life = Life::begin(MemoryStorage::default()).unwrap();
    assert!(life.broker.has_room_for(10_000));
    *life.storage.free.lock().unwrap() = Some(life.broker.settings.disk_free_min_bytes + 10_000);
    assert!(life.broker.has_room_for(10_000) && !life.broker.has_room_for(10_001));
}
