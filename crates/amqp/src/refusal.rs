//! Why a broker refused a connection.
//!
//! A broker closes the socket without a word on a wrong password, unless the client announces the capability
//! `authentication_failure_close` (RabbitMQ's extension), which the library does not. So a connection that could not be
//! opened is tried once more here, only far enough to be told. Nothing of this runs while the broker lets us in.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::AmqpSettings;

/// A broker that has something to say says it within this time, and within `RABBITMQ_CONNECT_TIMEOUT_MS`.
const DEADLINE: Duration = Duration::from_secs(1);
/// No method of the handshake is longer.
const FRAME_MAX_BYTES: usize = 64 << 10;
const PROTOCOL_HEADER: &[u8] = b"AMQP\0\0\x09\x01";
const FRAME_METHOD: u8 = 1;
const FRAME_END: u8 = 0xce;

/// Class and method of AMQP 0-9-1 §1.4.
type Method = (u16, u16);
const START: Method = (10, 10);
const START_OK: Method = (10, 11);
const TUNE: Method = (10, 30);
const TUNE_OK: Method = (10, 31);
const OPEN: Method = (10, 40);
const CLOSE: Method = (10, 50);
const CLOSE_OK: Method = (10, 51);

/// Asks the broker at `host`:`port` why it refuses; `None` if it lets us in, or does not say. Blocks for a second at
/// the most.
pub(super) fn reason(host: &str, port: u16, settings: &AmqpSettings) -> Option<String> {
    let mut dialogue = Dialogue::start(host, port, DEADLINE.min(settings.connect_timeout)).ok()?;
    dialogue.handshake(settings).ok().flatten()
}

struct Dialogue {
    socket: TcpStream,
    deadline: Instant,
}

impl Dialogue {
    fn start(host: &str, port: u16, patience: Duration) -> io::Result<Self> {
        let deadline = Instant::now() + patience;
        let addr = (host, port).to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
        let socket = TcpStream::connect_timeout(&addr, patience)?;
        socket.set_write_timeout(Some(patience))?;
        Ok(Self { socket, deadline })
    }

    /// Logs in and opens the virtual host (AMQP 0-9-1 §2.2.4); returns what the broker refused.
    fn handshake(&mut self, settings: &AmqpSettings) -> io::Result<Option<String>> {
        self.socket.write_all(PROTOCOL_HEADER)?;
        self.receive(START)?;
        self.send(START_OK, &start_ok(settings))?;
        let limits = match self.receive(TUNE)? {
            Answer::Expected(limits) => limits,
            Answer::Closed(403, _) => return Ok(Some("refused: wrong user or password".to_owned())),
            Answer::Closed(code, text) => return Ok(Some(format!("refused: {code} {text}"))),
        };
        self.send(TUNE_OK, &limits)?;
        let mut open = Vec::new();
        put_short(&mut open, settings.vhost.as_bytes());
        // Two members that are reserved.
        open.extend_from_slice(&[0, 0]);
        self.send(OPEN, &open)?;
        match self.receive((10, 41))? {
            Answer::Expected(_) => {
                // Reply code 200, no text, no method that failed. The socket may close before the answer comes.
                self.send(CLOSE, &[0, 200, 0, 0, 0, 0, 0])?;
                Ok(None)
            }
            Answer::Closed(403 | 530, text) => {
                Ok(Some(format!("refused: no access to the virtual host '{}': {text}", settings.vhost)))
            }
            Answer::Closed(code, text) => Ok(Some(format!("refused: {code} {text}"))),
        }
    }

    fn send(&mut self, (class, method): Method, arguments: &[u8]) -> io::Result<()> {
        let mut frame = vec![FRAME_METHOD, 0, 0];
        put_length(&mut frame, arguments.len() + 4);
        frame.extend_from_slice(&class.to_be_bytes());
        frame.extend_from_slice(&method.to_be_bytes());
        frame.extend_from_slice(arguments);
        frame.push(FRAME_END);
        self.socket.write_all(&frame)
    }

    /// The next method, which must be `expected` or connection.close.
    fn receive(&mut self, expected: Method) -> io::Result<Answer> {
        let mut head = [0; 7];
        self.read(&mut head)?;
        let [kind, _, _, length @ ..] = head;
        let length = u32::from_be_bytes(length) as usize;
        if kind != FRAME_METHOD || !(4..=FRAME_MAX_BYTES).contains(&length) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut payload = vec![0; length + 1];
        self.read(&mut payload)?;
        payload.pop();
        let arguments = payload.split_off(4);
        let ids =
            (u16::from_be_bytes([payload[0], payload[1]]), u16::from_be_bytes([payload[2], payload[3]]));
        if ids == expected {
            return Ok(Answer::Expected(arguments));
        }
        match (ids, &arguments[..]) {
            (CLOSE, [code @ .., _, _, _, _]) if code.len() >= 3 => {
                let text = String::from_utf8_lossy(&code[3..]).into_owned();
                let code = u16::from_be_bytes([code[0], code[1]]);
                // Out of politeness only: the answer does not depend on it.
                let _ = self.send(CLOSE_OK, &[]);
                Ok(Answer::Closed(code, text))
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn read(&mut self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => buffer = &mut buffer[count..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

enum Answer {
    /// The method's arguments.
    Expected(Vec<u8>),
    /// Connection.close: code and text.
    Closed(u16, String),
}

/// Who we are, and that we want to be told if that is not enough. The mechanism is PLAIN (RFC 4616).
fn start_ok(settings: &AmqpSettings) -> Vec<u8> {
    let mut capability = Vec::new();
    put_short(&mut capability, b"authentication_failure_close");
    capability.extend_from_slice(b"t\x01");
    let mut properties = Vec::new();
    put_short(&mut properties, b"capabilities");
    properties.push(b'F');
    put_long(&mut properties, &capability);
    let mut arguments = Vec::new();
    put_long(&mut arguments, &properties);
    put_short(&mut arguments, b"PLAIN");
    put_long(&mut arguments, format!("\0{}\0{}", settings.user, settings.password).as_bytes());
    put_short(&mut arguments, b"en_US");
    arguments
}

/// A short string (AMQP 0-9-1 §4.2.5.3). What is longer is cut, and then refused by the broker.
fn put_short(out: &mut Vec<u8>, text: &[u8]) {
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    out.push(length);
    out.extend_from_slice(&text[..usize::from(length)]);
}

/// A long string or a table (AMQP 0-9-1 §4.2.5.3, §4.2.5.5).
fn put_long(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}
