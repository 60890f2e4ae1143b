//! How ureq reaches an instance: plain TCP that knows what it has sent, what it has received, and whether a pooled
//! connection is still alive. A request whose head and body are small takes four system calls.

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

use super::buffers::RequestBuffers;
use super::failure::Failure;
use super::instance::Instance;

/// Look at what can be received, without waiting. These are the same numbers on every system, except that Linux has
/// its own for not waiting.
const MSG_PEEK: i32 = 0x2;
const MSG_DONTWAIT: i32 = if cfg!(target_os = "linux") { 0x40 } else { 0x80 };
/// `ENFILE` and `EMFILE`: the system, or this process, has too many open files.
const TOO_MANY_FILES: [i32; 2] = [23, 24];
/// How long to wait for an answer before the instance is looked at. Also the usual `SO_RCVTIMEO`, so that it need not
/// be set for each read.
const WAIT_STEP: Duration = Duration::from_millis(500);

/// What ureq's next connection is for.
#[derive(Clone, Copy)]
pub(super) struct Purpose {
    pub(super) instance: &'static Instance,
    /// The room that the request's head, and some of its body, needs, in bytes.
    pub(super) output_bytes: usize,
    /// Whether the request should be given up when its instance turns out to be hung and another one is not.
    pub(super) can_move: bool,
}

thread_local! {
    static PURPOSE: Cell<Option<Purpose>> = const { Cell::new(None) };
}

/// Tells what the request that this thread sends next is for; ureq has no way of passing it on.
pub(super) fn set_purpose(purpose: Purpose) {
    PURPOSE.set(Some(purpose));
}

/// Hands a failure through ureq to whoever sent the request.
fn failed(failure: Failure) -> ureq::Error {
    ureq::Error::Io(io::Error::other(failure))
}

/// Names are resolved when a connection is made, not for every request that uses one.
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
        while let Some(line) = instance.pool.take() {
            if line.is_quiet() {
                return Ok(Some(Transport::new(line, purpose, true)));
            }
        }
        let addrs = match instance.ip {
            Some(ip) => vec![SocketAddr::new(ip, instance.port)],
            None => resolve(details)?,
        };
        let line = Line::open(&addrs, details, instance).map_err(|e| {
            let cause = format!("connect: {e}");
            let silent = e.kind() == ErrorKind::TimedOut;
            failed(if is_local(&e) { Failure::Local(cause) } else { Failure::NotConnected { silent, cause } })
        })?;
        Ok(Some(Transport::new(line, purpose, false)))
    }
}

fn resolve(details: &ConnectionDetails<'_>) -> Result<Vec<SocketAddr>, ureq::Error> {
    match DefaultResolver::default().resolve(details.uri, details.config, details.timeout) {
        Ok(addrs) => Ok(addrs.iter().copied().collect()),
        // A resolver that cannot open a file only says that it has failed.
        Err(error) => match std::fs::File::open("/dev/null") {
            Err(e) if is_local(&e) => Err(failed(Failure::Local(format!("resolve: {e}")))),
            _ => Err(error),
        },
    }
}

/// Whether an error of connecting is this side's: no descriptor, no port or no memory is left.
fn is_local(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::OutOfMemory)
        || error.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code))
}

/// An open connection and what belongs to it for as long as it is open.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// Shared only for the moment in which the connection goes back to the pool.
    stream: Arc<TcpStream>,
    /// What `SO_RCVTIMEO` is set to, so that it is only set when it has to change.
    read_timeout: Duration,
    /// The number of the pool when this connection was opened.
    generation: u64,
}

impl Line {
    /// Connects to the first address that answers; the time that is left is shared among those that are left.
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

    /// Whether nothing can be received right now: neither an end of file nor bytes that nobody asked for.
    fn is_quiet(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = SockRef::from(&*self.stream).recv_with_flags(&mut byte, MSG_PEEK | MSG_DONTWAIT);
        matches!(peeked, Err(e) if e.kind() == ErrorKind::WouldBlock)
    }

    /// Sets how long one read may wait. Up to an eighth longer is good enough and saves the system call.
    fn limit_reads(&mut self, timeout: Duration) -> io::Result<()> {
        let timeout = timeout.clamp(Duration::from_millis(1), WAIT_STEP);
        if self.read_timeout < timeout || self.read_timeout > timeout + timeout / 8 {
            self.stream.set_read_timeout(Some(timeout))?;
            self.read_timeout = timeout;
        }
        Ok(())
    }
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// No byte of the request was sent.
    Unsent,
    /// Some of it was sent.
    Sent,
    /// A byte of the answer came.
    Received,
}

/// One request and its answer on a connection to an instance. When ureq drops it after a complete answer, the
/// connection goes back to the pool; after anything else it is closed.
#[derive(Debug)]
pub(super) struct Transport {
    line: Line,
    buffers: RequestBuffers,
    instance: &'static Instance,
    can_move: bool,
    /// Whether the connection had been used before.
    reused: bool,
    progress: Progress,
    /// Why the connection cannot be used again.
    ended: Option<ErrorKind>,
    /// Whether ureq has declared the answer complete.
    complete: bool,
}

impl Transport {
    fn new(line: Line, purpose: Purpose, reused: bool) -> Self {
        let Purpose { instance, output_bytes, can_move } = purpose;
        let buffers = RequestBuffers::new(output_bytes);
        let progress = Progress::Unsent;
        Self { line, buffers, instance, can_move, reused, progress, ended: None, complete: false }
    }

    /// Writes what was collected. A connection that is lost while writing is no failure yet: the other side may have
    /// answered before it closed, and that answer is worth more than ours.
    fn flush(&mut self) -> Result<(), ureq::Error> {
        let mut bytes = self.buffers.collected();
        while !bytes.is_empty() && self.ended.is_none() {
            match (&*self.line.stream).write(bytes) {
                Ok(0) => self.ended = Some(ErrorKind::WriteZero),
                Ok(count) => {
                    self.progress = Progress::Sent;
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

    /// Reads once, for as long as `timeout` allows; 0 at the end of the connection. While an answer does not begin,
    /// the instance is looked at.
    fn receive(&mut self, timeout: &NextTimeout) -> Result<usize, ureq::Error> {
        let allowed = *timeout.after;
        let started = Instant::now();
        let mut left = allowed;
        loop {
            self.line.limit_reads(left)?;
            match (&*self.line.stream).read(self.buffers.input_append_buf()) {
                Ok(count) => return Ok(count),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    left = allowed.saturating_sub(started.elapsed());
                    if left.is_zero() {
                        return Err(ureq::Error::Timeout(timeout.reason));
                    }
                    if self.progress != Progress::Received {
                        self.instance.suspect();
                        if self.can_move && self.instance.is_worse_than_others() {
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

    /// What it means that the connection ended while an answer was awaited.
    fn lost(&self, error: &io::Error) -> ureq::Error {
        let what = match self.progress {
            Progress::Received => {
                return failed(Failure::Invalid(format!("the answer was cut off: {error}")));
            }
            _ if self.reused => "a pooled connection was dead",
            _ => "closed without an answer",
        };
        let unsent = self.progress == Progress::Unsent;
        failed(Failure::Lost { unsent, reused: self.reused, cause: format!("{what}: {error}") })
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        if self.complete {
            self.instance.pool.put(self.line.clone(), self.line.generation);
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
            self.progress = Progress::Received;
            self.buffers.input_appended(count);
            return Ok(true);
        }
        let cause = *self.ended.get_or_insert(ErrorKind::UnexpectedEof);
        // Within an answer, ureq knows whether its end is allowed here.
        if self.progress == Progress::Received { Ok(false) } else { Err(self.lost(&cause.into())) }
    }

    /// ureq asks this when an answer is complete, and only then, because its own pool is always empty.
    fn is_open(&mut self) -> bool {
        self.complete = self.ended.is_none() && self.buffers.input().is_empty();
        self.complete
    }
}
