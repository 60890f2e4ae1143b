//! Raised while the disk is nearly full. Publishers wait for it to be lowered, or are refused meanwhile.

use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::sync::lock;

/// Whether the disk is nearly full.
#[derive(Default)]
pub(crate) struct Alarm {
    raised: Mutex<bool>,
    lowered: Condvar,
    listener: OnceLock<Box<dyn Fn(bool) + Send + Sync>>,
}

impl Alarm {
    /// Has every change told to `listener`. Only the first one counts.
    pub(crate) fn listen(&self, listener: impl Fn(bool) + Send + Sync + 'static) {
        let _ = self.listener.set(Box::new(listener));
    }

    /// Raises or lowers the alarm; tells whether that changed it.
    pub(crate) fn set(&self, raised: bool) -> bool {
        let changed = std::mem::replace(&mut *lock(&self.raised), raised) != raised;
        self.lowered.notify_all();
        if changed && let Some(listener) = self.listener.get() {
            listener(raised);
        }
        changed
    }

    pub(crate) fn is_raised(&self) -> bool {
        *lock(&self.raised)
    }

    /// Waits until the alarm is lowered, or for `timeout`; tells whether it still is raised.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let waited = self.lowered.wait_timeout_while(lock(&self.raised), timeout, |raised| *raised);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
