//! The methods that make and remove exchanges and bindings.

use crate::broker::Broker;
use crate::protocol::channel::Channel;
use crate::protocol::codec::method::{Binding, ExchangeBinding, ExchangeDeclare};
use crate::protocol::codec::reply::Reply;
use crate::protocol::codec::table::{Table, Value};
use crate::protocol::declare::check_name;
use crate::protocol::fault::{ACCESS_REFUSED, COMMAND_INVALID, Fault, Outcome, PRECONDITION_FAILED};
use crate::queues::bindings;
use crate::queues::exchange::{Destination, Exchange, ExchangeType};
use crate::queues::topology::SharedQueue;

/// The argument of exchange.declare that names the alternate exchange.
pub(crate) const ALTERNATE: &str = "alternate-exchange";

impl Channel {
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

    pub(crate) fn bind(&mut self, binding: &Binding<'_>) -> Outcome {
        check_not_default(binding.exchange)?;
        let queue = self.find_queue(binding.queue)?;
        let routing_key = binding_key(binding, &queue);
        let (source, arguments) = (binding.exchange, binding.arguments);
        let destination = Destination::Queue(queue.clone());
        let wanted = bindings::Binding { source, routing_key, destination, arguments };
        self.session.broker.topology.bind(&wanted)?;
        self.answer(binding.no_wait, &Reply::QueueBindOk);
        Ok(())
    }

    /// Removing a binding succeeds whatever is missing of it.
    pub(crate) fn unbind(&mut self, binding: &Binding<'_>) -> Outcome {
        check_not_default(binding.exchange)?;
        let topology = &self.session.broker.topology;
        if let Some(queue) = topology.find_queue(&self.queue_name(binding.queue)?) {
            queue.check_access(self.session.peer.id)?;
            let routing_key = binding_key(binding, &queue);
            let (source, arguments) = (binding.exchange, binding.arguments);
            let destination = Destination::Queue(queue.clone());
            topology.unbind(&bindings::Binding { source, routing_key, destination, arguments })?;
        }
        self.reply(&Reply::QueueUnbindOk);
        Ok(())
    }

    pub(crate) fn bind_exchange(&self, binding: &ExchangeBinding<'_>) -> Outcome {
        self.session.broker.topology.bind(&between_exchanges(binding)?)?;
        self.answer(binding.no_wait, &Reply::ExchangeBindOk);
        Ok(())
    }

    pub(crate) fn unbind_exchange(&self, binding: &ExchangeBinding<'_>) -> Outcome {
        self.session.broker.topology.unbind(&between_exchanges(binding)?)?;
        self.answer(binding.no_wait, &Reply::ExchangeUnbindOk);
        Ok(())
    }
}

/// Creates an exchange, or checks that the one that exists is the same.
pub(crate) fn declare_exchange(broker: &Broker, declare: &ExchangeDeclare<'_>) -> Outcome {
    check_not_default(declare.exchange)?;
    let Some(kind) = ExchangeType::parse(declare.kind) else {
        return Fault::connection(COMMAND_INVALID, format!("unknown exchange type '{}'", declare.kind));
    };
    if broker.topology.exchange_is_internal(declare.exchange).is_err() {
        check_name(declare.exchange, "exchange")?;
    }
    let alternate = alternate(declare.exchange, &declare.arguments)?;
    let wanted = Exchange::new(kind, declare.durable, declare.auto_delete, declare.internal);
    broker.topology.declare_exchange(declare.exchange, wanted.with_alternate(alternate))
}

/// Deletes an exchange; one that is not there counts as deleted.
pub(crate) fn delete_exchange(broker: &Broker, exchange: &str, if_unused: bool) -> Outcome {
    check_not_default(exchange)?;
    if exchange.starts_with("amq.") {
        let text = format!("deletion of system exchange '{exchange}' in vhost '/' not allowed");
        return Fault::channel(ACCESS_REFUSED, text);
    }
    broker.topology.delete_exchange(exchange, if_unused)
}

fn between_exchanges<'a>(binding: &ExchangeBinding<'a>) -> Outcome<bindings::Binding<'a>> {
    check_not_default(binding.source)?;
    check_not_default(binding.destination)?;
    let &ExchangeBinding { source, routing_key, arguments, .. } = binding;
    let destination = Destination::Exchange(binding.destination.into());
    Ok(bindings::Binding { source, routing_key, destination, arguments })
}

fn binding_key<'a>(binding: &Binding<'a>, queue: &'a SharedQueue) -> &'a str {
    // Both empty means the last declared queue under its own name (AMQP 0-9-1 §1.7.2.2, routing-key).
    if binding.queue.is_empty() && binding.routing_key.is_empty() { &queue.name } else { binding.routing_key }
}

fn alternate(exchange: &str, arguments: &Table) -> Outcome<Option<String>> {
    let invalid = || {
        let text = format!(
            "invalid type for arg '{ALTERNATE}' in exchange '{exchange}' in vhost '/': a name is needed"
        );
        Fault::Channel(PRECONDITION_FAILED, text)
    };
    match arguments.get(ALTERNATE) {
        None => Ok(None),
        Some(Value::Text(name)) if name.len() <= 255 => match String::from_utf8(name.clone()) {
            Ok(name) => Ok(Some(name)),
            Err(_) => Err(invalid()),
        },
        Some(_) => Err(invalid()),
    }
}

pub(crate) fn check_not_default(exchange: &str) -> Outcome {
    if exchange.is_empty() {
        return Fault::channel(ACCESS_REFUSED, "operation not permitted on the default exchange");
    }
    Ok(())
}
