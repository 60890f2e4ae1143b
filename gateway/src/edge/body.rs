//! The body of a request, read on demand and never beyond its end.

use std::io::{self, ErrorKind, Read};
use std::time::Instant;

use super::chunked::Decoder;
use super::framing::Framing;
use super::input::Input;
use super::socket::{Pace, Socket};
use crate::Problem;
use crate::settings::EdgeSettings;

/// An unread rest of up to this many bytes is read and dropped so that the connection can be used again; a longer
/// one is cheaper to end with the connection.
const DRAIN_MAX_BYTES: u64 = 64 << 10;
/// How many bytes of chunked framing are read at once.
const CHUNK_INPUT_BYTES: usize = 16 << 10;

#[derive(Debug)]
enum State {
    /// This many bytes are left.
    Length(u64),
    Chunked(Decoder),
    Done,
    /// Reading failed; where the next request begins can no longer be known.
    Broken,
}

/// The body of one request.
#[derive(Debug)]
pub(crate) struct Body<'c> {
    socket: &'c Socket,
    input: &'c mut Input,
    settings: &'c EdgeSettings,
    pace: Pace,
    state: State,
    /// Bytes that were read so far.
    read: u64,
    /// The route's limit in bytes.
    limit: u64,
    /// Whether the client still waits for `100 Continue`.
    continue_due: bool,
    /// Why [`Read::read`] failed, for those who got the error through a layer that does not know [`Problem`].
    failure: Option<Problem>,
}

impl<'c> Body<'c> {
    pub(crate) fn new(
        socket: &'c Socket,
        input: &'c mut Input,
        settings: &'c EdgeSettings,
        framing: Framing,
        expects_continue: bool,
    ) -> Self {
        let state = match framing {
            Framing::None => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Decoder::new()),
        };
        // A client that has sent some of the body already does not wait (RFC 9110 §10.1.1).
        let continue_due = expects_continue && framing != Framing::None && input.unread().is_empty();
        let pace = Pace::new(settings.body_timeout, settings.min_rate);
        Self { socket, input, settings, pace, state, read: 0, limit: u64::MAX, continue_due, failure: None }
    }

    /// Sets the most bytes that the body may have. A declared length beyond it is refused at once.
    pub(crate) fn set_limit(&mut self, limit: u64) -> Result<(), Problem> {
        self.limit = limit;
        match self.state {
            State::Length(length) if length > limit => Err(Problem::BodyTooLarge(limit)),
            _ => Ok(()),
        }
    }

    /// How many bytes are left, if that is known: 0 when all was read or there is none.
    pub(crate) fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Done => Some(0),
            State::Length(left) => Some(left),
            State::Chunked(_) | State::Broken => None,
        }
    }

    /// Whether all of it was read.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether the connection can serve another request once [`Body::drain`] has run.
    pub(crate) fn can_drain(&self) -> bool {
        match self.state {
            State::Done => true,
            // A client that waits for `100 Continue` may send the body after all, or not.
            State::Length(left) => left <= DRAIN_MAX_BYTES && !self.continue_due,
            State::Chunked(_) | State::Broken => false,
        }
    }

    /// Reads and drops the rest.
    pub(crate) fn drain(&mut self) -> Result<(), Problem> {
        let mut scrap = [0; 4 << 10];
        while self.read_some(&mut scrap)? > 0 {}
        Ok(())
    }

    /// Reads into `buffer` until it holds `max` bytes or the body ends.
    pub(crate) fn read_up_to(&mut self, buffer: &mut Vec<u8>, max: usize) -> Result<(), Problem> {
        let known = self.remaining().and_then(|left| usize::try_from(left).ok());
        let mut filled = buffer.len();
        while filled < max && !self.is_done() {
            let step = known.unwrap_or(CHUNK_INPUT_BYTES).min(max - filled).max(1);
            buffer.resize(filled + step, 0);
            let count = self.read_some(&mut buffer[filled..]).inspect_err(|_| buffer.truncate(filled))?;
            filled += count;
        }
        buffer.truncate(filled);
        Ok(())
    }

    /// Takes the reason why reading through [`Read`] failed.
    pub(crate) fn take_failure(&mut self) -> Option<Problem> {
        self.failure.take()
    }

    /// Reads some bytes; 0 at the end of the body.
    pub(crate) fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, Problem> {
        let result = match self.state {
            State::Done => return Ok(0),
            State::Broken => Err(Problem::Internal("a broken body was read again")),
            State::Length(left) => self.read_length(left, buffer),
            State::Chunked(_) => self.read_chunks(buffer),
        };
        if result.is_err() {
            self.state = State::Broken;
        }
        result
    }

    fn read_length(&mut self, left: u64, buffer: &mut [u8]) -> Result<usize, Problem> {
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

    fn read_chunks(&mut self, buffer: &mut [u8]) -> Result<usize, Problem> {
        loop {
            let State::Chunked(decoder) = &mut self.state else { return Ok(0) };
            let progress =
                decoder.decode(self.input.unread(), buffer).map_err(|e| Problem::BadRequest(e.0))?;
            let done = decoder.is_done();
            self.input.consume(progress.consumed);
            self.read += progress.produced as u64;
            if self.read > self.limit {
                return Err(Problem::BodyTooLarge(self.limit));
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

    /// Reads once from the socket, after telling the client to go on if it waits for that.
    fn receive(
        &mut self,
        read: impl FnOnce(&Socket, &mut Input, std::time::Duration) -> io::Result<usize>,
    ) -> Result<usize, Problem> {
        const TOO_SLOW: Problem = Problem::Timeout("the body was not sent in time");
        if std::mem::take(&mut self.continue_due) {
            let mut pace = self.pace.clone();
            self.socket
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n", &mut pace)
                .map_err(Problem::ClientGone)?;
        }
        let started = Instant::now();
        match read(self.socket, self.input, self.settings.body_timeout) {
            Ok(0) => Err(Problem::ClientGone(ErrorKind::UnexpectedEof.into())),
            Ok(count) => match self.pace.record(started.elapsed(), count) {
                Ok(()) => Ok(count),
                Err(_) => Err(TOO_SLOW),
            },
            Err(e) if e.kind() == ErrorKind::TimedOut => Err(TOO_SLOW),
            Err(e) => Err(Problem::ClientGone(e)),
        }
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_some(buffer).map_err(|problem| {
            let error = io::Error::other(problem.public().into_owned());
            self.failure = Some(problem);
            error
        })
    }
}
