//! What waits to be sent on a connection. Any thread may append; nobody ever blocks on the socket while it holds a
//! lock, and a socket that does not take more is left to the connection's writer thread.

mod state;

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::protocol::codec::frame::{FrameKind, put};
use crate::protocol::codec::reply::Reply;
use crate::protocol::memory::{MemoryBudget, Pace, Refused};
use crate::protocol::traffic::Traffic;
use crate::sync::{lock, wait};

use self::state::State;

/// Deliveries are held back while this many bytes wait.
const DELIVERY_LIMIT_BYTES: usize = 128 << 10;
/// The reader stops taking requests while this many bytes wait, so a client that never reads cannot make them grow.
const REQUEST_LIMIT_BYTES: usize = 1 << 20;
/// While an answer waits for memory, how often it is looked whether the client is still there.
const BUDGET_POLL: Duration = Duration::from_millis(250);

/// The outgoing bytes of one connection.
pub(crate) struct SendBuffer {
    /// The reader thread has it, too: a connection takes one descriptor.
    socket: Arc<TcpStream>,
    budget: Arc<MemoryBudget>,
    /// The bytes that went over the socket in both directions.
    pub(crate) traffic: Arc<Traffic>,
    state: Mutex<State>,
    /// Wakes the writer thread.
    work: Condvar,
    /// Wakes the reader thread when bytes have left.
    room: Condvar,
}

impl SendBuffer {
    pub(crate) fn new(socket: Arc<TcpStream>, budget: Arc<MemoryBudget>) -> Arc<Self> {
        Arc::new(Self {
            socket,
            budget,
            traffic: Arc::default(),
            state: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
        })
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
        let beyond = state.beyond(self.budget.allowance());
        if beyond > state.counted {
            self.budget.take(beyond - state.counted);
            state.counted = beyond;
        }
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

    /// Reserves memory for a delivery of `bytes`. False if there is none; the writer thread has queues try again when
    /// there is.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: usize) -> bool {
        if self.try_reserve(bytes) {
            return true;
        }
        let refused: Weak<dyn Refused> = Arc::<Self>::downgrade(self);
        self.budget.remember(refused);
        // Something may have been given back before it was remembered, and nothing ever after.
        self.try_reserve(bytes)
    }

    fn try_reserve(&self, bytes: usize) -> bool {
        let mut state = lock(&self.state);
        if state.finished || state.closed {
            // Nothing can be appended any more.
            return true;
        }
        let beyond = (state.in_flight + state.pending.len() + bytes).saturating_sub(self.budget.allowance());
        let more = beyond.saturating_sub(state.counted);
        if more == 0 {
            return true;
        }
        if !self.budget.try_take(more) {
            if state.exceeds || !self.budget.begin_exceeding() {
                return false;
            }
            state.exceeds = true;
            self.budget.take(more);
        }
        state.counted += more;
        true
    }

    /// Reserves memory for an answer of `bytes`, and waits for it. False if the connection ended meanwhile.
    pub(crate) fn reserve_patiently(self: &Arc<Self>, bytes: usize) -> bool {
        self.wait_for_room();
        while !self.reserve(bytes) {
            self.flush();
            self.budget.wait(BUDGET_POLL);
            if self.is_closed() {
                return false;
            }
        }
        true
    }

    /// Whether the client reads too slowly to keep others waiting for memory.
    pub(crate) fn is_too_slow(&self) -> bool {
        let state = lock(&self.state);
        state.counted > 0 && state.pace.is_some_and(|pace| pace.is_too_slow())
    }

    /// Ends the use of the state, and gives back memory that it no longer needs. Not before the lock is released: what
    /// is given back may wake other send buffers.
    fn unlock(&self, mut state: MutexGuard<'_, State>) {
        let beyond = state.beyond(self.budget.allowance());
        let freed = state.counted.saturating_sub(beyond);
        state.counted -= freed;
        if state.exceeds && state.counted == 0 {
            state.exceeds = false;
            self.budget.end_exceeding();
        }
        drop(state);
        self.budget.release(freed);
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
            state.in_flight = 0;
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
        if state.reader_waits {
            self.room.notify_all();
        }
        if !state.sending {
            self.unlock(state);
        }
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
        let mut state = lock(&self.state);
        self.fail(&mut state);
        self.unlock(state);
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    /// Blocks the reader thread while too much waits to be sent. A client that does not read ends that: what is sent to it
    /// fails after the socket's timeout.
    pub(crate) fn wait_for_room(&self) {
        let state = lock(&self.state);
        if state.pending.len() >= REQUEST_LIMIT_BYTES {
            drop(state);
            self.flush();
            let mut state = lock(&self.state);
            loop {
                state.reader_waits = state.pending.len() >= REQUEST_LIMIT_BYTES && !state.closed;
                if !state.reader_waits {
                    return;
                }
                state = wait(&self.room, state);
            }
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
                drop(wait(&self.work, state));
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
                state.spare = Vec::new();
                state.pending.shrink_to_fit();
                put(&mut state.pending, FrameKind::Heartbeat, 0, |_| {});
                drop(state);
                self.flush();
            }
        }
    }

    /// Writes everything, each part within the socket's timeout, and notes how fast the client takes it.
    fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match (&*self.socket).write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes = &bytes[count..];
                    if let Some(pace) = &mut lock(&self.state).pace {
                        pace.advance(count);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn send_blocking(&self, mut state: MutexGuard<'_, State>) {
        state.sending = true;
        let buffer = state.take_pending();
        state.pace = Some(Pace::begin());
        drop(state);
        let sent = self.write_all(&buffer);
        let mut state = lock(&self.state);
        state.sending = false;
        state.in_flight = 0;
        state.pace = None;
        state.active = true;
        if sent.is_err() {
            self.fail(&mut state);
        } else {
            self.traffic.sent.count(buffer.len());
            state.recycle(buffer);
            state.stalled = !state.pending.is_empty();
            self.room.notify_all();
        }
        self.unlock(state);
    }
}

impl Refused for SendBuffer {
    fn retry(&self) {
        lock(&self.state).starved = true;
        self.work.notify_one();
    }
}

impl Drop for SendBuffer {
    fn drop(&mut self) {
        let state = lock(&self.state);
        if state.exceeds {
            self.budget.end_exceeding();
        }
        self.budget.release(state.counted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::sync::mpsc;

    #[test]
    fn a_lost_wake_up_holds_up_neither_thread_for_good() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let send_buffer = SendBuffer::new(socket, MemoryBudget::new(1));
        // Somebody else seems to be sending, so nothing is sent and the reader waits.
        lock(&send_buffer.state).sending = true;
        send_buffer.push(|out| out.resize(REQUEST_LIMIT_BYTES, 0));
        let (sender, ended) = mpsc::channel();
        let (reader, read) = (Arc::clone(&send_buffer), sender.clone());
        std::thread::spawn(move || {
            reader.wait_for_room();
            read.send("reader")
        });
        let writer = Arc::clone(&send_buffer);
        std::thread::spawn(move || {
            writer.run_writer(|| {});
            sender.send("writer")
        });
        let deadline = Instant::now() + Duration::from_secs(30);
        while !lock(&send_buffer.state).reader_waits {
            assert!(Instant::now() < deadline, "the reader waits");
            std::thread::yield_now();
        }
        assert!(ended.recv_timeout(Duration::from_millis(20)).is_err(), "there is no room yet");
        // The socket fails, and nobody is told.
        lock(&send_buffer.state).closed = true;
        let mut first_and_second = [(); 2].map(|()| ended.recv_timeout(Duration::from_secs(30)).unwrap());
        first_and_second.sort_unstable();
        assert_eq!(first_and_second, ["reader", "writer"]);
    }
}
