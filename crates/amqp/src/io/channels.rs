//! Declares, inspects and listens on channels of their own, so that a refusal, which closes a channel, cannot close the
//! orders' channel. They also run as tasks of their own, so that orders do not wait for them.

use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amqprs::channel::{
    BasicConsumeArguments, Channel, ExchangeDeclareArguments, ExchangeType, QueueBindArguments,
    QueueDeclareArguments,
};
use amqprs::connection::Connection as AmqpConnection;
use amqprs::error::Error as AmqpError;

use super::commands::Listening;
use super::events::ChannelEvents;
use super::{delivery, within};
use crate::broker::QueueFigures;
use crate::close_reason::CloseReason;
use crate::confirms::Confirms;
use crate::delivery::Delivery;
use crate::error::BrokerError;

/// Opens a channel for each task beside publishing and consuming.
#[derive(Clone)]
pub(super) struct Channels {
    pub(super) connection: AmqpConnection,
    /// How long each step may take.
    pub(super) deadline: Duration,
}

impl Channels {
    /// Declares the queue unless it exists; returns the number of waiting messages. A passive declare goes first, so
    /// that a queue made by hand with other arguments (a quorum queue, for example) is used as it is. A failed one
    /// closes its channel, so each declare has its own.
    pub(super) async fn declare_queue(&self, queue: &str, auto_delete: bool) -> Result<u32, BrokerError> {
        let mut arguments = QueueDeclareArguments::durable_client_named(queue);
        arguments.auto_delete(auto_delete);
        if let Ok(found) = self.declare(arguments.clone().passive(true).finish()).await {
            return Ok(found.messages);
        }
        let declared = self.declare(arguments.finish()).await.map(|made| made.messages);
        declared.map_err(|e| BrokerError::new(format!("declare queue {queue}: {e}")))
    }

    /// How the queue is; `None` if the broker closes the channel, because the queue does not exist or may not be
    /// inspected.
    pub(super) async fn inspect_queue(&self, queue: &str) -> Result<Option<QueueFigures>, BrokerError> {
        let refused = Arc::new(CloseReason::default());
        let look = self.declare_noting(QueueDeclareArguments::new(queue).passive(true).finish(), &refused);
        match look.await {
            Ok(figures) => Ok(Some(figures)),
            Err(_) if refused.get().is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn declare_fanout(&self, exchange: &str) -> Result<(), BrokerError> {
        let refused = Arc::new(CloseReason::default());
        let declared = async {
            let channel = self.open(&refused).await?;
            channel.exchange_declare(fanout(exchange)).await?;
            channel.close().await
        };
        within(self.deadline, declared).await.map_err(|e| {
            let reason = refused.get().map_or(e, BrokerError::new);
            BrokerError::new(format!("declare exchange {exchange}: {reason}"))
        })
    }

    /// Binds an exclusive queue, which ends with the connection, and consumes from it. If the broker refuses any of
    /// this, publishing still works.
    pub(super) async fn listen(&self, exchange: &str) -> Result<Listening, BrokerError> {
        let refused = Arc::new(CloseReason::default());
        let listening = async {
            let channel = self.open(&refused).await?;
            channel.exchange_declare(fanout(exchange)).await?;
            let declared = channel.queue_declare(QueueDeclareArguments::exclusive_server_named()).await?;
            let queue = declared.map(|(queue, _, _)| queue).unwrap_or_default();
            channel.queue_bind(QueueBindArguments::new(&queue, exchange, "")).await?;
            let consume = BasicConsumeArguments::new(&queue, "").manual_ack(false).finish();
            let (_, messages) = channel.basic_consume_rx(consume).await?;
            Ok((channel, queue, messages))
        };
        let (channel, queue, mut messages) = within(self.deadline, listening).await.map_err(|e| {
            let reason = refused.get().map_or(e, BrokerError::new);
            BrokerError::new(format!("listen to exchange {exchange}: {reason}"))
        })?;
        let (sender, batches): (Sender<Vec<Delivery>>, _) = mpsc::channel();
        tokio::spawn(async move {
            // Keeps the channel open while somebody listens.
            let _channel = channel;
            while let Some(message) = messages.recv().await {
                if sender.send(delivery(message).into_iter().collect()).is_err() {
                    return;
                }
            }
        });
        Ok((queue, batches))
    }

    /// Opens a channel whose end does not end the connection; `refused` is set to the reason if the broker closes it.
    pub(super) async fn open(&self, refused: &Arc<CloseReason>) -> Result<Channel, AmqpError> {
        let events = ChannelEvents {
            commands: None,
            confirms: Arc::new(Mutex::new(Confirms::new())),
            refused: refused.clone(),
        };
        let channel = self.connection.open_channel(None).await?;
        // Without a callback the library would not answer channel.close.
        channel.register_callback(events).await?;
        Ok(channel)
    }

    async fn declare(&self, arguments: QueueDeclareArguments) -> Result<QueueFigures, BrokerError> {
        self.declare_noting(arguments, &Arc::new(CloseReason::default())).await
    }

    async fn declare_noting(
        &self,
        arguments: QueueDeclareArguments,
        refused: &Arc<CloseReason>,
    ) -> Result<QueueFigures, BrokerError> {
        let declare = async {
            let channel = self.open(refused).await?;
            let declared = channel.queue_declare(arguments).await?;
            channel.close().await?;
            let figures = declared.map(|(_, messages, consumers)| QueueFigures { messages, consumers });
            Ok(figures.unwrap_or_default())
        };
        within(self.deadline, declare).await.map_err(|e| refused.get().map_or(e, BrokerError::new))
    }
}

/// A durable fan-out exchange: copies each message to all queues bound to it.
fn fanout(exchange: &str) -> ExchangeDeclareArguments {
    ExchangeDeclareArguments::of_type(exchange, ExchangeType::Fanout).durable(true).finish()
}
