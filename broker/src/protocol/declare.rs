//! The methods that make, purge and remove queues. Those about exchanges and bindings are in
//! [`crate::protocol::exchanges`].

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::broker::Broker;
use crate::protocol::channel::Channel;
use crate::protocol::codec::method::QueueDeclare;
use crate::protocol::codec::reply::Reply;
use crate::protocol::fault::{
    ACCESS_REFUSED, Fault, NOT_FOUND, Outcome, PRECONDITION_FAILED, RESOURCE_ERROR,
};
use crate::queues::queue::Queue;
use crate::queues::subscriber::SharedSubscriber;
use crate::queues::topology::{QueueAttributes, SharedQueue};
use crate::queues::upkeep;

/// A queue keeps its arguments as they came, also those that mean nothing.
const MAX_ARGUMENTS_BYTES: usize = 4 << 10;

impl Channel {
    pub(crate) fn declare_queue(&mut self, declare: &QueueDeclare<'_>) -> Outcome {
        self.settle_publishes();
        let queue = if declare.passive {
            let queue = self.find_queue(declare.queue)?;
            queue.touch();
            queue
        } else {
            declare_queue(&self.session.broker, declare, self.session.peer.id)?
        };
        self.last_queue.clone_from(&queue.name);
        if !declare.no_wait {
            while !upkeep::look_after(&self.session.broker, &queue) {}
            let state = queue.lock();
            let (messages, consumers) = (clamp(state.waiting()), clamp(state.consumers().len() as u64));
            drop(state);
            self.reply(&Reply::QueueDeclareOk { queue: &queue.name, messages, consumers });
        }
        Ok(())
    }

    /// The queue's name; the last one declared on this channel if it is empty.
    pub(crate) fn queue_name(&self, name: &str) -> Outcome<String> {
        match (name, self.last_queue.as_str()) {
            ("", "") => Fault::channel(NOT_FOUND, "no previously declared queue"),
            ("", last) => Ok(last.to_owned()),
            (name, _) => Ok(name.to_owned()),
        }
    }

    pub(crate) fn find_queue(&self, name: &str) -> Outcome<Arc<SharedQueue>> {
        self.session.broker.topology.queue(&self.queue_name(name)?, self.session.peer.id)
    }

    pub(crate) fn purge(&mut self, name: &str, no_wait: bool) -> Outcome {
        let queue = self.find_queue(name)?;
        self.settle_publishes();
        let messages = clamp(self.session.broker.purge(&queue));
        self.answer(no_wait, &Reply::QueuePurgeOk { messages });
        Ok(())
    }

    /// Deleting what is not there succeeds.
    pub(crate) fn delete_queue(
        &mut self,
        name: &str,
        if_unused: bool,
        if_empty: bool,
        no_wait: bool,
    ) -> Outcome {
        let answer = |messages| {
            self.answer(no_wait, &Reply::QueueDeleteOk { messages: clamp(messages) });
        };
        if let Some(queue) = self.session.broker.topology.find_queue(&self.queue_name(name)?) {
            queue.check_access(self.session.peer.id)?;
            self.settle_publishes();
            return delete_queue(&self.session.broker, &queue, if_unused, if_empty, answer);
        }
        answer(0);
        Ok(())
    }
}

/// Creates a queue, or checks that the one that exists is the same. An empty name stands for one that is made up.
/// `connection` is who asks; no connection has the number 0.
pub(crate) fn declare_queue(
    broker: &Broker,
    declare: &QueueDeclare<'_>,
    connection: u64,
) -> Outcome<Arc<SharedQueue>> {
    let name = match declare.queue {
        "" => random_name("amq.gen-"),
        name => {
            check_name(name, "queue")?;
            name.to_owned()
        }
    };
    if declare.arguments.bytes().len() > MAX_ARGUMENTS_BYTES {
        let text = format!("the arguments of a queue may take {MAX_ARGUMENTS_BYTES} bytes");
        return Fault::channel(RESOURCE_ERROR, text);
    }
    let attributes = QueueAttributes {
        durable: declare.durable,
        auto_delete: declare.auto_delete,
        owner: declare.exclusive.then_some(connection),
        arguments: declare.arguments,
    };
    let is_new = broker.topology.find_queue(&name).is_none();
    let queue = broker.topology.declare_queue(&name, attributes, connection)?;
    broker.counts.queues_declared.increment();
    if is_new {
        broker.counts.queues_created.increment();
    }
    Ok(queue)
}

/// Deletes a queue unless it is in use or holds messages, if that matters. `answer` gets the number of messages that
/// waited, before consumers are told.
pub(crate) fn delete_queue(
    broker: &Broker,
    queue: &Arc<SharedQueue>,
    if_unused: bool,
    if_empty: bool,
    answer: impl FnOnce(u64),
) -> Outcome {
    let may_go = |state: &Queue<SharedSubscriber>| {
        let problem = match () {
            () if if_unused && !state.consumers().is_empty() => "in use",
            () if if_empty && state.waiting() > 0 => "not empty",
            () => return Ok(true),
        };
        Fault::channel(PRECONDITION_FAILED, format!("queue '{}' in vhost '/' {problem}", queue.name))
    };
    broker.delete_queue_if(queue, may_go, answer)
}

pub(crate) fn check_name(name: &str, what: &str) -> Outcome {
    if name.starts_with("amq.") {
        let text = format!("{what} name '{name}' contains reserved prefix 'amq.*'");
        return Fault::channel(ACCESS_REFUSED, text);
    }
    Ok(())
}

/// A name that nobody can guess and nobody else has.
pub(crate) fn random_name(prefix: &str) -> String {
    // Every RandomState has keys of its own, so the hashes of a constant are random numbers.
    let halves = [RandomState::new().hash_one(1u8), RandomState::new().hash_one(2u8)];
    format!("{prefix}{:016x}{:016x}", halves[0], halves[1])
}

/// Counts on the wire have 32 bits.
pub(crate) fn clamp(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_names_differ() {
        assert_ne!(random_name("amq.gen-"), random_name("amq.gen-"));
    }
}
