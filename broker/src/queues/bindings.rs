//! The rules for declaring, binding and deleting exchanges, and for finding the queues that a message goes to.

use std::sync::Arc;

use crate::log::write_batch::Routes;
use crate::protocol::fault::{Fault, NOT_FOUND, Outcome, PRECONDITION_FAILED};
use crate::queues::exchange::Exchange;
use crate::queues::topology::{Registry, SharedQueue, Topology, check_equivalent};

impl Topology {
    /// Creates an exchange, or checks that the one that exists is the same.
    pub(crate) fn declare_exchange(&self, name: &str, wanted: Exchange) -> Outcome {
        if let Some(current) = self.read().exchanges.get(name) {
            let what = format!("exchange '{name}'");
            check_equivalent("type", &what, wanted.kind.name(), current.kind.name())?;
            check_equivalent("durable", &what, wanted.durable, current.durable)?;
            check_equivalent("auto_delete", &what, wanted.auto_delete, current.auto_delete)?;
            return check_equivalent("internal", &what, wanted.internal, current.internal);
        }
        self.change(wanted.durable, |registry| {
            registry.exchanges.entry(name.to_owned()).or_insert(wanted);
        })
    }

    /// Fails with 404 if there is no exchange called `name`; tells whether it is internal.
    pub(crate) fn exchange_is_internal(&self, name: &str) -> Outcome<bool> {
        if name.is_empty() { Ok(false) } else { self.read().exchange(name).map(|found| found.internal) }
    }

    /// Deletes an exchange; one that is not there counts as deleted.
    pub(crate) fn delete_exchange(&self, name: &str, if_unused: bool) -> Outcome {
        let durable = match self.read().exchanges.get(name) {
            None => return Ok(()),
            Some(exchange) if if_unused && !exchange.is_unbound() => {
                return Fault::channel(PRECONDITION_FAILED, format!("exchange '{name}' in vhost '/' in use"));
            }
            Some(exchange) => exchange.durable,
        };
        self.change(durable, |registry| {
            registry.exchanges.remove(name);
        })
    }

    /// Binds a queue, or removes the binding; one that is there already, or is not, stays as it is.
    pub(crate) fn set_binding(
        &self,
        exchange: &str,
        routing_key: &str,
        queue: &Arc<SharedQueue>,
        bound: bool,
    ) -> Outcome {
        let registry = self.read();
        let found = registry.exchange(exchange)?;
        if found.is_bound(routing_key, queue.id) == bound {
            return Ok(());
        }
        let durable = found.durable && (queue.durable || found.auto_delete);
        drop(registry);
        self.change(durable, |registry| {
            let Some(found) = registry.exchanges.get_mut(exchange) else { return };
            if bound {
                found.bind(routing_key, queue);
            } else if found.unbind(Some(routing_key), queue.id) {
                registry.exchanges.remove(exchange);
            }
        })
    }

    /// Where a message goes, until [`Topology::version`] changes. Fails with 404 if the exchange does not exist.
    pub(crate) fn route(&self, exchange: &str, routing_key: &str) -> Outcome<Routes> {
        let registry = self.read();
        if exchange.is_empty() {
            return Ok(registry.queues.get(routing_key).cloned().into_iter().collect());
        }
        Ok(registry.exchange(exchange)?.route(routing_key).into())
    }
}

impl Registry {
    pub(super) fn exchange(&self, name: &str) -> Outcome<&Exchange> {
        let missing = || Fault::Channel(NOT_FOUND, format!("no exchange '{name}' in vhost '/'"));
        self.exchanges.get(name).ok_or_else(missing)
    }
}
