//! Messages as the broker delivers them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::close_reason::CloseReason;
use crate::error::BrokerError;
use crate::properties::Properties;

/// One message as the broker delivered it.
#[derive(Debug)]
pub struct Delivery {
    /// What [`crate::Connection::ack`] and [`crate::Connection::ack_through`] take.
    pub tag: u64,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// Properties and headers.
    pub properties: Properties,
    /// The payload.
    pub body: Vec<u8>,
}

/// The messages of one consumer, in the order in which the broker sent them.
pub struct Deliveries {
    queue: String,
    batches: Receiver<Vec<Delivery>>,
    ready: VecDeque<Delivery>,
    closed: Arc<CloseReason>,
}

impl Deliveries {
    /// `closed` has the reason once the connection has ended.
    pub(crate) fn new(queue: String, batches: Receiver<Vec<Delivery>>, closed: Arc<CloseReason>) -> Self {
        Self { queue, batches, ready: VecDeque::new(), closed }
    }

    /// The queue that they come from.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Waits up to `timeout` for a message, then takes what else has arrived, at most `max` messages in all. Returns an
    /// empty batch after the timeout, and an error if the connection or the consumer has ended.
    pub fn next_batch(&mut self, max: usize, timeout: Duration) -> Result<Vec<Delivery>, BrokerError> {
        let deadline = Instant::now() + timeout;
        while self.ready.is_empty() {
            match self.batches.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(batch) => self.ready.extend(batch),
                Err(RecvTimeoutError::Timeout) => return Ok(Vec::new()),
                Err(RecvTimeoutError::Disconnected) => {
                    let reason = self.closed.wait(Duration::from_secs(1));
                    return Err(BrokerError::new(reason.unwrap_or_else(|| "the consumer ended".to_owned())));
                }
            }
        }
        while self.ready.len() < max {
            let Ok(batch) = self.batches.try_recv() else { break };
            self.ready.extend(batch);
        }
        Ok(self.ready.drain(..max.min(self.ready.len())).collect())
    }
}
