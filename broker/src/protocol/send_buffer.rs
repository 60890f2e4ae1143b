//! What waits to be sent on a connection. Any thread may append; nobody ever blocks on the socket while it holds a
//! lock, and a socket that does not take more is left to the connection's writer thread.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use foundation::metrics::Counter;
use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::protocol::codec::frame::{FrameKind, put};
use crate::protocol::codec::reply::Reply;
use crate::sync::lock;

/// Deliveries are held back while this many bytes wait.
const DELIVERY_LIMIT_BYTES: usize = 128 << 10;
/// The reader stops taking requests while this many bytes wait, so a client that never reads cannot make them grow.
const REQUEST_LIMIT_BYTES: usize = 1 << 20;
/// Buffers that grew beyond this for a large body are given back.
const KEEP_BYTES: usize = 256 << 10;

/// How many bytes and how many reads and writes of the socket a connection took.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) received: Direction,
    pub(crate) sent: Direction,
}

/// One direction of [`Traffic`].
#[derive(Debug, Default)]
pub(crate) struct Direction {
    pub(crate) bytes: Counter,
    pub(crate) packets: Counter,
}

impl Direction {
    pub(crate) fn count(&self, bytes: usize) {
        self.bytes.add(bytes as u64);
        self.packets.increment();
    }
}

/// The outgoing bytes of one connection.
pub(crate) struct SendBuffer {
    socket: TcpStream,
    /// The bytes that went over the socket in both directions.
    pub(crate) traffic: Arc<Traffic>,
    state: Mutex<State>,
    /// Wakes the writer thread.
    work: Condvar,
    /// Wakes the reader thread when bytes have left.
    room: Condvar,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a condition of its own, and all combinations occur"
)]
#[derive(Default)]
struct State {
    pending: Vec<u8>,
    /// The other buffer of the pair, empty.
    spare: Vec<u8>,
    /// Somebody is sending outside the lock.
    sending: bool,
    /// The socket took no more; the writer thread has to go on.
    stalled: bool,
    /// A delivery was refused for want of room.
    starved: bool,
    /// Somebody who appended has promised to call [`SendBuffer::flush`].
    flush_promised: bool,
    /// Nothing more may be appended; the writer thread ends when everything is sent.
    finished: bool,
    /// The socket is of no more use.
    closed: bool,
    /// Something was sent since the writer thread last looked.
    active: bool,
    /// The interval at which something must be sent; none before it is negotiated, or if it is 0.
    heartbeat: Option<Duration>,
}

impl SendBuffer {
    pub(crate) fn new(socket: TcpStream) -> Arc<Self> {
        let (work, room) = (Condvar::new(), Condvar::new());
        Arc::new(Self { socket, traffic: Arc::default(), state: Mutex::default(), work, room })
    }

    /// Our end of the connection.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }

    /// Bytes that wait to be sent.
    pub(crate) fn pending_bytes(&self) -> usize {
        lock(&self.state).pending.len()
    }

    /// Appends what `fill` appends, to be sent by the next [`SendBuffer::flush`], which the caller owes. Returns whether
    /// nobody owed it already.
    pub(crate) fn push(&self, fill: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = lock(&self.state);
        if state.finished || state.closed {
            return false;
        }
        fill(&mut state.pending);
        !std::mem::replace(&mut state.flush_promised, true)
    }

    /// Sends a method, of the connection itself if `channel` is 0.
    pub(crate) fn send(&self, reply: &Reply<'_>, channel: u16) {
        self.push(|out| reply.put(out, channel));
        self.flush();
    }

    /// Whether a delivery may be appended. A refusal is remembered: the writer thread has queues try again later.
    pub(crate) fn has_room(&self) -> bool {
        let mut state = lock(&self.state);
        let open = !state.finished && !state.closed;
        let room = state.pending.len() < DELIVERY_LIMIT_BYTES;
        state.starved |= open && !room;
        open && room
    }

    /// Sends what the socket takes without blocking; the writer thread sends the rest.
    pub(crate) fn flush(&self) {
        let mut state = lock(&self.state);
        state.flush_promised = false;
        while !(state.pending.is_empty() || state.sending || state.stalled || state.closed) {
            state.sending = true;
            let buffer = state.take_pending();
            drop(state);
            let sent = rustix::net::send(&self.socket, &buffer, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            state = lock(&self.state);
            state.sending = false;
            state.active = true;
            if let Ok(count) = sent {
                self.traffic.sent.count(count);
            }
            match sent {
                Ok(count) if count == buffer.len() => state.recycle(buffer),
                Ok(count) => self.stall(&mut state, buffer, count),
                Err(Errno::AGAIN | Errno::INTR) => self.stall(&mut state, buffer, 0),
                Err(_) => self.fail(&mut state),
            }
        }
        if state.starved || state.finished {
            self.work.notify_one();
        }
        self.room.notify_all();
    }

    /// Puts what was not sent back in front, for the writer thread.
    fn stall(&self, state: &mut State, mut buffer: Vec<u8>, sent: usize) {
        buffer.drain(..sent);
        buffer.append(&mut state.pending);
        state.spare = std::mem::replace(&mut state.pending, buffer);
        state.stalled = true;
        self.work.notify_one();
    }

    fn fail(&self, state: &mut State) {
        state.closed = true;
        state.pending = Vec::new();
        // The reader thread, which may be blocked in a read, ends with this.
        let _ = self.socket.shutdown(Shutdown::Both);
        self.work.notify_all();
        self.room.notify_all();
    }

    /// Sets how often something must be sent, from now on.
    pub(crate) fn set_heartbeat(&self, interval: Option<Duration>) {
        lock(&self.state).heartbeat = interval;
        self.work.notify_one();
    }

    /// Refuses everything from now on, and ends the connection for sending once all that waits is sent.
    pub(crate) fn finish(&self) {
        lock(&self.state).finished = true;
        self.work.notify_one();
    }

    /// Ends the connection at once.
    pub(crate) fn close(&self) {
        self.fail(&mut lock(&self.state));
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    /// Blocks the reader thread while too much waits to be sent.
    pub(crate) fn wait_for_room(&self) {
        let state = lock(&self.state);
        if state.pending.len() >= REQUEST_LIMIT_BYTES {
            drop(state);
            self.flush();
            let waiting = |state: &mut State| state.pending.len() >= REQUEST_LIMIT_BYTES && !state.closed;
            drop(self.room.wait_while(lock(&self.state), waiting));
        }
    }

    /// The body of the writer thread: sends what a full socket refused, heartbeats, and calls `on_room` when refused
    /// deliveries may be tried again. Returns when the connection is finished or closed.
    pub(crate) fn run_writer(&self, on_room: impl Fn()) {
        let mut beat = Instant::now();
        loop {
            let mut state = lock(&self.state);
            if state.closed {
                return;
            }
            if !state.sending && (state.stalled || (state.finished && !state.pending.is_empty())) {
                self.send_blocking(state);
                continue;
            }
            if state.finished && !state.sending {
                let _ = self.socket.shutdown(Shutdown::Write);
                return;
            }
            if state.starved && state.pending.len() < DELIVERY_LIMIT_BYTES / 2 {
                state.starved = false;
                drop(state);
                on_room();
                continue;
            }
            let Some(interval) = state.heartbeat else {
                beat = Instant::now();
                drop(self.work.wait(state));
                continue;
            };
            let now = Instant::now();
            let due = beat + interval;
            if now < due {
                drop(self.work.wait_timeout(state, due - now));
                continue;
            }
            beat = now;
            if !std::mem::take(&mut state.active) {
                put(&mut state.pending, FrameKind::Heartbeat, 0, |_| {});
                drop(state);
                self.flush();
            }
        }
    }

    fn send_blocking(&self, mut state: MutexGuard<'_, State>) {
        state.sending = true;
        let buffer = state.take_pending();
        drop(state);
        let sent = (&self.socket).write_all(&buffer);
        let mut state = lock(&self.state);
        state.sending = false;
        state.active = true;
        if sent.is_err() {
            self.fail(&mut state);
            return;
        }
        self.traffic.sent.count(buffer.len());
        state.recycle(buffer);
        state.stalled = !state.pending.is_empty();
        self.room.notify_all();
    }
}

impl State {
    fn take_pending(&mut self) -> Vec<u8> {
        let spare = std::mem::take(&mut self.spare);
        std::mem::replace(&mut self.pending, spare)
    }

    fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= KEEP_BYTES {
            buffer.clear();
            self.spare = buffer;
        }
    }
}
