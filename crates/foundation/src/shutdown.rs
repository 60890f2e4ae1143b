//! The stop flag that every thread of a service watches, and its connection to SIGTERM and SIGINT.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::Error;

/// A flag that is raised once and stays raised. Clones share it.
#[derive(Clone, Default)]
pub struct Shutdown {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Read on hot paths, so it is outside the lock.
    requested: AtomicBool,
    /// Guards the wait, so that a request between the check and the wait is not missed.
    lock: Mutex<()>,
    changed: Condvar,
}

impl Shutdown {
    /// A flag that only [`Shutdown::request`] raises.
    pub fn new() -> Self {
        Self::default()
    }

    /// A flag that SIGTERM (a service manager) or SIGINT (Ctrl-C, pm2) raises. Later signals change nothing, since
    /// a terminal and a supervisor often both send one.
    pub fn on_signals() -> Result<Self, Error> {
        let shutdown = Self::new();
        let raised = shutdown.clone();
        let io_error = |source| Error::Io { action: "watch for SIGTERM and SIGINT".to_owned(), source };
        let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(io_error)?;
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for _ in signals.forever() {
                    raised.request();
                }
            })
            .map_err(io_error)?;
        Ok(shutdown)
    }

    /// Raises the flag and wakes everyone who waits for it.
    pub fn request(&self) {
        let _guard = self.state.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.state.requested.store(true, Ordering::Release);
        self.state.changed.notify_all();
    }

    /// Whether the flag is raised.
    pub fn requested(&self) -> bool {
        self.state.requested.load(Ordering::Acquire)
    }

    /// Waits until the flag is raised or `timeout` has passed; returns whether it is raised.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let guard = self.state.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.state.changed.wait_timeout_while(guard, timeout, |()| !self.requested());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.requested()
    }

    /// Waits until the flag is raised.
    pub fn wait(&self) {
        let guard = self.state.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.state.changed.wait_while(guard, |()| !self.requested());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_wakes_every_waiter_and_stays() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.wait_timeout(Duration::from_millis(1)));
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let shutdown = shutdown.clone();
                std::thread::spawn(move || shutdown.wait())
            })
            .collect();
        shutdown.request();
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert!(shutdown.requested() && shutdown.wait_timeout(Duration::ZERO));
    }
}
