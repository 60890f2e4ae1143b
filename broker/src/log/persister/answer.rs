//! What follows when a batch is written: its messages enter their queues, what became dead letters is settled, and
//! publishers are answered.

use std::sync::Arc;

use super::Persister;
use crate::log::owner::LogQueue;
use crate::log::write_batch::WriteBatch;

impl<Q: LogQueue> Persister<Q> {
    /// Hands the messages of a batch to their queues, in order.
    pub(super) fn distribute(&self, batch: &WriteBatch<Q>) {
        let mut at = 0;
        while let Some(item) = batch.items.get(at) {
            // Most batches are for one queue, which then is locked once.
            let together =
                batch.items[at..].iter().take_while(|next| Arc::ptr_eq(&next.routes, &item.routes)).count();
            for queue in item.routes.iter() {
                queue.take_over(&batch.items[at..at + together], &batch.bytes, self);
            }
            at += together;
        }
    }

    /// The dead letters of the batch are safe: the messages that they were are done with.
    pub(super) fn settle_origins(&self, batch: &WriteBatch<Q>) {
        for (queue, position) in &batch.origins {
            queue.settle(*position, self);
        }
    }

    /// Confirms the messages of the batch, but for those that a queue refused.
    pub(super) fn answer_publishers(&self, batch: &WriteBatch<Q>) {
        let mut conditional = batch.conditional.iter().peekable();
        let mut confirmed = 0;
        for (at, (confirm, count)) in batch.confirms.iter().enumerate() {
            let item = conditional.next_if(|(confirm, _)| *confirm == at);
            if item.is_some_and(|(_, item)| batch.items[*item].refused.get()) {
                confirm.receiver.refuse(confirm.tag);
            } else {
                confirm.receiver.confirm(confirm.tag, *count > 1);
                confirmed += count;
            }
        }
        for (confirm, _) in &batch.confirms {
            confirm.receiver.flush();
        }
        self.metrics.messages.add(batch.items.len() as u64);
        self.metrics.confirmed.add(confirmed);
        if let Some(since) = batch.since {
            self.metrics.confirm_latency.record(since.elapsed());
        }
    }
}
