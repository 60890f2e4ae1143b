//! Takes messages off a queue on a channel of its own, and keeps the channel open until it is known what becomes of them.

use std::sync::Arc;

use amqprs::channel::{BasicAckArguments, BasicGetArguments};
use tokio::sync::mpsc::unbounded_channel;

use super::channels::Channels;
use super::commands::{Settlement, Settlements, Taken};
use super::within;
use crate::close_reason::CloseReason;
use crate::delivery::Delivery;
use crate::error::BrokerError;
use crate::properties::Properties;

impl Channels {
    /// Takes at most `messages_max` messages, and none after their bodies have `bytes_max` bytes together.
    pub(super) async fn browse(
        &self,
        queue: &str,
        messages_max: usize,
        bytes_max: usize,
    ) -> Result<Taken, BrokerError> {
        let refused = Arc::new(CloseReason::default());
        let failed = |e: BrokerError| {
            let reason = refused.get().map_or(e, BrokerError::new);
            BrokerError::new(format!("look through queue {queue}: {reason}"))
        };
        let channel = within(self.deadline, self.open(&refused)).await.map_err(failed)?;
        let (mut messages, mut bytes) = (Vec::new(), 0);
        while messages.len() < messages_max && bytes < bytes_max {
            let get = channel.basic_get(BasicGetArguments::new(queue));
            let Some((ok, properties, body)) = within(self.deadline, get).await.map_err(failed)? else {
                break;
            };
            bytes += body.len();
            messages.push(Delivery {
                tag: ok.delivery_tag(),
                redelivered: ok.redelivered(),
                properties: Properties(Box::new(properties)),
                body,
            });
        }
        let (sender, mut settlements) = unbounded_channel();
        let deadline = self.deadline;
        tokio::spawn(async move {
            let mut finished = None;
            while let Some(settlement) = settlements.recv().await {
                match settlement {
                    Settlement::Ack(tag) => {
                        let _ = within(deadline, channel.basic_ack(BasicAckArguments::new(tag, false))).await;
                    }
                    Settlement::Finish(reply) => {
                        finished = Some(reply);
                        break;
                    }
                }
            }
            // What was not acknowledged goes back to its queue when its channel closes (AMQP 0-9-1 §4.7).
            let closed = within(deadline, channel.close()).await;
            if let Some(reply) = finished {
                let _ = reply.try_send(closed);
            }
        });
        Ok((messages, Settlements { sender, deadline }))
    }
}
