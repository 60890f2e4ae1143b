//! Threads, and locks that are still good after a panic: what they guard is never left half changed by what can panic.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::error::Error;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(guard).unwrap_or_else(PoisonError::into_inner)
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
