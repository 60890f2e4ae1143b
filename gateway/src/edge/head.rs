//! The head of a request: found, parsed and checked strictly, because a second opinion on where a request ends is
//! how requests are smuggled (RFC 9112 §11.2).

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::Problem;
use crate::edge::framing::{Framing, FramingFields};
use crate::settings::EdgeSettings;

/// The methods that are known; no path has TRACE, but each can say so. Names are case-sensitive (RFC 9110 §9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Trace,
}

impl Method {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            "TRACE" => Self::Trace,
            _ => return None,
        })
    }

    /// Its name, as it is sent.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
        }
    }

    /// Whether doing it twice is the same as doing it once (RFC 9110 §9.2.2).
    pub(crate) fn is_idempotent(self) -> bool {
        !matches!(self, Self::Post | Self::Patch)
    }
}

/// The most header fields that the setting can allow.
const MAX_FIELDS: usize = 128;

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

    /// Takes note of the one empty line that may come before a request.
    pub(crate) fn skip_empty_line(&mut self) -> Result<(), Problem> {
        if std::mem::replace(&mut self.skipped_empty_line, true) {
            return Err(Problem::BadRequest("the request line is empty"));
        }
        Ok(())
    }

    /// Looks at the bytes that are new since the last call; returns the length of the head once it is complete.
    pub(crate) fn advance(
        &mut self,
        bytes: &[u8],
        settings: &EdgeSettings,
    ) -> Result<Option<usize>, Problem> {
        while let Some(offset) = bytes[self.scanned..].iter().position(|byte| *byte == b'\n') {
            let newline = self.scanned + offset;
            if newline == 0 || bytes[newline - 1] != b'\r' {
                return Err(Problem::BadRequest("a line must end with CR LF"));
            }
            let end = newline + 1;
            match self.request_line_end {
                None => {
                    self.request_line_end = Some(end);
                    if end > settings.request_line_max_bytes {
                        return Err(Problem::UriTooLong(settings.request_line_max_bytes));
                    }
                }
                Some(request_line_end) if end - request_line_end > settings.headers_max_bytes => {
                    return Err(Problem::HeadersTooLarge("the header fields are too large"));
                }
                Some(_) if end - self.line_start == 2 => return Ok(Some(end)),
                Some(_) => {}
            }
            self.scanned = end;
            self.line_start = end;
        }
        self.scanned = bytes.len();
        match self.request_line_end {
            None if bytes.len() > settings.request_line_max_bytes => {
                Err(Problem::UriTooLong(settings.request_line_max_bytes))
            }
            Some(end) if bytes.len() - end > settings.headers_max_bytes => {
                Err(Problem::HeadersTooLarge("the header fields are too large"))
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
    method: Method,
    minor_version: u8,
    framing: Framing,
    keep_alive: bool,
    expects_continue: bool,
}

impl Head {
    pub(crate) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            fields: Vec::new(),
            target: 0..0,
            host: 0..0,
            method: Method::Get,
            minor_version: 1,
            framing: Framing::None,
            keep_alive: false,
            expects_continue: false,
        }
    }

    /// Takes over the complete head `bytes`.
    pub(crate) fn parse(&mut self, bytes: &[u8], settings: &EdgeSettings) -> Result<(), Problem> {
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
            return Err(Problem::BadRequest("the request line is malformed"));
        }
        if request.headers.len() > settings.headers_max_count {
            return Err(Problem::HeadersTooLarge("there are too many header fields"));
        }
        let (Some(method), Some(target), Some(minor_version)) =
            (request.method, request.path, request.version)
        else {
            return Err(Problem::BadRequest("the request line is incomplete"));
        };
        self.minor_version = minor_version;
        self.method = Method::parse(method).ok_or(Problem::NotImplemented)?;
        self.target = span(target.as_bytes());
        let mut framing = FramingFields::default();
        for field in request.headers.iter() {
            // RFC 9110 §5.5 tolerates other bytes; inventory's server closes the connection over them, and what could
            // be one client's mistake would look like a failure of ours.
            if !field.value.is_ascii() {
                return Err(Problem::BadRequest("a header field has an invalid value"));
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

    pub(crate) fn method(&self) -> Method {
        self.method
    }

    /// Whether the client speaks HTTP/1.0 and thus knows no chunks.
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

    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether the client is willing to use the connection again.
    pub(crate) fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether the client waits for a word before it sends the body.
    pub(crate) fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// All fields, as they were sent.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|(name, value)| (&self.bytes[name.clone()], &self.bytes[value.clone()]))
    }

    /// How many fields there are.
    pub(crate) fn field_count(&self) -> usize {
        self.fields.len()
    }

    /// The value of the field `name` if it was sent exactly once.
    pub(crate) fn field(&self, name: &str) -> Option<&[u8]> {
        let mut values = self.fields().filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
        let (_, value) = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// Whether the field `name` was sent at all.
    pub(crate) fn has_field(&self, name: &str) -> bool {
        self.fields().any(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// Whether the request line names another version of HTTP in the form that all versions have (RFC 9112 §2.3).
fn has_other_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let words: Vec<_> = line.split(|byte| *byte == b' ').collect();
    matches!(
        words[..],
        [_, _, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]]
            if major.is_ascii_digit() && minor.is_ascii_digit()
    )
}

fn describe(error: httparse::Error, head: &[u8]) -> Problem {
    match error {
        httparse::Error::TooManyHeaders => Problem::HeadersTooLarge("there are too many header fields"),
        httparse::Error::Version if has_other_version(head) => Problem::VersionNotSupported,
        httparse::Error::HeaderName => Problem::BadRequest("a header field has an invalid name"),
        httparse::Error::HeaderValue => Problem::BadRequest("a header field has an invalid value"),
        httparse::Error::NewLine => Problem::BadRequest("a line must end with CR LF"),
        httparse::Error::Version | httparse::Error::Status | httparse::Error::Token => {
            Problem::BadRequest("the request line is malformed")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;
    use crate::settings::tests::environment;

    fn settings() -> EdgeSettings {
        Settings::read(&environment([])).unwrap().edge
    }

    fn parse(text: &str) -> Result<Head, u16> {
        let mut scanner = HeadScanner::default();
        let length = scanner.advance(text.as_bytes(), &settings()).map_err(|p| p.status())?.unwrap();
        assert_eq!(length, text.len());
        let mut head = Head::new();
        head.parse(text.as_bytes(), &settings()).map_err(|p| p.status())?;
        Ok(head)
    }

    #[test]
    fn a_plain_request_is_understood() {
        let head = parse("PUT /a?b HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nContent-Length: 3\r\n\r\n").unwrap();
        assert_eq!(head.method(), Method::Put);
        assert_eq!((head.target(), head.host()), (&b"/a?b"[..], &b"h"[..]));
        assert_eq!(head.framing(), Framing::Length(3));
        assert!(head.keep_alive() && !head.is_http10());
        assert_eq!(head.field("x-a"), Some(&b"1"[..]));
    }

    #[test]
    fn the_scanner_gives_the_same_answer_for_every_split() {
        let text = b"GET / HTTP/1.1\r\nHost: h\r\n\r\nrest";
        for split in 0..text.len() {
            let mut scanner = HeadScanner::default();
            let first = scanner.advance(&text[..split], &settings()).unwrap();
            let found = first.or_else(|| scanner.advance(text, &settings()).unwrap());
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
    fn other_methods_and_versions_have_their_own_status() {
        for (line, status) in [
            ("get / HTTP/1.1", 501),
            ("CONNECT a:1 HTTP/1.1", 501),
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
