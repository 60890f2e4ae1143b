//! The jobs that wait for a worker. Nothing here talks to PostgreSQL.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::promise::Promise;

/// A job and the caller that waits for it.
pub(crate) struct Queued<J, A, K> {
    pub(crate) job: J,
    /// Jobs of one kind are executed as one batch; a job without one is executed alone.
    pub(crate) kind: Option<K>,
    pub(crate) waiter: Waiter<A>,
}

/// The caller that waits for a job.
pub(crate) struct Waiter<A> {
    pub(crate) deadline: Instant,
    /// Until then, the job is left to the worker that executes others of its kind at the moment.
    pub(crate) patient_until: Instant,
    /// Whether the job was begun once already, on a connection that turned out to be dead.
    pub(crate) repeated: bool,
    pub(crate) promise: Arc<Promise<A>>,
}

/// What a worker does next.
pub(crate) enum NextTask<J, A, K> {
    /// Execute these jobs; there is at least one. Afterwards the worker calls [`Queue::finished`] with their kind.
    Batch(Vec<Queued<J, A, K>>),
    /// Check the connection and report the result.
    Probe(Arc<Promise<()>>),
    /// Ends.
    Stop,
}

/// How long a job waits for the worker that executes others of its kind, before another one takes it. A worker that is
/// done takes all jobs that wait in one statement, and a write is committed once for all of them; that costs far less than
/// a statement by each of several workers.
const BUSY_WORKER_PATIENCE: Duration = Duration::from_millis(3);

/// The jobs of one service that wait for a worker, in the order in which they came.
pub(crate) struct Queue<J, A, K> {
    state: Mutex<State<J, A, K>>,
    work: Condvar,
    capacity: usize,
}

struct State<J, A, K> {
    waiting: VecDeque<Queued<J, A, K>>,
    /// The kinds of the batches that workers execute at the moment.
    executing: Vec<K>,
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

impl<J, A, K: Copy + PartialEq> Queue<J, A, K> {
    /// A queue for at most `capacity` jobs and for `workers` workers, none of which is connected yet.
    pub(crate) fn new(capacity: usize, workers: usize) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            executing: Vec::new(),
            probes: VecDeque::new(),
            idle: 0,
            connected: 0,
            running: workers,
            away: None,
            stopping: false,
        };
        Self { state: Mutex::new(state), work: Condvar::new(), capacity }
    }

    fn state(&self) -> MutexGuard<'_, State<J, A, K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job, which is not begun after `deadline`. Its answer is set in the promise.
    pub(crate) fn submit(
        &self,
        job: J,
        kind: Option<K>,
        deadline: Instant,
    ) -> Result<Arc<Promise<A>>, Failure> {
        self.add(job, kind, Instant::now(), deadline)
    }

    /// Adds a job and waits for its answer, no longer than until `deadline`. While a worker executes others of its kind,
    /// no idle one is woken at first: that one will soon be done, and then takes all that waits.
    pub(crate) fn ask(&self, job: J, kind: Option<K>, deadline: Instant) -> Result<A, Failure> {
        let patience = BUSY_WORKER_PATIENCE.min(deadline.saturating_duration_since(Instant::now()));
        let promise = self.add(job, kind, Instant::now() + patience, deadline)?;
        if !promise.is_answered_within(patience) {
            self.wake_idle_worker();
        }
        promise.wait(deadline)
    }

    fn add(
        &self,
        job: J,
        kind: Option<K>,
        patient_until: Instant,
        deadline: Instant,
    ) -> Result<Arc<Promise<A>>, Failure> {
        let promise = Promise::new();
        let waiter = Waiter { deadline, patient_until, repeated: false, promise: promise.clone() };
        let queued = Queued { job, kind, waiter };
        self.push(|state| {
            let wanted = state.may_begin(&queued);
            state.waiting.push_back(queued);
            wanted
        })?;
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
        self.push(|state| {
            state.probes.push_back(promise.clone());
            true
        })?;
        promise.wait(deadline)
    }

    /// Adds something to the queue with `push`, which tells whether an idle worker is to be woken for it.
    fn push(&self, push: impl FnOnce(&mut State<J, A, K>) -> bool) -> Result<(), Failure> {
        let mut state = self.state();
        state.refuses()?;
        if state.waiting.len() + state.probes.len() >= self.capacity {
            return Err(Failure::Overloaded);
        }
        let wanted = push(&mut state) && state.idle > 0;
        drop(state);
        if wanted {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Waits for a job, then takes it together with the waiting jobs of its kind, at most `max` in all. Never waits for a
    /// batch to fill.
    pub(crate) fn take(&self, max: usize) -> NextTask<J, A, K> {
        let mut state = self.state();
        loop {
            if let Some(probe) = state.probes.pop_front() {
                return NextTask::Probe(probe);
            }
            if let Some(batch) = state.next_batch(max) {
                let more = state.idle > 0 && state.waiting.iter().any(|queued| state.may_begin(queued));
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

    /// A worker has executed a batch of this kind, or has put it back.
    pub(crate) fn finished(&self, kind: Option<K>) {
        let mut state = self.state();
        if let Some(place) = state.executing.iter().position(|executing| Some(*executing) == kind) {
            state.executing.swap_remove(place);
        }
    }

    /// Puts jobs that have had no effect back at the front of the queue.
    pub(crate) fn requeue(&self, batch: Vec<Queued<J, A, K>>) {
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

impl<J, A, K: Copy + PartialEq> State<J, A, K> {
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

    /// Whether a worker may begin this job now. It is left to the worker that executes its kind for a while, but not when
    /// the workers are to end.
    fn may_begin(&self, queued: &Queued<J, A, K>) -> bool {
        let is_executed = queued.kind.is_some_and(|kind| self.executing.contains(&kind));
        !is_executed || self.stopping || queued.waiter.patient_until <= Instant::now()
    }

    /// Takes the first job that may begin, and the others of its kind. The rest keep their order.
    fn next_batch(&mut self, max: usize) -> Option<Vec<Queued<J, A, K>>> {
        let first = self.waiting.iter().position(|queued| self.may_begin(queued))?;
        let mut batch = vec![self.waiting.remove(first)?];
        let Some(kind) = batch[0].kind else { return Some(batch) };
        self.executing.push(kind);
        let mut kept = VecDeque::new();
        while batch.len() < max
            && let Some(next) = self.waiting.pop_front()
        {
            if next.kind == Some(kind) {
                batch.push(next);
            } else {
                kept.push_back(next);
            }
        }
        // Usually all jobs are of one kind, and this loop moves nothing.
        while let Some(queued) = kept.pop_back() {
            self.waiting.push_front(queued);
        }
        Some(batch)
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

    /// Even and odd numbers are jobs of two kinds; those from 100 on are executed alone.
    type Numbers = Queue<u32, u32, bool>;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn kind(job: u32) -> Option<bool> {
        (job < 100).then_some(job.is_multiple_of(2))
    }

    /// Adds a job that nobody waits for, and that is left to a busy worker for an hour.
    fn push(queue: &Numbers, job: u32) -> Arc<Promise<u32>> {
        let now = Instant::now();
        queue.add(job, kind(job), now + HOUR, now).unwrap()
    }

    /// What a worker takes that goes on executing it.
    fn begin(queue: &Numbers, max: usize) -> Vec<u32> {
        let NextTask::Batch(batch) = queue.take(max) else { panic!("there is a batch") };
        batch.iter().map(|queued| queued.job).collect()
    }

    /// What a worker takes and has executed.
    fn take(queue: &Numbers, max: usize) -> Vec<u32> {
        let batch = begin(queue, max);
        queue.finished(kind(batch[0]));
        batch
    }

    #[test]
    fn a_batch_is_of_one_kind_and_the_others_keep_their_order() {
        let queue = Numbers::new(100, 1);
        for job in [1, 2, 4, 3, 5, 6, 7] {
            push(&queue, job);
        }
        assert_eq!(take(&queue, 3), [1, 3, 5]);
        assert_eq!(take(&queue, 100), [2, 4, 6]);
        assert_eq!(take(&queue, 100), [7]);
        for job in [101, 1, 103] {
            push(&queue, job);
        }
        assert_eq!([take(&queue, 100), take(&queue, 100), take(&queue, 100)], [[101], [1], [103]]);
    }

    #[test]
    fn what_is_being_executed_is_left_to_its_worker_and_everything_else_begins() {
        let queue = Numbers::new(100, 3);
        push(&queue, 1);
        assert_eq!(begin(&queue, 100), [1]);
        for job in [3, 2, 5, 101] {
            push(&queue, job);
        }
        assert_eq!(begin(&queue, 100), [2], "no odd number while odd ones are executed");
        assert_eq!(begin(&queue, 100), [101]);
        assert!(queue.state().next_batch(100).is_none());
        queue.finished(kind(1));
        assert_eq!(begin(&queue, 100), [3, 5], "all that came meanwhile");
    }

    #[test]
    fn what_waits_when_the_workers_stop_is_begun_by_any_of_them() {
        let queue = Numbers::new(100, 2);
        push(&queue, 1);
        assert_eq!(begin(&queue, 100), [1]);
        push(&queue, 3);
        queue.stop();
        assert_eq!(begin(&queue, 100), [3]);
        assert!(matches!(queue.take(100), NextTask::Stop));
    }

    #[test]
    fn an_idle_worker_is_woken_once_the_busy_one_has_stayed_busy_for_a_moment() {
        let queue = Numbers::new(100, 2);
        // One worker never comes back for another job; the other one is idle.
        push(&queue, 1);
        assert_eq!(begin(&queue, 100), [1]);
        let (answer, waited) = std::thread::scope(|scope| {
            let idle = scope.spawn(|| {
                let NextTask::Batch(batch) = queue.take(100) else { panic!("there is a batch") };
                let taken = Instant::now();
                for Queued { job, waiter, .. } in batch {
                    waiter.promise.answer(Ok(job));
                }
                taken
            });
            while queue.state().idle == 0 {
                std::thread::yield_now();
            }
            let asked = Instant::now();
            let answer = queue.ask(7, kind(7), asked + Duration::from_secs(10));
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
        let NextTask::Batch(batch) = queue.take(100) else { panic!("there is a batch") };
        queue.requeue(batch);
        queue.finished(kind(1));
        assert_eq!(take(&queue, 100), [1, 3]);
    }

    #[test]
    fn without_a_connection_everybody_is_refused_until_there_is_one() {
        let queue = Numbers::new(100, 2);
        let promise = push(&queue, 1);
        queue.failed_to_connect("refused");
        assert!(matches!(promise.wait(Instant::now()), Err(Failure::Unavailable(_))));
        assert!(matches!(queue.push(|_| false), Err(Failure::Unavailable(_))));
        queue.connected();
        assert!(queue.push(|_| false).is_ok());
        // One of two workers lost its connection, and cannot get another: the other one works.
        queue.connected();
        queue.disconnected();
        queue.failed_to_connect("too many connections");
        assert!(queue.push(|_| false).is_ok());
    }
}
