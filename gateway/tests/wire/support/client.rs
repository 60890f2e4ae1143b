//! A client that sends exactly the bytes it is given, and reads answers without forgiving anything.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::PATIENCE;

/// One connection.
pub struct Client {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

/// One answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of the field `name`, if it was sent exactly once.
    pub fn field(&self, name: &str) -> Option<&str> {
        match self.fields(name)[..] {
            [value] => Some(value),
            _ => None,
        }
    }

    /// All values of the field `name`.
    pub fn fields(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The `error` of a JSON error, after checking that it is a proper one.
    pub fn error(&self) -> String {
        assert_eq!(self.field("content-type"), Some("application/json"), "{self:?}");
        assert!(self.field("content-length").is_some(), "{self:?}");
        assert!(self.field("x-request-id").is_some(), "{self:?}");
        let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        json["error"].as_str().unwrap().to_owned()
    }

    pub fn closes(&self) -> bool {
        self.field("connection") == Some("close")
    }
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, unread: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends even if the other side may have closed; returns whether it worked.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends GET of `target` and reads the answer.
    pub fn get(&mut self, target: &str) -> Answer {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: gateway.test\r\n\r\n").as_bytes());
        self.answer()
    }

    pub fn finish_sending(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads one complete answer to anything but HEAD.
    pub fn answer(&mut self) -> Answer {
        self.try_answer(false).unwrap()
    }

    /// Reads one complete answer to HEAD.
    pub fn answer_to_head(&mut self) -> Answer {
        self.try_answer(true).unwrap()
    }

    /// Reads one answer, or fails if it is not complete.
    pub fn try_answer(&mut self, to_head: bool) -> io::Result<Answer> {
        let mut answer = self.head()?;
        let chunked = answer.field("transfer-encoding") == Some("chunked");
        let length = answer.field("content-length").map(|length| length.parse::<usize>().unwrap());
        assert!(!(chunked && length.is_some()), "{answer:?}");
        if to_head || matches!(answer.status, 100..200 | 204 | 304) {
            return Ok(answer);
        }
        if chunked {
            loop {
                let line = self.line()?;
                let size = usize::from_str_radix(&line, 16).unwrap();
                answer.body.extend(self.take(size)?);
                assert_eq!(self.line()?, "");
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = length {
            answer.body = self.take(length)?;
        } else {
            assert!(answer.closes(), "{answer:?}");
            answer.body = self.rest()?;
        }
        Ok(answer)
    }

    /// Reads the head of an answer.
    pub fn head(&mut self) -> io::Result<Answer> {
        let line = self.line()?;
        assert!(line.starts_with("HTTP/1.1 "), "{line:?}");
        let status = line[9..12].parse().unwrap();
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Answer { status, fields, body: Vec::new() });
            }
            let (name, value) = line.split_once(": ").unwrap();
            fields.push((name.to_owned(), value.to_owned()));
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8(self.unread.drain(..end + 2).collect()).unwrap();
                return Ok(line.trim_end().to_owned());
            }
            self.receive()?;
        }
    }

    /// Reads exactly `count` bytes.
    pub fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.unread.len() < count {
            self.receive()?;
        }
        Ok(self.unread.drain(..count).collect())
    }

    /// Everything up to the end of the connection, which must be orderly.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.receive() {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => {
                    return Ok(std::mem::take(&mut self.unread));
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        match self.stream.read(&mut buffer)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            count => {
                self.unread.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }

    /// Checks that the gateway closes the connection without another byte, and returns how long that took.
    pub fn assert_closed(&mut self) -> Duration {
        let started = Instant::now();
        match self.rest() {
            Ok(rest) => assert!(rest.is_empty(), "unexpected: {:?}", String::from_utf8_lossy(&rest)),
            Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset, "{e}"),
        }
        started.elapsed()
    }
}
