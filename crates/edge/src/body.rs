//! The body of a request: read on demand, never past its end, into memory that grows with the bytes that have arrived.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::budget::{Budget, Share};
use crate::chunked::Decoder;
use crate::framing::Framing;
use crate::input::Input;
use crate::pace::Pace;
use crate::refusal::Refusal;
use crate::socket::Socket;

/// An unread rest of up to this many bytes is read and discarded so that the connection can be used again. For a longer
/// rest, closing the connection is cheaper.
const DRAIN_MAX_BYTES: u64 = 64 << 10;
/// How many bytes of a chunked body are read at once.
const CHUNK_INPUT_BYTES: usize = 16 << 10;
/// How much of each body does not count against the budget of all bodies, in bytes. The limit on connections bounds the
/// sum of these, and small bodies need not touch the counter that all threads share.
const FREE_BYTES: usize = 4 << 10;

/// A complete body. Until it is dropped, its memory counts against the budget of all bodies.
#[derive(Debug)]
pub struct Body {
    bytes: Vec<u8>,
    _share: Share,
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[derive(Debug)]
enum State {
    /// This many bytes are left.
    Length(u64),
    Chunked(Decoder),
    Done,
    /// Reading failed, so the start of the next request is unknown.
    Broken,
}

/// Reads the body of one request.
#[derive(Debug)]
pub(crate) struct BodyReader<'c> {
    socket: &'c Socket,
    input: &'c mut Input,
    pace: Pace,
    budget: &'c Arc<Budget>,
    state: State,
    /// Bytes of a chunked body that have been read so far.
    read: u64,
    /// The largest allowed size of the body, in bytes.
    limit: u64,
    /// Whether the client still waits for `100 Continue`.
    continue_due: bool,
    /// Whether the rest of the body is short enough to drain, so that the connection can be used again. The response
    /// announces this.
    drainable: &'c Cell<bool>,
}

impl<'c> BodyReader<'c> {
    pub(crate) fn new(
        socket: &'c Socket,
        input: &'c mut Input,
        pace: Pace,
        budget: &'c Arc<Budget>,
        (framing, expects_continue): (Framing, bool),
        drainable: &'c Cell<bool>,
    ) -> Self {
        let state = match framing {
            Framing::None => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Decoder::new()),
        };
        // A client that has already sent some of the body does not wait (RFC 9110 §10.1.1).
        let continue_due = expects_continue && framing != Framing::None && input.unread().is_empty();
        let limit = u64::MAX;
        let reader = Self { socket, input, pace, budget, state, read: 0, limit, continue_due, drainable };
        reader.update_drainable();
        reader
    }

    /// Reads the whole body. A declared length beyond `max_bytes` is refused at once.
    pub(crate) fn read_all(&mut self, max_bytes: u64) -> Result<Body, Refusal> {
        self.limit = max_bytes;
        if matches!(self.state, State::Length(length) if length > max_bytes) {
            return Err(Refusal::BodyTooLarge(max_bytes));
        }
        let mut share = Share::empty(self.budget);
        let mut bytes = Vec::new();
        let mut filled = 0;
        while !self.is_done() {
            if filled == bytes.len() {
                let size = self.next_size(filled);
                if !share.grow_to(size.saturating_sub(FREE_BYTES)) {
                    return Err(Refusal::BodiesTooLarge);
                }
                bytes.reserve_exact(size - filled);
                bytes.resize(size, 0);
            }
            filled += self.read_some(&mut bytes[filled..])?;
        }
        bytes.truncate(filled);
        Ok(Body { bytes, _share: share })
    }

    /// The next size of a buffer that `filled` bytes have filled: twice as large, but never larger than the body can
    /// be.
    fn next_size(&self, filled: usize) -> usize {
        let left = match self.state {
            State::Length(left) => left,
            // One byte more than the limit allows, to notice that it is exceeded.
            _ => self.limit.saturating_sub(self.read).saturating_add(1),
        };
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        filled + left.min(filled.max(FREE_BYTES))
    }

    /// Whether the whole body has been read.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    fn update_drainable(&self) {
        self.drainable.set(match self.state {
            State::Done => true,
            // A client that waits for `100 Continue` may or may not send the body.
            State::Length(left) => left <= DRAIN_MAX_BYTES && !self.continue_due,
            State::Chunked(_) | State::Broken => false,
        });
    }

    /// Reads and discards the rest.
    pub(crate) fn drain(&mut self) -> Result<(), Refusal> {
        if self.is_done() {
            return Ok(());
        }
        let mut scrap = [0; 4 << 10];
        while self.read_some(&mut scrap)? > 0 {}
        Ok(())
    }

    /// Reads some bytes; 0 at the end of the body.
    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, Refusal> {
        let result = match self.state {
            State::Done => return Ok(0),
            State::Broken => Err(Refusal::Internal("a broken body was read again")),
            State::Length(left) => self.read_length(left, buffer),
            State::Chunked(_) => self.read_chunks(buffer),
        };
        if result.is_err() {
            self.state = State::Broken;
        }
        self.update_drainable();
        result
    }

    fn read_length(&mut self, left: u64, buffer: &mut [u8]) -> Result<usize, Refusal> {
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let unread = self.input.unread();
        let count = if unread.is_empty() {
            self.receive(|socket, _, timeout| socket.read(&mut buffer[..wanted], timeout))?
        } else {
            let count = wanted.min(unread.len());
            buffer[..count].copy_from_slice(&unread[..count]);
            self.input.consume(count);
            count
        };
        let left = left - count as u64;
        self.state = if left == 0 { State::Done } else { State::Length(left) };
        Ok(count)
    }

    fn read_chunks(&mut self, buffer: &mut [u8]) -> Result<usize, Refusal> {
        loop {
            let State::Chunked(decoder) = &mut self.state else { return Ok(0) };
            let progress =
                decoder.decode(self.input.unread(), buffer).map_err(|e| Refusal::BadRequest(e.0))?;
            let done = decoder.is_done();
            self.input.consume(progress.consumed);
            self.read += progress.produced as u64;
            if self.read > self.limit {
                return Err(Refusal::BodyTooLarge(self.limit));
            }
            if done {
                self.state = State::Done;
            }
            if done || progress.produced > 0 {
                return Ok(progress.produced);
            }
            self.receive(|socket, input, timeout| input.fill(socket, timeout, CHUNK_INPUT_BYTES))?;
        }
    }

    /// Reads once from the socket; first sends `100 Continue` if the client waits for it.
    fn receive(
        &mut self,
        read: impl FnOnce(&Socket, &mut Input, Duration) -> io::Result<usize>,
    ) -> Result<usize, Refusal> {
        const TOO_SLOW: Refusal = Refusal::Timeout("the body was not sent in time");
        if std::mem::take(&mut self.continue_due) {
            let mut pace = self.pace.clone();
            self.socket
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n", &mut pace)
                .map_err(Refusal::ClientGone)?;
        }
        let started = Instant::now();
        match read(self.socket, self.input, self.pace.patience()) {
            Ok(0) => Err(Refusal::ClientGone(ErrorKind::UnexpectedEof.into())),
            Ok(count) => match self.pace.record(started.elapsed(), count) {
                Ok(()) => Ok(count),
                Err(_) => Err(TOO_SLOW),
            },
            Err(e) if e.kind() == ErrorKind::TimedOut => Err(TOO_SLOW),
            Err(e) => Err(Refusal::ClientGone(e)),
        }
    }
}
