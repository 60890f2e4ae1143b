//! A broker on a disk in memory, without its threads and sockets: every step is taken by the test.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use foundation::{Environment, Shutdown};

use super::memory_storage::MemoryStorage;
use crate::broker::Broker;
use crate::codec::raw_table::{PutField, RawTable};
use crate::error::Error;
use crate::log::housekeeper;
use crate::log::record::{self, Message};
use crate::log::recovery;
use crate::log::storage::Storage;
use crate::log::stored_message::payload_at;
use crate::log::survey::{Finding, Severity};
use crate::log::write_batch::WriteBatch;
use crate::queues::delivery::{self, Settlement, Unsettled};
use crate::queues::subscriber::Effects;
use crate::queues::topology::{QueueAttributes, Routes};
use crate::settings::Settings;

/// Small enough that a few messages fill a segment.
const SEGMENT_BYTES: u32 = 1024;
/// The durable queues that [`Life::declare`] makes.
pub(super) const QUEUES: [&str; 2] = ["one", "two"];
/// Where their dead letters go.
pub(super) const DEAD: &str = "dead";

/// One life of the broker, from a start to whatever ends it.
pub(super) struct Life {
    pub(super) storage: Arc<MemoryStorage>,
    pub(super) broker: Broker,
    /// What the start had to tell.
    pub(super) findings: Vec<Finding>,
}

impl Life {
    pub(super) fn begin(storage: MemoryStorage) -> Result<Self, Error> {
        let pairs = [("RABBITMQ_USER", "u"), ("RABBITMQ_PASSWORD", "p")];
        let mut settings = Settings::read(&Environment::from_pairs(pairs))?;
        settings.segment_bytes = SEGMENT_BYTES;
        let storage = Arc::new(storage);
        let shared: Arc<dyn Storage> = storage.clone();
        let findings =
            recovery::examine(&*storage, false).map_or_else(|_| Vec::new(), |(survey, _)| survey.findings);
        let broker = Broker::recover(settings, shared, Shutdown::new())?;
        Ok(Self { storage, broker, findings })
    }

    /// Declares the queues; rejected messages of the first ones go to the last one.
    pub(super) fn declare(&self) {
        let mut table = Vec::new();
        table.put_name("x-dead-letter-exchange").put_text_value(b"");
        table.put_name("x-dead-letter-routing-key").put_text_value(DEAD.as_bytes());
        let dead_letters = RawTable::new(&table).unwrap();
        for name in QUEUES {
            self.declare_queue(name, dead_letters);
        }
        self.declare_queue(DEAD, RawTable::default());
    }

    fn declare_queue(&self, name: &str, arguments: RawTable<'_>) {
        let attributes = QueueAttributes { durable: true, auto_delete: false, owner: None, arguments };
        self.broker.topology.declare_queue(name, attributes, 1).unwrap();
    }

    /// Publishes a message with a number to some queues. Returns its batch.
    pub(super) fn publish(&self, number: u64, queues: &[&str], persistent: bool, size: usize) -> u64 {
        let routes: Vec<_> =
            queues.iter().map(|name| self.broker.topology.find_queue(name).unwrap()).collect();
        let routes: Routes = routes.into();
        let mut body = number.to_be_bytes().to_vec();
        body.resize(8 + size, b'.');
        let message =
            Message { exchange: b"", routing_key: queues[0].as_bytes(), properties: b"\0\0", body: &body };
        self.broker.persister.publish(&message, &routes, persistent, None)
    }

    /// Has the persister write what gathered. What was published before is confirmed if this succeeds.
    pub(super) fn step(&self) -> Result<(), Error> {
        self.with_housekeeper(|| self.broker.persister.step(&mut WriteBatch::default()).map(drop))
    }

    /// Does something while segments are prepared and merged beside it.
    fn with_housekeeper<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        housekeeper::keep(&*self.broker)?;
        let (done, segment_table) = (AtomicBool::new(false), &self.broker.segment_table);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    if housekeeper::keep(&*self.broker).is_err() {
                        segment_table.wake(true);
                        return;
                    }
                    segment_table.wait_for_change(segment_table.changes(), Duration::from_millis(1));
                }
            });
            let outcome = work();
            done.store(true, Ordering::SeqCst);
            segment_table.wake(false);
            outcome
        })
    }

    /// Takes the message at the head; returns its position and number.
    pub(super) fn get(&self, queue: &str) -> Option<(u64, u64, bool)> {
        let queue = self.broker.topology.find_queue(queue).unwrap();
        let (entry, page, start, _) = delivery::take(&self.broker, &queue, false)?;
        let payload = payload_at(&page, start).unwrap();
        let body = record::read_message(payload).unwrap().body;
        let number = u64::from_be_bytes(*body.first_chunk().unwrap());
        Some((entry.position, number, entry.redelivered))
    }

    pub(super) fn ack(&self, queue: &str, position: u64) {
        let queue = self.broker.topology.find_queue(queue).unwrap();
        let settled = queue.lock().settle(position).unwrap();
        self.broker.persister.settle(&[settled]);
    }

    pub(super) fn requeue(&self, queue: &str, position: u64) {
        self.broker.topology.find_queue(queue).unwrap().lock().requeue(position, &mut Effects::default());
    }

    /// Rejects a delivery for good.
    pub(super) fn reject(&self, queue: &str, position: u64) {
        let queue = self.broker.topology.find_queue(queue).unwrap();
        let delivery = Unsettled { tag: 1, queue, position, consumer: 0 };
        delivery::end_deliveries(&self.broker, &[delivery], Settlement::Reject);
    }

    /// Everything that waits, in order; it waits again afterwards.
    pub(super) fn contents(&self, queue: &str) -> Vec<u64> {
        let taken: Vec<_> = std::iter::from_fn(|| self.get(queue)).collect();
        for (position, ..) in &taken {
            self.requeue(queue, *position);
        }
        taken.into_iter().map(|(_, number, _)| number).collect()
    }

    pub(super) fn stop(&self) -> Result<(), Error> {
        self.broker.persister.stop();
        self.with_housekeeper(|| {
            while self.broker.persister.step(&mut WriteBatch::default())? {}
            Ok(())
        })?;
        housekeeper::keep(&*self.broker)?;
        let delivered: Vec<_> = self
            .broker
            .topology
            .queues()
            .iter()
            .map(|queue| (queue.id, queue.lock().delivered_through()))
            .collect();
        self.broker.persister.write_close(&delivered)
    }

    /// How many damaged places the start told.
    pub(super) fn damage(&self) -> usize {
        self.findings.iter().filter(|finding| finding.severity == Severity::Damage).count()
    }

    /// Writes acks for which no publish waits.
    pub(super) fn step_acks(&self) {
        self.publish(9_999, &["one"], false, 0);
        self.step().unwrap();
    }
}

/// The log files, oldest first.
pub(super) fn logs(storage: &MemoryStorage) -> Vec<String> {
    let mut names = storage.list().unwrap();
    names.retain(|name| crate::log::segment_table::file_number(name).is_some());
    names.sort();
    names
}
