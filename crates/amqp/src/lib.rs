//! The blocking AMQP 0-9-1 client.
//!
//! A [`Connection`] is one TCP connection with one channel in confirm mode. It does not reconnect: when it has ended,
//! the caller opens the next one, with its own back-off. Only `io` knows of the asynchronous runtime that the protocol
//! library needs.

mod browse;
mod confirms;
mod io;
mod properties;
mod publish;
mod questions;
mod refusal;
mod topics;

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, thread};

use foundation::{Environment, Error};
use io::{Command, Commands, Reply};

pub use browse::{BrowseLimits, Browsed};
pub use properties::Properties;
pub use topics::Event;

/// A broker that has confirmed nothing for this long, although messages wait for a confirm, counts as blocked. RabbitMQ
/// stops reading from publishers while its disk or memory is nearly full, without telling this client.
const STALL: Duration = Duration::from_secs(2);

/// The broker's address and login, and its timeouts.
#[derive(Clone)]
pub struct AmqpSettings {
    hosts: Vec<(String, u16)>,
    user: String,
    password: String,
    vhost: String,
    /// 3 s: how long connecting to one host may take.
    pub connect_timeout: Duration,
}

impl AmqpSettings {
    /// Reads `RABBITMQ_HOST` (one or several, comma-separated, each with an optional `:port`), `_PORT`, `_USER`,
    /// `_PASSWORD` and `_VHOST`.
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
        Ok(Self {
            hosts,
            user: environment.required("RABBITMQ_USER")?,
            password: environment.required("RABBITMQ_PASSWORD")?,
            vhost: environment.text("RABBITMQ_VHOST", "/"),
            connect_timeout: Duration::from_secs(3),
        })
    }
}

/// Leaves out the password.
impl fmt::Debug for AmqpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hosts, user, vhost, connect_timeout, .. } = self;
        f.debug_struct("AmqpSettings")
            .field("hosts", hosts)
            .field("user", user)
            .field("vhost", vhost)
            .field("connect_timeout", connect_timeout)
            .finish_non_exhaustive()
    }
}

/// Why a broker could not be reached or used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerError {
    text: String,
    /// The text without addresses, if it has any.
    reason: Option<String>,
}

impl BrokerError {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), reason: None }
    }

    /// The problem of each host that was tried.
    fn of_hosts(problems: &[((&str, u16), String)]) -> Self {
        let texts = problems.iter().map(|((host, port), reason)| format!("{host}:{port}: {reason}"));
        let mut reasons: Vec<_> = problems.iter().map(|(_, reason)| reason.as_str()).collect();
        reasons.dedup();
        Self { text: texts.collect::<Vec<_>>().join("; "), reason: Some(reasons.join("; ")) }
    }

    /// The text without the addresses of the broker, for people who need not know them.
    pub fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or(&self.text)
    }
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for BrokerError {}

/// Why a publish failed, or may have failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// The connection is closed, or closed before the confirm came.
    Closed(String),
    /// The broker accepts no messages at the moment, because its disk or memory is nearly full. The message was not
    /// sent.
    Blocked(String),
    /// No queue took the message (AMQP 0-9-1 §1.8.3.9, `mandatory`).
    Returned(String),
    /// The broker rejected the message (basic.nack).
    Nacked,
    /// No confirm came in time; the message may or may not be stored.
    TimedOut,
    /// Too many messages already wait for their confirm.
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

/// Why a connection or channel ended; empty while it is open.
#[derive(Default)]
struct CloseReason {
    reason: Mutex<Option<String>>,
    changed: Condvar,
}

impl CloseReason {
    /// Records the first reason; later ones are only consequences of it.
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

/// Which program a broker is, as it says itself (AMQP 0-9-1 §1.4.2.1); `unknown` where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerProgram {
    /// Its name, such as `RabbitMQ`.
    pub product: String,
    /// Its version.
    pub version: String,
}

/// How a queue is (AMQP 0-9-1 §1.7.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueFigures {
    /// Messages that wait for a consumer.
    pub messages: u32,
    /// Consumers.
    pub consumers: u32,
}

/// A connection to a broker. May be shared by many threads.
pub struct Connection {
    commands: Commands,
    closed: Arc<CloseReason>,
    server: BrokerProgram,
    /// How long a request other than publishing may wait for the broker's answer.
    answer_timeout: Duration,
}

impl Connection {
    /// Connects to the first host that answers, under the connection name `name`. Each host may take up to
    /// [`AmqpSettings::connect_timeout`], and one that refuses four more seconds to say why.
    pub fn open(settings: &AmqpSettings, name: &str) -> Result<Self, BrokerError> {
        let closed = Arc::new(CloseReason::default());
        let (opened, result) = sync_channel(1);
        let thread = {
            let (settings, name, closed) = (settings.clone(), name.to_owned(), closed.clone());
            thread::Builder::new()
                .name("amqp".to_owned())
                .spawn(move || io::run(&settings, &name, &opened, &closed))
        };
        thread.map_err(|e| BrokerError::new(format!("start the amqp thread: {e}")))?;
        // Every step of the I/O thread has a deadline; if the thread panics, this receive fails.
        let opened = result.recv().unwrap_or_else(|_| Err(BrokerError::new("the amqp thread stopped")));
        let (commands, server) = opened?;
        Ok(Self { commands, closed, server, answer_timeout: settings.connect_timeout })
    }

    /// Which program the broker is.
    pub fn server(&self) -> &BrokerProgram {
        &self.server
    }

    /// Makes sure that the durable queue `queue` exists, and returns how many messages wait in it. An existing queue of
    /// any type is used as it is.
    pub fn declare_queue(&self, queue: &str) -> Result<u32, BrokerError> {
        self.request(|reply| Command::DeclareQueue { queue: queue.to_owned(), auto_delete: false, reply })
    }

    /// Looks at `queue` without changing anything; `None` if there is no such queue.
    pub fn inspect_queue(&self, queue: &str) -> Result<Option<QueueFigures>, BrokerError> {
        self.request(|reply| Command::InspectQueue { queue: queue.to_owned(), reply })
    }

    /// Makes sure that the durable fan-out exchange `exchange` exists.
    pub fn declare_fanout(&self, exchange: &str) -> Result<(), BrokerError> {
        self.request(|reply| Command::DeclareFanout { exchange: exchange.to_owned(), reply })
    }

    /// Publishes to `exchange`, which must exist, without waiting for a confirm. If nobody listens or the connection
    /// ends, the message is lost.
    pub fn announce(&self, exchange: &str, properties: Properties, body: Vec<u8>) {
        let (exchange, routing_key) = (exchange.to_owned(), String::new());
        self.commands.send(Command::Announce { exchange, routing_key, properties, body });
    }

    /// Receives a copy of every message that is published to `exchange` from now on, in a queue of this connection alone,
    /// [`Deliveries::queue`]; answers can be sent there, too. Deliveries need no acknowledgement.
    pub fn listen(&self, exchange: &str) -> Result<Deliveries, BrokerError> {
        let (queue, batches) =
            self.request(|reply| Command::Listen { exchange: exchange.to_owned(), reply })?;
        Ok(Deliveries { queue, batches, ready: VecDeque::new(), closed: self.closed.clone() })
    }

    /// Finds out whether the broker accepts messages, by publishing one that reaches no queue. Blocks for up to two
    /// seconds; afterwards [`Connection::blocked`] is up to date.
    pub fn probe(&self) {
        if self.blocked().is_none() {
            let (reply, answer) = sync_channel(1);
            self.commands.send(Command::Probe { reply });
            // The result is not needed: [`Connection::blocked`] looks at how long messages have waited for a confirm.
            let _ = answer.recv_timeout(STALL);
        }
    }

    /// Starts to consume from `queue`, with at most `prefetch` messages unacknowledged at a time.
    pub fn consume(&self, queue: &str, prefetch: u16) -> Result<Deliveries, BrokerError> {
        let batches = self.request(|reply| Command::Consume { queue: queue.to_owned(), prefetch, reply })?;
        let (queue, closed) = (queue.to_owned(), self.closed.clone());
        Ok(Deliveries { queue, batches, ready: VecDeque::new(), closed })
    }

    /// Acknowledges the delivery `tag` and all before it. AMQP does not answer an ack: if the connection ends first,
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

    /// Why the broker accepts no messages at the moment: it has said so, or has confirmed nothing for two seconds.
    /// `None` if it accepts them. While blocked, it may answer no other requests either.
    pub fn blocked(&self) -> Option<String> {
        self.commands.halted().or_else(|| {
            let stalled_for = self.commands.stalled_for();
            (stalled_for >= STALL).then(|| "it confirms nothing".to_owned())
        })
    }

    /// For how long messages have waited for a confirm while none came. Zero while the broker itself has asked publishers
    /// to wait.
    pub fn stalled_for(&self) -> Duration {
        if self.commands.halted().is_some() { Duration::ZERO } else { self.commands.stalled_for() }
    }

    /// Waits up to `timeout` for the connection to end; returns the reason if it has.
    pub fn wait_closed(&self, timeout: Duration) -> Option<String> {
        self.closed.wait(timeout)
    }

    /// Sends what is still queued, such as acknowledgements, closes the connection, and waits up to `timeout` for that.
    pub fn close(self, timeout: Duration) {
        if self.commands.send(Command::Close) {
            self.closed.wait(timeout);
        }
    }

    /// Sends the command that gets the reply channel, and waits for its answer.
    fn request<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, BrokerError> {
        let (reply, answer) = sync_channel(1);
        if !self.commands.send(command(reply)) {
            return Err(self.closed_error());
        }
        match answer.recv_timeout(self.answer_timeout) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(BrokerError::new("the broker did not answer in time")),
            Err(RecvTimeoutError::Disconnected) => Err(self.closed_error()),
        }
    }

    fn closed_error(&self) -> BrokerError {
        BrokerError::new(self.close_reason())
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
    queue: String,
    batches: Receiver<Vec<Delivery>>,
    ready: VecDeque<Delivery>,
    closed: Arc<CloseReason>,
}

impl Deliveries {
    /// The queue that they come from.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Waits up to `timeout` for a message, then takes what else has arrived, at most `max` messages in all. Returns an
    /// empty batch after the timeout, and an error if the connection or the consumer has ended.
    pub fn next_batch(&mut self, max: usize, timeout: Duration) -> Result<Vec<Delivery>, BrokerError> {
        let deadline = Instant::now() + timeout;
        while self.ready.is_empty() {
            match self.batches.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(batch) => self.ready.extend(batch),
                Err(RecvTimeoutError::Timeout) => return Ok(Vec::new()),
                Err(RecvTimeoutError::Disconnected) => {
                    let reason = self.closed.wait(Duration::from_secs(1));
                    return Err(BrokerError::new(reason.unwrap_or_else(|| "the consumer ended".to_owned())));
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

/// Receives the result of one publish.
type ConfirmSender = SyncSender<Result<(), PublishError>>;
type ConfirmReceiver = Receiver<Result<(), PublishError>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_hosts_may_carry_their_own_ports() {
        let environment = Environment::from_pairs([
            ("RABBITMQ_HOST", "one, two:5673"),
            ("RABBITMQ_USER", "u"),
            ("RABBITMQ_PASSWORD", "secret"),
        ]);
        let settings = AmqpSettings::read(&environment).unwrap();
        assert_eq!(settings.hosts, [("one".to_owned(), 5672), ("two".to_owned(), 5673)]);
        let shown = format!("{settings:?}");
        assert!(shown.contains("two") && !shown.contains("secret"), "{shown}");
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
        let error = Connection::open(&settings, "test").err().unwrap();
        assert!(error.to_string().contains(&format!("127.0.0.1:{unused}")), "{error}");
        assert!(error.reason().starts_with("Connection refused"), "{error:?}");
    }

    #[test]
    fn a_silent_broker_is_an_error_within_the_deadline() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let environment = Environment::from_pairs([
            ("RABBITMQ_HOST", silent.local_addr().unwrap().to_string().as_str()),
            ("RABBITMQ_USER", "u"),
            ("RABBITMQ_PASSWORD", "p"),
        ]);
        let mut settings = AmqpSettings::read(&environment).unwrap();
        settings.connect_timeout = Duration::from_millis(50);
        let error = Connection::open(&settings, "test").err().unwrap().to_string();
        assert!(error.contains("in time"), "{error}");
    }
}
