//! The jobs that wait for a worker. Nothing here talks to PostgreSQL.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::promise::Promise;

/// A job and the caller that waits for it.
pub(crate) struct Queued<J, A> {
    pub(crate) job: J,
    pub(crate) waiter: Waiter<A>,
}

/// The caller that waits for a job.
pub(crate) struct Waiter<A> {
    pub(crate) deadline: Instant,
    /// Whether the job was begun once already, on a connection that turned out to be dead.
    pub(crate) repeated: bool,
    pub(crate) promise: Arc<Promise<A>>,
}

/// What a worker does next.
pub(crate) enum NextTask<J, A> {
    /// Execute these jobs; there is at least one.
    Batch(Vec<Queued<J, A>>),
    /// Check the connection and report the result.
    Probe(Arc<Promise<()>>),
    /// Ends.
    Stop,
}

/// How long a job waits for a worker that is busy, before an idle one is woken as well. A worker that is done takes all
/// jobs that wait in one statement, which costs far less than a statement by each of several workers.
const BUSY_WORKER_PATIENCE: Duration = Duration::from_millis(3);

/// The jobs of one service that wait for a worker, in the order in which they came.
pub(crate) struct Queue<J, A> {
    state: Mutex<State<J, A>>,
    work: Condvar,
    capacity: usize,
}

struct State<J, A> {
    waiting: VecDeque<Queued<J, A>>,
    probes: VecDeque<Arc<Promise<()>>>,
    /// Workers that wait for a job.
    idle: usize,
    /// Workers that have a connection.
    connected: usize,
    /// Workers that have not ended.
    running: usize,
    /// Why no worker is connected; set once an attempt has failed.
    away: Option<String>,
    stopping: bool,
}

impl<J, A> Queue<J, A> {
    /// A queue for at most `capacity` jobs and for `workers` workers, none of which is connected yet.
    pub(crate) fn new(capacity: usize, workers: usize) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            probes: VecDeque::new(),
            idle: 0,
            connected: 0,
            running: workers,
            away: None,
            stopping: false,
        };
        Self { state: Mutex::new(state), work: Condvar::new(), capacity }
    }

    fn state(&self) -> MutexGuard<'_, State<J, A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job, which is not begun after `deadline`. Its answer is set in the promise.
    pub(crate) fn submit(&self, job: J, deadline: Instant) -> Result<Arc<Promise<A>>, Failure> {
        self.add(job, deadline, |state| state.idle > 0)
    }

    /// Adds a job and waits for its answer, no longer than until `deadline`. While a worker is busy, no other one is
    /// woken at first: it will soon be done, and then takes all that waits.
    pub(crate) fn ask(&self, job: J, deadline: Instant) -> Result<A, Failure> {
        let nobody_works = |state: &State<J, A>| state.idle > 0 && state.connected <= state.idle;
        let promise = self.add(job, deadline, nobody_works)?;
        let remaining = deadline.saturating_duration_since(Instant::now());
        if !promise.is_answered_within(BUSY_WORKER_PATIENCE.min(remaining)) {
            self.wake_idle_worker();
        }
        promise.wait(deadline)
    }

    fn add(
        &self,
        job: J,
        deadline: Instant,
        wakes: impl FnOnce(&State<J, A>) -> bool,
    ) -> Result<Arc<Promise<A>>, Failure> {
        let promise = Promise::new();
        let waiter = Waiter { deadline, repeated: false, promise: promise.clone() };
        self.push(|state| state.waiting.push_back(Queued { job, waiter }), wakes)?;
        Ok(promise)
    }

    /// Wakes an idle worker if a job waits.
    fn wake_idle_worker(&self) {
        let state = self.state();
        let wanted = state.idle > 0 && !state.waiting.is_empty();
        drop(state);
        if wanted {
            self.work.notify_one();
        }
    }

    /// Has a worker check its connection, before any waiting job.
    pub(crate) fn probe(&self, deadline: Instant) -> Result<(), Failure> {
        let promise = Promise::new();
        self.push(|state| state.probes.push_back(promise.clone()), |state| state.idle > 0)?;
        promise.wait(deadline)
    }

    /// Adds something to the queue, and wakes a worker if `wakes` wants one.
    fn push(
        &self,
        push: impl FnOnce(&mut State<J, A>),
        wakes: impl FnOnce(&State<J, A>) -> bool,
    ) -> Result<(), Failure> {
        let mut state = self.state();
        state.refuses()?;
        if state.waiting.len() + state.probes.len() >= self.capacity {
            return Err(Failure::Overloaded);
        }
        push(&mut state);
        let wanted = wakes(&state);
        drop(state);
        if wanted {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Waits for a job, then takes it together with the waiting jobs that `joins` allows in the same batch, at most
    /// `max` in all. Never waits for a batch to fill.
    pub(crate) fn take(&self, max: usize, joins: impl Fn(&J, &J) -> bool) -> NextTask<J, A> {
        let mut state = self.state();
        loop {
            if let Some(probe) = state.probes.pop_front() {
                return NextTask::Probe(probe);
            }
            if let Some(first) = state.waiting.pop_front() {
                let mut batch = vec![first];
                state.join(&mut batch, max, joins);
                let more = !state.waiting.is_empty() && state.idle > 0;
                drop(state);
                if more {
                    self.work.notify_one();
                }
                return NextTask::Batch(batch);
            }
            if state.stopping {
                return NextTask::Stop;
            }
            state.idle += 1;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    /// Puts jobs that have had no effect back at the front of the queue.
    pub(crate) fn requeue(&self, batch: Vec<Queued<J, A>>) {
        let mut state = self.state();
        for queued in batch.into_iter().rev() {
            queued.waiter.promise.defer();
            state.waiting.push_front(queued);
        }
        drop(state);
        self.work.notify_one();
    }

    /// A worker has connected.
    pub(crate) fn connected(&self) {
        let mut state = self.state();
        state.connected += 1;
        state.away = None;
    }

    /// A worker has lost its connection.
    pub(crate) fn disconnected(&self) {
        self.state().connected -= 1;
    }

    /// A worker could not connect. If no other worker is connected, refuses all waiting jobs, and all new ones until a
    /// worker connects.
    pub(crate) fn failed_to_connect(&self, reason: &str) {
        let mut state = self.state();
        if state.connected == 0 {
            state.away = Some(reason.to_owned());
            state.refuse_all(&Failure::Unavailable(reason.to_owned()));
        }
    }

    /// A worker ends. When the last one has ended, refuses the jobs that still wait.
    pub(crate) fn ended(&self) {
        let mut state = self.state();
        state.running -= 1;
        if state.running == 0 {
            state.stopping = true;
            state.refuse_all(&stopping());
            drop(state);
            self.work.notify_all();
        }
    }

    /// Accepts no further jobs. The workers finish the waiting ones and end.
    pub(crate) fn stop(&self) {
        self.state().stopping = true;
        self.work.notify_all();
    }

    /// Waits until all workers have ended or `deadline` has passed; returns whether they have ended.
    pub(crate) fn wait_ended(&self, deadline: Instant) -> bool {
        let mut state = self.state();
        while state.running > 0 {
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return false;
            }
            state = self.work.wait_timeout(state, remaining).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// The number of waiting jobs and of connected workers.
    pub(crate) fn figures(&self) -> (usize, usize) {
        let state = self.state();
        (state.waiting.len(), state.connected)
    }
}

impl<J, A> State<J, A> {
    /// Fails if no jobs are accepted at the moment.
    fn refuses(&self) -> Result<(), Failure> {
        if self.stopping {
            return Err(stopping());
        }
        match &self.away {
            Some(reason) if self.connected == 0 => Err(Failure::Unavailable(reason.clone())),
            _ => Ok(()),
        }
    }

    /// Moves the jobs that can join the first one into `batch`. The others keep their order.
    fn join(&mut self, batch: &mut Vec<Queued<J, A>>, max: usize, joins: impl Fn(&J, &J) -> bool) {
        let mut kept = VecDeque::new();
        while batch.len() < max
            && let Some(next) = self.waiting.pop_front()
        {
            if joins(&batch[0].job, &next.job) {
                batch.push(next);
            } else {
                kept.push_back(next);
            }
        }
        // Usually every job joins, and this loop moves nothing.
        while let Some(queued) = kept.pop_back() {
            self.waiting.push_front(queued);
        }
    }

    fn refuse_all(&mut self, failure: &Failure) {
        for queued in self.waiting.drain(..) {
            queued.waiter.promise.answer(Err(failure.clone()));
        }
        for probe in self.probes.drain(..) {
            probe.answer(Err(failure.clone()));
        }
    }
}

fn stopping() -> Failure {
    Failure::Unavailable("the workers stop".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Numbers = Queue<u32, u32>;

    fn push(queue: &Numbers, job: u32) -> Arc<Promise<u32>> {
        let promise = Promise::new();
        let waiter = Waiter { deadline: Instant::now(), repeated: false, promise: promise.clone() };
        queue.push(|state| state.waiting.push_back(Queued { job, waiter }), |_| false).unwrap();
        promise
    }

    fn take(queue: &Numbers, max: usize) -> Vec<u32> {
        let same_parity = |first: &u32, next: &u32| first % 2 == next % 2;
        let NextTask::Batch(batch) = queue.take(max, same_parity) else { panic!("there is a batch") };
        batch.iter().map(|queued| queued.job).collect()
    }

    #[test]
    fn a_batch_is_what_joins_the_first_job_and_the_others_keep_their_order() {
        let queue = Numbers::new(100, 1);
        for job in [1, 2, 4, 3, 5, 6, 7] {
            push(&queue, job);
        }
        assert_eq!(take(&queue, 3), [1, 3, 5]);
        assert_eq!(take(&queue, 100), [2, 4, 6]);
        assert_eq!(take(&queue, 100), [7]);
    }

    #[test]
    fn an_idle_worker_is_woken_once_the_busy_one_has_stayed_busy_for_a_moment() {
        let queue = Numbers::new(100, 2);
        // One worker is connected and never comes back for another job; the other one is idle.
        queue.connected();
        queue.connected();
        let (answer, waited) = std::thread::scope(|scope| {
            let idle = scope.spawn(|| {
                let NextTask::Batch(batch) = queue.take(100, |_, _| true) else { panic!("there is a batch") };
                let taken = Instant::now();
                for Queued { job, waiter } in batch {
                    waiter.promise.answer(Ok(job));
                }
                taken
            });
            while queue.state().idle == 0 {
                std::thread::yield_now();
            }
            let asked = Instant::now();
            let answer = queue.ask(7, asked + Duration::from_secs(10));
            // Without this, the test would wait for ever for a worker that nobody woke.
            queue.stop();
            (answer, idle.join().unwrap() - asked)
        });
        assert_eq!(answer.unwrap(), 7);
        assert!(waited >= BUSY_WORKER_PATIENCE, "{waited:?}");
    }

    #[test]
    fn jobs_that_are_given_back_come_first_again() {
        let queue = Numbers::new(100, 1);
        for job in [1, 2, 3] {
            push(&queue, job);
        }
        let NextTask::Batch(batch) = queue.take(2, |_, _| true) else { panic!("there is a batch") };
        queue.requeue(batch);
        assert_eq!(take(&queue, 100), [1, 3]);
    }

    #[test]
    fn without_a_connection_everybody_is_refused_until_there_is_one() {
        let queue = Numbers::new(100, 2);
        let promise = push(&queue, 1);
        queue.failed_to_connect("refused");
        assert!(matches!(promise.wait(Instant::now()), Err(Failure::Unavailable(_))));
        assert!(matches!(queue.push(|_| {}, |_| false), Err(Failure::Unavailable(_))));
        queue.connected();
        assert!(queue.push(|_| {}, |_| false).is_ok());
        // One of two workers lost its connection, and cannot get another: the other one works.
        queue.connected();
        queue.disconnected();
        queue.failed_to_connect("too many connections");
        assert!(queue.push(|_| {}, |_| false).is_ok());
    }
}
