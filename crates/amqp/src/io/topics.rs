//! Declares topic exchanges and binds durable queues to them, each step on a channel of its own.

use std::sync::Arc;

use amqprs::channel::{Channel, ExchangeDeclareArguments, ExchangeType, QueueBindArguments};
use amqprs::error::Error as AmqpError;

use super::channels::Channels;
use super::within;
use crate::close_reason::CloseReason;
use crate::error::BrokerError;

impl Channels {
    /// Declares the durable topic exchange unless it exists. A passive declare goes first, so that an exchange made by
    /// hand with other arguments (an alternate exchange, for example) is used as it is.
    pub(super) async fn declare_topic_exchange(&self, exchange: &str) -> Result<(), BrokerError> {
        let mut arguments = ExchangeDeclareArguments::of_type(exchange, ExchangeType::Topic);
        arguments.durable(true);
        let existing = arguments.clone().passive(true).finish();
        let exists = self.on_own_channel(async |channel: &Channel| channel.exchange_declare(existing).await);
        if exists.await.is_ok() {
            return Ok(());
        }
        let declared =
            self.on_own_channel(async |channel: &Channel| channel.exchange_declare(arguments).await);
        declared.await.map_err(|e| BrokerError::new(format!("declare exchange {exchange}: {e}")))
    }

    /// Declares exchange and queue, and binds the queue with every topic.
    pub(super) async fn bind_queue(
        &self,
        queue: &str,
        exchange: &str,
        topics: &[String],
    ) -> Result<(), BrokerError> {
        self.declare_topic_exchange(exchange).await?;
        self.declare_queue(queue, false).await?;
        let bound = self.on_own_channel(async |channel: &Channel| {
            for topic in topics {
                channel.queue_bind(QueueBindArguments::new(queue, exchange, topic)).await?;
            }
            Ok(())
        });
        bound.await.map_err(|e| BrokerError::new(format!("bind queue {queue} to exchange {exchange}: {e}")))
    }

    async fn on_own_channel(
        &self,
        step: impl AsyncFnOnce(&Channel) -> Result<(), AmqpError>,
    ) -> Result<(), BrokerError> {
        let refused = Arc::new(CloseReason::default());
        let work = async {
            let channel = self.open(&refused).await?;
            step(&channel).await?;
            channel.close().await
        };
        within(self.deadline, work).await.map_err(|e| refused.get().map_or(e, BrokerError::new))
    }
}
