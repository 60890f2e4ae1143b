//! One worker: a thread that owns a connection, takes batches, and sees to it that everybody in them is answered.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::queue::{Queued, Taken, Ticket};
use crate::workers::Shared;
use crate::{BATCH_MAX, Connection, Error, Executor, Failure, ends_connection};

/// A connection that has rested longer than this is tried before something is changed through it, because a change
/// cannot be repeated when it is unclear whether the first attempt took place.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// A connection that is lost sooner than this without having done any work counts as a failed attempt to connect.
const SHORT_LIVED: Duration = Duration::from_secs(1);

/// One thread.
pub(crate) struct Worker<E: Executor> {
    shared: Arc<Shared<E>>,
    executor: E,
    open: Option<Open>,
}

/// A worker's connection.
struct Open {
    connection: Connection,
    opened: Instant,
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
    /// A worker that has no connection yet.
    pub(crate) fn new(shared: Arc<Shared<E>>) -> Self {
        Self { executor: (shared.make_executor)(), shared, open: None }
    }

    /// Works until the workers stop.
    pub(crate) fn run(mut self) {
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
                    let now = Instant::now();
                    self.open = Some(Open { connection, opened: now, last_used: now, worked: false, deaths });
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
        // Connections that are accepted and lost again at once must not be opened ever faster.
        if !open.worked && open.opened.elapsed() < SHORT_LIVED {
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
                self.worked(health_of(&failure), deaths);
                if jobs.len() > 1 && may_succeed_alone(&failure, &error) {
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

/// Whether some jobs of a failed batch may succeed by themselves: it was rolled back because of one of them, or
/// because another transaction held in the opposite order what it needed (class 40, such as a deadlock).
fn may_succeed_alone(failure: &Failure, error: &postgres::Error) -> bool {
    matches!(failure, Failure::Refused(_) | Failure::Internal(_))
        || error.code().is_some_and(|code| code.code().starts_with("40"))
            && matches!(failure, Failure::Unavailable(_))
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
