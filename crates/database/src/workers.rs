//! The threads that own connections and execute jobs in batches.
//!
//! Whoever asks waits for an answer until its deadline and no longer, even if a worker hangs in PostgreSQL. A batch
//! is whatever waits when a worker becomes free: the busier the service, the larger the batches, and nobody ever
//! waits for a batch to fill.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use foundation::metrics::{Counter, Exposition};

use crate::queue::{Queue, Queued, Taken, Ticket};
use crate::reconnection::Reconnection;
use crate::{Connection, DatabaseSettings, Error, Failure, Migration, ends_connection};

/// Most jobs that one batch holds.
pub const BATCH_MAX: usize = 128;

/// A connection that has rested longer than this is tried before something is changed through it, because a change
/// cannot be repeated when it is unclear whether the first attempt took place.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// How long a database counts as ready after it did some work, in milliseconds. Under load, nobody has to ask it.
const READY_FOR_MS: u64 = 500;

/// How the jobs of a service are executed. Each worker thread has one of its own.
pub trait Executor: Send + 'static {
    /// What is asked for.
    type Job: Send + 'static;
    /// What is answered.
    type Answer: Send + 'static;

    /// Whether `next` may be executed together with `first`, as two reads by id from one table, or two inserts into
    /// one. Reads and writes never are.
    fn joins(&self, first: &Self::Job, next: &Self::Job) -> bool;

    /// Whether the job may change anything. Such a job is never repeated once it was begun.
    fn is_write(&self, job: &Self::Job) -> bool;

    /// Executes a batch of 1 to [`BATCH_MAX`] jobs: one result for each, in their order.
    ///
    /// An error of the whole batch must mean that nothing of it was done, unless the connection is lost: use one
    /// statement or one transaction. When PostgreSQL refused a batch of several jobs, each of them is executed again
    /// by itself, so that only those that are to blame fail.
    fn execute(&mut self, connection: &mut Connection, jobs: &[Self::Job]) -> Results<Self::Answer>;
}

/// One result for each job of a batch, or one error for all of them.
pub type Results<A> = Result<Vec<Result<A, postgres::Error>>, postgres::Error>;

/// The limits of a service's workers.
#[derive(Clone, Copy, Debug)]
pub struct WorkerSettings {
    /// Connections, and as many threads.
    pub threads: usize,
    /// Most jobs that wait; further ones are refused.
    pub queue_max: usize,
}

/// The workers of one service. Clones share them; they end when the last clone is dropped, or by [`Workers::stop`].
pub struct Workers<E: Executor> {
    handle: Arc<Handle<E>>,
}

struct Handle<E: Executor>(Arc<Shared<E>>);

struct Shared<E: Executor> {
    queue: Queue<E::Job, E::Answer>,
    reconnection: Reconnection,
    settings: DatabaseSettings,
    migrations: &'static [Migration],
    make_executor: Box<dyn Fn() -> E + Send + Sync>,
    /// How many connections turned out to be dead. A connection that has done nothing since the last of them is
    /// tried before it is used: most often the server was restarted, and all connections are dead.
    deaths: AtomicU64,
    started: Instant,
    /// When PostgreSQL last did some work, in milliseconds after `started`; 0 after a connection was lost.
    worked_at_ms: AtomicU64,
    stats: Stats,
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
    /// Starts the threads, named after `name`. They connect by themselves, one at a time; jobs may be asked for at
    /// once, and wait for the first connection or for the first failure to get one.
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
        });
        let workers = Self { handle: Arc::new(Handle(shared.clone())) };
        for number in 1..=threads {
            let worker = Worker { executor: (shared.make_executor)(), shared: shared.clone(), open: None };
            thread::Builder::new().name(format!("{name}-{number}")).spawn(move || worker.run())?;
        }
        Ok(workers)
    }

    fn shared(&self) -> &Shared<E> {
        &self.handle.0
    }

    /// Has `job` executed and waits for its answer, no longer than until `deadline`. A job that is not begun by then
    /// never is.
    pub fn ask(&self, job: E::Job, deadline: Instant) -> Result<E::Answer, Failure> {
        self.shared().queue.ask(job, deadline)
    }

    /// Whether PostgreSQL works: it did some work a moment ago, or answers now.
    pub fn ready(&self, deadline: Instant) -> Result<(), Failure> {
        let shared = self.shared();
        let worked_at_ms = shared.worked_at_ms.load(Ordering::Relaxed);
        if worked_at_ms > 0 && shared.elapsed_ms().saturating_sub(worked_at_ms) < READY_FOR_MS {
            return Ok(());
        }
        shared.queue.probe(deadline)
    }

    /// Takes no further jobs, lets those finish that wait, and waits up to `timeout` for it; tells whether all
    /// threads have ended. One that hangs in PostgreSQL is left behind.
    pub fn stop(&self, timeout: Duration) -> bool {
        let shared = self.shared();
        shared.queue.stop();
        shared.reconnection.stop();
        shared.queue.wait_ended(Instant::now() + timeout)
    }

    /// What was counted since the start.
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

impl<E: Executor> Shared<E> {
    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl<E: Executor> Drop for Handle<E> {
    fn drop(&mut self) {
        self.0.queue.stop();
        self.0.reconnection.stop();
    }
}

/// One thread.
struct Worker<E: Executor> {
    shared: Arc<Shared<E>>,
    executor: E,
    open: Option<Open>,
}

/// A worker's connection.
struct Open {
    connection: Connection,
    last_used: Instant,
    /// Whether it has done any work yet.
    worked: bool,
    /// How many connections had died when this one was known to work.
    deaths: u64,
}

/// What a worker knows after executing a batch, from good to bad.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Health {
    Working,
    /// PostgreSQL answers, but does no work for now.
    Refusing,
    Lost,
}

type Batch<E> = Vec<Queued<<E as Executor>::Job, <E as Executor>::Answer>>;

impl<E: Executor> Worker<E> {
    fn run(mut self) {
        // However the thread ends, nobody must wait for it.
        let _ended = Ended(self.shared.clone());
        loop {
            if self.open.is_none() && !self.connect() {
                return;
            }
            let executor = &self.executor;
            let joins = |first: &E::Job, next: &E::Job| {
                executor.is_write(first) == executor.is_write(next) && executor.joins(first, next)
            };
            match self.shared.queue.take(BATCH_MAX, joins) {
                Taken::Stop => return,
                Taken::Probe(slot) => {
                    if slot.begin(false) {
                        let checked = self.check();
                        slot.answer(checked);
                    }
                }
                Taken::Batch(batch) => self.settle(batch),
            }
        }
    }

    /// Tries to connect, again and again, until it succeeds. `false` means that the workers stop.
    fn connect(&mut self) -> bool {
        let shared = self.shared.clone();
        let mut failures = 0;
        while let Some(_turn) = shared.reconnection.turn() {
            let deaths = shared.deaths.load(Ordering::Relaxed);
            match shared.settings.connect(shared.migrations) {
                Ok(connection) => {
                    if failures > 0 {
                        log::info!("connected to postgresql");
                    }
                    shared.stats.connects.increment();
                    shared.queue.connected();
                    self.open = Some(Open { connection, last_used: Instant::now(), worked: false, deaths });
                    return true;
                }
                Err(error) => {
                    shared.stats.failed_connects.increment();
                    shared.reconnection.failed();
                    shared.queue.failed_to_connect(&error.to_string());
                    report(&error, failures);
                    failures += 1;
                }
            }
        }
        false
    }

    /// Makes sure that the connection works, or gives it up.
    fn check(&mut self) -> Result<(), Failure> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let deaths = self.shared.deaths.load(Ordering::Relaxed);
        match open.connection.check() {
            Ok(()) => {
                (open.last_used, open.deaths) = (Instant::now(), deaths);
                Ok(())
            }
            Err(error) => {
                self.lose(&error);
                Err(Failure::of(&error, false))
            }
        }
    }

    /// Gives the connection up.
    fn lose(&mut self, error: &dyn std::fmt::Display) {
        let Some(open) = self.open.take() else { return };
        log::debug!("a connection to postgresql was lost: {error}");
        self.shared.deaths.fetch_add(1, Ordering::Relaxed);
        self.shared.worked_at_ms.store(0, Ordering::Relaxed);
        self.shared.stats.lost.increment();
        self.shared.queue.disconnected();
        if !open.worked {
            self.shared.reconnection.failed();
        }
    }

    /// Sees to it that everybody in the batch is answered, or that the job waits again.
    fn settle(&mut self, batch: Batch<E>) {
        let Some(open) = &self.open else { return self.shared.queue.give_back(batch) };
        let is_write = self.executor.is_write(&batch[0].job);
        let rested = is_write && open.last_used.elapsed() > TRUSTED_FOR;
        let suspect = open.deaths != self.shared.deaths.load(Ordering::Relaxed);
        if (rested || suspect) && self.check().is_err() {
            return self.shared.queue.give_back(batch);
        }
        let now = Instant::now();
        let (mut jobs, mut tickets) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for Queued { job, ticket } in batch {
            if ticket.deadline <= now {
                ticket.slot.answer(Err(Failure::TimedOut));
            } else if ticket.slot.begin(is_write) {
                jobs.push(job);
                tickets.push(ticket);
            }
        }
        if !jobs.is_empty() {
            self.execute(jobs, tickets, is_write);
        }
    }

    /// Executes jobs that are begun.
    fn execute(&mut self, jobs: Vec<E::Job>, tickets: Vec<Ticket<E::Answer>>, is_write: bool) {
        let Some(open) = &mut self.open else { return };
        let deaths = self.shared.deaths.load(Ordering::Relaxed);
        self.shared.stats.jobs.add(jobs.len() as u64);
        self.shared.stats.batches.increment();
        let execute = || self.executor.execute(&mut open.connection, &jobs);
        // A bug in one job must not take a worker away from all others.
        let Ok(results) = catch_unwind(AssertUnwindSafe(execute)) else {
            return self.panicked(&tickets, is_write);
        };
        match results {
            Ok(results) => {
                let health = answer(tickets, results, is_write);
                let is_closed = open.connection.client.is_closed();
                if health == Health::Lost || is_closed {
                    self.lose(&"a job found it closed");
                } else {
                    self.worked(health, deaths);
                }
            }
            Err(error) if ends_connection(&error) || open.connection.client.is_closed() => {
                self.lose(&crate::describe(&error));
                self.lost_batch(jobs, tickets, &error, is_write);
            }
            Err(error) => {
                let failure = Failure::of(&error, is_write);
                let to_blame = matches!(failure, Failure::Refused(_) | Failure::Internal(_));
                self.worked(health_of(&failure), deaths);
                if jobs.len() > 1 && to_blame {
                    return self.execute_alone(jobs, tickets, is_write);
                }
                for ticket in tickets {
                    ticket.slot.answer(Err(failure.clone()));
                }
            }
        }
    }

    /// Executes the jobs of a refused batch one by one. Nothing of them was done so far.
    fn execute_alone(&mut self, jobs: Vec<E::Job>, tickets: Vec<Ticket<E::Answer>>, is_write: bool) {
        let mut remaining = jobs.into_iter().zip(tickets);
        while self.open.is_some()
            && let Some((job, ticket)) = remaining.next()
        {
            if ticket.deadline <= Instant::now() {
                ticket.slot.answer(Err(Failure::TimedOut));
            } else {
                self.execute(vec![job], vec![ticket], is_write);
            }
        }
        let rest: Batch<E> = remaining.map(|(job, ticket)| Queued { job, ticket }).collect();
        if !rest.is_empty() {
            self.shared.queue.give_back(rest);
        }
    }

    /// Repeats reads once, on the next connection that works. Writes may have been done.
    fn lost_batch(
        &mut self,
        jobs: Vec<E::Job>,
        tickets: Vec<Ticket<E::Answer>>,
        error: &postgres::Error,
        is_write: bool,
    ) {
        let mut again = Vec::new();
        for (job, mut ticket) in jobs.into_iter().zip(tickets) {
            if is_write || ticket.repeated {
                ticket.slot.answer(Err(Failure::of(error, is_write)));
            } else {
                ticket.repeated = true;
                again.push(Queued { job, ticket });
            }
        }
        if !again.is_empty() {
            self.shared.queue.give_back(again);
        }
    }

    fn worked(&mut self, health: Health, deaths: u64) {
        let Some(open) = &mut self.open else { return };
        (open.last_used, open.deaths) = (Instant::now(), deaths);
        if health == Health::Working {
            self.shared.worked_at_ms.store(self.shared.elapsed_ms(), Ordering::Relaxed);
            if !open.worked {
                open.worked = true;
                self.shared.reconnection.worked();
            }
        }
    }

    /// A job panicked. Its connection is in an unknown state, perhaps inside a transaction.
    fn panicked(&mut self, tickets: &[Ticket<E::Answer>], is_write: bool) {
        log::error!("a job panicked; its connection is closed");
        self.lose(&"a job panicked");
        self.executor = (self.shared.make_executor)();
        for ticket in tickets {
            let reason = "the job panicked".to_owned();
            let failure = if is_write { Failure::Unknown(reason) } else { Failure::Internal(reason) };
            ticket.slot.answer(Err(failure));
        }
    }
}

/// Gives everybody in a batch their result.
fn answer<A>(tickets: Vec<Ticket<A>>, results: Vec<Result<A, postgres::Error>>, is_write: bool) -> Health {
    let mut health = Health::Working;
    let mut results = results.into_iter();
    for ticket in tickets {
        let answer = match results.next() {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => {
                let failure = Failure::of(&error, is_write);
                health = health.max(if ends_connection(&error) { Health::Lost } else { health_of(&failure) });
                Err(failure)
            }
            None => Err(Failure::Internal("the batch has too few results".to_owned())),
        };
        ticket.slot.answer(answer);
    }
    health
}

fn health_of(failure: &Failure) -> Health {
    match failure {
        Failure::Unavailable(_) | Failure::TimedOut | Failure::Unknown(_) => Health::Refusing,
        Failure::Refused(_) | Failure::Internal(_) | Failure::Overloaded => Health::Working,
    }
}

/// Tells of the first failure in a row; the others follow within seconds and say the same.
fn report(error: &Error, failures: u32) {
    if error.is_permanent() {
        log::error!("{error}");
    } else if failures == 0 {
        log::warn!("{error}; trying again until it succeeds");
    } else {
        log::debug!("{error}");
    }
}

struct Ended<E: Executor>(Arc<Shared<E>>);

impl<E: Executor> Drop for Ended<E> {
    fn drop(&mut self) {
        self.0.queue.ended();
    }
}
