//! Everything that is done beside the one channel that orders travel on: on channels of their own, because a broker
//! that refuses something closes the channel, and beside the queue of commands, because orders must not wait for it.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amqprs::channel::{
    BasicConsumeArguments, Channel, ExchangeDeclareArguments, ExchangeType, QueueBindArguments,
    QueueDeclareArguments,
};
use amqprs::connection::Connection as AmqpConnection;
use amqprs::error::Error as AmqpError;

use super::super::confirms::Confirms;
use super::super::{BrokerError, Closed, Delivery};
use super::{ChannelEvents, Command, delivery, within};

/// What can be done beside the orders.
#[derive(Clone)]
pub(super) struct Side {
    pub(super) connection: AmqpConnection,
    /// How long any single step may take.
    pub(super) deadline: Duration,
}

impl Side {
    /// Does what a command asks for; those that concern the orders' channel are not for here.
    pub(super) async fn answer(self, command: Command) {
        // Whoever asked may have given up meanwhile.
        let _ = match command {
            Command::CountMessages { queue, reply } => {
                reply.try_send(self.count_messages(&queue).await).is_ok()
            }
            Command::DeclareFanout { exchange, reply } => {
                reply.try_send(self.declare_fanout(&exchange).await).is_ok()
            }
            Command::Listen { exchange, reply } => reply.try_send(self.listen(&exchange).await).is_ok(),
            _ => false,
        };
    }

    /// Looks for the queue on a channel of its own, since a failed look closes the channel, and makes it if it is
    /// missing. Looking first lets a queue made by hand with other arguments, a quorum queue above all, be used.
    pub(super) async fn declare_queue(&self, queue: &str) -> Result<u32, BrokerError> {
        let mut arguments = QueueDeclareArguments::durable_client_named(queue);
        if let Ok(waiting) = self.declare(arguments.clone().passive(true).finish()).await {
            return Ok(waiting);
        }
        let declared = self.declare(arguments.finish()).await;
        declared.map_err(|e| BrokerError::new(format!("declare queue {queue}: {e}")))
    }

    /// The broker answers a look at a queue that is not there by closing the channel; so does it, if rarely, when the
    /// look itself is not allowed. Neither tells a number.
    async fn count_messages(&self, queue: &str) -> Result<Option<u32>, BrokerError> {
        let refused = Arc::new(Closed::default());
        let look = self.declare_noting(QueueDeclareArguments::new(queue).passive(true).finish(), &refused);
        match look.await {
            Ok(waiting) => Ok(Some(waiting)),
            Err(_) if refused.get().is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn declare_fanout(&self, exchange: &str) -> Result<(), BrokerError> {
        let refused = Arc::new(Closed::default());
        let declared = async {
            let channel = self.open(&refused).await?;
            channel.exchange_declare(fanout(exchange)).await?;
            channel.close().await
        };
        within(self.deadline, declared)
            .await
            .map_err(|e| BrokerError::new(format!("declare exchange {exchange}: {e}")))
    }

    /// Listens with a queue that is this connection's alone and ends with it. A broker that does not
    /// allow any of this stays one that can be published to.
    async fn listen(&self, exchange: &str) -> Result<Receiver<Vec<Delivery>>, BrokerError> {
        let refused = Arc::new(Closed::default());
        let listening = async {
            let channel = self.open(&refused).await?;
            channel.exchange_declare(fanout(exchange)).await?;
            let declared = channel.queue_declare(QueueDeclareArguments::exclusive_server_named()).await?;
            let queue = declared.map(|(queue, _, _)| queue).unwrap_or_default();
            channel.queue_bind(QueueBindArguments::new(&queue, exchange, "")).await?;
            let consume = BasicConsumeArguments::new(&queue, "").manual_ack(false).finish();
            let (_, messages) = channel.basic_consume_rx(consume).await?;
            Ok((channel, messages))
        };
        let (channel, mut messages) = within(self.deadline, listening)
            .await
            .map_err(|e| BrokerError::new(format!("listen to exchange {exchange}: {e}")))?;
        let (sender, batches): (Sender<Vec<Delivery>>, _) = mpsc::channel();
        tokio::spawn(async move {
            // The channel lives for as long as somebody listens.
            let _channel = channel;
            while let Some(message) = messages.recv().await {
                if sender.send(delivery(message).into_iter().collect()).is_err() {
                    return;
                }
            }
        });
        Ok(batches)
    }

    /// A channel whose end is not the end of the connection; `refused` learns why the broker ended it.
    async fn open(&self, refused: &Arc<Closed>) -> Result<Channel, AmqpError> {
        let events = ChannelEvents {
            commands: None,
            confirms: Arc::new(Mutex::new(Confirms::new())),
            refused: refused.clone(),
        };
        let channel = self.connection.open_channel(None).await?;
        // Without a callback the library would not answer the broker's closing of the channel.
        channel.register_callback(events).await?;
        Ok(channel)
    }

    async fn declare(&self, arguments: QueueDeclareArguments) -> Result<u32, BrokerError> {
        self.declare_noting(arguments, &Arc::new(Closed::default())).await
    }

    async fn declare_noting(
        &self,
        arguments: QueueDeclareArguments,
        refused: &Arc<Closed>,
    ) -> Result<u32, BrokerError> {
        let declare = async {
            let channel = self.open(refused).await?;
            let declared = channel.queue_declare(arguments).await?;
            channel.close().await?;
            Ok(declared.map_or(0, |(_, waiting, _)| waiting))
        };
        within(self.deadline, declare).await.map_err(|e| refused.get().map_or(e, BrokerError))
    }
}

/// An exchange that copies what it gets to all queues bound to it, and outlives a restart of the broker.
fn fanout(exchange: &str) -> ExchangeDeclareArguments {
    ExchangeDeclareArguments::of_type(exchange, ExchangeType::Fanout).durable(true).finish()
}
