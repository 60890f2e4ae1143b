//! Writes responses with as few system calls as possible.

use std::cell::Cell;
use std::io::Write as _;

use foundation::Shutdown;
use http::StatusCode;

use crate::date;
use crate::pace::Pace;
use crate::refusal::Refusal;
use crate::socket::Socket;

/// Bytes of a response are buffered up to this size before they are written.
const WRITE_BYTES: usize = 16 << 10;
/// How much an idle connection keeps allocated for its next response, in bytes.
const IDLE_CAPACITY: usize = 4 << 10;

/// How the client learns where the response body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodySize {
    /// No body follows: 204, 304, and the answer to HEAD. For HEAD, the length of the answer to GET can be sent as a
    /// plain field.
    None,
    /// This many bytes will be written.
    Known(u64),
    /// The size is not known yet: chunked, or for HTTP/1.0 delimited by closing the connection.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    NotBegun,
    Head,
    Length(u64),
    Chunked,
    UntilClose,
    /// The answer to HEAD: its body is discarded.
    Headless,
    Complete,
}

/// What a response needs to know about its request and connection.
#[derive(Clone, Copy)]
pub(crate) struct Context<'c> {
    pub(crate) http10: bool,
    /// Whether the request is HEAD, so that no body may follow.
    pub(crate) to_head: bool,
    /// Whether the client is willing to use the connection again.
    pub(crate) keep_alive: bool,
    /// Whether the unread rest of the request's body is short enough to drain.
    pub(crate) drainable: &'c Cell<bool>,
    pub(crate) request_id: &'c str,
    pub(crate) shutdown: &'c Shutdown,
}

/// Writes one response: [`Response::send`] for a whole one, or `begin`, `field`…, `end_head`, `write`…, `finish` to
/// stream it. As long as no byte has been sent, it may be begun again, for a late error.
pub struct Response<'c> {
    socket: &'c Socket,
    buffer: &'c mut Vec<u8>,
    pace: Pace,
    context: Context<'c>,
    keep_alive: bool,
    has_date: bool,
    status: u16,
    state: State,
    /// Whether a byte of the response has been sent.
    sent: bool,
}

impl<'c> Response<'c> {
    pub(crate) fn new(socket: &'c Socket, buffer: &'c mut Vec<u8>, pace: Pace, context: Context<'c>) -> Self {
        buffer.clear();
        Self {
            socket,
            buffer,
            pace,
            context,
            keep_alive: false,
            has_date: false,
            status: 0,
            state: State::NotBegun,
            sent: false,
        }
    }

    /// Sends a whole response: `fields`, then `Content-Length` and the body. The answer to HEAD has the length but no
    /// body; 204 and 304 have neither.
    pub fn send(&mut self, status: u16, fields: &[(&str, &str)], body: &[u8]) -> Result<(), Refusal> {
        self.begin(status);
        for (name, value) in fields {
            self.field(name, value.as_bytes());
        }
        self.end_head(BodySize::Known(body.len() as u64));
        self.write(body)?;
        self.finish()
    }

    /// Sends a whole response with a JSON body.
    pub fn send_json(&mut self, status: u16, fields: &[(&str, &str)], json: &[u8]) -> Result<(), Refusal> {
        self.begin(status);
        for (name, value) in fields {
            self.field(name, value.as_bytes());
        }
        self.field("content-type", b"application/json");
        self.end_head(BodySize::Known(json.len() as u64));
        self.write(json)?;
        self.finish()
    }

    /// Begins a response with its status line and `X-Request-Id`. Discards an unsent response that was begun before.
    pub fn begin(&mut self, status: u16) {
        self.buffer.clear();
        self.buffer.extend_from_slice(b"HTTP/1.1 ");
        self.push_number(status);
        self.buffer.push(b' ');
        self.buffer.extend_from_slice(reason(status).as_bytes());
        self.buffer.extend_from_slice(b"\r\n");
        self.status = status;
        self.has_date = false;
        self.keep_alive = self.context.keep_alive
            && self.context.drainable.get()
            && !self.context.shutdown.requested()
            && !self.socket.is_leaving();
        self.state = State::Head;
        self.field("x-request-id", self.context.request_id.as_bytes());
    }

    fn push_number(&mut self, number: impl std::fmt::Display) {
        // Writing to a vector cannot fail.
        let _ = write!(self.buffer, "{number}");
    }

    /// Adds a field to the head. `name` is a token in lower case, and not one of those that [`Response::end_head`]
    /// writes, except for `content-length` with [`BodySize::None`]. It is written in its usual case (`Content-Type`),
    /// because people read it and some programs compare it case-sensitively. A line break in `value` becomes a space
    /// (RFC 9110 §5.5).
    pub fn field(&mut self, name: &str, value: &[u8]) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(name.as_bytes());
        let mut first = true;
        for byte in &mut self.buffer[start..] {
            if first {
                byte.make_ascii_uppercase();
            }
            first = *byte == b'-';
        }
        self.buffer.extend_from_slice(b": ");
        let start = self.buffer.len();
        self.buffer.extend_from_slice(value);
        for byte in &mut self.buffer[start..] {
            if matches!(*byte, b'\r' | b'\n' | 0) {
                *byte = b' ';
            }
        }
        self.buffer.extend_from_slice(b"\r\n");
        self.has_date |= name == "date";
    }

    /// Ends the head: adds `Date` if it is missing, how the body ends, and whether the connection is kept.
    pub fn end_head(&mut self, size: BodySize) {
        if !self.has_date {
            date::with_now(|date| {
                self.buffer.extend_from_slice(b"Date: ");
                self.buffer.extend_from_slice(date);
                self.buffer.extend_from_slice(b"\r\n");
            });
        }
        let bodiless = matches!(self.status, 100..200 | 204 | 304);
        self.state = match size {
            _ if bodiless => State::Length(0),
            BodySize::None if self.context.to_head => State::Length(0),
            BodySize::None => self.announce(0),
            BodySize::Known(length) => self.announce(length),
            BodySize::Unknown if self.context.http10 => {
                self.keep_alive = false;
                State::UntilClose
            }
            BodySize::Unknown => {
                self.buffer.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
                State::Chunked
            }
        };
        if self.context.to_head && !bodiless {
            self.state = State::Headless;
        }
        if !self.keep_alive {
            self.buffer.extend_from_slice(b"Connection: close\r\n");
        } else if self.context.http10 {
            self.buffer.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        self.buffer.extend_from_slice(b"\r\n");
    }

    fn announce(&mut self, length: u64) -> State {
        self.buffer.extend_from_slice(b"Content-Length: ");
        self.push_number(length);
        self.buffer.extend_from_slice(b"\r\n");
        State::Length(length)
    }

    /// Adds bytes of the body; they may wait in the buffer until [`Response::flush`] or [`Response::finish`]. The
    /// answer to HEAD drops them. Fails if they exceed the announced length, or if the client is gone or too slow.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if bytes.is_empty() || self.state == State::Headless {
            return Ok(());
        }
        if self.buffer.len() + bytes.len() > WRITE_BYTES + 1024 {
            self.flush()?;
        }
        match &mut self.state {
            State::Chunked => {
                self.push_number(format_args!("{:x}\r\n", bytes.len()));
                self.buffer.extend_from_slice(bytes);
                self.buffer.extend_from_slice(b"\r\n");
            }
            State::UntilClose => self.buffer.extend_from_slice(bytes),
            State::Length(left) => {
                let Some(rest) = left.checked_sub(bytes.len() as u64) else {
                    return Err(Refusal::Internal("the body is longer than announced"));
                };
                *left = rest;
                self.buffer.extend_from_slice(bytes);
            }
            State::NotBegun | State::Head | State::Headless | State::Complete => {
                return Err(Refusal::Internal("a body was written outside of a response"));
            }
        }
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    /// Sends the buffered bytes.
    pub fn flush(&mut self) -> Result<(), Refusal> {
        self.sent |= !self.buffer.is_empty();
        let result = self.socket.write_all(self.buffer, &mut self.pace);
        self.buffer.clear();
        result.map_err(Refusal::ClientGone)
    }

    /// Ends the body and sends everything. Fails when it is shorter than announced.
    pub fn finish(&mut self) -> Result<(), Refusal> {
        match self.state {
            State::Chunked => self.buffer.extend_from_slice(b"0\r\n\r\n"),
            State::Length(0) | State::UntilClose | State::Headless => {}
            _ => return Err(Refusal::Internal("the body is shorter than announced")),
        }
        self.flush()?;
        self.state = State::Complete;
        Ok(())
    }

    /// The status that was begun last; 0 if none was.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether a byte has been sent, so that no other response can be begun.
    pub fn is_sent(&self) -> bool {
        self.sent
    }

    /// Whether the response was sent completely.
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Whether a response was begun at all.
    pub(crate) fn is_begun(&self) -> bool {
        self.state != State::NotBegun
    }

    /// Whether the response was sent completely and the connection is kept.
    pub(crate) fn allows_next(&self) -> bool {
        self.is_complete() && self.keep_alive
    }

    /// Ends the response early: sends the buffered bytes, but leaves the body visibly incomplete.
    pub(crate) fn abort(&mut self) {
        if self.state == State::UntilClose {
            self.socket.reset();
        } else if !self.is_complete() {
            let _ = self.flush();
        }
    }

    /// Answers with `refusal`, if no byte of another response was sent.
    pub(crate) fn refuse(&mut self, refusal: &Refusal) {
        if self.sent || matches!(refusal, Refusal::ClientGone(_)) {
            return;
        }
        let fields: &[_] = match refusal.retry_after() {
            Some(seconds) => &[("retry-after", seconds)],
            None => &[],
        };
        let _ = self.send_json(refusal.status(), fields, &refusal.to_json());
    }
}

/// Frees what a large response allocated.
pub(crate) fn shrink(buffer: &mut Vec<u8>) {
    if buffer.capacity() > 2 * IDLE_CAPACITY {
        *buffer = Vec::new();
    }
}

/// The reason phrase of a status code. Clients ignore it; people read it.
fn reason(status: u16) -> &'static str {
    StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_large_response_allocated_is_given_back_and_what_small_ones_use_is_kept() {
        let (mut large, mut small) = (Vec::with_capacity(WRITE_BYTES), Vec::with_capacity(IDLE_CAPACITY));
        shrink(&mut large);
        shrink(&mut small);
        assert!(large.capacity() <= 2 * IDLE_CAPACITY && small.capacity() >= IDLE_CAPACITY);
    }
}
