//! How a service submits jobs: the handle that it calls.
//!
//! A caller waits for its answer until its deadline and no longer, even if a worker hangs in PostgreSQL. A free worker
//! takes the waiting jobs of one kind as one batch: the busier the service, the larger the batches. No job waits for a
//! batch to fill; but while a batch of its kind is being executed, it waits up to three milliseconds for that worker.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use foundation::metrics::Exposition;

use crate::executor::{Executor, batch_kind};
use crate::promise::Promise;
use crate::queue::Queue;
use crate::shared::{Shared, Stats};
use crate::worker::Worker;
use crate::{DatabaseSettings, Error, Failure, Migration};

/// How long a database counts as ready after it last did work, in milliseconds. Under load, readiness needs no query.
const READY_FOR_MS: u64 = 500;

/// The limits of a service's workers.
#[derive(Clone, Copy, Debug)]
pub struct WorkerSettings {
    /// The number of threads; each has one connection.
    pub threads: usize,
    /// Most waiting jobs; further ones are refused.
    pub queue_max: usize,
}

/// The workers of one service. Clones share them; they end when the last clone is dropped, or by [`Workers::stop`].
pub struct Workers<E: Executor> {
    handle: Arc<Handle<E>>,
}

struct Handle<E: Executor>(Arc<Shared<E>>);

impl<E: Executor> Clone for Workers<E> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone() }
    }
}

impl<E: Executor> Workers<E> {
    /// Starts the threads, named after `name`, which connect in the background, one at a time. Jobs may be submitted at
    /// once; they wait until a worker has connected or has failed to.
    pub fn start(
        name: &str,
        settings: &DatabaseSettings,
        migrations: &'static [Migration],
        limits: WorkerSettings,
        make_executor: impl Fn() -> E + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let threads = limits.threads.max(1);
        let queue = Queue::new(limits.queue_max.max(1), threads);
        let shared = Arc::new(Shared::new(queue, settings.clone(), migrations, make_executor));
        let workers = Self { handle: Arc::new(Handle(shared.clone())) };
        for number in 1..=threads {
            let worker = Worker::new(shared.clone());
            thread::Builder::new().name(format!("{name}-{number}")).spawn(move || worker.run())?;
        }
        Ok(workers)
    }

    fn shared(&self) -> &Shared<E> {
        &self.handle.0
    }

    /// Submits `job` and waits for its answer until `deadline` at most. A job that has not begun by then is never
    /// executed.
    pub fn ask(&self, job: E::Job, deadline: Instant) -> Result<E::Answer, Failure> {
        let kind = batch_kind::<E>(&job);
        self.shared().queue.ask(job, kind, deadline)
    }

    /// Hands `job` to the workers and goes on; the answer is waited for later, so that a worker and whoever asked can
    /// work at the same time. Fails at once when the queue is full or PostgreSQL is away.
    pub fn submit(&self, job: E::Job, deadline: Instant) -> Result<Pending<E::Answer>, Failure> {
        let kind = batch_kind::<E>(&job);
        let promise = self.shared().queue.submit(job, kind, deadline)?;
        Ok(Pending { promise, deadline })
    }

    /// Checks that PostgreSQL works: it did work a moment ago, or answers a query now.
    pub fn ready(&self, deadline: Instant) -> Result<(), Failure> {
        let shared = self.shared();
        let worked_at_ms = shared.worked_at_ms.load(Ordering::Relaxed);
        if worked_at_ms > 0 && shared.elapsed_ms().saturating_sub(worked_at_ms) < READY_FOR_MS {
            return Ok(());
        }
        shared.queue.probe(deadline)
    }

    /// Accepts no further jobs and waits up to `timeout` for the waiting ones to finish; returns whether all threads
    /// have ended. A thread that hangs in PostgreSQL is left behind.
    pub fn stop(&self, timeout: Duration) -> bool {
        let shared = self.shared();
        shared.queue.stop();
        shared.reconnection.stop();
        shared.queue.wait_ended(Instant::now() + timeout)
    }

    /// Calls `tell` once if connecting fails permanently ([`Error::is_permanent`]), immediately if it already has. The
    /// workers go on trying.
    pub fn when_unusable(&self, tell: impl FnOnce(Error) + Send + 'static) {
        self.shared().when_unusable(tell);
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.shared().stats
    }

    /// Adds the families `database_…` to a text for Prometheus.
    pub fn write_metrics(&self, text: &mut Exposition) {
        let Stats { jobs, batches, connects, failed_connects, lost } = self.stats();
        let (waiting, connected) = self.shared().queue.figures();
        let mut single = |name, kind, help, value: u64| text.single(name, kind, help, value);
        single("database_jobs_total", "counter", "Jobs that were executed.", jobs.get());
        single("database_batches_total", "counter", "Batches that jobs were executed in.", batches.get());
        single("database_connects_total", "counter", "Connections that were opened.", connects.get());
        single(
            "database_failed_connects_total",
            "counter",
            "Attempts to connect that failed.",
            failed_connects.get(),
        );
        single("database_lost_connections_total", "counter", "Connections that were lost.", lost.get());
        single("database_jobs_waiting", "gauge", "Jobs that wait for a worker.", waiting as u64);
        single("database_connections", "gauge", "Workers that are connected.", connected as u64);
    }
}

/// A job that was handed to the workers. Whoever drops it without waiting gives it up: it is not begun any more.
pub struct Pending<A> {
    promise: Arc<Promise<A>>,
    deadline: Instant,
}

impl<A> Pending<A> {
    /// Waits for the answer, no longer than until the deadline of the job; an answer that is there already is returned
    /// whatever the time.
    pub fn wait(self) -> Result<A, Failure> {
        self.promise.wait(self.deadline)
    }
}

impl<A> Drop for Pending<A> {
    fn drop(&mut self) {
        self.promise.abandon();
    }
}

impl<E: Executor> Drop for Handle<E> {
    fn drop(&mut self) {
        self.0.queue.stop();
        self.0.reconnection.stop();
    }
}
