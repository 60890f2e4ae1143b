//! The I/O thread of a [`super::Connection`]: a tokio runtime that executes the commands of blocking callers with the
//! AMQP library and sends the broker's answers back to them. Only this module and its parts name tokio.
//!
//! Decisions about orders, retries or back-off do not belong here.

mod browse;
mod channels;
mod commands;
mod events;
mod topics;

use std::future::Future;
use std::sync::mpsc::{self, Receiver, Sender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use amqprs::channel::{
    BasicAckArguments, BasicConsumeArguments, BasicPublishArguments, BasicQosArguments, Channel,
    ConfirmSelectArguments, ConsumerMessage,
};
use amqprs::connection::{Connection as AmqpConnection, OpenConnectionArguments};
use amqprs::error::Error as AmqpError;
use tokio::time::timeout;

use crate::broker::BrokerProgram;
use crate::close_reason::CloseReason;
use crate::confirms::{ConfirmSender, Confirms};
use crate::delivery::Delivery;
use crate::error::{BrokerError, PublishError};
use crate::properties::Properties;
use crate::refusal;
use crate::settings::AmqpSettings;
use channels::Channels;
pub(crate) use commands::{Command, Commands, Reply, Settlements};
use commands::{QueuedCommands, commands};
use events::{ChannelEvents, ConnectionEvents};

/// The interval of heartbeats, in seconds: a dead connection is detected within two of them.
const HEARTBEAT_S: u16 = 10;

/// Marks the connection as closed however the thread ends, even by a panic in the library.
struct CloseOnExit<'a>(&'a CloseReason);

impl Drop for CloseOnExit<'_> {
    fn drop(&mut self) {
        self.0.set("the amqp thread stopped");
    }
}

/// Runs one connection from opening to end. Sends the result of opening to `opened`.
pub(super) fn run(
    settings: &AmqpSettings,
    name: &str,
    opened: &Reply<(Commands, BrokerProgram)>,
    closed: &CloseReason,
) {
    let _guard = CloseOnExit(closed);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            let _ = opened.send(Err(BrokerError::new(format!("start the amqp runtime: {e}"))));
            return;
        }
    };
    runtime.block_on(async {
        match Session::open(settings, name).await {
            Ok((session, queued)) => {
                let _ = opened.send(Ok((session.commands.clone(), session.server())));
                session.serve(queued, closed).await;
            }
            Err(e) => {
                closed.set(&e.to_string());
                let _ = opened.send(Err(e));
            }
        }
    });
    // Tasks that the library left running, such as a writer stuck on a dead peer, must not keep the thread alive.
    runtime.shutdown_background();
}

/// An open connection and the channel on which orders travel.
struct Session {
    channels: Channels,
    channel: Channel,
    /// Why the broker closed the channel; set once it has.
    refused: Arc<CloseReason>,
    commands: Commands,
}

impl Session {
    async fn open(settings: &AmqpSettings, name: &str) -> Result<(Self, QueuedCommands), BrokerError> {
        let mut problems = Vec::new();
        for (host, port) in &settings.hosts {
            // Each host has its own command queue, so that a late event from the previous host cannot end this session.
            let (commands, queued) = commands();
            let attempt = Self::open_on(settings, host, *port, name, commands);
            match within(settings.connect_timeout, attempt).await {
                Ok(session) => return Ok((session, queued)),
                Err(e) => {
                    // Blocks this thread for up to four seconds; nothing else runs on it yet.
                    let reason = refusal::reason(host, *port, settings)
                        .unwrap_or_else(|| plain(&e.to_string()).to_owned());
                    problems.push(((host.as_str(), *port), reason));
                }
            }
        }
        Err(BrokerError::of_hosts(&problems))
    }

    async fn open_on(
        settings: &AmqpSettings,
        host: &str,
        port: u16,
        name: &str,
        commands: Commands,
    ) -> Result<Self, AmqpError> {
        let mut arguments = OpenConnectionArguments::new(host, port, &settings.user, &settings.password);
        arguments.virtual_host(&settings.vhost).connection_name(name).heartbeat(HEARTBEAT_S);
        let connection = AmqpConnection::open(&arguments).await?;
        connection.register_callback(ConnectionEvents(commands.clone())).await?;
        let channel = connection.open_channel(None).await?;
        let refused = Arc::new(CloseReason::default());
        let events = ChannelEvents {
            commands: Some(commands.clone()),
            confirms: commands.confirms.clone(),
            refused: refused.clone(),
        };
        channel.register_callback(events).await?;
        channel.confirm_select(ConfirmSelectArguments::default()).await?;
        let channels = Channels { connection, deadline: settings.connect_timeout };
        Ok(Self { channels, channel, refused, commands })
    }

    fn server(&self) -> BrokerProgram {
        let told = self.channels.connection.server_properties();
        BrokerProgram { product: told.product().to_owned(), version: told.version().to_owned() }
    }

    /// Executes commands until the connection ends or its owner closes or drops it.
    async fn serve(self, mut queued: QueuedCommands, closed: &CloseReason) {
        let mut reason = "closed by this program".to_owned();
        while let Some(command) = queued.recv().await {
            match command {
                Command::Publish { queue, properties, body, reply } => {
                    self.publish(&queue, properties, body, reply).await;
                }
                Command::PublishEvent { exchange, topic, properties, body, reply } => {
                    let arguments = BasicPublishArguments::new(&exchange, &topic);
                    self.send(arguments, properties, body, reply).await;
                }
                Command::Announce { exchange, routing_key, properties, body } => {
                    let arguments = BasicPublishArguments::new(&exchange, &routing_key);
                    self.announce(arguments, properties, body).await;
                }
                Command::Probe { reply } => {
                    // The default exchange routes it to the queue with the empty name, which cannot exist.
                    let nowhere = BasicPublishArguments::new("", "");
                    self.send(nowhere, Properties::default(), b"probe".to_vec(), reply).await;
                }
                beside @ (Command::DeclareQueue { .. }
                | Command::InspectQueue { .. }
                | Command::DeclareFanout { .. }
                | Command::Browse { .. }
                | Command::DeclareTopicExchange { .. }
                | Command::BindQueue { .. }
                | Command::Listen { .. }) => {
                    tokio::spawn(answer(self.channels.clone(), beside));
                }
                Command::Consume { queue, prefetch, reply } => {
                    let _ = reply.try_send(self.consume(&queue, prefetch).await);
                }
                Command::Ack { tag, multiple } => {
                    let ack = self.channel.basic_ack(BasicAckArguments::new(tag, multiple));
                    if let Err(e) = within(self.channels.deadline, ack).await {
                        self.commands.send(Command::Lost(e.to_string()));
                    }
                }
                Command::Lost(cause) => {
                    reason = cause;
                    break;
                }
                Command::Close => break,
            }
        }
        closed.set(&reason);
        // Dropping the confirms drops their reply channels, which tells waiting publishers of the end.
        *self.commands.confirms.lock().unwrap_or_else(PoisonError::into_inner) = Confirms::new();
        // Accepts no more commands.
        queued.close();
        let _ = timeout(self.channels.deadline, self.channels.connection.close()).await;
    }

    async fn publish(&self, queue: &str, properties: Properties, body: Vec<u8>, reply: ConfirmSender) {
        let mut arguments = BasicPublishArguments::new("", queue);
        arguments.mandatory(true);
        self.send(arguments, properties, body, reply).await;
    }

    async fn announce(&self, arguments: BasicPublishArguments, properties: Properties, body: Vec<u8>) {
        // A broker that blocks publishers stops reading, and so would not read later acknowledgements either.
        if self.commands.halted().is_some() {
            return;
        }
        // The channel is in confirm mode, so an announcement is confirmed as well; nobody waits for that confirm.
        let (reply, _) = sync_channel(1);
        self.send(arguments, properties, body, reply).await;
    }

    async fn send(
        &self,
        arguments: BasicPublishArguments,
        properties: Properties,
        body: Vec<u8>,
        reply: ConfirmSender,
    ) {
        let message_id = properties.message_id().map(str::to_owned);
        {
            // The tag is assigned by the order of sending, so the entry must exist before the broker can answer.
            let mut confirms = self.commands.confirms.lock().unwrap_or_else(PoisonError::into_inner);
            if confirms.is_full() {
                let _ = reply.try_send(Err(PublishError::Busy));
                return;
            }
            confirms.push(message_id, reply);
        }
        let sent = self.channel.basic_publish(*properties.0, body, arguments);
        if let Err(e) = within(self.channels.deadline, sent).await {
            self.commands.send(Command::Lost(e.to_string()));
        }
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Receiver<Vec<Delivery>>, BrokerError> {
        let failed = |e: BrokerError| {
            let reason = self.refused.get().map_or(e, BrokerError::new);
            BrokerError::new(format!("consume from queue {queue}: {reason}"))
        };
        let qos = self.channel.basic_qos(BasicQosArguments::new(0, prefetch, false));
        within(self.channels.deadline, qos).await.map_err(failed)?;
        let consume = self.channel.basic_consume_rx(BasicConsumeArguments::new(queue, ""));
        let (_, mut messages) = within(self.channels.deadline, consume).await.map_err(failed)?;
        let (sender, batches): (Sender<Vec<Delivery>>, _) = mpsc::channel();
        let (commands, most) = (self.commands.clone(), usize::from(prefetch.max(1)));
        tokio::spawn(async move {
            let mut arrived = Vec::with_capacity(most);
            while messages.recv_many(&mut arrived, most).await > 0 {
                if sender.send(arrived.drain(..).filter_map(delivery).collect()).is_err() {
                    return;
                }
            }
            commands.send(Command::Lost("the broker cancelled the consumer".to_owned()));
        });
        Ok(batches)
    }
}

/// Executes a command that needs its own channel; ignores all other commands.
async fn answer(channels: Channels, command: Command) {
    // The caller may have given up.
    let _ = match command {
        Command::DeclareQueue { queue, auto_delete, reply } => {
            reply.try_send(channels.declare_queue(&queue, auto_delete).await).is_ok()
        }
        Command::InspectQueue { queue, reply } => {
            reply.try_send(channels.inspect_queue(&queue).await).is_ok()
        }
        Command::DeclareFanout { exchange, reply } => {
            reply.try_send(channels.declare_fanout(&exchange).await).is_ok()
        }
        Command::Browse { queue, messages, bytes, reply } => {
            reply.try_send(channels.browse(&queue, messages, bytes).await).is_ok()
        }
        Command::DeclareTopicExchange { exchange, reply } => {
            reply.try_send(channels.declare_topic_exchange(&exchange).await).is_ok()
        }
        Command::BindQueue { queue, exchange, topics, reply } => {
            reply.try_send(channels.bind_queue(&queue, &exchange, &topics).await).is_ok()
        }
        Command::Listen { exchange, reply } => reply.try_send(channels.listen(&exchange).await).is_ok(),
        _ => false,
    };
}

/// The library's text of an error without the names of its layers in front of what the system says.
fn plain(text: &str) -> &str {
    text.rsplit_once("network io error: ").map_or(text, |(_, cause)| cause)
}

fn delivery(message: ConsumerMessage) -> Option<Delivery> {
    let deliver = message.deliver?;
    Some(Delivery {
        tag: deliver.delivery_tag(),
        redelivered: deliver.redelivered(),
        properties: Properties(Box::new(message.basic_properties.unwrap_or_default())),
        body: message.content.unwrap_or_default(),
    })
}

async fn within<T>(
    deadline: Duration,
    step: impl Future<Output = Result<T, AmqpError>>,
) -> Result<T, BrokerError> {
    match timeout(deadline, step).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(BrokerError::new(e.to_string())),
        Err(_) => Err(BrokerError::new("no answer in time")),
    }
}
