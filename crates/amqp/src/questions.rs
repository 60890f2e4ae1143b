//! Questions and answers: a queue that several programs may answer from, and the way back to whoever asked.

use crate::connection::Connection;
use crate::error::BrokerError;
use crate::io::Command;
use crate::properties::Properties;

impl Connection {
    /// Makes sure that the queue `queue` exists, which the broker deletes once its last consumer has gone, so that
    /// questions to nobody come back instead of waiting there.
    pub fn declare_question_queue(&self, queue: &str) -> Result<(), BrokerError> {
        let declared =
            self.request(|reply| Command::DeclareQueue { queue: queue.to_owned(), auto_delete: true, reply });
        declared.map(|_| ())
    }

    /// Answers a question without waiting for a confirm. If whoever asked has gone, or the question does not say where
    /// the answer goes, the answer is lost.
    pub fn answer(&self, question: &Properties, properties: Properties, body: Vec<u8>) {
        let Some((reply_to, id)) = question.reply_to().zip(question.correlation_id()) else { return };
        // The default exchange brings a message to the queue of that name (AMQP 0-9-1 §3.1.3.1).
        let (exchange, routing_key) = (String::new(), reply_to.to_owned());
        let properties = properties.with_correlation_id(id);
        self.commands.send(Command::Announce { exchange, routing_key, properties, body });
    }
}
