//! What the broker says without being asked: confirms, returns, and the end of a channel or of the connection.

use std::sync::{Arc, Mutex, PoisonError};

use amqprs::callbacks::{ChannelCallback, ConnectionCallback};
use amqprs::channel::Channel;
use amqprs::connection::Connection as AmqpConnection;
use amqprs::error::Error as AmqpError;
use amqprs::{Ack, BasicProperties, Cancel, Close, CloseChannel, Nack, Return};
use async_trait::async_trait;

use super::commands::{Command, Commands};
use crate::close_reason::CloseReason;
use crate::confirms::Confirms;

/// Handles the broker's events for the connection. The library drops it when it stops reading from the broker, be it
/// because the connection was lost or because the library panicked. It tells of a panic in no other way, and goes on
/// sending heartbeats.
pub(super) struct ConnectionEvents(pub(super) Commands);

impl Drop for ConnectionEvents {
    fn drop(&mut self) {
        self.0.send(Command::Lost("the connection was lost".to_owned()));
    }
}

#[async_trait]
impl ConnectionCallback for ConnectionEvents {
    async fn close(&mut self, _: &AmqpConnection, close: Close) -> Result<(), AmqpError> {
        let reason = format!("the broker closed it: {} {}", close.reply_code(), close.reply_text());
        self.0.send(Command::Lost(reason));
        Ok(())
    }

    async fn blocked(&mut self, _: &AmqpConnection, reason: String) {
        self.0.set_halted(Some(reason));
    }

    async fn unblocked(&mut self, _: &AmqpConnection) {
        self.0.set_halted(None);
    }

    async fn secret_updated(&mut self, _: &AmqpConnection) {}
}

/// Handles the broker's events for a channel. If `commands` is `None`, the end of the channel does not end the
/// connection.
pub(super) struct ChannelEvents {
    pub(super) commands: Option<Commands>,
    pub(super) confirms: Arc<Mutex<Confirms>>,
    /// Set to the reason when the broker closes the channel.
    pub(super) refused: Arc<CloseReason>,
}

impl ChannelEvents {
    fn settle(&self, tag: u64, multiple: bool, acked: bool) {
        self.confirms.lock().unwrap_or_else(PoisonError::into_inner).settle(tag, multiple, acked);
    }

    fn lost(&self, reason: String) {
        if let Some(commands) = &self.commands {
            commands.send(Command::Lost(reason));
        }
    }
}

#[async_trait]
impl ChannelCallback for ChannelEvents {
    async fn close(&mut self, _: &Channel, close: CloseChannel) -> Result<(), AmqpError> {
        let reason = format!("the broker closed the channel: {} {}", close.reply_code(), close.reply_text());
        self.refused.set(&reason);
        self.lost(reason);
        Ok(())
    }

    async fn cancel(&mut self, _: &Channel, cancel: Cancel) -> Result<(), AmqpError> {
        self.lost(format!("the broker cancelled the consumer {}", cancel.consumer_tag()));
        Ok(())
    }

    /// channel.flow stops publishers whose client does not announce `connection.blocked`; the library does not.
    async fn flow(&mut self, _: &Channel, active: bool) -> Result<bool, AmqpError> {
        if let Some(commands) = &self.commands {
            commands.set_halted((!active).then(|| "it has stopped the flow".to_owned()));
        }
        Ok(active)
    }

    async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
        self.settle(ack.delivery_tag(), ack.mutiple(), true);
    }

    async fn publish_nack(&mut self, _: &Channel, nack: Nack) {
        self.settle(nack.delivery_tag(), nack.multiple(), false);
    }

    async fn publish_return(&mut self, _: &Channel, ret: Return, properties: BasicProperties, _: Vec<u8>) {
        let reason = format!("{} {}", ret.reply_code(), ret.reply_text());
        let message_id = properties.message_id().map(String::as_str);
        self.confirms.lock().unwrap_or_else(PoisonError::into_inner).mark_returned(message_id, &reason);
    }
}
