//! Why a connection or channel ended, which several threads may wait for.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Why a connection or channel ended; empty while it is open.
#[derive(Default)]
pub(crate) struct CloseReason {
    reason: Mutex<Option<String>>,
    changed: Condvar,
}

impl CloseReason {
    /// Records the first reason; later ones are only consequences of it.
    pub(crate) fn set(&self, reason: &str) {
        let mut current = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        current.get_or_insert_with(|| reason.to_owned());
        self.changed.notify_all();
    }

    pub(crate) fn get(&self) -> Option<String> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn wait(&self, timeout: Duration) -> Option<String> {
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(reason, timeout, |reason| reason.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}
