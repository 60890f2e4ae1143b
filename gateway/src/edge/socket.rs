//! One client's socket: reads and writes that end in time, with as few system calls as possible.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::settings::EdgeSettings;

/// The part of a connection that the server's own thread may touch.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    /// Whether the connection waits for a request of which no byte has come. It may then be closed at any time.
    idle: AtomicBool,
}

impl Link {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, idle: AtomicBool::new(true) }
    }

    /// Wakes the thread of an idle connection with an end of file. Bytes that are already here are still read, and
    /// what runs is left alone.
    pub(crate) fn close_if_idle(&self) {
        if self.idle.load(Ordering::SeqCst) {
            let _ = self.stream.shutdown(Shutdown::Read);
        }
    }
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
        link.stream.set_read_timeout(Some(settings.idle_timeout))?;
        Ok(Self { link, read_timeout: Cell::new(settings.idle_timeout) })
    }

    pub(crate) fn set_idle(&self, idle: bool) {
        self.link.idle.store(idle, Ordering::SeqCst);
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

    /// Writes all of `bytes`. `TimedOut` when the client takes nothing for the write timeout, or less than the
    /// minimum rate on average.
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

/// Compares a transfer with the minimum rate. Only the time spent waiting for the client counts.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    waited: Duration,
    bytes: u64,
    grace: Duration,
    min_rate: u64,
}

impl Pace {
    /// A transfer that may wait for `grace` before it has to average `min_rate` bytes per second.
    pub(crate) fn new(grace: Duration, min_rate: u64) -> Self {
        Self { waited: Duration::ZERO, bytes: 0, grace, min_rate }
    }

    /// Counts one read or write; `TimedOut` when the transfer has become too slow.
    pub(crate) fn record(&mut self, waited: Duration, bytes: usize) -> io::Result<()> {
        self.waited += waited;
        self.bytes += bytes as u64;
        let over = self.waited.saturating_sub(self.grace);
        let expected = over.as_millis() * u128::from(self.min_rate) / 1_000;
        if u128::from(self.bytes) < expected { Err(ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_is_too_slow_once_its_grace_is_used_up() {
        let mut pace = Pace::new(Duration::from_secs(10), 100);
        for _ in 0..10 {
            pace.record(Duration::from_secs(1), 1).unwrap();
        }
        let error = pace.record(Duration::from_secs(1), 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn a_slow_but_steady_transfer_is_fine() {
        let mut pace = Pace::new(Duration::from_secs(1), 100);
        for _ in 0..1_000 {
            pace.record(Duration::from_secs(1), 100).unwrap();
        }
    }
}
