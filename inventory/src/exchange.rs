//! Between the server library's types and ours: reads a request within its limits, writes a response.

use std::fmt::Write as _;
use std::io::{self, Read, Write};

use tiny_http::{HTTPVersion, Header, StatusCode};

use crate::error::Error;
use crate::http::{Body, Request, Response};
use crate::repository::MovieRows;

/// Bytes of a list that are written at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// Bodies up to this size reach us in one piece, because the gateway gathers them first. What is larger may come
/// slowly.
const QUICK_BODY_BYTES: usize = 64 << 10;

/// The parts of a request line: method, path and query.
pub(crate) fn target(raw: &tiny_http::Request) -> (&str, &str, &str) {
    let (path, query) = raw.url().split_once('?').unwrap_or((raw.url(), ""));
    (raw.method().as_str(), path, query)
}

/// The value of a header field, several of a name joined by commas (RFC 9110 §5.2).
pub(crate) fn field(raw: &tiny_http::Request, name: &'static str) -> Option<String> {
    let mut values = raw.headers().iter().filter(|header| header.field.equiv(name));
    let mut joined = values.next()?.value.as_str().to_owned();
    for value in values {
        joined.push_str(", ");
        joined.push_str(value.value.as_str());
    }
    Some(joined)
}

/// Whether the body may take its time to arrive.
pub(crate) fn has_slow_body(raw: &tiny_http::Request) -> bool {
    match raw.body_length() {
        Some(length) => length > QUICK_BODY_BYTES,
        None => field(raw, "Transfer-Encoding").is_some(),
    }
}

/// Reads a request with its body, of which `body_max_bytes` are accepted. What cannot be read is answered with the
/// response in the error.
pub(crate) fn read(
    raw: &mut tiny_http::Request,
    body_max_bytes: usize,
) -> Result<Request, Response<'static>> {
    let too_large = || Response::error(413, "The body is too large");
    if raw.body_length().is_some_and(|length| length > body_max_bytes) {
        return Err(too_large());
    }
    let (method, path, query) = target(raw);
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        if_match: field(raw, "If-Match"),
        if_none_match: field(raw, "If-None-Match"),
        content_type: field(raw, "Content-Type"),
        body: Vec::with_capacity(raw.body_length().unwrap_or(0)),
    };
    let limit = body_max_bytes as u64 + 1;
    raw.as_reader().take(limit).read_to_end(&mut request.body).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            Response::error(408, "The body did not arrive in time")
        }
        _ => Response::error(400, "The body is incomplete or malformed"),
    })?;
    let incomplete = raw.body_length().is_some_and(|length| length > request.body.len());
    if request.body.len() > body_max_bytes {
        Err(too_large())
    } else if incomplete {
        Err(Response::error(400, "The body is incomplete or malformed"))
    } else {
        Ok(request)
    }
}

/// Writes a response. An error means that the client has gone, or that the database failed while a list was being
/// written.
pub(crate) fn write(raw: tiny_http::Request, response: Response) -> Result<(), Error> {
    let Response { status, headers, body, .. } = response;
    match body {
        Body::Whole(text) => write_whole(raw, status, &headers, &text),
        Body::Movies(mut rows) => {
            let mut text = Vec::with_capacity(CHUNK_BYTES);
            text.push(b'[');
            if fill(&mut text, &mut rows)? {
                write_whole(raw, status, &headers, &text)
            } else {
                write_stream(raw, status, &headers, text, &mut rows)
            }
        }
    }
}

fn write_whole(
    raw: tiny_http::Request,
    status: u16,
    headers: &[(&'static str, String)],
    text: &[u8],
) -> Result<(), Error> {
    let headers = headers
        .iter()
        // Names and values are made of ASCII by this program, so that none is left out.
        .filter_map(|(name, value)| Header::from_bytes(name.as_bytes(), value.as_bytes()).ok())
        .collect();
    let length = text.len();
    let response = tiny_http::Response::new(StatusCode(status), headers, text, Some(length), None);
    raw.respond(response.with_chunked_threshold(usize::MAX)).map_err(client_gone)
}

/// Writes a list chunk by chunk (RFC 9112 §7.1). The library's own chunked writer ends the body properly whatever
/// happens, so that a list cut short by a failure would look whole; hence this one.
fn write_stream(
    raw: tiny_http::Request,
    status: u16,
    headers: &[(&'static str, String)],
    mut text: Vec<u8>,
    rows: &mut MovieRows,
) -> Result<(), Error> {
    let is_head = raw.method() == &tiny_http::Method::Head;
    // A client that speaks HTTP/1.0 knows no chunks; its body ends with the connection.
    let chunked = *raw.http_version() >= HTTPVersion(1, 1);
    let mut head = format!("HTTP/1.1 {status} {}\r\n", StatusCode(status).default_reason_phrase());
    for (name, value) in headers {
        // Writing to a string cannot fail.
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str(if chunked { "Transfer-Encoding: chunked\r\n\r\n" } else { "Connection: close\r\n\r\n" });
    let mut writer = raw.into_writer();
    writer.write_all(head.as_bytes()).map_err(client_gone)?;
    if is_head {
        return writer.flush().map_err(client_gone);
    }
    loop {
        write_chunk(&mut writer, &text, chunked).map_err(client_gone)?;
        text.clear();
        match fill(&mut text, rows) {
            Ok(false) => {}
            Ok(true) => break,
            Err(error) => {
                // Not a chunk size: whoever reads this knows that the list is not whole (RFC 9112 §8).
                let _ = writer.write_all(b"failed\r\n\r\n").and_then(|()| writer.flush());
                return Err(error);
            }
        }
    }
    write_chunk(&mut writer, &text, chunked).map_err(client_gone)?;
    if chunked {
        writer.write_all(b"0\r\n\r\n").map_err(client_gone)?;
    }
    writer.flush().map_err(client_gone)
}

fn write_chunk(writer: &mut impl Write, text: &[u8], chunked: bool) -> io::Result<()> {
    if chunked {
        write!(writer, "{:x}\r\n", text.len())?;
    }
    writer.write_all(text)?;
    if chunked { writer.write_all(b"\r\n") } else { Ok(()) }
}

/// Adds movies to `text` until it is long enough to be written; `true` when the list is complete, its bracket
/// included. `text` comes either empty or with the opening bracket alone.
fn fill(text: &mut Vec<u8>, rows: &mut MovieRows) -> Result<bool, Error> {
    while text.len() < CHUNK_BYTES {
        let is_first = rows.position() == 0;
        let Some(movie) = rows.next_movie()? else {
            text.push(b']');
            return Ok(true);
        };
        if !is_first {
            text.push(b',');
        }
        serde_json::to_writer(&mut *text, &movie).map_err(|error| Error::Internal(error.to_string()))?;
    }
    Ok(false)
}

fn client_gone(error: io::Error) -> Error {
    Error::Client(error)
}
