//! What the log knows of a message besides its bytes goes along with it, through merges and restarts: when it came in,
//! and how often it came back. And what becomes of it is
//! never settled before that is safe.

use super::life::{DEAD, Life, logs};
use super::memory_storage::MemoryStorage;
use crate::codec::raw_table::{PutField, RawTable};
use crate::log::housekeeper;
use crate::log::record::{self, Message};
use crate::log::stored_message::payload_at;
use crate::queues::delivery::{self, Settlement, Unsettled};
use crate::queues::topology::QueueAttributes;

const QUEUE: &str = "counted";

fn publish(life: &Life, number: u64, properties: &[u8]) {
    let queue = life.broker.topology.find_queue(QUEUE).unwrap();
    let mut body = number.to_be_bytes().to_vec();
    body.resize(100, b'.');
    let message = Message { exchange: b"", routing_key: QUEUE.as_bytes(), properties, body: &body };
    life.broker.persister.publish(&message, &vec![queue].into(), true, None);
    life.step().unwrap();
}

fn end(life: &Life, position: u64, settlement: Settlement) {
    let queue = life.broker.topology.find_queue(QUEUE).unwrap();
    delivery::end_deliveries(&life.broker, &[Unsettled { tag: 1, queue, position, consumer: 0 }], settlement);
}

/// The arrival of the message at the head and how often it came back; it waits again afterwards.
fn look(life: &Life) -> (Option<u64>, u32) {
    let queue = life.broker.topology.find_queue(QUEUE).unwrap();
    let (entry, page, start, _) = delivery::take(&life.broker, &queue, false).unwrap();
    let payload = payload_at(&page, start).unwrap();
    assert_eq!(record::read_message(payload).unwrap().body[..8], 1u64.to_be_bytes());
    let times = queue.lock().delivery_count(entry.position);
    end(life, entry.position, Settlement::Requeue);
    (record::arrival(payload), times)
}

#[test]
fn arrivals_and_returns_survive_merges_and_restarts() {
    let life = Life::begin(MemoryStorage::default()).unwrap();
    life.declare();
    let mut table = Vec::new();
    table.put_name("x-queue-type").put_text_value(b"quorum");
    let arguments = RawTable::new(&table).unwrap();
    let attributes = QueueAttributes { durable: true, auto_delete: false, owner: None, arguments };
    life.broker.topology.declare_queue(QUEUE, attributes, 1).unwrap();
    // Only an expiration, of an hour.
    publish(&life, 1, b"\x01\0\x073600000");
    let (arrived, times) = look(&life);
    assert_eq!((arrived.is_some(), times), (true, 0));
    for _ in 0..3 {
        look(&life);
    }
    // It is out while all others go, so that the segments with it and its returns are merged again and again.
    let (first, ..) = life.get(QUEUE).unwrap();
    for number in 2..60 {
        publish(&life, number, b"\0\0");
        let (position, found, _) = life.get(QUEUE).unwrap();
        assert_eq!(found, number);
        end(&life, position, Settlement::Settle);
    }
    housekeeper::keep(&*life.broker).unwrap();
    assert!(logs(&life.storage).len() < 10, "merged: {:?}", logs(&life.storage));
    let killed = Life::begin(life.storage.after_kill()).unwrap();
    assert_eq!((look(&killed), killed.damage()), ((arrived, 4), 0));
    end(&life, first, Settlement::Requeue);
    life.stop().unwrap();
    let stopped = Life::begin(life.storage.after_power_failure(|| false)).unwrap();
    assert_eq!(look(&stopped), (arrived, 5));
    let queue = stopped.broker.topology.find_queue(QUEUE).unwrap();
    assert!(queue.arguments().unwrap().is_quorum);
}

#[test]
fn a_dead_letter_is_durable_before_its_message_is_settled() {
    let mut interrupted = 0;
    for nth in 1..20 {
        let life = Life::begin(MemoryStorage::default()).unwrap();
        life.declare();
        for number in 1..=4 {
            // A record goes over more than one sector.
            life.publish(number, &["one"], true, 300);
            life.step().unwrap();
        }
        let out: Vec<_> = (0..4).map(|_| life.get("one").unwrap()).collect();
        life.storage.fuse.arm(nth, std::io::ErrorKind::Other);
        let failed = out.iter().any(|(position, ..)| {
            life.reject("one", *position);
            life.step().is_err()
        });
        interrupted += u32::from(failed);
        for kept in 0..32u32 {
            let mut sector = 0;
            let storage = life.storage.after_power_failure(|| {
                sector += 1;
                kept & (1 << (sector - 1)) != 0
            });
            let next = Life::begin(storage).unwrap();
            let mut found = next.contents("one");
            found.extend(next.contents(DEAD));
            found.sort_unstable();
            found.dedup();
            assert_eq!(found, [1, 2, 3, 4], "call {nth}, sectors {kept:b}");
        }
    }
    assert!(interrupted > 5, "{interrupted} of them were interrupted");
}
