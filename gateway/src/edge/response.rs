//! The response writer: one head, one body, as few writes as possible.

use std::io::{self, Write as _};

use super::socket::{Pace, Socket};

/// Responses are collected up to this many bytes before they are written.
const WRITE_BYTES: usize = 16 << 10;

/// How the end of a response's body is told to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodySize {
    /// No body may follow: the answer to HEAD, 204, 304. A length that describes the body of a GET is a plain field.
    None,
    /// This many bytes will be written.
    Known(u64),
    /// Nobody knows yet.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    NotBegun,
    Head,
    Length(u64),
    Chunked,
    UntilClose,
    Complete,
}

/// Writes one response.
#[derive(Debug)]
pub(crate) struct Response<'c> {
    socket: &'c Socket,
    buffer: &'c mut Vec<u8>,
    pace: Pace,
    http10: bool,
    keep_alive: bool,
    status: u16,
    state: State,
    /// Whether a byte of it is out of our hands.
    sent: bool,
}

impl<'c> Response<'c> {
    pub(crate) fn new(socket: &'c Socket, buffer: &'c mut Vec<u8>, pace: Pace, http10: bool) -> Self {
        buffer.clear();
        Self {
            socket,
            buffer,
            pace,
            http10,
            keep_alive: false,
            status: 0,
            state: State::NotBegun,
            sent: false,
        }
    }

    /// Writes the status line. `keep_alive` is whether the connection could go on after this response.
    pub(crate) fn begin(&mut self, status: u16, keep_alive: bool) {
        self.buffer.clear();
        self.buffer.extend_from_slice(b"HTTP/1.1 ");
        self.push_number(status);
        self.buffer.push(b' ');
        self.buffer.extend_from_slice(reason(status).as_bytes());
        self.buffer.extend_from_slice(b"\r\n");
        self.status = status;
        self.keep_alive = keep_alive;
        self.state = State::Head;
    }

    fn push_number(&mut self, number: impl std::fmt::Display) {
        // Writing to a vector cannot fail.
        let _ = write!(self.buffer, "{number}");
    }

    /// Adds a field. The caller vouches that `name` is a token in lower case and that `value` has no line break. The
    /// name is written in its usual case, since people read it and some programs compare it.
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8]) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(name);
        let mut first = true;
        for byte in &mut self.buffer[start..] {
            if first {
                byte.make_ascii_uppercase();
            }
            first = *byte == b'-';
        }
        self.buffer.extend_from_slice(b": ");
        self.buffer.extend_from_slice(value);
        self.buffer.extend_from_slice(b"\r\n");
    }

    /// Ends the head and announces the body.
    pub(crate) fn end_head(&mut self, size: BodySize) {
        self.state = match size {
            BodySize::None => State::Length(0),
            BodySize::Known(length) => {
                self.buffer.extend_from_slice(b"Content-Length: ");
                self.push_number(length);
                self.buffer.extend_from_slice(b"\r\n");
                State::Length(length)
            }
            BodySize::Unknown if self.http10 => {
                self.keep_alive = false;
                State::UntilClose
            }
            BodySize::Unknown => {
                self.buffer.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
                State::Chunked
            }
        };
        if !self.keep_alive {
            self.buffer.extend_from_slice(b"Connection: close\r\n");
        } else if self.http10 {
            self.buffer.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        self.buffer.extend_from_slice(b"\r\n");
    }

    /// Adds bytes of the body; they may wait in the buffer until [`Response::flush`] or [`Response::finish`].
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
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
                    return Err(io::Error::other("the body is longer than announced"));
                };
                *left = rest;
                self.buffer.extend_from_slice(bytes);
            }
            State::NotBegun | State::Head | State::Complete => {
                return Err(io::Error::other("a body was written outside of a response"));
            }
        }
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    /// Sends what waits in the buffer.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.sent |= !self.buffer.is_empty();
        let result = self.socket.write_all(self.buffer, &mut self.pace);
        self.buffer.clear();
        result
    }

    /// Ends the body. Fails when it is shorter than announced.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        match self.state {
            State::Chunked => self.buffer.extend_from_slice(b"0\r\n\r\n"),
            State::Length(0) | State::UntilClose => {}
            _ => return Err(io::Error::other("the body is shorter than announced")),
        }
        self.flush()?;
        self.state = State::Complete;
        Ok(())
    }

    /// The status that was sent; 0 if none was.
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// Whether it is too late to send another response instead.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent
    }

    /// Whether the response was sent completely and the connection may go on.
    pub(crate) fn allows_next(&self) -> bool {
        self.state == State::Complete && self.keep_alive
    }

    /// Whether the response was sent completely.
    pub(crate) fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Gives up in the middle: what was collected is still sent, but the body stays visibly incomplete.
    pub(crate) fn abort(&mut self) {
        if matches!(self.state, State::UntilClose) {
            self.socket.reset();
        } else if !matches!(self.state, State::Complete) {
            let _ = self.flush();
        }
    }
}

/// The reason phrases of the status codes that HTTP defines (RFC 9110 §15). Clients ignore them, people do not.
fn reason(status: u16) -> &'static str {
    ureq::http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Unassigned")
}
