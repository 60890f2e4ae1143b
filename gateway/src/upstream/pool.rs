//! The idle connections to one instance of a service.
//!
//! ureq's own pool is switched off, because it checks sockets while it holds its lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A stack of idle connections: the most recently used one is reused first, so that surplus ones grow old and are
/// closed.
#[derive(Debug)]
pub(super) struct Pool<T> {
    idle: Mutex<Vec<(Instant, T)>>,
    max_idle: usize,
    max_age: Duration,
    /// Connections that were opened in an older generation are not pooled again.
    generation: AtomicU64,
}

impl<T> Pool<T> {
    pub(super) fn new(max_idle: usize, max_age: Duration) -> Self {
        Self { idle: Mutex::new(Vec::new()), max_idle, max_age, generation: AtomicU64::new(0) }
    }

    /// The current generation, to be stored with a connection that is being opened.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Takes the most recently used connection. It may have died meanwhile.
    pub(super) fn take(&self) -> Option<T> {
        let mut idle = self.lock();
        let (since, connection) = idle.pop()?;
        if since.elapsed() < self.max_age {
            return Some(connection);
        }
        // The others are even older. All are closed after the lock is released.
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
        // The list itself lies among what many connections needed, and would keep the allocator from returning that.
        idle.shrink_to_fit();
        drop(idle);
        drop(old);
    }

    /// Pools a connection after a complete answer, if there is room and its generation is current.
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

    /// Closes all idle connections now, and those in use when they are returned. Called when one proved dead: usually
    /// the other side was restarted.
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
