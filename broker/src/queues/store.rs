//! Queues on their log: everything of a broker that needs no connections. The server and [`crate::Spool`] are its
//! two users.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use foundation::Shutdown;

use crate::error::Error;
use crate::log::alarm::Alarm;
use crate::log::definitions::{self, Header};
use crate::log::housekeeper;
use crate::log::owner::LogOwner;
use crate::log::persister::Persister;
use crate::log::prepare;
use crate::log::recovery;
use crate::log::salvage;
use crate::log::segment_table::SegmentTable;
use crate::log::storage::Storage;
use crate::queues::counts::StoreCounts;
use crate::queues::fault::Outcome;
use crate::queues::queue::Queue;
use crate::queues::subscriber::{SharedSubscriber, Subscriber as _};
use crate::queues::topology::{SharedQueue, Topology};
use crate::queues::upkeep;
use crate::sync::{join, lock, spawn};

/// What can be set of a store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreSettings {
    /// Bytes of each file of the log.
    pub(crate) segment_bytes: u32,
    pub(crate) max_queues: usize,
    /// The alarm is raised while less is free.
    pub(crate) disk_free_min_bytes: u64,
}

/// Topology and log.
pub(crate) struct Store {
    pub(crate) topology: Topology,
    pub(crate) persister: Persister<SharedQueue>,
    pub(crate) segment_table: Arc<SegmentTable>,
    pub(crate) alarm: Alarm,
    pub(crate) shutdown: Shutdown,
    pub(crate) counts: StoreCounts,
    disk_free_min_bytes: u64,
    /// What made it give up.
    failure: Mutex<Option<Error>>,
}

impl Store {
    /// Puts the parts together on top of what recovery finds.
    pub(crate) fn recover(
        settings: StoreSettings,
        storage: Arc<dyn Storage>,
        shutdown: Shutdown,
    ) -> Result<Self, Error> {
        let StoreSettings { segment_bytes, max_queues, disk_free_min_bytes } = settings;
        let started = Instant::now();
        salvage::refuse_interrupted(&*storage)?;
        let stored = definitions::load(&*storage, recovery::is_new(&*storage)?)?;
        let header = stored.header.unwrap_or_else(Header::new);
        let recovered = recovery::survey(&*storage, header, &stored)?.take_over(&*storage, segment_bytes)?;
        let definitions = stored.definitions()?;
        let topology = Topology::new(Arc::clone(&storage), header, definitions, max_queues);
        let topology = topology.map_err(|fault| Error::format("definitions", fault.to_string()))?;
        let mut recovered_queues = recovered.queues;
        let (mut messages, queues) = (0, topology.queues());
        for queue in &queues {
            queue.set_next_position(recovered.first_position);
            if let Some(found) = recovered_queues.remove(&queue.id) {
                queue.set_next_position(found.next_position);
                let mut state = queue.lock();
                state.restore(found.runs, found.redelivered_through);
                state.restore_rules(found.timed, found.body_bytes, found.returns);
                messages += state.waiting();
            } else {
                // The guard sets the timer of a queue that ends when nobody uses it.
                drop(queue.lock());
            }
        }
        let took = started.elapsed().as_millis();
        log::info!("recovered {messages} messages in {} durable queues within {took} ms", queues.len());
        if stored.header.is_none() {
            // Before the first record, so that a log always has definitions with its salt.
            topology.save_first()?;
        }
        let (segments, prepared) = (recovered.segments, recovered.prepared);
        let segment_table =
            Arc::new(SegmentTable::new(storage, header.salt, segment_bytes, segments, prepared));
        let persister = Persister::new(Arc::clone(&segment_table), recovered.position);
        if prepare::prepare(&segment_table)? {
            persister.begin()?;
        } else {
            log::error!("the disk is full: nothing can be written before there is room again");
        }
        Ok(Self {
            topology,
            persister,
            segment_table,
            alarm: Alarm::default(),
            shutdown,
            counts: StoreCounts::default(),
            disk_free_min_bytes,
            failure: Mutex::default(),
        })
    }

    /// Starts the threads that write the log, keep its files in order and look after queues.
    pub(crate) fn start(self: &Arc<Self>) -> Result<StoreThreads, Error> {
        let persister = spawn("persister", self, |store| {
            let _failing = FailOnPanic(store);
            store.persister.run(|error| store.fail(error));
        })?;
        let housekeeper = spawn("housekeeper", self, |store| {
            let _failing = FailOnPanic(store);
            housekeeper::run(&**store);
        })?;
        let upkeep = spawn("upkeep", self, |store| {
            let _failing = FailOnPanic(store);
            upkeep::run(store);
        })?;
        Ok(StoreThreads { persister, housekeeper, upkeep })
    }

    /// Ends the threads, once everything that was published is written, and notes that the end was in good order.
    /// Fails with whatever made the store give up before.
    pub(crate) fn stop(&self, threads: StoreThreads) -> Result<(), Error> {
        self.shutdown.request();
        self.topology.timers().stop();
        self.persister.stop();
        // The housekeeper may be asleep, or the persister be waiting for it.
        self.segment_table.wake(false);
        let ended = join(threads.housekeeper, "housekeeper");
        self.segment_table.wake(true);
        join(threads.persister, "persister")?;
        // Last, since it may be waiting for the persister. What it could not pass on any more dies again in the next life.
        join(threads.upkeep, "upkeep")?;
        ended?;
        if let Some(failure) = self.take_failure() {
            return Err(failure);
        }
        let queues = self.topology.queues();
        let durable = queues.iter().filter(|queue| queue.durable);
        let delivered: Vec<(u32, u64)> =
            durable.map(|queue| (queue.id, queue.lock().delivered_through())).collect();
        self.persister.write_close(&delivered)
    }

    /// Drops everything that waits in a queue. Returns how many messages that were.
    pub(crate) fn purge(&self, queue: &SharedQueue) -> u64 {
        let mut state = queue.lock();
        let messages = state.waiting();
        let settled = state.purge();
        self.persister.settle(&settled);
        messages
    }

    /// Deletes a queue with everything in it and tells its consumers. Returns how many messages waited.
    pub(crate) fn delete_queue(&self, queue: &Arc<SharedQueue>) -> Outcome<u64> {
        let mut waited = 0;
        self.delete_queue_if(queue, |_| Ok(true), |waiting| waited = waiting)?;
        Ok(waited)
    }

    /// Deletes a queue if `may_go` says so; no message and no consumer can come in between. Calls `answer` with the
    /// number of messages that waited, 0 if it was not deleted, and tells its consumers after that: whoever deletes it
    /// has its answer before the end of a consumer of its own.
    pub(crate) fn delete_queue_if(
        &self,
        queue: &Arc<SharedQueue>,
        may_go: impl Fn(&Queue<SharedSubscriber>) -> Outcome<bool>,
        answer: impl FnOnce(u64),
    ) -> Outcome {
        let mut deleted = lock(&self.counts.deleted_queues);
        let Some(mut state) = self.topology.remove_queue(queue, may_go)? else {
            answer(0);
            return Ok(());
        };
        let waiting = state.waiting();
        let (settled, consumers) = state.delete();
        self.persister.settle(&settled);
        *deleted += std::mem::take(&mut state.counts);
        drop(state);
        drop(deleted);
        self.counts.queues_deleted.increment();
        answer(waiting);
        for consumer in consumers {
            consumer.subscriber.cancel();
        }
        Ok(())
    }

    /// Gives up with this error. Only the first one counts.
    pub(crate) fn fail(&self, error: Error) {
        let mut failure = lock(&self.failure);
        if failure.is_none() {
            log::error!("{error}");
            *failure = Some(error);
        }
        drop(failure);
        self.shutdown.request();
    }

    /// What made it give up, if something did, as text.
    pub(crate) fn failure(&self) -> Option<String> {
        lock(&self.failure).as_ref().map(ToString::to_string)
    }

    /// What made it give up, if something did.
    fn take_failure(&self) -> Option<Error> {
        lock(&self.failure).take()
    }
}

impl LogOwner for Store {
    type Queue = SharedQueue;

    fn segment_table(&self) -> &SegmentTable {
        &self.segment_table
    }

    fn queues(&self) -> Vec<Arc<SharedQueue>> {
        self.topology.queues()
    }

    fn note_segment(&self, number: u32) -> Result<(), Error> {
        self.topology.note_segment(number)
    }

    fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    fn disk_free_min_bytes(&self) -> u64 {
        self.disk_free_min_bytes
    }

    fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    fn fail(&self, error: Error) {
        Self::fail(self, error);
    }
}

/// Has the store give up if the thread that holds this panics, so that nobody waits for that thread.
struct FailOnPanic<'a>(&'a Store);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let panicked = std::io::Error::other("a thread panicked");
            self.0.fail(Error::log("work on it")(panicked));
            self.0.segment_table.wake(true);
            self.0.persister.end();
        }
    }
}

/// The threads of a store.
pub(crate) struct StoreThreads {
    persister: JoinHandle<()>,
    housekeeper: JoinHandle<()>,
    upkeep: JoinHandle<()>,
}
