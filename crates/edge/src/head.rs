//! Finds, parses and checks the head of a request. It is strict because request smuggling lives on servers that
//! disagree about where a request ends (RFC 9112 §11.2).

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::framing::{Framing, FramingFields};
use crate::method::Method;
use crate::refusal::Refusal;

/// Longest request line, in bytes; a longer one is answered 414.
pub const REQUEST_LINE_MAX_BYTES: usize = 8 << 10;
/// Largest header block, in bytes; a larger one is answered 431.
pub const HEADERS_MAX_BYTES: usize = 16 << 10;
/// Most header fields; more are answered 431.
const MAX_FIELDS: usize = 64;
/// How much an idle connection keeps allocated for its next head, in bytes.
const IDLE_CAPACITY: usize = 4 << 10;

/// Finds the end of a head in bytes that arrive piece by piece, looking at each byte once.
#[derive(Debug, Default)]
pub(crate) struct HeadScanner {
    scanned: usize,
    /// Where the current line begins.
    line_start: usize,
    request_line_end: Option<usize>,
    skipped_empty_line: bool,
}

impl HeadScanner {
    /// Whether no byte was looked at yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.scanned == 0
    }

    /// Skips the one empty line that may precede a request.
    pub(crate) fn skip_empty_line(&mut self) -> Result<(), Refusal> {
        if std::mem::replace(&mut self.skipped_empty_line, true) {
            return Err(Refusal::BadRequest("the request line is empty"));
        }
        Ok(())
    }

    /// Scans the bytes that are new since the last call; returns the length of the head once it is complete.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        while let Some(offset) = bytes[self.scanned..].iter().position(|byte| *byte == b'\n') {
            let newline = self.scanned + offset;
            if newline == 0 || bytes[newline - 1] != b'\r' {
                return Err(Refusal::BadRequest("a line must end with CR LF"));
            }
            let end = newline + 1;
            match self.request_line_end {
                None => {
                    self.request_line_end = Some(end);
                    if end > REQUEST_LINE_MAX_BYTES {
                        return Err(Refusal::UriTooLong(REQUEST_LINE_MAX_BYTES));
                    }
                }
                Some(request_line_end) if end - request_line_end > HEADERS_MAX_BYTES => {
                    return Err(Refusal::HeadersTooLarge("the header fields are too large"));
                }
                Some(_) if end - self.line_start == 2 => return Ok(Some(end)),
                Some(_) => {}
            }
            self.scanned = end;
            self.line_start = end;
        }
        self.scanned = bytes.len();
        match self.request_line_end {
            None if bytes.len() > REQUEST_LINE_MAX_BYTES => Err(Refusal::UriTooLong(REQUEST_LINE_MAX_BYTES)),
            Some(end) if bytes.len() - end > HEADERS_MAX_BYTES => {
                Err(Refusal::HeadersTooLarge("the header fields are too large"))
            }
            _ => Ok(None),
        }
    }
}

/// A request's head. Its buffers are used again for the next request of the connection.
#[derive(Debug)]
pub(crate) struct Head {
    bytes: Vec<u8>,
    fields: Vec<(Range<usize>, Range<usize>)>,
    target: Range<usize>,
    host: Range<usize>,
    pub(crate) method: Method,
    method_name: Range<usize>,
    minor_version: u8,
    pub(crate) framing: Framing,
    /// Whether the client is willing to use the connection again.
    pub(crate) keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
}

impl Head {
    pub(crate) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            fields: Vec::new(),
            target: 0..0,
            host: 0..0,
            method: Method::Other,
            method_name: 0..0,
            minor_version: 1,
            framing: Framing::None,
            keep_alive: false,
            expects_continue: false,
        }
    }

    /// Parses the complete head `bytes`.
    pub(crate) fn parse(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.fields.clear();
        self.keep_alive = false;
        self.minor_version = 1;
        let base = self.bytes.as_ptr().addr();
        let span = |part: &[u8]| {
            let start = part.as_ptr().addr() - base;
            start..start + part.len()
        };
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut []);
        let parsed = request
            .parse_with_uninit_headers(&self.bytes, &mut fields)
            .map_err(|error| describe(error, &self.bytes))?;
        if parsed != httparse::Status::Complete(self.bytes.len()) {
            return Err(Refusal::BadRequest("the request line is malformed"));
        }
        let (Some(method), Some(target), Some(minor_version)) =
            (request.method, request.path, request.version)
        else {
            return Err(Refusal::BadRequest("the request line is incomplete"));
        };
        self.minor_version = minor_version;
        self.method = Method::parse(method);
        self.method_name = span(method.as_bytes());
        self.target = span(target.as_bytes());
        let mut framing = FramingFields::default();
        for field in request.headers.iter() {
            // RFC 9110 §5.5 tolerates other bytes, but programs disagree on what they mean.
            if !field.value.is_ascii() {
                return Err(Refusal::BadRequest("a header field has an invalid value"));
            }
            framing.add(field.name, field.value)?;
            self.fields.push((span(field.name.as_bytes()), span(field.value)));
        }
        self.host = framing.host.map_or(0..0, span);
        self.framing = framing.decide(minor_version)?;
        self.keep_alive = framing.keep_alive(minor_version);
        self.expects_continue = framing.expects_continue && minor_version > 0;
        Ok(())
    }

    /// The method as it was sent; httparse has checked that it is a token.
    pub(crate) fn method_name(&self) -> &str {
        std::str::from_utf8(&self.bytes[self.method_name.clone()]).unwrap_or_default()
    }

    /// Whether the client speaks HTTP/1.0, which has no chunked bodies.
    pub(crate) fn is_http10(&self) -> bool {
        self.minor_version == 0
    }

    /// The request target as it was sent (RFC 9112 §3.2).
    pub(crate) fn target(&self) -> &[u8] {
        &self.bytes[self.target.clone()]
    }

    /// The value of `Host`; empty when an HTTP/1.0 client sent none.
    pub(crate) fn host(&self) -> &[u8] {
        &self.bytes[self.host.clone()]
    }

    /// All fields, as they were sent.
    pub(crate) fn fields(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|(name, value)| (&self.bytes[name.clone()], &self.bytes[value.clone()]))
    }

    /// The value of the field `name` if it was sent exactly once.
    pub(crate) fn field(&self, name: &str) -> Option<&[u8]> {
        let mut values = self.fields().filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
        let (_, value) = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// Frees what a large head allocated.
    pub(crate) fn shrink(&mut self) {
        if self.bytes.capacity() > 2 * IDLE_CAPACITY {
            *self = Self::new();
        }
    }

    /// Whether the field `name` was sent at all.
    pub(crate) fn has_field(&self, name: &str) -> bool {
        self.fields().any(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// Whether the request line names a well-formed but unsupported version of HTTP (RFC 9112 §2.3).
fn has_other_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let words: Vec<_> = line.split(|byte| *byte == b' ').collect();
    matches!(
        words[..],
        [_, _, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]]
            if major.is_ascii_digit() && minor.is_ascii_digit()
    )
}

fn describe(error: httparse::Error, head: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::HeadersTooLarge("there are too many header fields"),
        httparse::Error::Version if has_other_version(head) => Refusal::VersionNotSupported,
        httparse::Error::HeaderName => Refusal::BadRequest("a header field has an invalid name"),
        httparse::Error::HeaderValue => Refusal::BadRequest("a header field has an invalid value"),
        httparse::Error::NewLine => Refusal::BadRequest("a line must end with CR LF"),
        httparse::Error::Version | httparse::Error::Status | httparse::Error::Token => {
            Refusal::BadRequest("the request line is malformed")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Head, u16> {
        let mut scanner = HeadScanner::default();
        let length = scanner.advance(text.as_bytes()).map_err(|p| p.status())?.unwrap();
        assert_eq!(length, text.len());
        let mut head = Head::new();
        head.parse(text.as_bytes()).map_err(|p| p.status())?;
        Ok(head)
    }

    #[test]
    fn a_plain_request_is_understood() {
        let head = parse("PUT /a?b HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nContent-Length: 3\r\n\r\n").unwrap();
        assert_eq!(head.method, Method::Put);
        assert_eq!((head.target(), head.host()), (&b"/a?b"[..], &b"h"[..]));
        assert_eq!(head.framing, Framing::Length(3));
        assert!(head.keep_alive && !head.is_http10());
        assert_eq!(head.field("x-a"), Some(&b"1"[..]));
    }

    #[test]
    fn the_scanner_gives_the_same_answer_for_every_split() {
        let text = b"GET / HTTP/1.1\r\nHost: h\r\n\r\nrest";
        for split in 0..text.len() {
            let mut scanner = HeadScanner::default();
            let first = scanner.advance(&text[..split]).unwrap();
            let found = first.or_else(|| scanner.advance(text).unwrap());
            assert_eq!(found, Some(text.len() - 4), "split at {split}");
        }
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        for bad in [
            "GET / HTTP/1.1\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\n\r\n",
            "GET / HTTP/1.1\r\nHost : h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\x01b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nX-Name: é\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n: v\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /\tHTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / a HTTP/1.1\r\nHost: h\r\n\r\n",
            " GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        ] {
            assert_eq!(parse(bad).unwrap_err(), 400, "{bad:?}");
        }
    }

    #[test]
    fn other_versions_have_their_own_status() {
        for (line, status) in [
            ("G@T / HTTP/1.1", 400),
            ("G(T) / HTTP/1.1", 400),
            ("GET / HTTP/2.0", 505),
            ("GET / HTTP/1.2", 505),
            ("GET / HTTP/x", 400),
            ("GET / http/1.1", 400),
            ("GET /", 400),
        ] {
            assert_eq!(parse(&format!("{line}\r\nHost: h\r\n\r\n")).unwrap_err(), status, "{line}");
        }
    }

    #[test]
    fn methods_that_http_does_not_define_are_kept() {
        for name in ["get", "PURGE", "UPDATE", "M-SEARCH", "CONNECT"] {
            let head = parse(&format!("{name} / HTTP/1.1\r\nHost: h\r\n\r\n")).unwrap();
            assert_eq!((head.method, head.method_name()), (Method::Other, name));
        }
        assert_eq!(parse("GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap().method_name(), "GET");
    }

    #[test]
    fn what_a_large_head_allocated_is_given_back() {
        let filler = "a".repeat(9_000);
        let mut head = parse(&format!("GET / HTTP/1.1\r\nHost: h\r\nX-A: {filler}\r\n\r\n")).unwrap();
        assert!(head.bytes.capacity() > 2 * IDLE_CAPACITY);
        head.shrink();
        assert!(head.bytes.capacity() <= 2 * IDLE_CAPACITY && head.fields.is_empty());
    }

    #[test]
    fn limits_are_told_apart() {
        let long = "a".repeat(9_000);
        assert_eq!(parse(&format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n")).unwrap_err(), 414);
        let fields = "X-Filler: 0123456789abcdef0123456789abcdef\r\n".repeat(400);
        assert_eq!(parse(&format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n")).unwrap_err(), 431);
        let fields = "A: b\r\n".repeat(64);
        assert_eq!(parse(&format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n")).unwrap_err(), 431);
        assert!(parse(&format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(63))).is_ok());
    }
}
