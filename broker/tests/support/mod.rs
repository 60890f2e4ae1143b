//! A small AMQP client of the tests' own. It shares no code with the broker, since a shared codec could cancel its own
//! bugs out, and lets a test send any bytes it likes.
#![allow(
    dead_code,
    clippy::needless_pass_by_value,
    clippy::print_stderr,
    reason = "every program that includes it uses a part of it, builds arguments where they are used, and says in plain \
              words how it is called"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than anything here takes, on a slow machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const METHOD: u8 = 1;
pub(crate) const HEADER: u8 = 2;
pub(crate) const BODY: u8 = 3;
pub(crate) const HEARTBEAT: u8 = 8;

/// Properties of a persistent message: only `delivery_mode` 2.
pub(crate) const PERSISTENT: &[u8] = b"\x10\x00\x02";
/// No properties at all.
pub(crate) const TRANSIENT: &[u8] = b"\x00\x00";

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) channel: u16,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Class and method of a method frame; zeros for any other.
    pub(crate) fn ids(&self) -> (u16, u16) {
        if self.kind != METHOD {
            return (0, 0);
        }
        let number = |at: usize| u16::from_be_bytes([self.payload[at], self.payload[at + 1]]);
        (number(0), number(2))
    }

    /// What follows class and method.
    pub(crate) fn arguments(&self) -> Fields<'_> {
        Fields(&self.payload[4..])
    }
}

/// Takes values from the front of bytes.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    fn take(&mut self, count: usize) -> &[u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    pub(crate) fn octet(&mut self) -> u8 {
        self.take(1)[0]
    }

    pub(crate) fn short(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    pub(crate) fn long(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    pub(crate) fn long_long(&mut self) -> u64 {
        u64::from_be_bytes(self.take(8).try_into().unwrap())
    }

    pub(crate) fn short_string(&mut self) -> String {
        let length = usize::from(self.octet());
        String::from_utf8(self.take(length).to_vec()).unwrap()
    }
}

/// Builds arguments.
#[derive(Clone, Default)]
pub(crate) struct Args(pub(crate) Vec<u8>);

impl Args {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn octet(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(crate) fn short(mut self, value: u16) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn long(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn long_long(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn short_string(self, text: &str) -> Self {
        let mut args = self.octet(u8::try_from(text.len()).unwrap());
        args.0.extend_from_slice(text.as_bytes());
        args
    }

    pub(crate) fn long_string(self, text: &[u8]) -> Self {
        let mut args = self.long(u32::try_from(text.len()).unwrap());
        args.0.extend_from_slice(text);
        args
    }

    /// A table of values that are already encoded, type first.
    pub(crate) fn table(self, fields: &[(&str, &[u8])]) -> Self {
        let mut inside = Self::new();
        for (name, value) in fields {
            inside = inside.short_string(name);
            inside.0.extend_from_slice(value);
        }
        self.long_string(&inside.0)
    }
}

/// A message as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) properties: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

/// A basic.deliver or basic.get-ok with its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) consumer_tag: String,
    pub(crate) tag: u64,
    pub(crate) redelivered: bool,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) content: Content,
}

/// Who connects, and what it can do.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
    /// The client properties, as a table with its length.
    pub(crate) properties: Vec<u8>,
    pub(crate) channel_max: u16,
    pub(crate) frame_max: u32,
    pub(crate) heartbeat: u16,
}

impl Login {
    /// A client that understands everything.
    pub(crate) fn new(user: &str, password: &str) -> Self {
        let capabilities = Args::new().octet(b'F').table(&[
            ("authentication_failure_close", b"t\x01"),
            ("consumer_cancel_notify", b"t\x01"),
            ("connection.blocked", b"t\x01"),
            ("publisher_confirms", b"t\x01"),
            ("basic.nack", b"t\x01"),
        ]);
        Self {
            user: user.to_owned(),
            password: password.to_owned(),
            properties: Args::new().table(&[("capabilities", &capabilities.0)]).0,
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 0,
        }
    }
}

/// The arguments of a program that is called from a shell.
pub(crate) fn arguments() -> Vec<String> {
    std::env::args().skip(1).collect()
}

/// Says how a program is called, and ends it with status 2.
pub(crate) fn end_with_usage(usage: &str) -> ! {
    eprintln!("usage: {usage}");
    std::process::exit(2)
}

/// One connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    input: Vec<u8>,
    start: usize,
    pub(crate) output: Vec<u8>,
    pub(crate) frame_max: u32,
}

impl Client {
    /// Connects, and says nothing yet.
    pub(crate) fn dial(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, input: Vec::new(), start: 0, output: Vec::new(), frame_max: 131_072 }
    }

    /// Connects and logs in, up to connection.open-ok.
    pub(crate) fn connect(address: SocketAddr, login: &Login) -> Self {
        let mut client = Self::dial(address);
        client.begin(login);
        client.expect(0, 10, 30);
        client.tune_and_open(login.channel_max, login.frame_max, login.heartbeat);
        client.expect(0, 10, 41);
        client
    }

    /// Sends the protocol header and start-ok.
    pub(crate) fn begin(&mut self, login: &Login) {
        self.raw(b"AMQP\x00\x00\x09\x01");
        self.expect(0, 10, 10);
        let response = format!("\0{}\0{}", login.user, login.password);
        let mut args = Args(login.properties.clone());
        args = args.short_string("PLAIN").long_string(response.as_bytes()).short_string("en_US");
        self.method(0, 10, 11, args);
    }

    pub(crate) fn tune_and_open(&mut self, channel_max: u16, frame_max: u32, heartbeat: u16) {
        self.frame_max = frame_max;
        self.method(0, 10, 31, Args::new().short(channel_max).long(frame_max).short(heartbeat));
        self.method(0, 10, 40, Args::new().short_string("/").short_string("").octet(0));
    }

    /// Appends a frame to what the next [`Client::flush`] sends.
    pub(crate) fn queue_frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        self.output.push(kind);
        self.output.extend_from_slice(&channel.to_be_bytes());
        self.output.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
        self.output.extend_from_slice(payload);
        self.output.push(0xce);
    }

    pub(crate) fn flush(&mut self) {
        self.stream.write_all(&self.output).unwrap();
        self.output.clear();
    }

    /// Like [`Client::flush`]; false if the connection is broken.
    pub(crate) fn try_flush(&mut self) -> bool {
        let sent = self.stream.write_all(&self.output).is_ok();
        self.output.clear();
        sent
    }

    /// Sends bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
        self.flush();
    }

    pub(crate) fn queue_method(&mut self, channel: u16, class: u16, method: u16, args: &Args) {
        let mut payload = Vec::with_capacity(4 + args.0.len());
        payload.extend_from_slice(&class.to_be_bytes());
        payload.extend_from_slice(&method.to_be_bytes());
        payload.extend_from_slice(&args.0);
        self.queue_frame(METHOD, channel, &payload);
    }

    pub(crate) fn method(&mut self, channel: u16, class: u16, method: u16, args: Args) {
        self.queue_method(channel, class, method, &args);
        self.flush();
    }

    /// The next frame; None if the broker has closed the connection.
    pub(crate) fn try_frame(&mut self) -> Option<Frame> {
        loop {
            let pending = &self.input[self.start..];
            if pending.len() >= 8 {
                let length = u32::from_be_bytes(pending[3..7].try_into().unwrap()) as usize;
                if pending.len() >= length + 8 {
                    assert_eq!(pending[length + 7], 0xce, "frame end");
                    let channel = u16::from_be_bytes([pending[1], pending[2]]);
                    let frame = Frame { kind: pending[0], channel, payload: pending[7..7 + length].to_vec() };
                    self.start += length + 8;
                    return Some(frame);
                }
            }
            self.input.drain(..self.start);
            self.start = 0;
            let end = self.input.len();
            self.input.resize(end + (128 << 10), 0);
            let read = self.stream.read(&mut self.input[end..]);
            let count = match read {
                Ok(count) => count,
                // With a read timeout, even a process that was only stopped and continued sees this.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
                    self.input.truncate(end);
                    continue;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("nothing came"),
                Err(_) => 0,
            };
            self.input.truncate(end + count);
            if count == 0 {
                return None;
            }
        }
    }

    /// Whether another frame can be had without reading from the socket.
    pub(crate) fn has_buffered_frame(&self) -> bool {
        let pending = &self.input[self.start..];
        pending.len() >= 8 && {
            let length = u32::from_be_bytes(pending[3..7].try_into().unwrap()) as usize;
            pending.len() >= length + 8
        }
    }

    pub(crate) fn frame(&mut self) -> Frame {
        self.try_frame().expect("the connection is open")
    }

    /// The next frame that is no heartbeat must be this method.
    pub(crate) fn expect(&mut self, channel: u16, class: u16, method: u16) -> Frame {
        let frame = loop {
            let frame = self.frame();
            if frame.kind != HEARTBEAT {
                break frame;
            }
        };
        let found = (frame.channel, frame.ids());
        assert_eq!(found, (channel, (class, method)), "{}", String::from_utf8_lossy(&frame.payload));
        frame
    }

    /// Expects channel.close with this code and a text that contains `text`; answers it.
    pub(crate) fn expect_channel_close(&mut self, channel: u16, code: u16, text: &str) {
        let frame = self.expect(channel, 20, 40);
        let mut arguments = frame.arguments();
        let (found, reason) = (arguments.short(), arguments.short_string());
        assert!(found == code && reason.contains(text), "{found} {reason}, expected {code} {text}");
        self.method(channel, 20, 41, Args::new());
    }

    /// Expects connection.close with this code and a text that contains `text`; answers it, and expects the end.
    pub(crate) fn expect_connection_close(&mut self, code: u16, text: &str) {
        let frame = self.expect(0, 10, 50);
        let mut arguments = frame.arguments();
        let (found, reason) = (arguments.short(), arguments.short_string());
        assert!(found == code && reason.contains(text), "{found} {reason}, expected {code} {text}");
        let _ = self.stream.write_all(b"\x01\0\0\0\0\0\x04\0\x0a\0\x33\xce");
        assert_eq!(self.try_frame(), None);
    }

    pub(crate) fn open_channel(&mut self, channel: u16) {
        self.method(channel, 20, 10, Args::new().short_string(""));
        self.expect(channel, 20, 11);
    }

    pub(crate) fn confirm_select(&mut self, channel: u16) {
        self.method(channel, 85, 10, Args::new().octet(0));
        self.expect(channel, 85, 11);
    }

    /// queue.declare; bits are passive, durable, exclusive, auto-delete, no-wait.
    pub(crate) fn send_declare(&mut self, channel: u16, queue: &str, bits: u8, arguments: &[(&str, &[u8])]) {
        let args = Args::new().short(0).short_string(queue).octet(bits).table(arguments);
        self.method(channel, 50, 10, args);
    }

    /// Declares a queue; returns its name, its messages and its consumers.
    pub(crate) fn declare(&mut self, channel: u16, queue: &str, bits: u8) -> (String, u32, u32) {
        self.send_declare(channel, queue, bits, &[]);
        let frame = self.expect(channel, 50, 11);
        let mut arguments = frame.arguments();
        (arguments.short_string(), arguments.long(), arguments.long())
    }

    /// The number of messages that wait.
    pub(crate) fn depth(&mut self, channel: u16, queue: &str) -> u32 {
        self.declare(channel, queue, PASSIVE).1
    }

    /// Appends a publish with its content to what the next flush sends.
    pub(crate) fn queue_publish(
        &mut self,
        channel: u16,
        exchange: &str,
        key: &str,
        mandatory: bool,
        content: (&[u8], &[u8]),
    ) {
        let (properties, body) = content;
        let args = Args::new().short(0).short_string(exchange).short_string(key).octet(u8::from(mandatory));
        self.queue_method(channel, 60, 40, &args);
        let mut header = Args::new().short(60).short(0).long_long(body.len() as u64).0;
        header.extend_from_slice(properties);
        self.queue_frame(HEADER, channel, &header);
        for piece in body.chunks(self.frame_max as usize - 8) {
            self.queue_frame(BODY, channel, piece);
        }
    }

    pub(crate) fn publish(&mut self, channel: u16, exchange: &str, key: &str, mandatory: bool, body: &[u8]) {
        self.queue_publish(channel, exchange, key, mandatory, (PERSISTENT, body));
        self.flush();
    }

    /// Publishes to a queue, on a channel in confirm mode, and waits for the confirm of tag `tag`.
    pub(crate) fn publish_confirmed(&mut self, channel: u16, queue: &str, body: &[u8]) {
        self.publish(channel, "", queue, false, body);
        self.expect(channel, 60, 80);
    }

    /// basic.consume; bits are no-local, no-ack, exclusive, no-wait.
    pub(crate) fn send_consume(&mut self, channel: u16, queue: &str, tag: &str, bits: u8) {
        let args = Args::new().short(0).short_string(queue).short_string(tag).octet(bits).table(&[]);
        self.method(channel, 60, 20, args);
    }

    pub(crate) fn consume(&mut self, channel: u16, queue: &str, tag: &str, bits: u8) {
        self.send_consume(channel, queue, tag, bits);
        self.expect(channel, 60, 21);
    }

    pub(crate) fn qos(&mut self, channel: u16, count: u16, global: bool) {
        self.method(channel, 60, 10, Args::new().long(0).short(count).octet(u8::from(global)));
        self.expect(channel, 60, 11);
    }

    pub(crate) fn ack(&mut self, channel: u16, tag: u64, multiple: bool) {
        self.method(channel, 60, 80, Args::new().long_long(tag).octet(u8::from(multiple)));
    }

    /// basic.nack; bits are multiple, requeue.
    pub(crate) fn nack(&mut self, channel: u16, tag: u64, bits: u8) {
        self.method(channel, 60, 120, Args::new().long_long(tag).octet(bits));
    }

    /// basic.get; None if the queue is empty.
    pub(crate) fn get(&mut self, channel: u16, queue: &str, no_ack: bool) -> Option<Received> {
        self.method(channel, 60, 70, Args::new().short(0).short_string(queue).octet(u8::from(no_ack)));
        let frame = self.frame();
        match frame.ids() {
            (60, 72) => None,
            (60, 71) => Some(self.received(&frame)),
            other => panic!("{other:?} instead of an answer to basic.get"),
        }
    }

    /// Ends a consumer, and drops the deliveries that were on their way to it.
    pub(crate) fn cancel(&mut self, channel: u16, tag: &str) {
        self.method(channel, 60, 30, Args::new().short_string(tag).octet(0));
        while self.frame().ids() != (60, 31) {}
    }

    /// The next delivery on a channel.
    pub(crate) fn delivery(&mut self, channel: u16) -> Received {
        let frame = self.expect(channel, 60, 60);
        self.received(&frame)
    }

    /// Whether nothing arrives for a moment. The only place that waits for nothing to happen.
    pub(crate) fn is_silent(&mut self) -> bool {
        if self.has_buffered_frame() {
            return false;
        }
        self.stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
        let mut byte = [0];
        let silent = self.stream.peek(&mut byte).is_err();
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        silent
    }

    fn received(&mut self, frame: &Frame) -> Received {
        let mut arguments = frame.arguments();
        let consumer_tag = if frame.ids() == (60, 60) { arguments.short_string() } else { String::new() };
        let tag = arguments.long_long();
        let redelivered = arguments.octet() != 0;
        let (exchange, routing_key) = (arguments.short_string(), arguments.short_string());
        let content = self.content(frame.channel);
        Received { consumer_tag, tag, redelivered, exchange, routing_key, content }
    }

    /// Header and body frames of a message.
    pub(crate) fn content(&mut self, channel: u16) -> Content {
        let header = self.frame();
        assert_eq!((header.kind, header.channel), (HEADER, channel));
        let size = u64::from_be_bytes(header.payload[4..12].try_into().unwrap());
        let mut body = Vec::new();
        while (body.len() as u64) < size {
            let frame = self.frame();
            assert_eq!((frame.kind, frame.channel), (BODY, channel));
            body.extend_from_slice(&frame.payload);
        }
        Content { properties: header.payload[12..].to_vec(), body }
    }
}

pub(crate) const PASSIVE: u8 = 1;
pub(crate) const DURABLE: u8 = 2;
pub(crate) const EXCLUSIVE: u8 = 4;
pub(crate) const AUTO_DELETE: u8 = 8;
