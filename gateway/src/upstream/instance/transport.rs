//! ureq's transport to an instance: plain TCP that tracks what was sent and received, and checks whether a pooled
//! connection is still alive. A small request takes four system calls.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;
use ureq::Timeout;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{self, Buffers, ConnectionDetails, NextTimeout};

use super::Instance;
use crate::upstream::buffers::RequestBuffers;
use crate::upstream::failure::Failure;

/// Flags of recv: look at the received bytes without consuming them, and do not wait. `MSG_PEEK` is the same on every
/// system.
const MSG_PEEK: i32 = 0x2;
const MSG_DONTWAIT: i32 = if cfg!(target_os = "linux") { 0x40 } else { 0x80 };
/// `ENFILE` and `EMFILE`: the system, or this process, has too many open files.
const TOO_MANY_FILES: [i32; 2] = [23, 24];
/// How long to wait for an answer before the instance is suspected of hanging. Also the usual `SO_RCVTIMEO`, so that it
/// need not be set for each read.
const WAIT_STEP: Duration = Duration::from_millis(500);

/// What ureq's next connection is for.
#[derive(Clone, Copy)]
pub(super) struct Purpose {
    pub(super) instance: &'static Instance,
    /// The room that the request's head and the first part of its body need, in bytes.
    pub(super) output_bytes: usize,
    /// Whether to give up the request if its instance turns out to be hung and another one is up.
    pub(super) can_move: bool,
}

thread_local! {
    static PURPOSE: Cell<Option<Purpose>> = const { Cell::new(None) };
}

/// Sets the purpose of this thread's next request; ureq has no way to pass it on.
pub(super) fn set_purpose(purpose: Purpose) {
    PURPOSE.set(Some(purpose));
}

/// Wraps a failure so that ureq passes it on to our caller.
fn failed(failure: Failure) -> ureq::Error {
    ureq::Error::Io(io::Error::other(failure))
}

/// Resolves nothing: names are resolved when a connection is opened, not for each request.
#[derive(Debug)]
pub(super) struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}

/// Takes a connection from the instance's pool, or opens one.
#[derive(Debug)]
pub(super) struct Connector;

impl transport::Connector for Connector {
    type Out = Transport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(purpose) = PURPOSE.take() else {
            return Err(failed(Failure::Local("nobody said what the connection is for".to_owned())));
        };
        let instance = purpose.instance;
        while let Some(connection) = instance.pool.take() {
            if connection.is_quiet() {
                return Ok(Some(Transport::new(connection, purpose, true)));
            }
        }
        let addrs = match instance.ip {
            Some(ip) => vec![SocketAddr::new(ip, instance.port)],
            None => resolve(details)?,
        };
        let connection = UpstreamConnection::open(&addrs, details, instance).map_err(|e| {
            let cause = format!("connect: {e}");
            let silent = e.kind() == ErrorKind::TimedOut;
            failed(if is_local(&e) { Failure::Local(cause) } else { Failure::NotConnected { silent, cause } })
        })?;
        Ok(Some(Transport::new(connection, purpose, false)))
    }
}

fn resolve(details: &ConnectionDetails<'_>) -> Result<Vec<SocketAddr>, ureq::Error> {
    match DefaultResolver::default().resolve(details.uri, details.config, details.timeout) {
        Ok(addrs) => Ok(addrs.iter().copied().collect()),
        // The resolver does not say whether it failed for want of descriptors, so try to open a file.
        Err(error) => match std::fs::File::open("/dev/null") {
            Err(e) if is_local(&e) => Err(failed(Failure::Local(format!("resolve: {e}")))),
            _ => Err(error),
        },
    }
}

/// Whether connecting failed on this side: no file descriptor, port or memory is left.
fn is_local(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::OutOfMemory)
        || error.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code))
}

/// An open connection to an instance.
#[derive(Clone, Debug)]
pub(in crate::upstream) struct UpstreamConnection {
    /// Shared only at the moment when the connection goes back to the pool.
    stream: Arc<TcpStream>,
    /// The current `SO_RCVTIMEO`, so that it is set only when it changes.
    read_timeout: Duration,
    /// The pool's generation when this connection was opened.
    generation: u64,
}

impl UpstreamConnection {
    /// Connects to the first address that answers. Divides the remaining time among the remaining addresses.
    fn open(addrs: &[SocketAddr], details: &ConnectionDetails<'_>, instance: &Instance) -> io::Result<Self> {
        let generation = instance.pool.generation();
        let deadline = Instant::now() + *details.timeout.after;
        let mut result = Err(io::Error::other("the name has no address"));
        for (index, addr) in addrs.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addrs.len() - index).unwrap_or(u32::MAX);
            result = TcpStream::connect_timeout(addr, share.max(Duration::from_millis(1)));
            if result.is_ok() {
                break;
            }
        }
        let stream = result?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(details.config.timeout_per_write())?;
        stream.set_read_timeout(Some(WAIT_STEP))?;
        Ok(Self { stream: Arc::new(stream), read_timeout: WAIT_STEP, generation })
    }

    /// Whether the connection is alive and idle: neither an end of file nor unexpected bytes have arrived.
    fn is_quiet(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = SockRef::from(&*self.stream).recv_with_flags(&mut byte, MSG_PEEK | MSG_DONTWAIT);
        matches!(peeked, Err(e) if e.kind() == ErrorKind::WouldBlock)
    }

    /// Sets the read timeout. One that is up to an eighth too long is left as it is, which saves the system call.
    fn limit_reads(&mut self, timeout: Duration) -> io::Result<()> {
        let timeout = timeout.clamp(Duration::from_millis(1), WAIT_STEP);
        if self.read_timeout < timeout || self.read_timeout > timeout + timeout / 8 {
            self.stream.set_read_timeout(Some(timeout))?;
            self.read_timeout = timeout;
        }
        Ok(())
    }
}

/// How far a request has progressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestProgress {
    /// No byte of the request was sent.
    Unsent,
    /// Some of it was sent.
    Sent,
    /// A byte of the answer came.
    Received,
}

/// One request and its answer on a connection. When ureq drops it after a complete answer, the connection goes back to
/// the pool; otherwise it is closed.
#[derive(Debug)]
pub(super) struct Transport {
    connection: UpstreamConnection,
    buffers: RequestBuffers,
    instance: &'static Instance,
    can_move: bool,
    /// Whether the connection had been used before.
    reused: bool,
    progress: RequestProgress,
    /// Why the connection cannot be used again.
    ended: Option<ErrorKind>,
    /// Whether ureq has declared the answer complete.
    complete: bool,
}

impl Transport {
    fn new(connection: UpstreamConnection, purpose: Purpose, reused: bool) -> Self {
        let Purpose { instance, output_bytes, can_move } = purpose;
        let buffers = RequestBuffers::new(output_bytes);
        let progress = RequestProgress::Unsent;
        Self { connection, buffers, instance, can_move, reused, progress, ended: None, complete: false }
    }

    /// Writes the collected bytes. A lost connection is no failure yet: the instance may have answered before it closed
    /// the connection, and the client should get that answer.
    fn flush(&mut self) -> Result<(), ureq::Error> {
        let mut bytes = self.buffers.collected();
        while !bytes.is_empty() && self.ended.is_none() {
            match (&*self.connection.stream).write(bytes) {
                Ok(0) => self.ended = Some(ErrorKind::WriteZero),
                Ok(count) => {
                    self.progress = RequestProgress::Sent;
                    bytes = &bytes[count..];
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    return Err(ureq::Error::Timeout(Timeout::PerWrite));
                }
                Err(e) => self.ended = Some(e.kind()),
            }
        }
        self.buffers.clear_collected();
        Ok(())
    }

    /// Reads once, for as long as `timeout` allows; 0 at the end of file. If no answer has begun after [`WAIT_STEP`],
    /// has the instance's health checked.
    fn receive(&mut self, timeout: &NextTimeout) -> Result<usize, ureq::Error> {
        let allowed = *timeout.after;
        let started = Instant::now();
        let mut left = allowed;
        loop {
            self.connection.limit_reads(left)?;
            match (&*self.connection.stream).read(self.buffers.input_append_buf()) {
                Ok(count) => return Ok(count),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    left = allowed.saturating_sub(started.elapsed());
                    if left.is_zero() {
                        return Err(ureq::Error::Timeout(timeout.reason));
                    }
                    if self.progress != RequestProgress::Received {
                        self.instance.suspect();
                        if self.can_move && self.instance.is_hung_unlike_others() {
                            return Err(failed(Failure::Hung("the instance is hung".to_owned())));
                        }
                    }
                }
                Err(e) => {
                    self.ended = Some(e.kind());
                    return Err(self.lost(&e));
                }
            }
        }
    }

    /// The failure when the connection ends before the answer is complete.
    fn lost(&self, error: &io::Error) -> ureq::Error {
        let what = match self.progress {
            RequestProgress::Received => {
                return failed(Failure::Invalid(format!("the answer was cut off: {error}")));
            }
            _ if self.reused => "a pooled connection was dead",
            _ => "closed without an answer",
        };
        let unsent = self.progress == RequestProgress::Unsent;
        failed(Failure::Lost { unsent, reused: self.reused, cause: format!("{what}: {error}") })
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        if self.complete {
            self.instance.pool.put(self.connection.clone(), self.connection.generation);
        }
    }
}

impl transport::Transport for Transport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        if self.buffers.collect(amount) { self.flush() } else { Ok(()) }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.flush()?;
        if self.buffers.input_append_buf().is_empty() {
            return Err(failed(Failure::Invalid("the head of the answer is too large".to_owned())));
        }
        let count = self.receive(&timeout.for_read())?;
        if count > 0 {
            self.progress = RequestProgress::Received;
            self.buffers.input_appended(count);
            return Ok(true);
        }
        let cause = *self.ended.get_or_insert(ErrorKind::UnexpectedEof);
        // Within an answer, ureq decides whether it may end here.
        if self.progress == RequestProgress::Received { Ok(false) } else { Err(self.lost(&cause.into())) }
    }

    /// ureq calls this only when an answer is complete, since its own pool is always empty.
    fn is_open(&mut self) -> bool {
        self.complete = self.ended.is_none() && self.buffers.input().is_empty();
        self.complete
    }
}
