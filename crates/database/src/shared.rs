//! What the workers of one service share with each other and with their callers.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use foundation::metrics::Counter;

use crate::executor::{BatchKind, Executor};
use crate::queue::Queue;
use crate::reconnection::Reconnection;
use crate::{DatabaseSettings, Error, Migration};

/// What a service's workers share with their callers.
pub(crate) struct Shared<E: Executor> {
    pub(crate) queue: Queue<E::Job, E::Answer, BatchKind<E>>,
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

impl<E: Executor> Shared<E> {
    pub(crate) fn new(
        queue: Queue<E::Job, E::Answer, BatchKind<E>>,
        settings: DatabaseSettings,
        migrations: &'static [Migration],
        make_executor: impl Fn() -> E + Send + Sync + 'static,
    ) -> Self {
        Self {
            queue,
            reconnection: Reconnection::new(),
            settings,
            migrations,
            make_executor: Box::new(make_executor),
            deaths: AtomicU64::new(0),
            started: Instant::now(),
            worked_at_ms: AtomicU64::new(0),
            stats: Stats::default(),
            unusable: Mutex::default(),
        }
    }

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

    /// Calls `tell` once with the error that makes connecting impossible, immediately if there is one already.
    pub(crate) fn when_unusable(&self, tell: impl FnOnce(Error) + Send + 'static) {
        let mut unusable = self.unusable.lock().unwrap_or_else(PoisonError::into_inner);
        match unusable.error.take() {
            Some(error) => tell(error),
            None => unusable.tell = Some(Box::new(tell)),
        }
    }
}
