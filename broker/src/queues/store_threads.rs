//! The threads of a store: one writes the log, one keeps its files in order, one looks after queues.

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::error::Error;
use crate::log::housekeeper;
use crate::queues::store::Store;
use crate::queues::upkeep;
use crate::sync::{join, spawn};

/// The threads of a store that is at work.
pub(crate) struct StoreThreads {
    store: Arc<Store>,
    persister: JoinHandle<()>,
    housekeeper: JoinHandle<()>,
    upkeep: JoinHandle<()>,
}

impl StoreThreads {
    /// Starts them. They end with [`StoreThreads::stop`], or when the store gives up.
    pub(crate) fn start(store: &Arc<Store>) -> Result<Self, Error> {
        let persister = spawn("persister", store, |store| {
            let _failing = FailOnPanic(store);
            store.persister.run(|error| store.fail(error));
        })?;
        let housekeeper = spawn("housekeeper", store, |store| {
            let _failing = FailOnPanic(store);
            housekeeper::run(&**store);
        })?;
        let upkeep = spawn("upkeep", store, |store| {
            let _failing = FailOnPanic(store);
            upkeep::run(store);
        })?;
        Ok(Self { store: Arc::clone(store), persister, housekeeper, upkeep })
    }

    /// Ends the threads, once everything that was published is written, and notes that the end was in good order.
    /// Fails with whatever made the store give up before.
    pub(crate) fn stop(self) -> Result<(), Error> {
        let Self { store, persister, housekeeper, upkeep } = self;
        store.shutdown.request();
        store.topology.timers().stop();
        store.persister.stop();
        // The housekeeper may be asleep, or the persister be waiting for it.
        store.segment_table.wake(false);
        let ended = join(housekeeper, "housekeeper");
        store.segment_table.wake(true);
        join(persister, "persister")?;
        // Last, since it may be waiting for the persister. What it could not pass on any more dies again in the next life.
        join(upkeep, "upkeep")?;
        ended?;
        if let Some(failure) = store.take_failure() {
            return Err(failure);
        }
        let queues = store.topology.queues();
        let durable = queues.iter().filter(|queue| queue.durable);
        let delivered: Vec<(u32, u64)> =
            durable.map(|queue| (queue.id, queue.lock().delivered_through())).collect();
        store.persister.write_close(&delivered)
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
