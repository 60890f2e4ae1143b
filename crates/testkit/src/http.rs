//! A small HTTP client over a plain socket: it sends exactly the given bytes and hides nothing of the answer.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a server may stay silent before the test fails.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// An answer, complete and decoded.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The fields in the order received, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body without its transfer coding.
    pub body: Vec<u8>,
}

impl Response {
    /// The first field of that name, which is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends one request on a connection of its own and reads the answer. A body is sent as `application/json`.
pub fn request(addr: SocketAddr, method: &str, target: &str, body: Option<&str>) -> Response {
    try_request(addr, method, target, body)
        .unwrap_or_else(|e| panic!("{method} {target} at {addr} was not answered: {e}"))
}

/// [`request`] for a server that may be down.
pub fn try_request(
    addr: SocketAddr,
    method: &str,
    target: &str,
    body: Option<&str>,
) -> std::io::Result<Response> {
    let mut connection = Connection::open(addr)?;
    connection.request(method, target, &[("connection", "close")], body)
}

/// A connection that is kept alive.
pub struct Connection {
    stream: BufReader<TcpStream>,
    host: SocketAddr,
}

impl Connection {
    /// Connects.
    pub fn open(addr: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_LIMIT))?;
        stream.set_write_timeout(Some(SILENCE_LIMIT))?;
        Ok(Self { stream: BufReader::new(stream), host: addr })
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends a request and reads its answer. A body is sent as `application/json` with its length, unless `headers`
    /// names a content type.
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> std::io::Result<Response> {
        let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {}\r\n", self.host);
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if let Some(body) = body {
            if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                head.push_str("content-type: application/json\r\n");
            }
            let _ = write!(head, "content-length: {}\r\n", body.len());
        }
        head.push_str("\r\n");
        head.push_str(body.unwrap_or_default());
        self.send(head.as_bytes())?;
        self.response(method)
    }

    /// Reads the answer to a request with that method. An answer that is cut short is an error.
    pub fn response(&mut self, method: &str) -> std::io::Result<Response> {
        loop {
            let (status, headers) = self.read_head()?;
            let mut response = Response { status, headers, body: Vec::new() };
            if (100..200).contains(&status) {
                continue;
            }
            if method != "HEAD" && status != 204 && status != 304 {
                response.body = self.read_body(&response)?;
            }
            return Ok(response);
        }
    }

    fn read_head(&mut self) -> std::io::Result<(u16, Vec<(String, String)>)> {
        let line = self.read_line()?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| malformed(&line))?;
        let mut headers = Vec::new();
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                return Ok((status, headers));
            }
            let (name, value) = line.split_once(':').ok_or_else(|| malformed(&line))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// One line without its end.
    fn read_line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let complete = line.strip_suffix("\r\n").ok_or(ErrorKind::UnexpectedEof)?;
        Ok(complete.to_owned())
    }

    /// The body, delimited as RFC 9112 §6.3 says.
    fn read_body(&mut self, response: &Response) -> std::io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if response.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            loop {
                let line = self.read_line()?;
                let size = usize::from_str_radix(line.trim(), 16).map_err(|_| malformed(&line))?;
                let start = body.len();
                body.resize(start + size, 0);
                self.stream.read_exact(&mut body[start..])?;
                if !self.read_line()?.is_empty() {
                    return Err(malformed("a chunk longer than its size"));
                }
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        match response.header("content-length") {
            Some(length) => {
                body.resize(length.parse().map_err(|_| malformed(length))?, 0);
                self.stream.read_exact(&mut body)?;
            }
            None => drop(self.stream.read_to_end(&mut body)?),
        }
        Ok(body)
    }
}

fn malformed(what: &str) -> std::io::Error {
    std::io::Error::new(ErrorKind::InvalidData, format!("malformed answer: {what}"))
}
