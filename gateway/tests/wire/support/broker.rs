//! A stand-in for the broker: just enough of AMQP 0-9-1 to take orders, and to treat them as a test demands.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What becomes of a published message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerAnswer {
    Confirm,
    Refuse,
    /// No queue takes it: it is returned, and then confirmed.
    Return,
    /// Nothing is said about it.
    Ignore,
    /// The connection ends.
    Disconnect,
}

/// A message as the broker saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    pub routing_key: String,
    pub mandatory: bool,
    pub content_type: String,
    /// The header table's bytes.
    pub headers: String,
    pub delivery_mode: u8,
    pub message_id: String,
    pub timestamp: u64,
    pub app_id: String,
    pub body: String,
}

/// A listening broker.
pub struct Broker {
    pub addr: SocketAddr,
    messages: Arc<Mutex<Vec<Published>>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    stopped: Arc<AtomicBool>,
    stall: Arc<Stall>,
}

/// When a broker stands still: a client declares the queue once more, as a probe.
#[derive(Default)]
struct Stall {
    /// For how many milliseconds, 0 for not at all.
    length_ms: AtomicU64,
    begun: AtomicBool,
}

impl Broker {
    pub fn start(answer: impl Fn(&Published) -> BrokerAnswer + Send + Sync + 'static) -> Self {
        Self::serve(TcpListener::bind("127.0.0.1:0").unwrap(), answer)
    }

    /// Ends each connection as soon as it has been used for the first time.
    pub fn ending_connections() -> Self {
        Self::start_with(TcpListener::bind("127.0.0.1:0").unwrap(), BrokerAnswer::Disconnect, |_| {
            BrokerAnswer::Disconnect
        })
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.open.lock().unwrap().len()
    }

    /// Confirms everything, on a given port.
    pub fn confirming_at(addr: SocketAddr) -> Self {
        let mut listener = TcpListener::bind(addr);
        super::eventually("the port is free", || {
            if listener.is_err() {
                listener = TcpListener::bind(addr);
            }
            listener.is_ok()
        });
        Self::serve(listener.unwrap(), |_| BrokerAnswer::Confirm)
    }

    fn serve(
        listener: TcpListener,
        answer: impl Fn(&Published) -> BrokerAnswer + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(listener, BrokerAnswer::Confirm, answer)
    }

    fn start_with(
        listener: TcpListener,
        to_probes: BrokerAnswer,
        answer: impl Fn(&Published) -> BrokerAnswer + Send + Sync + 'static,
    ) -> Self {
        let broker = Self {
            addr: listener.local_addr().unwrap(),
            messages: Arc::default(),
            open: Arc::default(),
            stopped: Arc::default(),
            stall: Arc::default(),
        };
        let (messages, open, stopped) =
            (broker.messages.clone(), broker.open.clone(), broker.stopped.clone());
        let stall = broker.stall.clone();
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                open.lock().unwrap().push(stream.try_clone().unwrap());
                let (messages, stall) = (messages.clone(), stall.clone());
                let session = Session { stream, messages, stall, published: 0, declared: 0, to_probes };
                let answer = answer.clone();
                thread::spawn(move || session.run(&*answer));
            }
        });
        broker
    }

    /// Has it answer nothing on a connection for this long, from the moment when the client asks for the queue again.
    pub fn stand_still_when_probed(&self, length: Duration) {
        self.stall.length_ms.store(length.as_millis().try_into().unwrap(), Ordering::SeqCst);
    }

    pub fn stands_still(&self) -> bool {
        self.stall.begun.load(Ordering::SeqCst)
    }

    pub fn messages(&self) -> Vec<Published> {
        self.messages.lock().unwrap().clone()
    }

    /// Closes everything.
    pub fn stop(self) -> SocketAddr {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
        super::eventually("the listener is closed", || TcpStream::connect(self.addr).is_err());
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        self.addr
    }
}

/// One connection.
struct Session {
    stream: TcpStream,
    messages: Arc<Mutex<Vec<Published>>>,
    stall: Arc<Stall>,
    declared: u32,
    /// Messages so far, which is the delivery tag of the last one: only one channel publishes.
    published: u64,
    to_probes: BrokerAnswer,
}

impl Session {
    fn run(mut self, answer: &dyn Fn(&Published) -> BrokerAnswer) {
        // A connection that fails is one that the test has closed.
        let _ = self.try_run(answer);
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    fn try_run(&mut self, answer: &dyn Fn(&Published) -> BrokerAnswer) -> io::Result<()> {
        let mut header = [0; 8];
        self.stream.read_exact(&mut header)?;
        assert_eq!(&header, b"AMQP\0\0\x09\x01");
        self.send(0, &[&[0, 10, 0, 10, 0, 9][..], &[0; 4], &long(b"PLAIN"), &long(b"en_US")].concat())?;
        loop {
            let (kind, channel, payload) = self.frame()?;
            if kind == 8 {
                self.send_frame(8, 0, &[])?;
            }
            if kind != 1 {
                continue;
            }
            let method = (u16::from(payload[1]), u16::from(payload[3]));
            match method {
                (10, 11) => self.send(0, &[0, 10, 0, 30, 7, 255, 0, 2, 0, 0, 0, 60])?,
                (10, 40) => self.send(0, &[0, 10, 0, 41, 0])?,
                (10, 50) => return self.send(0, &[0, 10, 0, 51]),
                (20, 10) => self.send(channel, &[0, 20, 0, 11, 0, 0, 0, 0])?,
                (20, 40) => self.send(channel, &[0, 20, 0, 41])?,
                (50, 10) => {
                    self.declared += 1;
                    let length_ms = self.stall.length_ms.load(Ordering::SeqCst);
                    if self.declared == 2 && length_ms > 0 {
                        self.stall.begun.store(true, Ordering::SeqCst);
                        thread::sleep(Duration::from_millis(length_ms));
                    }
                    let queue = Fields(&payload[6..]).short();
                    let answer = [&[0, 50, 0, 11][..], &short(queue.as_bytes()), &[0; 8]].concat();
                    self.send(channel, &answer)?;
                }
                (60, 40) => {
                    let message = self.message(&payload)?;
                    // To the queue without a name goes what only asks whether messages are taken.
                    if message.routing_key.is_empty() {
                        if !self.answer_publish(channel, &message, self.to_probes)? {
                            return Ok(());
                        }
                        continue;
                    }
                    self.messages.lock().unwrap().push(message.clone());
                    if !self.answer_publish(channel, &message, answer(&message))? {
                        return Ok(());
                    }
                }
                (85, 10) => self.send(channel, &[0, 85, 0, 11])?,
                _ => {}
            }
        }
    }

    fn answer_publish(
        &mut self,
        channel: u16,
        message: &Published,
        answer: BrokerAnswer,
    ) -> io::Result<bool> {
        self.published += 1;
        let tag = self.published.to_be_bytes();
        match answer {
            BrokerAnswer::Ignore => {}
            BrokerAnswer::Disconnect => return Ok(false),
            BrokerAnswer::Refuse => self.send(channel, &[&[0, 60, 0, 120][..], &tag, &[0]].concat())?,
            BrokerAnswer::Confirm => self.send(channel, &[&[0, 60, 0, 80][..], &tag, &[0]].concat())?,
            BrokerAnswer::Return => {
                let reason =
                    [&short(b"NO_ROUTE")[..], &short(b""), &short(message.routing_key.as_bytes())].concat();
                self.send(channel, &[&[0, 60, 0, 50, 1, 56][..], &reason].concat())?;
                // Of its properties, the id alone is sent back, which is what matters for telling messages apart.
                let id = short(message.message_id.as_bytes());
                let size = (message.body.len() as u64).to_be_bytes();
                self.send_frame(2, channel, &[&[0, 60, 0, 0][..], &size, &[0, 0x80], &id].concat())?;
                self.send_frame(3, channel, message.body.as_bytes())?;
                self.send(channel, &[&[0, 60, 0, 80][..], &tag, &[0]].concat())?;
            }
        }
        Ok(true)
    }

    /// Reads the content that follows a publish method.
    fn message(&mut self, publish: &[u8]) -> io::Result<Published> {
        let mut fields = Fields(&publish[6..]);
        assert_eq!(fields.short(), "", "the default exchange");
        let mut message = Published {
            routing_key: fields.short(),
            mandatory: fields.0[0] & 1 == 1,
            ..Published::default()
        };
        let (_, _, header) = self.frame()?;
        let size = u64::from_be_bytes(header[4..12].try_into().unwrap());
        let flags = u16::from_be_bytes([header[12], header[13]]);
        let mut fields = Fields(&header[14..]);
        let has = |bit: u16| flags >> bit & 1 == 1;
        assert_eq!(flags & 0b0100_1111_0011_0111, 0, "only the properties below are known here");
        if has(15) {
            message.content_type = fields.short();
        }
        if has(13) {
            message.headers = fields.long();
        }
        if has(12) {
            message.delivery_mode = fields.take(1)[0];
        }
        if has(7) {
            message.message_id = fields.short();
        }
        if has(6) {
            message.timestamp = u64::from_be_bytes(fields.take(8).try_into().unwrap());
        }
        if has(3) {
            message.app_id = fields.short();
        }
        let mut body = Vec::new();
        while (body.len() as u64) < size {
            body.extend(self.frame()?.2);
        }
        message.body = String::from_utf8(body).unwrap();
        Ok(message)
    }

    fn frame(&mut self) -> io::Result<(u8, u16, Vec<u8>)> {
        let mut head = [0; 7];
        self.stream.read_exact(&mut head)?;
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let mut payload = vec![0; size as usize + 1];
        self.stream.read_exact(&mut payload)?;
        assert_eq!(payload.pop(), Some(0xce));
        Ok((head[0], u16::from_be_bytes([head[1], head[2]]), payload))
    }

    fn send(&mut self, channel: u16, method: &[u8]) -> io::Result<()> {
        self.send_frame(1, channel, method)
    }

    fn send_frame(&mut self, kind: u8, channel: u16, payload: &[u8]) -> io::Result<()> {
        let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
        self.stream.write_all(&[&[kind][..], &channel.to_be_bytes(), &size, payload, &[0xce]].concat())
    }
}

/// Reads the fields of a method or a content header, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn short(&mut self) -> String {
        let length = usize::from(self.take(1)[0]);
        String::from_utf8(self.take(length).to_vec()).unwrap()
    }

    fn long(&mut self) -> String {
        let length = u32::from_be_bytes(self.take(4).try_into().unwrap());
        String::from_utf8_lossy(self.take(length as usize)).into_owned()
    }
}

fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()][..], text].concat()
}

fn long(text: &[u8]) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat()
}
