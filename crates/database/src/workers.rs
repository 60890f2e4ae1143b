//! How a service submits jobs: the trait that it implements, and the handle that it calls.
//!
//! A caller waits for its answer until its deadline and no longer, even if a worker hangs in PostgreSQL. A free worker
//! takes the jobs that are waiting as one batch: the busier the service, the larger the batches. No job waits for a
//! batch to fill.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use foundation::metrics::{Counter, Exposition};

use crate::promise::Promise;
use crate::queue::Queue;
use crate::reconnection::Reconnection;
use crate::worker::Worker;
use crate::{Connection, DatabaseSettings, Error, Failure, Migration};

/// Most jobs in one batch.
pub const BATCH_MAX: usize = 128;

/// How long a database counts as ready after it last did work, in milliseconds. Under load, readiness needs no query.
const READY_FOR_MS: u64 = 500;

/// Executes the jobs of a service. Each worker thread has its own.
pub trait Executor: Send + 'static {
    /// The request.
    type Job: Send + 'static;
    /// The answer.
    type Answer: Send + 'static;

    /// Whether `next` may be in a batch with `first`: two reads by id from one table, for example, or two inserts into
    /// one. Reads and writes are never mixed, whatever this returns.
    fn joins(&self, first: &Self::Job, next: &Self::Job) -> bool;

    /// Whether the job may change anything. Such a job is not repeated once it may have had an effect.
    fn is_write(&self, job: &Self::Job) -> bool;

    /// Executes a batch of 1 to [`BATCH_MAX`] jobs: one result for each, in their order.
    ///
    /// An error for the whole batch must mean that none of it was done, unless the connection was lost; so use one
    /// statement or one transaction. When PostgreSQL rejects a batch of several jobs, each is executed again alone, so
    /// that only the faulty ones fail.
    fn execute(&mut self, connection: &mut Connection, jobs: &[Self::Job]) -> Results<Self::Answer>;
}

/// One result for each job of a batch, or one error for all of them.
pub type Results<A> = Result<Vec<Result<A, postgres::Error>>, postgres::Error>;

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

/// What a service's workers share with their callers.
pub(crate) struct Shared<E: Executor> {
    pub(crate) queue: Queue<E::Job, E::Answer>,
    pub(crate) reconnection: Reconnection,
    pub(crate) settings: DatabaseSettings,
    pub(crate) migrations: &'static [Migration],
    pub(crate) make_executor: Box<dyn Fn() -> E + Send + Sync>,
    /// How many connections turned out to be dead. A connection that was last used before the latest of these deaths is
    /// checked before its next use: usually the server was restarted and all connections are dead.
    pub(crate) deaths: AtomicU64,
    started: Instant,
    /// When PostgreSQL last did work, in milliseconds after `started`; 0 after a connection was lost.
    pub(crate) worked_at_ms: AtomicU64,
    pub(crate) stats: Stats,
    unusable: Mutex<Unusable>,
}

/// A permanent error of the database, and the callback that wants to learn of it.
#[derive(Default)]
struct Unusable {
    error: Option<Error>,
    tell: Option<Box<dyn FnOnce(Error) + Send>>,
}

/// What the workers count.
#[derive(Debug, Default)]
pub struct Stats {
    /// Jobs that were executed.
    pub jobs: Counter,
    /// Batches that they were executed in.
    pub batches: Counter,
    /// Connections that were opened.
    pub connects: Counter,
    /// Attempts to connect that failed.
    pub failed_connects: Counter,
    /// Connections that were lost.
    pub lost: Counter,
}

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
        let shared = Arc::new(Shared {
            queue: Queue::new(limits.queue_max.max(1), threads),
            reconnection: Reconnection::new(),
            settings: settings.clone(),
            migrations,
            make_executor: Box::new(make_executor),
            deaths: AtomicU64::new(0),
            started: Instant::now(),
            worked_at_ms: AtomicU64::new(0),
            stats: Stats::default(),
            unusable: Mutex::default(),
        });
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
        self.shared().queue.ask(job, deadline)
    }

    /// Hands `job` to the workers and goes on; the answer is waited for later, so that a worker and whoever asked can
    /// work at the same time. Fails at once when the queue is full or PostgreSQL is away.
    pub fn submit(&self, job: E::Job, deadline: Instant) -> Result<Pending<E::Answer>, Failure> {
        let promise = self.shared().queue.submit(job, deadline)?;
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
        let mut unusable = self.shared().unusable.lock().unwrap_or_else(PoisonError::into_inner);
        match unusable.error.take() {
            Some(error) => tell(error),
            None => unusable.tell = Some(Box::new(tell)),
        }
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

impl<E: Executor> Shared<E> {
    /// Milliseconds since the start.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Reports that no attempt to connect can succeed.
    pub(crate) fn note_unusable(&self, error: Error) {
        let mut unusable = self.unusable.lock().unwrap_or_else(PoisonError::into_inner);
        match unusable.tell.take() {
            Some(tell) => tell(error),
            None => unusable.error = Some(error),
        }
    }
}

impl<E: Executor> Drop for Handle<E> {
    fn drop(&mut self) {
        self.0.queue.stop();
        self.0.reconnection.stop();
    }
}
