//! One worker: a thread that owns a connection, executes batches of jobs, and answers every caller.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::executor::{BATCH_MAX, BatchKind, Executor, batch_kind};
use crate::queue::{NextTask, Queued, Waiter};
use crate::shared::Shared;
use crate::{Connection, Error, Failure, ends_connection};

/// A connection that has been idle for longer than this is checked before a write, because a write cannot be repeated
/// when its outcome is unknown.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// A connection that is lost sooner than this, before it has done any work, counts as a failed attempt to connect.
const SHORT_LIVED: Duration = Duration::from_secs(1);

/// One worker thread.
pub(crate) struct Worker<E: Executor> {
    shared: Arc<Shared<E>>,
    executor: E,
    open: Option<OpenConnection>,
}

/// A worker's connection.
struct OpenConnection {
    connection: Connection,
    opened: Instant,
    last_used: Instant,
    /// Whether it has done any work yet.
    worked: bool,
    /// The value of [`Shared::deaths`] when this connection was last known to work.
    deaths: u64,
}

/// The state of a connection after a batch, from best to worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ConnectionHealth {
    Working,
    /// PostgreSQL answers, but temporarily refuses work.
    Refusing,
    Lost,
}

type Batch<E> = Vec<Queued<<E as Executor>::Job, <E as Executor>::Answer, BatchKind<E>>>;

impl<E: Executor> Worker<E> {
    /// A worker that has no connection yet.
    pub(crate) fn new(shared: Arc<Shared<E>>) -> Self {
        Self { executor: (shared.make_executor)(), shared, open: None }
    }

    /// Works until the workers stop.
    pub(crate) fn run(mut self) {
        // However the thread ends, no caller may be left waiting for it.
        let _ended = Ended(self.shared.clone());
        loop {
            if self.open.is_none() && !self.connect() {
                return;
            }
            match self.shared.queue.take(BATCH_MAX) {
                NextTask::Stop => return,
                NextTask::Probe(promise) => {
                    if promise.begin(false) {
                        let checked = self.check();
                        promise.answer(checked);
                    }
                }
                NextTask::Batch(batch) => {
                    let kind = batch[0].kind;
                    self.settle(batch);
                    self.shared.queue.finished(kind);
                }
            }
        }
    }

    /// Tries to connect until it succeeds. Returns `false` if the workers stop.
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
                    let now = Instant::now();
                    self.open = Some(OpenConnection {
                        connection,
                        opened: now,
                        last_used: now,
                        worked: false,
                        deaths,
                    });
                    return true;
                }
                Err(error) => {
                    shared.stats.failed_connects.increment();
                    shared.reconnection.failed();
                    shared.queue.failed_to_connect(&error.to_string());
                    report(&error, failures);
                    failures += 1;
                    if error.is_permanent() {
                        shared.note_unusable(error);
                    }
                }
            }
        }
        false
    }

    /// Checks the connection; closes it if it does not work.
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

    /// Closes the connection.
    fn lose(&mut self, error: &dyn std::fmt::Display) {
        let Some(open) = self.open.take() else { return };
        log::debug!("a connection to postgresql was lost: {error}");
        self.shared.deaths.fetch_add(1, Ordering::Relaxed);
        self.shared.worked_at_ms.store(0, Ordering::Relaxed);
        self.shared.stats.lost.increment();
        self.shared.queue.disconnected();
        // A server that accepts connections and drops them at once must be backed off from, too.
        if !open.worked && open.opened.elapsed() < SHORT_LIVED {
            self.shared.reconnection.failed();
        }
    }

    /// Executes a batch, or puts it back into the queue if the connection does not work.
    fn settle(&mut self, batch: Batch<E>) {
        let Some(open) = &self.open else { return self.shared.queue.requeue(batch) };
        let is_write = E::is_write(&batch[0].job);
        let rested = is_write && open.last_used.elapsed() > TRUSTED_FOR;
        let suspect = open.deaths != self.shared.deaths.load(Ordering::Relaxed);
        if (rested || suspect) && self.check().is_err() {
            return self.shared.queue.requeue(batch);
        }
        let now = Instant::now();
        let (mut jobs, mut waiters) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for Queued { job, waiter, .. } in batch {
            if waiter.deadline <= now {
                waiter.promise.answer(Err(Failure::TimedOut));
            } else if waiter.promise.begin(is_write) {
                jobs.push(job);
                waiters.push(waiter);
            }
        }
        if !jobs.is_empty() {
            self.execute(jobs, waiters, is_write);
        }
    }

    /// Executes jobs that have been marked as begun.
    fn execute(&mut self, jobs: Vec<E::Job>, waiters: Vec<Waiter<E::Answer>>, is_write: bool) {
        let Some(open) = &mut self.open else { return };
        let deaths = self.shared.deaths.load(Ordering::Relaxed);
        self.shared.stats.jobs.add(jobs.len() as u64);
        self.shared.stats.batches.increment();
        let execute = || self.executor.execute(&mut open.connection, &jobs);
        // A panic in one job must not end the worker, which serves all others.
        let Ok(results) = catch_unwind(AssertUnwindSafe(execute)) else {
            return self.panicked(&waiters, is_write);
        };
        match results {
            Ok(results) => {
                let health = answer(waiters, results, is_write);
                let is_closed = open.connection.client.is_closed();
                if health == ConnectionHealth::Lost || is_closed {
                    self.lose(&"a job found it closed");
                } else {
                    self.worked(health, deaths);
                }
            }
            Err(error) if ends_connection(&error) || open.connection.client.is_closed() => {
                self.lose(&crate::describe(&error));
                self.lost_batch(jobs, waiters, &error, is_write);
            }
            Err(error) => {
                let failure = Failure::of(&error, is_write);
                self.worked(health_of(&failure), deaths);
                if jobs.len() > 1 && may_succeed_alone(&failure, &error) {
                    return self.execute_alone(jobs, waiters, is_write);
                }
                for waiter in waiters {
                    waiter.promise.answer(Err(failure.clone()));
                }
            }
        }
    }

    /// Executes the jobs of a rejected batch one by one. None of them has had any effect so far.
    fn execute_alone(&mut self, jobs: Vec<E::Job>, waiters: Vec<Waiter<E::Answer>>, is_write: bool) {
        let mut remaining = jobs.into_iter().zip(waiters);
        while self.open.is_some()
            && let Some((job, waiter)) = remaining.next()
        {
            if waiter.deadline <= Instant::now() {
                waiter.promise.answer(Err(Failure::TimedOut));
            } else {
                self.execute(vec![job], vec![waiter], is_write);
            }
        }
        let rest: Batch<E> = remaining.map(|(job, waiter)| Self::queued(job, waiter)).collect();
        if !rest.is_empty() {
            self.shared.queue.requeue(rest);
        }
    }

    /// A job that goes back into the queue.
    fn queued(job: E::Job, waiter: Waiter<E::Answer>) -> Queued<E::Job, E::Answer, BatchKind<E>> {
        Queued { kind: batch_kind::<E>(&job), job, waiter }
    }

    /// Handles a batch whose connection was lost. Reads are repeated once; writes are answered as unknown.
    fn lost_batch(
        &mut self,
        jobs: Vec<E::Job>,
        waiters: Vec<Waiter<E::Answer>>,
        error: &postgres::Error,
        is_write: bool,
    ) {
        let mut again = Vec::new();
        for (job, mut waiter) in jobs.into_iter().zip(waiters) {
            if is_write || waiter.repeated {
                waiter.promise.answer(Err(Failure::of(error, is_write)));
            } else {
                waiter.repeated = true;
                again.push(Self::queued(job, waiter));
            }
        }
        if !again.is_empty() {
            self.shared.queue.requeue(again);
        }
    }

    fn worked(&mut self, health: ConnectionHealth, deaths: u64) {
        let Some(open) = &mut self.open else { return };
        (open.last_used, open.deaths) = (Instant::now(), deaths);
        if health == ConnectionHealth::Working {
            self.shared.worked_at_ms.store(self.shared.elapsed_ms(), Ordering::Relaxed);
            if !open.worked {
                open.worked = true;
                self.shared.reconnection.worked();
            }
        }
    }

    /// Handles a panic in a job. The connection's state is unknown (it may be inside a transaction), so it is closed.
    fn panicked(&mut self, waiters: &[Waiter<E::Answer>], is_write: bool) {
        log::error!("a job panicked; its connection is closed");
        self.lose(&"a job panicked");
        self.executor = (self.shared.make_executor)();
        for waiter in waiters {
            let reason = "the job panicked".to_owned();
            let failure = if is_write { Failure::Unknown(reason) } else { Failure::Internal(reason) };
            waiter.promise.answer(Err(failure));
        }
    }
}

/// Gives each caller of a batch its result.
fn answer<A>(
    waiters: Vec<Waiter<A>>,
    results: Vec<Result<A, postgres::Error>>,
    is_write: bool,
) -> ConnectionHealth {
    let mut health = ConnectionHealth::Working;
    let mut results = results.into_iter();
    for waiter in waiters {
        let answer = match results.next() {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => {
                let failure = Failure::of(&error, is_write);
                health = health.max(if ends_connection(&error) {
                    ConnectionHealth::Lost
                } else {
                    health_of(&failure)
                });
                Err(failure)
            }
            None => Err(Failure::Internal("the batch has too few results".to_owned())),
        };
        waiter.promise.answer(answer);
    }
    health
}

/// Whether some jobs of a failed batch may succeed when executed alone: the batch was rolled back because of one of
/// them, or because of a conflict with another transaction (class 40, such as a deadlock).
fn may_succeed_alone(failure: &Failure, error: &postgres::Error) -> bool {
    matches!(failure, Failure::Refused(_) | Failure::Internal(_))
        || error.code().is_some_and(|code| code.code().starts_with("40"))
            && matches!(failure, Failure::Unavailable(_))
}

fn health_of(failure: &Failure) -> ConnectionHealth {
    match failure {
        Failure::Unavailable(_) | Failure::TimedOut | Failure::Unknown(_) => ConnectionHealth::Refusing,
        Failure::Refused(_) | Failure::Internal(_) | Failure::Overloaded => ConnectionHealth::Working,
    }
}

/// Logs the first failure of a series as a warning; the following ones say the same.
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
