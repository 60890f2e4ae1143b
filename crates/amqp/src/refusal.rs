//! Finds out why a broker refused a connection.
//!
//! After a wrong password a broker closes the socket without a reason, unless the client announces the capability
//! `authentication_failure_close` (RabbitMQ's extension); the library does not. So after a failed login, this module
//! repeats the handshake with the capability, only to learn the reason.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::settings::AmqpSettings;

/// How long to wait for the reason. A broker may answer failed logins only after a pause, ours after up to 2 seconds.
const DEADLINE: Duration = Duration::from_secs(4);
/// Largest frame that is read; no method of the handshake is longer.
const FRAME_MAX_BYTES: usize = 64 << 10;
const PROTOCOL_HEADER: &[u8] = b"AMQP\0\0\x09\x01";
const FRAME_METHOD: u8 = 1;
const FRAME_END: u8 = 0xce;

/// Class and method of AMQP 0-9-1 §1.4.
type MethodId = (u16, u16);
const START: MethodId = (10, 10);
const START_OK: MethodId = (10, 11);
const TUNE: MethodId = (10, 30);
const TUNE_OK: MethodId = (10, 31);
const OPEN: MethodId = (10, 40);
const CLOSE: MethodId = (10, 50);
const CLOSE_OK: MethodId = (10, 51);

/// Asks the broker at `host`:`port` why it refuses; `None` if it accepts the login or gives no reason. Blocks for up to
/// four seconds.
pub(super) fn reason(host: &str, port: u16, settings: &AmqpSettings) -> Option<String> {
    let mut dialogue = Dialogue::start(host, port, settings.connect_timeout).ok()?;
    dialogue.handshake(settings).ok().flatten()
}

struct Dialogue {
    socket: TcpStream,
    deadline: Instant,
}

impl Dialogue {
    fn start(host: &str, port: u16, patience: Duration) -> io::Result<Self> {
        let deadline = Instant::now() + DEADLINE;
        let addr = (host, port).to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
        let socket = TcpStream::connect_timeout(&addr, patience)?;
        socket.set_write_timeout(Some(patience))?;
        Ok(Self { socket, deadline })
    }

    /// Logs in and opens the virtual host (AMQP 0-9-1 §2.2.4); returns the reason if the broker refuses either.
    fn handshake(&mut self, settings: &AmqpSettings) -> io::Result<Option<String>> {
        self.socket.write_all(PROTOCOL_HEADER)?;
        self.receive(START)?;
        self.send(START_OK, &start_ok(settings))?;
        let limits = match self.receive(TUNE)? {
            Received::Expected(limits) => limits,
            Received::Closed(403, _) => return Ok(Some("refused: wrong user or password".to_owned())),
            Received::Closed(code, text) => return Ok(Some(format!("refused: {code} {text}"))),
        };
        self.send(TUNE_OK, &limits)?;
        let mut open = Vec::new();
        put_short(&mut open, settings.vhost.as_bytes());
        // Two reserved fields.
        open.extend_from_slice(&[0, 0]);
        self.send(OPEN, &open)?;
        match self.receive((10, 41))? {
            Received::Expected(_) => {
                // Reply code 200, empty text, no failed method. The answer is not waited for.
                self.send(CLOSE, &[0, 200, 0, 0, 0, 0, 0])?;
                Ok(None)
            }
            Received::Closed(403 | 530, text) => {
                Ok(Some(format!("refused: no access to the virtual host '{}': {text}", settings.vhost)))
            }
            Received::Closed(code, text) => Ok(Some(format!("refused: {code} {text}"))),
        }
    }

    fn send(&mut self, (class, method): MethodId, arguments: &[u8]) -> io::Result<()> {
        let mut frame = vec![FRAME_METHOD, 0, 0];
        put_length(&mut frame, arguments.len() + 4);
        frame.extend_from_slice(&class.to_be_bytes());
        frame.extend_from_slice(&method.to_be_bytes());
        frame.extend_from_slice(arguments);
        frame.push(FRAME_END);
        self.socket.write_all(&frame)
    }

    /// The next method, which must be `expected` or connection.close.
    fn receive(&mut self, expected: MethodId) -> io::Result<Received> {
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
            return Ok(Received::Expected(arguments));
        }
        match (ids, &arguments[..]) {
            (CLOSE, [code @ .., _, _, _, _]) if code.len() >= 3 => {
                let text = String::from_utf8_lossy(&code[3..]).into_owned();
                let code = u16::from_be_bytes([code[0], code[1]]);
                // The protocol asks for it; the result does not depend on it.
                let _ = self.send(CLOSE_OK, &[]);
                Ok(Received::Closed(code, text))
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

enum Received {
    /// The method's arguments.
    Expected(Vec<u8>),
    /// Connection.close: code and text.
    Closed(u16, String),
}

/// The arguments of start-ok: the capability, and the login by PLAIN (RFC 4616).
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

/// A short string (AMQP 0-9-1 §4.2.5.3). A longer text is cut off; the broker then refuses it.
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
