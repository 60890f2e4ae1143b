//! Threads, and locks that are still good after a panic: what they guard is never left half changed by what can panic.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::Error;

/// The longest wait for a wake-up. If one is ever lost, it costs this much and no more.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until `condition` is announced, at most for two seconds. Callers do so in a loop that looks again.
pub(crate) fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait_timeout(guard, LONGEST_WAIT).unwrap_or_else(PoisonError::into_inner).0
}

/// Starts a thread that shares something.
pub(crate) fn spawn<T: Send + Sync + 'static>(
    name: &str,
    shared: &Arc<T>,
    body: impl FnOnce(&Arc<T>) + Send + 'static,
) -> Result<JoinHandle<()>, Error> {
    let (thread, shared) = (std::thread::Builder::new().name(name.to_owned()), Arc::clone(shared));
    thread.spawn(move || body(&shared)).map_err(Error::io(format!("start the thread {name}")))
}

/// Waits for a thread to end.
pub(crate) fn join(thread: JoinHandle<()>, name: &str) -> Result<(), Error> {
    let panicked = || std::io::Error::other("it panicked");
    thread.join().map_err(|_| Error::io(format!("end the thread {name}"))(panicked()))
}
