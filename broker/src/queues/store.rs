//! Queues on their log: everything of a broker that needs no connections. The server and [`crate::Spool`] are its
//! two users.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use foundation::Shutdown;

use crate::error::Error;
use crate::log::alarm::Alarm;
use crate::log::definitions::{self, Header};
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
use crate::sync::lock;

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
    pub(super) fn take_failure(&self) -> Option<Error> {
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
