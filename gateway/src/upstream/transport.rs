//! How ureq reaches inventory: plain TCP that knows what it has sent, what it has received, and whether a pooled
//! connection is still alive. A request whose head and body are small takes four system calls.

use std::fmt;
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

use super::Upstream;
use super::buffers::ExchangeBuffers;

/// Look at what can be received, without waiting. These are the same numbers on every system, except that Linux has
/// its own for not waiting.
const MSG_PEEK: i32 = 0x2;
const MSG_DONTWAIT: i32 = if cfg!(target_os = "linux") { 0x40 } else { 0x80 };

/// What happened to a connection.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    cause: io::Error,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum FaultKind {
    /// It could not be made.
    Connect,
    /// It was lost before a byte of the response came.
    Lost { unsent: bool, reused: bool },
    /// It was lost within the response.
    Cut,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FaultKind::Connect => write!(f, "connect: {}", self.cause),
            FaultKind::Lost { reused: true, .. } => write!(f, "a pooled connection was dead: {}", self.cause),
            FaultKind::Lost { .. } => write!(f, "closed without an answer: {}", self.cause),
            FaultKind::Cut => write!(f, "the answer was cut off: {}", self.cause),
        }
    }
}

impl std::error::Error for Fault {}

fn fault(kind: FaultKind, cause: io::Error) -> ureq::Error {
    ureq::Error::Io(io::Error::other(Fault { kind, cause }))
}

/// Names are resolved when a connection is made, not for every request that uses one.
#[derive(Debug)]
pub(super) struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}

/// The deadlines of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    pub(super) connect: Duration,
    pub(super) head: Duration,
    pub(super) write: Duration,
}

/// Opens connections.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    pub(super) instances: Arc<[Arc<Upstream>]>,
    pub(super) timeouts: Timeouts,
    pub(super) line_max_bytes: usize,
}

impl transport::Connector for Connector {
    type Out = Transport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let upstream =
            self.instances.iter().find(|upstream| Some(&upstream.authority) == details.uri.authority());
        let Some(upstream) = upstream else {
            let cause = io::Error::other("this is no address of inventory");
            return Err(fault(FaultKind::Connect, cause));
        };
        while let Some(line) = upstream.pool.take() {
            if line.is_quiet() {
                return Ok(Some(Transport::new(line, upstream.clone(), true)));
            }
        }
        let addrs = if let Some(ip) = upstream.ip {
            vec![SocketAddr::new(ip, upstream.port)]
        } else {
            let resolver = DefaultResolver::default();
            resolver.resolve(details.uri, details.config, details.timeout)?.iter().copied().collect()
        };
        let line = self.open(&addrs, upstream).map_err(|cause| fault(FaultKind::Connect, cause))?;
        Ok(Some(Transport::new(line, upstream.clone(), false)))
    }
}

impl Connector {
    fn open(&self, addrs: &[SocketAddr], upstream: &Upstream) -> io::Result<Line> {
        let generation = upstream.pool.generation();
        let stream = open(addrs, Instant::now() + self.timeouts.connect)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(self.timeouts.write))?;
        stream.set_read_timeout(Some(self.timeouts.head))?;
        let buffers = ExchangeBuffers::new(self.line_max_bytes);
        Ok(Line { stream: Arc::new(stream), buffers, read_timeout: self.timeouts.head, generation })
    }
}

/// Connects to the first address that answers; the time that is left is shared among those that are left.
fn open(addrs: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut result = Err(io::Error::other("the name has no address"));
    for (index, addr) in addrs.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addrs.len() - index).unwrap_or(u32::MAX);
        result = TcpStream::connect_timeout(addr, share.max(Duration::from_millis(1)));
        if result.is_ok() {
            break;
        }
    }
    result
}

/// What survives an exchange: an open connection and what belongs to it.
#[derive(Debug)]
pub(super) struct Line {
    /// Shared only for the moment in which the connection goes back to the pool.
    stream: Arc<TcpStream>,
    buffers: ExchangeBuffers,
    /// What `SO_RCVTIMEO` is set to, so that it is only set when it has to change.
    read_timeout: Duration,
    /// The number of the pool when this connection was opened.
    generation: u64,
}

impl Line {
    /// Whether nothing can be received right now: neither an end of file nor bytes that nobody asked for.
    fn is_quiet(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = SockRef::from(&*self.stream).recv_with_flags(&mut byte, MSG_PEEK | MSG_DONTWAIT);
        matches!(peeked, Err(e) if e.kind() == ErrorKind::WouldBlock)
    }

    /// A timeout up to an eighth longer than asked for is good enough and saves the system call.
    fn limit_reads(&mut self, timeout: Duration) -> io::Result<()> {
        let timeout = timeout.max(Duration::from_millis(1));
        if self.read_timeout < timeout || self.read_timeout > timeout + timeout / 8 {
            self.stream.set_read_timeout(Some(timeout))?;
            self.read_timeout = timeout;
        }
        Ok(())
    }
}

/// How far an exchange has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// No byte of the request was sent.
    Unsent,
    /// Some of it was sent.
    Sent,
    /// A byte of the response came.
    Received,
}

/// One exchange on a connection to inventory. When ureq drops it after a complete exchange, the connection goes back
/// to the pool; after anything else it is closed.
#[derive(Debug)]
pub(super) struct Transport {
    line: Line,
    upstream: Arc<Upstream>,
    /// Whether the connection had been used before.
    reused: bool,
    progress: Progress,
    /// Why the connection cannot be used again.
    ended: Option<ErrorKind>,
    /// Whether ureq has declared the exchange complete.
    complete: bool,
}

impl Transport {
    fn new(line: Line, upstream: Arc<Upstream>, reused: bool) -> Self {
        Self { line, upstream, reused, progress: Progress::Unsent, ended: None, complete: false }
    }

    /// Writes what was collected. A connection that is lost while writing is no failure yet: the other side may have
    /// answered before it closed, and that answer is worth more than ours.
    fn flush(&mut self) -> Result<(), ureq::Error> {
        let mut bytes = self.line.buffers.collected();
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
        self.line.buffers.clear_collected();
        Ok(())
    }

    /// The fault of a connection that ended while a response was awaited.
    fn lost(&self, cause: io::Error) -> ureq::Error {
        let kind = match self.progress {
            Progress::Received => FaultKind::Cut,
            progress => FaultKind::Lost { unsent: progress == Progress::Unsent, reused: self.reused },
        };
        fault(kind, cause)
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        if self.complete {
            let Line { stream, buffers, read_timeout, generation } = &mut self.line;
            let (stream, buffers) = (stream.clone(), std::mem::take(buffers));
            let line = Line { stream, buffers, read_timeout: *read_timeout, generation: *generation };
            self.upstream.pool.put(line, *generation);
        }
    }
}

impl transport::Transport for Transport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.line.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        if self.line.buffers.collect(amount) { self.flush() } else { Ok(()) }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.flush()?;
        let timeout = timeout.for_read();
        self.line.limit_reads(*timeout.after)?;
        let room = self.line.buffers.input_append_buf();
        if room.is_empty() {
            return Err(fault(FaultKind::Cut, io::Error::other("its head is too large")));
        }
        let result = loop {
            match (&*self.line.stream).read(room) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        match result {
            Ok(0) => {
                let cause = *self.ended.get_or_insert(ErrorKind::UnexpectedEof);
                // Within a response, ureq knows whether its end is allowed here.
                if self.progress == Progress::Received { Ok(false) } else { Err(self.lost(cause.into())) }
            }
            Ok(count) => {
                self.progress = Progress::Received;
                self.line.buffers.input_appended(count);
                Ok(true)
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Err(ureq::Error::Timeout(timeout.reason)),
            Err(e) => {
                self.ended = Some(e.kind());
                Err(self.lost(e))
            }
        }
    }

    /// ureq asks this when an exchange is complete, and only then, because its own pool is always empty.
    fn is_open(&mut self) -> bool {
        self.complete = self.ended.is_none() && self.line.buffers.input().is_empty();
        self.complete
    }
}
