//! Takes messages off a queue on a channel of its own, and keeps the channel open until it is known what becomes of them.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use amqprs::channel::{BasicAckArguments, BasicGetArguments};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::super::{BrokerError, BrowseLimits, CloseReason, Delivery, Properties};
use super::channels::Channels;
use super::commands::Reply;
use super::within;

/// The messages, and what to tell the task that holds their channel.
pub(in super::super) type Taken = (Vec<Delivery>, Settlements);

enum Settlement {
    Ack(u64),
    Finish(Reply<()>),
}

/// Decides about messages that were taken. When it is dropped, those that were not acknowledged go back.
pub(in super::super) struct Settlements {
    sender: UnboundedSender<Settlement>,
    /// How long giving back may take.
    deadline: Duration,
}

impl Settlements {
    pub(in super::super) fn ack(&self, tag: u64) {
        let _ = self.sender.send(Settlement::Ack(tag));
    }

    pub(in super::super) fn finish(self) -> Result<(), BrokerError> {
        let (reply, answer) = sync_channel(1);
        let _ = self.sender.send(Settlement::Finish(reply));
        answer.recv_timeout(self.deadline * 2).map_err(|_| BrokerError::new("no answer in time"))?
    }
}

impl Channels {
    pub(super) async fn browse(&self, queue: &str, limits: BrowseLimits) -> Result<Taken, BrokerError> {
        let refused = Arc::new(CloseReason::default());
        let failed = |e: BrokerError| {
            let reason = refused.get().map_or(e, BrokerError::new);
            BrokerError::new(format!("look through queue {queue}: {reason}"))
        };
        let channel = within(self.deadline, self.open(&refused)).await.map_err(failed)?;
        let (mut messages, mut bytes) = (Vec::new(), 0);
        while messages.len() < limits.messages && bytes < limits.bytes {
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
