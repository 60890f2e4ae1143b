//! One client's socket: reads and writes with timeouts, in as few system calls as possible.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::pace::Pace;
use crate::settings::EdgeSettings;

/// The part of a connection that other threads may use, to close it.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    /// What the connection waits for; `None` while it does not wait for a request.
    waiting: Mutex<Option<Waiting>>,
    /// Whether the connection has served a request.
    used: AtomicBool,
    /// Whether it is about to close: refused, or told to make room for another one.
    leaving: AtomicBool,
}

/// How a connection waits for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Waiting {
    /// For the first byte of a request, since this time. It may be closed at any time.
    Idle(Instant),
    /// For the rest of a request head, whose first byte came at this time. It may be closed only to make room, and not
    /// at once.
    WithinHead(Instant),
}

impl Link {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let waiting = Mutex::new(Some(Waiting::Idle(Instant::now())));
        Self { stream, waiting, used: AtomicBool::new(false), leaving: AtomicBool::new(false) }
    }

    /// What the connection waits for; `None` while it is busy.
    pub(crate) fn waiting(&self) -> Option<Waiting> {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_waiting(&self, waiting: Option<Waiting>) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = waiting;
    }

    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Wakes the thread of an idle connection by an end of file. Bytes that have arrived are still read, and a running
    /// request is not disturbed.
    pub(crate) fn close_if_idle(&self) {
        if matches!(self.waiting(), Some(Waiting::Idle(_))) {
            let _ = self.stream.shutdown(Shutdown::Read);
        }
    }

    /// Closes a waiting connection to make room. A request that arrives at this very moment is still answered, as the
    /// last one.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::SeqCst);
        let _ = self.stream.shutdown(Shutdown::Read);
    }

    /// Marks the connection as refused; it is open only until the refusal is sent.
    pub(crate) fn set_refused(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }
}

/// The connection's own view of its socket.
#[derive(Debug)]
pub(crate) struct Socket {
    link: Arc<Link>,
    /// The current `SO_RCVTIMEO`, so that it is set only when it changes.
    read_timeout: Cell<Duration>,
}

impl Socket {
    pub(crate) fn new(link: Arc<Link>, settings: &EdgeSettings) -> io::Result<Self> {
        link.stream.set_nodelay(true)?;
        link.stream.set_write_timeout(Some(settings.write_timeout))?;
        let read_timeout = settings.first_byte_timeout.min(settings.idle_timeout);
        link.stream.set_read_timeout(Some(read_timeout))?;
        Ok(Self { link, read_timeout: Cell::new(read_timeout) })
    }

    /// Marks the connection as waiting for a request.
    pub(crate) fn set_idle(&self) {
        self.link.set_waiting(Some(Waiting::Idle(Instant::now())));
    }

    /// Marks the connection as waiting for the rest of a head that began at `first_byte`.
    pub(crate) fn set_within_head(&self, first_byte: Instant) {
        self.link.set_waiting(Some(Waiting::WithinHead(first_byte)));
    }

    /// Marks the connection as not waiting.
    pub(crate) fn set_busy(&self) {
        self.link.set_waiting(None);
    }

    /// Records that a request was served.
    pub(crate) fn set_used(&self) {
        self.link.used.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_used(&self) -> bool {
        self.link.is_used()
    }

    /// Whether the connection was told to make room for another one.
    pub(crate) fn is_leaving(&self) -> bool {
        self.link.is_leaving()
    }

    /// Reads the available bytes, waiting for up to about `timeout`; `TimedOut` if none came, 0 at the end of file.
    pub(crate) fn read(&self, buffer: &mut [u8], timeout: Duration) -> io::Result<usize> {
        self.limit_reads(timeout)?;
        loop {
            match (&self.link.stream).read(buffer) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
                result => return result,
            }
        }
    }

    /// Sets the read timeout. One that is up to an eighth too long is left as it is, which saves the system call.
    fn limit_reads(&self, timeout: Duration) -> io::Result<()> {
        let timeout = timeout.max(Duration::from_millis(1));
        let current = self.read_timeout.get();
        if current < timeout || current > timeout + timeout / 8 {
            self.link.stream.set_read_timeout(Some(timeout))?;
            self.read_timeout.set(timeout);
        }
        Ok(())
    }

    /// Writes all of `bytes`. Fails with `TimedOut` if the client reads nothing within the write timeout, or too slowly
    /// for `pace`.
    pub(crate) fn write_all(&self, mut bytes: &[u8], pace: &mut Pace) -> io::Result<()> {
        while !bytes.is_empty() {
            let started = Instant::now();
            match (&self.link.stream).write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes = &bytes[count..];
                    pace.record(started.elapsed(), count)?;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Closes our side of the connection; the client sees the end of file.
    pub(crate) fn finish(&self) -> io::Result<()> {
        self.link.stream.shutdown(Shutdown::Write)
    }

    /// Makes the coming close a reset. For a body that ends with the connection, only this shows the client that it is
    /// incomplete.
    pub(crate) fn reset(&self) {
        let _ = SockRef::from(&self.link.stream).set_linger(Some(Duration::ZERO));
    }
}
