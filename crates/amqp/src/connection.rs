//! A connection: opens it, consumes, and sends commands to its I/O thread. Publishing, topics, questions and looking
//! through a queue have files of their own.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use crate::broker::{BrokerProgram, QueueFigures};
use crate::close_reason::CloseReason;
use crate::delivery::Deliveries;
use crate::error::BrokerError;
use crate::io::{self, Command, Commands, Reply};
use crate::properties::Properties;
use crate::settings::AmqpSettings;

/// A broker that has confirmed nothing for this long, although messages wait for a confirm, counts as blocked. RabbitMQ
/// stops reading from publishers while its disk or memory is nearly full, without telling this client.
const STALL: Duration = Duration::from_secs(2);

/// A connection to a broker. May be shared by many threads.
pub struct Connection {
    pub(crate) commands: Commands,
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
        Ok(Deliveries::new(queue, batches, self.closed.clone()))
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
        Ok(Deliveries::new(queue.to_owned(), batches, self.closed.clone()))
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
    pub(crate) fn request<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, BrokerError> {
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

    pub(crate) fn close_reason(&self) -> String {
        self.closed.get().unwrap_or_else(|| "closed".to_owned())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.commands.send(Command::Close);
    }
}

#[cfg(test)]
mod tests {
    use foundation::Environment;

    use super::*;

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
