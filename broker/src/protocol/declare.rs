//! The methods that make, bind and remove queues and exchanges.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::broker::Broker;
use crate::codec::table::{Table, Value};
use crate::protocol::channel::Channel;
use crate::protocol::codec::method::{Binding, ExchangeDeclare, QueueDeclare};
use crate::protocol::codec::reply::Reply;
use crate::protocol::fault::{
    ACCESS_REFUSED, COMMAND_INVALID, Fault, NOT_FOUND, NOT_IMPLEMENTED, Outcome, PRECONDITION_FAILED,
};
use crate::queues::exchange::{Exchange, ExchangeType};
use crate::queues::topology::{QueueAttributes, SharedQueue};

impl Channel {
    pub(crate) fn declare_queue(&mut self, declare: &QueueDeclare<'_>) -> Outcome {
        self.settle_publishes();
        let queue = if declare.passive {
            self.find_queue(declare.queue)?
        } else {
            declare_queue(&self.session.broker, declare, self.session.peer.id)?
        };
        self.last_queue.clone_from(&queue.name);
        if !declare.no_wait {
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

    pub(crate) fn bind(&mut self, binding: &Binding<'_>) -> Outcome {
        check_not_default(binding.exchange)?;
        let queue = self.find_queue(binding.queue)?;
        let topology = &self.session.broker.topology;
        topology.set_binding(binding.exchange, binding_key(binding, &queue), &queue, true)?;
        self.answer(binding.no_wait, &Reply::QueueBindOk);
        Ok(())
    }

    /// Removing a binding succeeds whatever is missing of it.
    pub(crate) fn unbind(&mut self, binding: &Binding<'_>) -> Outcome {
        check_not_default(binding.exchange)?;
        let topology = &self.session.broker.topology;
        if let Some(queue) = topology.find_queue(&self.queue_name(binding.queue)?) {
            queue.check_access(self.session.peer.id)?;
            topology.set_binding(binding.exchange, binding_key(binding, &queue), &queue, false)?;
        }
        self.reply(&Reply::QueueUnbindOk);
        Ok(())
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
        let mut messages = 0;
        if let Some(queue) = self.session.broker.topology.find_queue(&self.queue_name(name)?) {
            queue.check_access(self.session.peer.id)?;
            self.settle_publishes();
            messages = clamp(delete_queue(&self.session.broker, &queue, if_unused, if_empty)?);
        }
        self.answer(no_wait, &Reply::QueueDeleteOk { messages });
        Ok(())
    }

    pub(crate) fn declare_exchange(&self, declare: &ExchangeDeclare<'_>) -> Outcome {
        if declare.passive {
            check_not_default(declare.exchange)?;
            self.session.broker.topology.exchange_is_internal(declare.exchange)?;
        } else {
            declare_exchange(&self.session.broker, declare)?;
        }
        self.answer(declare.no_wait, &Reply::ExchangeDeclareOk);
        Ok(())
    }

    pub(crate) fn delete_exchange(&self, exchange: &str, if_unused: bool, no_wait: bool) -> Outcome {
        delete_exchange(&self.session.broker, exchange, if_unused)?;
        self.answer(no_wait, &Reply::ExchangeDeleteOk);
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
    check_arguments(&declare.arguments, "queue")?;
    let name = match declare.queue {
        "" => random_name("amq.gen-"),
        name => {
            check_name(name, "queue")?;
            name.to_owned()
        }
    };
    let attributes = QueueAttributes {
        durable: declare.durable,
        auto_delete: declare.auto_delete,
        owner: declare.exclusive.then_some(connection),
    };
    let is_new = broker.topology.find_queue(&name).is_none();
    let queue = broker.topology.declare_queue(&name, attributes, connection)?;
    broker.counts.queues_declared.increment();
    if is_new {
        broker.counts.queues_created.increment();
    }
    Ok(queue)
}

/// Deletes a queue unless it is in use or holds messages, if that matters. Returns how many messages waited.
pub(crate) fn delete_queue(
    broker: &Broker,
    queue: &SharedQueue,
    if_unused: bool,
    if_empty: bool,
) -> Outcome<u64> {
    let state = queue.lock();
    let problem = match () {
        () if if_unused && !state.consumers().is_empty() => Some("in use"),
        () if if_empty && state.waiting() > 0 => Some("not empty"),
        () => None,
    };
    drop(state);
    if let Some(problem) = problem {
        let text = format!("queue '{}' in vhost '/' {problem}", queue.name);
        return Fault::channel(PRECONDITION_FAILED, text);
    }
    broker.delete_queue(queue)
}

/// Creates an exchange, or checks that the one that exists is the same.
pub(crate) fn declare_exchange(broker: &Broker, declare: &ExchangeDeclare<'_>) -> Outcome {
    check_not_default(declare.exchange)?;
    let Some(kind) = ExchangeType::parse(declare.kind) else {
        let text = format!("unknown exchange type '{}'", declare.kind);
        let code = if declare.kind == "headers" { NOT_IMPLEMENTED } else { COMMAND_INVALID };
        return Fault::connection(code, text);
    };
    check_arguments(&declare.arguments, "exchange")?;
    if broker.topology.exchange_is_internal(declare.exchange).is_err() {
        check_name(declare.exchange, "exchange")?;
    }
    let wanted = Exchange::new(kind, declare.durable, declare.auto_delete, declare.internal);
    broker.topology.declare_exchange(declare.exchange, wanted)
}

/// Deletes an exchange; one that is not there counts as deleted.
pub(crate) fn delete_exchange(broker: &Broker, exchange: &str, if_unused: bool) -> Outcome {
    check_not_default(exchange)?;
    check_name(exchange, "exchange")?;
    broker.topology.delete_exchange(exchange, if_unused)
}

fn binding_key<'a>(binding: &Binding<'a>, queue: &'a SharedQueue) -> &'a str {
    // Both empty means the last declared queue under its own name (AMQP 0-9-1 §1.7.2.2, routing-key).
    if binding.queue.is_empty() && binding.routing_key.is_empty() { &queue.name } else { binding.routing_key }
}

pub(crate) fn check_not_default(exchange: &str) -> Outcome {
    if exchange.is_empty() {
        return Fault::channel(ACCESS_REFUSED, "operation not permitted on the default exchange");
    }
    Ok(())
}

fn check_name(name: &str, what: &str) -> Outcome {
    if name.starts_with("amq.") {
        let text = format!("{what} name '{name}' contains reserved prefix 'amq.*'");
        return Fault::channel(ACCESS_REFUSED, text);
    }
    Ok(())
}

/// Refuses arguments that ask for something this broker does not do. To accept them would drop a promise silently.
pub(crate) fn check_arguments(arguments: &Table, what: &str) -> Outcome {
    for (name, value) in &arguments.0 {
        let honoured = match name.as_str() {
            "x-queue-type" => *value == Value::Text(b"classic".to_vec()),
            // Every queue keeps its messages on disk, which is what lazy asks for and default allows.
            "x-queue-mode" => true,
            "alternate-exchange" => false,
            name => !name.starts_with("x-"),
        };
        if !honoured {
            let text = format!("invalid arg '{name}' for {what}: this broker does not support it");
            return Fault::channel(PRECONDITION_FAILED, text);
        }
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
    fn promises_that_cannot_be_kept_are_refused_by_name() {
        let table = |name: &str, value| Table(vec![(name.to_owned(), value)]);
        for name in
            ["x-message-ttl", "x-dead-letter-exchange", "x-max-length", "x-anything", "alternate-exchange"]
        {
            let fault = check_arguments(&table(name, Value::Other), "queue").unwrap_err();
            assert!(fault.to_string().contains(name), "{fault}");
        }
        let kind = |kind: &str| table("x-queue-type", Value::Text(kind.as_bytes().to_vec()));
        assert!(check_arguments(&kind("classic"), "queue").is_ok());
        assert!(check_arguments(&kind("quorum"), "queue").is_err());
        assert!(check_arguments(&table("note", Value::Other), "queue").is_ok());
    }

    #[test]
    fn random_names_differ() {
        assert_ne!(random_name("amq.gen-"), random_name("amq.gen-"));
    }
}
