//! The idle connections to one instance of a service.
//!
//! ureq has a pool of its own, which is switched off: it looks at sockets while all threads wait for its lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A stack of idle connections: the one that was used last is used next, so that surplus ones grow old and go.
#[derive(Debug)]
pub(super) struct Pool<T> {
    idle: Mutex<Vec<(Instant, T)>>,
    max_idle: usize,
    max_age: Duration,
    /// Connections opened under an older number are not taken back.
    generation: AtomicU64,
}

impl<T> Pool<T> {
    pub(super) fn new(max_idle: usize, max_age: Duration) -> Self {
        Self { idle: Mutex::new(Vec::new()), max_idle, max_age, generation: AtomicU64::new(0) }
    }

    /// The number to remember with a connection that is being opened.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Takes the connection that was used last. It may have died since then.
    pub(super) fn take(&self) -> Option<T> {
        let mut idle = self.lock();
        let (since, connection) = idle.pop()?;
        if since.elapsed() < self.max_age {
            return Some(connection);
        }
        // The others are even older. They are closed when nobody waits for the lock any more.
        let old = std::mem::take(&mut *idle);
        drop(idle);
        drop((old, connection));
        None
    }

    /// Closes the connections that have been idle for too long.
    pub(super) fn prune(&self) {
        let now = Instant::now();
        let mut idle = self.lock();
        // The oldest come first.
        let old = idle.partition_point(|(since, _)| now.duration_since(*since) >= self.max_age);
        let old: Vec<_> = idle.drain(..old).collect();
        idle.shrink_to(32);
        drop(idle);
        drop(old);
    }

    /// Keeps a connection whose answer is complete, if there is room and it is not one of those to be forgotten.
    pub(super) fn put(&self, connection: T, generation: u64) {
        let now = Instant::now();
        let mut idle = self.lock();
        let surplus = if generation != self.generation() || idle.len() >= self.max_idle {
            Some(connection)
        } else {
            idle.push((now, connection));
            None
        };
        drop(idle);
        drop(surplus);
    }

    /// Closes all idle connections, and those that are in use when they come back: one of them proved dead, and
    /// usually the other side was restarted.
    pub(super) fn forget(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        let old = std::mem::take(&mut *self.lock());
        drop(old);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Instant, T)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_used_last_is_used_next() {
        let pool = Pool::new(2, Duration::from_secs(60));
        for connection in 1..=3 {
            pool.put(connection, pool.generation());
        }
        assert_eq!([pool.take(), pool.take(), pool.take()], [Some(2), Some(1), None]);
    }

    #[test]
    fn old_connections_are_not_used() {
        let pool = Pool::new(8, Duration::ZERO);
        pool.put(1, pool.generation());
        assert_eq!(pool.take(), None);
    }

    #[test]
    fn pruning_closes_what_is_too_old_and_keeps_the_rest() {
        let pool = Pool::new(8, Duration::from_secs(60));
        let old = Instant::now().checked_sub(Duration::from_secs(61)).unwrap();
        pool.put(2, pool.generation());
        pool.lock().insert(0, (old, 1));
        pool.lock().insert(0, (old, 0));
        pool.prune();
        assert_eq!(pool.lock().len(), 1);
        assert_eq!(pool.take(), Some(2));
    }

    #[test]
    fn what_was_open_when_one_proved_dead_is_forgotten() {
        let pool = Pool::new(8, Duration::from_secs(60));
        let generation = pool.generation();
        pool.put(1, generation);
        pool.forget();
        pool.put(2, generation);
        assert_eq!(pool.take(), None);
        pool.put(3, pool.generation());
        assert_eq!(pool.take(), Some(3));
    }
}
