//! The blocking AMQP 0-9-1 client: what a service sees of a broker.
//!
//! A [`Connection`] is one TCP connection with one channel in confirm mode. It lives until either side ends it and
//! is never revived: whoever needs the broker opens the next one, after a back-off of its own. The runtime that
//! the protocol library needs is hidden in `io`; nothing outside that module knows of it.

mod confirms;
mod io;
mod properties;
mod refusal;

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, thread};

use foundation::{Environment, Error};
use io::{Command, Commands};

pub use properties::Properties;

/// A broker that has confirmed nothing for this long, although messages wait for it, takes none: RabbitMQ does not read
/// from publishers while its disk or memory is nearly full, and does not tell this client.
const STALL: Duration = Duration::from_secs(2);
/// How often a publisher that waits for its confirm looks whether the broker has stopped it.
const HALT_POLL: Duration = Duration::from_millis(100);

/// Where the broker is and how long it may be silent.
#[derive(Clone, Debug)]
pub struct AmqpSettings {
    hosts: Vec<(String, u16)>,
    user: String,
    password: String,
    vhost: String,
    connect_timeout: Duration,
    heartbeat_s: u16,
}

impl AmqpSettings {
    /// Reads `RABBITMQ_HOST` (one or several, comma-separated, each with an optional `:port`), `_PORT`, `_USER`,
    /// `_PASSWORD`, `_VHOST`, `_CONNECT_TIMEOUT_MS` and `_HEARTBEAT_S`.
    pub fn read(environment: &Environment) -> Result<Self, Error> {
        let port = environment.port("RABBITMQ_PORT", 5672)?;
        let hosts = environment
            .list("RABBITMQ_HOST", "127.0.0.1")?
            .into_iter()
            .map(|host| match host.rsplit_once(':') {
                None => Ok((host, port)),
                Some((name, port)) => port
                    .parse()
                    .map(|port| (name.to_owned(), port))
                    .map_err(|_| Error::setting("RABBITMQ_HOST", "has a malformed port")),
            })
            .collect::<Result<_, _>>()?;
        let heartbeat_s = environment.number("RABBITMQ_HEARTBEAT_S", 10, 2..=600)?;
        Ok(Self {
            hosts,
            user: environment.required("RABBITMQ_USER")?,
            password: environment.required("RABBITMQ_PASSWORD")?,
            vhost: environment.text("RABBITMQ_VHOST", "/"),
            connect_timeout: environment.millis("RABBITMQ_CONNECT_TIMEOUT_MS", 3_000)?,
            heartbeat_s: u16::try_from(heartbeat_s).unwrap_or(u16::MAX),
        })
    }
}

/// A broker that could not be reached or used, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerError(String);

impl BrokerError {
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BrokerError {}

/// Why a message does not count as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// The connection is closed, or closed before the confirm came.
    Closed(String),
    /// The broker takes no messages for now, because its disk or memory is nearly full. The message was not sent.
    Blocked(String),
    /// No queue took the message (AMQP 0-9-1 §1.8.3.9, `mandatory`).
    Returned(String),
    /// The broker refused responsibility for the message.
    Nacked,
    /// No confirm came in time; the message may or may not be stored.
    TimedOut,
    /// Too many messages wait for their confirm already.
    Busy,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(reason) => write!(f, "the connection to the broker is closed: {reason}"),
            Self::Blocked(reason) => write!(f, "the broker takes no messages for now: {reason}"),
            Self::Returned(reason) => write!(f, "the broker returned the message: {reason}"),
            Self::Nacked => f.write_str("the broker refused the message"),
            Self::TimedOut => f.write_str("the broker did not confirm the message in time"),
            Self::Busy => f.write_str("too many messages wait for a confirm"),
        }
    }
}

impl std::error::Error for PublishError {}

/// One message as the broker delivered it.
#[derive(Debug)]
pub struct Delivery {
    /// What [`Connection::ack`] and [`Connection::ack_through`] take.
    pub tag: u64,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// Properties and headers.
    pub properties: Properties,
    /// The payload.
    pub body: Vec<u8>,
}

/// Why a connection ended, once it has.
#[derive(Default)]
struct Closed {
    reason: Mutex<Option<String>>,
    changed: Condvar,
}

impl Closed {
    /// Notes the first reason; later ones are only consequences of it.
    fn set(&self, reason: &str) {
        let mut current = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        current.get_or_insert_with(|| reason.to_owned());
        self.changed.notify_all();
    }

    fn get(&self) -> Option<String> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn wait(&self, timeout: Duration) -> Option<String> {
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(reason, timeout, |reason| reason.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

/// A connection to a broker. May be shared by many threads.
pub struct Connection {
    commands: Commands,
    closed: Arc<Closed>,
    /// How long a request other than publishing may wait for the broker's answer.
    answer_timeout: Duration,
}

impl Connection {
    /// Connects to the first host that answers, under the connection name `name`. Each host may take up to
    /// `RABBITMQ_CONNECT_TIMEOUT_MS`, and one that refuses another second to say why.
    pub fn open(settings: &AmqpSettings, name: &str) -> Result<Self, BrokerError> {
        let closed = Arc::new(Closed::default());
        let (opened, outcome) = sync_channel(1);
        let thread = {
            let (settings, name, closed) = (settings.clone(), name.to_owned(), closed.clone());
            thread::Builder::new()
                .name("amqp".to_owned())
                .spawn(move || io::run(&settings, &name, &opened, &closed))
        };
        thread.map_err(|e| BrokerError::new(format!("start the amqp thread: {e}")))?;
        // Every step of the I/O thread has a deadline; if it panics nevertheless, the channel tells.
        let commands = outcome.recv().unwrap_or_else(|_| Err(BrokerError::new("the amqp thread stopped")))?;
        Ok(Self { commands, closed, answer_timeout: settings.connect_timeout })
    }

    /// Makes sure that the durable queue `queue` exists, and returns how many messages wait in it. A queue made by
    /// hand, of whatever type, is taken as it is.
    pub fn declare_queue(&self, queue: &str) -> Result<u32, BrokerError> {
        let (reply, answer) = sync_channel(1);
        self.request(Command::DeclareQueue { queue: queue.to_owned(), reply }, &answer)
    }

    /// How many messages wait in `queue` and are not with a consumer yet; `None` when there is no such queue.
    pub fn count_messages(&self, queue: &str) -> Result<Option<u32>, BrokerError> {
        let (reply, answer) = sync_channel(1);
        self.request(Command::CountMessages { queue: queue.to_owned(), reply }, &answer)
    }

    /// Makes sure that there is a durable exchange `exchange` that copies what it gets to whoever listens.
    pub fn declare_fanout(&self, exchange: &str) -> Result<(), BrokerError> {
        let (reply, answer) = sync_channel(1);
        self.request(Command::DeclareFanout { exchange: exchange.to_owned(), reply }, &answer)
    }

    /// Tells something to whoever listens to `exchange`, which must exist. Waits for nothing: when nobody listens, or
    /// the connection ends, the message is gone.
    pub fn announce(&self, exchange: &str, properties: Properties, body: Vec<u8>) {
        self.commands.send(Command::Announce { exchange: exchange.to_owned(), properties, body });
    }

    /// Listens to what is announced on `exchange` from now on. Nothing has to be acknowledged.
    pub fn listen(&self, exchange: &str) -> Result<Deliveries, BrokerError> {
        let (reply, answer) = sync_channel(1);
        let batches = self.request(Command::Listen { exchange: exchange.to_owned(), reply }, &answer)?;
        Ok(Deliveries { batches, ready: VecDeque::new(), closed: self.closed.clone() })
    }

    /// Publishes through the default exchange, persistent and mandatory, and blocks until the broker has confirmed
    /// that it stored the message, or for `timeout`. Many threads may wait at the same time.
    pub fn publish(
        &self,
        queue: &str,
        properties: Properties,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<(), PublishError> {
        if let Some(reason) = self.blocked() {
            return Err(PublishError::Blocked(reason));
        }
        let (reply, answer) = sync_channel(1);
        let publish = Command::Publish { queue: queue.to_owned(), properties, body, reply };
        if !self.commands.send(publish) {
            return Err(PublishError::Closed(self.close_reason()));
        }
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match answer.recv_timeout(left.min(HALT_POLL)) {
                Ok(outcome) => return outcome,
                // Sent just before the broker stopped its publishers, it waits there; nobody knows for how long.
                Err(RecvTimeoutError::Timeout) if left <= HALT_POLL || self.commands.halted().is_some() => {
                    return Err(PublishError::TimedOut);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(PublishError::Closed(self.close_reason())),
            }
        }
    }

    /// Finds out whether the broker takes messages, by publishing one that no queue gets. Blocks for two seconds at
    /// the most; from then on, [`Connection::blocked`] knows.
    pub fn probe(&self) {
        if self.blocked().is_none() {
            let (reply, answer) = sync_channel(1);
            self.commands.send(Command::Probe { reply });
            // Whatever comes of it is in the books of what waits for a confirm.
            let _ = answer.recv_timeout(STALL);
        }
    }

    /// Starts to consume from `queue`, with at most `prefetch` messages unacknowledged at a time.
    pub fn consume(&self, queue: &str, prefetch: u16) -> Result<Deliveries, BrokerError> {
        let (reply, answer) = sync_channel(1);
        let consume = Command::Consume { queue: queue.to_owned(), prefetch, reply };
        let batches = self.request(consume, &answer)?;
        Ok(Deliveries { batches, ready: VecDeque::new(), closed: self.closed.clone() })
    }

    /// Acknowledges the delivery `tag` and all before it. There is no answer in AMQP: if the connection ends first,
    /// the messages are delivered again.
    pub fn ack_through(&self, tag: u64) -> Result<(), BrokerError> {
        self.send_ack(tag, true)
    }

    /// Acknowledges the delivery `tag` alone.
    pub fn ack(&self, tag: u64) -> Result<(), BrokerError> {
        self.send_ack(tag, false)
    }

    fn send_ack(&self, tag: u64, multiple: bool) -> Result<(), BrokerError> {
        if self.commands.send(Command::Ack { tag, multiple }) { Ok(()) } else { Err(self.closed_error()) }
    }

    /// Why the broker takes no messages for now, while it takes none: it has said so, or has confirmed nothing for two
    /// seconds. It may then answer nothing else either.
    pub fn blocked(&self) -> Option<String> {
        self.commands.halted().or_else(|| {
            let stalled_for = self.commands.stalled_for();
            (stalled_for >= STALL).then(|| "it confirms nothing".to_owned())
        })
    }

    /// Waits up to `timeout` for the connection to end; returns the reason if it has.
    pub fn wait_closed(&self, timeout: Duration) -> Option<String> {
        self.closed.wait(timeout)
    }

    /// Sends what is still queued (acknowledgements above all), says goodbye, and waits up to `timeout` for it.
    pub fn close(self, timeout: Duration) {
        if self.commands.send(Command::Close) {
            self.closed.wait(timeout);
        }
    }

    fn request<T>(
        &self,
        command: Command,
        answer: &Receiver<Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        if !self.commands.send(command) {
            return Err(self.closed_error());
        }
        match answer.recv_timeout(self.answer_timeout) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => Err(BrokerError::new("the broker did not answer in time")),
            Err(RecvTimeoutError::Disconnected) => Err(self.closed_error()),
        }
    }

    fn closed_error(&self) -> BrokerError {
        BrokerError(self.close_reason())
    }

    fn close_reason(&self) -> String {
        self.closed.get().unwrap_or_else(|| "closed".to_owned())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.commands.send(Command::Close);
    }
}

/// The messages of one consumer, in the order in which the broker sent them.
pub struct Deliveries {
    batches: Receiver<Vec<Delivery>>,
    ready: VecDeque<Delivery>,
    closed: Arc<Closed>,
}

impl Deliveries {
    /// Waits up to `timeout` for a message, then takes whatever else is there, `max` messages at the most. An empty
    /// batch means that the time has passed; an error, that the connection or the consumer has ended.
    pub fn next_batch(&mut self, max: usize, timeout: Duration) -> Result<Vec<Delivery>, BrokerError> {
        let deadline = Instant::now() + timeout;
        while self.ready.is_empty() {
            match self.batches.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(batch) => self.ready.extend(batch),
                Err(RecvTimeoutError::Timeout) => return Ok(Vec::new()),
                Err(RecvTimeoutError::Disconnected) => {
                    let reason = self.closed.wait(Duration::from_secs(1));
                    return Err(BrokerError(reason.unwrap_or_else(|| "the consumer ended".to_owned())));
                }
            }
        }
        while self.ready.len() < max {
            let Ok(batch) = self.batches.try_recv() else { break };
            self.ready.extend(batch);
        }
        Ok(self.ready.drain(..max.min(self.ready.len())).collect())
    }
}

/// Where the outcome of one publishing goes.
type Confirm = SyncSender<Result<(), PublishError>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_hosts_may_carry_their_own_ports() {
        let environment = Environment::from_pairs([
            ("RABBITMQ_HOST", "one, two:5673"),
            ("RABBITMQ_USER", "u"),
            ("RABBITMQ_PASSWORD", "p"),
        ]);
        let settings = AmqpSettings::read(&environment).unwrap();
        assert_eq!(settings.hosts, [("one".to_owned(), 5672), ("two".to_owned(), 5673)]);
    }

    #[test]
    fn a_broker_that_is_away_is_an_error_within_the_deadline() {
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let environment = Environment::from_pairs([
            ("RABBITMQ_HOST", format!("127.0.0.1:{unused}").as_str()),
            ("RABBITMQ_USER", "u"),
            ("RABBITMQ_PASSWORD", "p"),
        ]);
        let settings = AmqpSettings::read(&environment).unwrap();
        let error = Connection::open(&settings, "test").err().unwrap().to_string();
        assert!(error.contains(&format!("127.0.0.1:{unused}")), "{error}");
    }

    #[test]
    fn a_silent_broker_is_an_error_within_the_deadline() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let environment = Environment::from_pairs([
            ("RABBITMQ_HOST", silent.local_addr().unwrap().to_string().as_str()),
            ("RABBITMQ_USER", "u"),
            ("RABBITMQ_PASSWORD", "p"),
            ("RABBITMQ_CONNECT_TIMEOUT_MS", "50"),
        ]);
        let settings = AmqpSettings::read(&environment).unwrap();
        let error = Connection::open(&settings, "test").err().unwrap().to_string();
        assert!(error.contains("in time"), "{error}");
    }
}
