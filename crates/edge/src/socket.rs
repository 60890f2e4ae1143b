//! One client's socket: reads and writes that end in time, with as few system calls as possible.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::pace::Pace;
use crate::settings::EdgeSettings;

/// The part of a connection that the server's own thread may touch.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    /// When the server started; times are counted from here.
    epoch: Instant,
    /// Since when the connection has waited for a request of which no byte has come, in microseconds since `epoch`;
    /// [`BUSY`] while it does not wait. While it waits, it may be closed at any time.
    idle_since_us: AtomicU64,
    /// Whether the connection has served a request.
    used: AtomicBool,
    /// Whether it is on its way out: refused, or told to make room for another one.
    leaving: AtomicBool,
}

const BUSY: u64 = u64::MAX;

impl Link {
    pub(crate) fn new(stream: TcpStream, epoch: Instant) -> Self {
        let idle_since_us = AtomicU64::new(micros(epoch.elapsed()));
        let (used, leaving) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { stream, epoch, idle_since_us, used, leaving }
    }

    /// Since when it has been idle, in microseconds since the server started; `None` while it is busy.
    pub(crate) fn idle_since_us(&self) -> Option<u64> {
        let since = self.idle_since_us.load(Ordering::SeqCst);
        (since != BUSY).then_some(since)
    }

    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Wakes the thread of an idle connection with an end of file. Bytes that are already here are still read, and
    /// what runs is left alone.
    pub(crate) fn close_if_idle(&self) {
        if self.idle_since_us().is_some() {
            let _ = self.stream.shutdown(Shutdown::Read);
        }
    }

    /// Closes the idle connection to make room. A request that comes at this very moment is still answered, and is the
    /// last.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::SeqCst);
        let _ = self.stream.shutdown(Shutdown::Read);
    }

    /// Notes that the connection is only open to be told why it is refused.
    pub(crate) fn set_refused(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(BUSY - 1)
}

/// The connection's own view of its socket.
#[derive(Debug)]
pub(crate) struct Socket {
    link: Arc<Link>,
    /// What `SO_RCVTIMEO` is set to, so that it is only set when it has to change.
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

    /// Notes that the connection waits for a request from now on.
    pub(crate) fn set_idle(&self) {
        self.link.idle_since_us.store(micros(self.link.epoch.elapsed()), Ordering::SeqCst);
    }

    /// Notes that a byte of a request has come.
    pub(crate) fn set_busy(&self) {
        self.link.idle_since_us.store(BUSY, Ordering::SeqCst);
    }

    /// Notes that a request was served.
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

    /// Reads what is there, waiting for up to about `timeout`; `TimedOut` when nothing came, 0 at the end of file.
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

    /// A timeout up to an eighth longer than asked for is good enough and saves the system call.
    fn limit_reads(&self, timeout: Duration) -> io::Result<()> {
        let timeout = timeout.max(Duration::from_millis(1));
        let current = self.read_timeout.get();
        if current < timeout || current > timeout + timeout / 8 {
            self.link.stream.set_read_timeout(Some(timeout))?;
            self.read_timeout.set(timeout);
        }
        Ok(())
    }

    /// Writes all of `bytes`. `TimedOut` when the client takes nothing for the write timeout, or too little for
    /// `pace`.
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

    /// Tells the client that nothing more will come.
    pub(crate) fn finish(&self) -> io::Result<()> {
        self.link.stream.shutdown(Shutdown::Write)
    }

    /// Makes the coming close a reset, the only way to tell a client that a body which ends with the connection did
    /// not end well.
    pub(crate) fn reset(&self) {
        let _ = SockRef::from(&self.link.stream).set_linger(Some(Duration::ZERO));
    }
}
