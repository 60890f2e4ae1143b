//! What a binary adds to its private listener: pages that may take a body, change something and take their time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tiny_http::Request;

/// How long a client may take for its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The pages of a binary. Every request is answered on a thread of its own, of which there are a few.
pub trait Pages: Send + Sync {
    /// Answers a request for a path that is not one of the listener's own.
    fn answer(&self, request: &mut PageRequest<'_>) -> Answer;
}

/// A request for a page.
#[derive(Debug)]
pub struct PageRequest<'r>(pub(super) &'r mut Request);

/// Why a body could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It has more bytes than the limit.
    TooLarge,
    /// It did not arrive completely, or not in time.
    Incomplete,
}

impl PageRequest<'_> {
    /// The method, in upper case.
    pub fn method(&self) -> &str {
        self.0.method().as_str()
    }

    /// Path and query, as the client sent them.
    pub fn target(&self) -> &str {
        self.0.url()
    }

    /// The value of the first header field of this name.
    pub fn field(&self, name: &'static str) -> Option<&str> {
        self.0.headers().iter().find(|field| field.field.equiv(name)).map(|field| field.value.as_str())
    }

    /// Where the request comes from.
    pub fn client(&self) -> Option<SocketAddr> {
        self.0.remote_addr().copied()
    }

    /// Reads the body, of at most `limit_bytes`.
    pub fn body(&mut self, limit_bytes: usize) -> Result<Vec<u8>, BodyError> {
        if self.0.body_length().is_some_and(|length| length > limit_bytes) {
            return Err(BodyError::TooLarge);
        }
        let deadline = Instant::now() + BODY_TIMEOUT;
        let (expected, reader) = (self.0.body_length(), self.0.as_reader());
        let (mut body, mut piece) = (Vec::new(), [0; 8 << 10]);
        loop {
            let count = reader.read(&mut piece).map_err(|_| BodyError::Incomplete)?;
            body.extend_from_slice(&piece[..count]);
            match count {
                _ if body.len() > limit_bytes => return Err(BodyError::TooLarge),
                0 if expected.is_none_or(|length| length == body.len()) => return Ok(body),
                0 => return Err(BodyError::Incomplete),
                _ if Instant::now() > deadline => return Err(BodyError::Incomplete),
                _ => {}
            }
        }
    }
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The media type of the body; none is sent for an empty one.
    pub content_type: &'static str,
    /// Further header fields.
    pub fields: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// An answer in JSON.
    pub fn json(status: u16, body: impl Into<String>) -> Self {
        Self { status, content_type: "application/json", fields: Vec::new(), body: body.into() }
    }

    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Self::json(status, "")
    }

    /// Adds a header field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }
}
