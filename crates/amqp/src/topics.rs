//! Topic exchanges: publishing events in order, and durable queues that receive those with certain topics.

use std::time::Duration;

use crate::connection::Connection;
use crate::error::{BrokerError, PublishError};
use crate::io::Command;
use crate::properties::Properties;

/// A message for a topic exchange.
#[derive(Clone, Debug)]
pub struct Event {
    /// The routing key: words separated by points, such as `room.created.1`. At most 255 bytes.
    pub topic: String,
    /// Properties and headers.
    pub properties: Properties,
    /// The payload.
    pub body: Vec<u8>,
}

impl Connection {
    /// Makes sure that the durable topic exchange `exchange` exists. An existing exchange is used as it is.
    pub fn declare_topic_exchange(&self, exchange: &str) -> Result<(), BrokerError> {
        self.request(|reply| Command::DeclareTopicExchange { exchange: exchange.to_owned(), reply })
    }

    /// Makes sure that the durable queue `queue` exists and receives what is published to the topic exchange `exchange`
    /// under any of `topics`, where `*` stands for one word and `#` for any number of words (AMQP 0-9-1 §3.1.3.3).
    /// Declares the exchange as well, so that consumers may start before publishers. Earlier bindings stay.
    pub fn bind_queue(&self, queue: &str, exchange: &str, topics: &[&str]) -> Result<(), BrokerError> {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let (queue, exchange) = (queue.to_owned(), exchange.to_owned());
        self.request(|reply| Command::BindQueue { queue, exchange, topics, reply })
    }

    /// Publishes to `exchange`, which must exist, in the order of `events`, and blocks until the broker has answered
    /// for all of them, or for `timeout`. Returns one result for each event.
    ///
    /// An event counts as confirmed when every queue bound with its topic has stored it, even if there is none. If the
    /// connection ends, the broker has received the events up to some point, and none behind it.
    pub fn publish_in_order(
        &self,
        exchange: &str,
        events: Vec<Event>,
        timeout: Duration,
    ) -> Vec<Result<(), PublishError>> {
        let mut refused: Option<PublishError> = None;
        let sent = events.into_iter().map(|event| {
            // None is sent behind one that could not be sent.
            refused.clone().map_or(Ok(()), Err)?;
            let (exchange, Event { topic, properties, body }) = (exchange.to_owned(), event);
            let answer =
                self.send(|reply| Command::PublishEvent { exchange, topic, properties, body, reply });
            refused = answer.as_ref().err().cloned();
            answer
        });
        self.wait_for_confirms(sent.collect(), timeout)
    }
}
