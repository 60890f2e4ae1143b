//! The rules for declaring, binding and deleting exchanges, and for finding the queues that a message goes to.
//!
//! Exchanges can be bound to exchanges, in circles too: a message visits each exchange once, and each queue gets it
//! once. An exchange of whose bindings a message takes none hands it to its alternate exchange.

use std::collections::HashSet;
use std::sync::Arc;

use crate::codec::raw_table::RawTable;
use crate::codec::wire::Put;
use crate::queues::exchange::{Destination, Exchange, ExchangeType, Target};
use crate::queues::fault::{Fault, NOT_FOUND, Outcome, PRECONDITION_FAILED, RESOURCE_ERROR};
use crate::queues::headers;
use crate::queues::topology::{Registry, Routes, SharedQueue, Topology, check_equivalent};

/// The most memory for all bindings: some 70,000, if they have no arguments.
const MAX_BINDING_BYTES: usize = 16 << 20;

/// A binding as a client names it.
pub(crate) struct Binding<'a> {
    pub(crate) source: &'a str,
    pub(crate) routing_key: &'a str,
    pub(crate) destination: Destination,
    pub(crate) arguments: RawTable<'a>,
}

/// Where a message goes, until [`Topology::version`] changes.
pub(crate) struct Routed {
    pub(crate) queues: Routes,
    /// Another message with the same routing keys may go elsewhere, because its headers differ.
    pub(crate) depends_on_headers: bool,
}

impl Topology {
    /// Creates an exchange, or checks that the one that exists is the same.
    pub(crate) fn declare_exchange(&self, name: &str, wanted: Exchange) -> Outcome {
        if let Some(current) = self.read().exchanges.get(name) {
            let what = format!("exchange '{name}'");
            check_equivalent("type", &what, wanted.kind.name(), current.kind.name())?;
            check_equivalent("durable", &what, wanted.durable, current.durable)?;
            check_equivalent("auto_delete", &what, wanted.auto_delete, current.auto_delete)?;
            check_equivalent("internal", &what, wanted.internal, current.internal)?;
            return check_alternate(&what, wanted.alternate.as_deref(), current.alternate.as_deref());
        }
        let limit = self.max_queues;
        self.change(wanted.durable, |registry| {
            if registry.exchanges.len() >= limit {
                let text = format!("there are {limit} exchanges, the most allowed");
                return Fault::channel(RESOURCE_ERROR, text);
            }
            registry.exchanges.entry(name.to_owned()).or_insert(wanted);
            Ok(())
        })?
    }

    /// How many exchanges there are, and how many there may be.
    pub(crate) fn exchange_usage(&self) -> (usize, usize) {
        (self.read().exchanges.len(), self.max_queues)
    }

    /// Bytes of memory that all bindings take, and how many they may.
    pub(crate) fn binding_usage(&self) -> (usize, usize) {
        let registry = Arc::clone(&self.read());
        (registry.count_binding_bytes(), MAX_BINDING_BYTES)
    }

    /// Fails with 404 if there is no exchange called `name`; tells whether it is internal.
    pub(crate) fn exchange_is_internal(&self, name: &str) -> Outcome<bool> {
        if name.is_empty() { Ok(false) } else { self.read().exchange(name).map(|found| found.internal) }
    }

    /// Deletes an exchange; one that is not there counts as deleted.
    pub(crate) fn delete_exchange(&self, name: &str, if_unused: bool) -> Outcome {
        let registry = self.read();
        let durable = match registry.exchanges.get(name) {
            None => return Ok(()),
            Some(exchange) if if_unused && !exchange.is_unbound() => {
                return Fault::channel(PRECONDITION_FAILED, format!("exchange '{name}' in vhost '/' in use"));
            }
            Some(exchange) => {
                exchange.durable || registry.loses_durable_exchange(Destination::Exchange(name.into()))
            }
        };
        drop(registry);
        self.change(durable, |registry| registry.remove_exchange(name))
    }

    /// Adds a binding; one that is there already stays as it is. Fails with 404 if its source or destination does not
    /// exist.
    pub(crate) fn bind(&self, binding: &Binding<'_>) -> Outcome {
        let registry = self.read();
        let source = registry.exchange(binding.source)?;
        let durable = registry.is_durable(&binding.destination)? && source.durable;
        if source.kind == ExchangeType::Headers && !headers::is_valid(binding.arguments) {
            let text = "Invalid x-match field value; expected all, any, all-with-x or any-with-x";
            return Fault::channel(PRECONDITION_FAILED, text);
        }
        let target = binding.target();
        if source.is_bound(binding.routing_key, &target) {
            return Ok(());
        }
        drop(registry);
        self.change(durable, |registry| {
            registry.reserve_binding(target.bytes(binding.routing_key))?;
            if let Some(source) = registry.exchanges.get_mut(binding.source) {
                source.bind(binding.routing_key, target);
            }
            Ok(())
        })?
    }

    /// Removes a binding; one that is not there counts as removed, whatever is missing of it.
    pub(crate) fn unbind(&self, binding: &Binding<'_>) -> Outcome {
        let registry = self.read();
        let target = binding.target();
        let found = registry.exchanges.get(binding.source);
        let Some(source) = found.filter(|source| source.is_bound(binding.routing_key, &target)) else {
            return Ok(());
        };
        let goes = || {
            source.durable || registry.loses_durable_exchange(Destination::Exchange(binding.source.into()))
        };
        let durable = (source.durable && registry.is_durable(&binding.destination).unwrap_or(false))
            || (source.auto_delete && goes());
        drop(registry);
        self.change(durable, |registry| {
            let source = registry.exchanges.get_mut(binding.source);
            if source.is_some_and(|source| source.unbind(binding.routing_key, &target)) {
                registry.remove_exchange(binding.source);
            }
        })
    }

    /// Where a message with these routing keys and headers goes. Fails with 404 if the exchange
    /// does not exist.
    pub(crate) fn route(&self, exchange: &str, keys: &[&str], headers: RawTable<'_>) -> Outcome<Routed> {
        let registry = Arc::clone(&self.read());
        if exchange.is_empty() {
            let queues = distinct(keys.iter().filter_map(|key| registry.queues.get(*key).cloned()).collect());
            return Ok(Routed { queues, depends_on_headers: false });
        }
        let first = registry.exchange(exchange)?;
        Ok(registry.route(exchange, first, keys, headers))
    }
}

impl Binding<'_> {
    /// Where it leads, with its arguments in the order in which they are kept.
    pub(crate) fn target(&self) -> Target {
        let mut fields: Vec<_> = self.arguments.fields().collect();
        fields.sort_by_key(|(name, _)| *name);
        let mut sorted = Vec::with_capacity(self.arguments.bytes().len());
        for (name, value) in fields {
            sorted.put_short_string(name).put(value.bytes());
        }
        Target { destination: self.destination.clone(), arguments: sorted.into() }
    }
}

impl Registry {
    pub(super) fn exchange(&self, name: &str) -> Outcome<&Exchange> {
        let missing = || Fault::Channel(NOT_FOUND, format!("no exchange '{name}' in vhost '/'"));
        self.exchanges.get(name).ok_or_else(missing)
    }

    /// Fails with 506 if all bindings would take more memory than they may. Those that were removed are noticed only
    /// then, so what is known may be too much, and is counted anew.
    fn reserve_binding(&mut self, bytes: usize) -> Outcome {
        if self.binding_bytes + bytes > MAX_BINDING_BYTES {
            self.binding_bytes = self.count_binding_bytes();
        }
        if self.binding_bytes + bytes > MAX_BINDING_BYTES {
            let text = format!("the bindings take {} bytes, the most allowed", self.binding_bytes);
            return Fault::channel(RESOURCE_ERROR, text);
        }
        self.binding_bytes += bytes;
        Ok(())
    }

    /// What all bindings take.
    pub(super) fn count_binding_bytes(&self) -> usize {
        let bindings = self.exchanges.values().flat_map(Exchange::bindings);
        bindings.map(|(key, target)| target.bytes(key)).sum()
    }

    /// Whether a binding's destination survives a restart. Fails with 404 if there is no such exchange.
    fn is_durable(&self, destination: &Destination) -> Outcome<bool> {
        match destination {
            Destination::Queue(queue) => Ok(queue.durable),
            Destination::Exchange(name) => self.exchange(name).map(|found| found.durable),
        }
    }

    fn route<'a>(
        &'a self,
        name: &'a str,
        first: &'a Exchange,
        keys: &[&str],
        headers: RawTable<'_>,
    ) -> Routed {
        let (mut queues, mut depends_on_headers) = (Vec::new(), false);
        // Most messages visit one exchange, which costs neither of them anything.
        let (mut visited, mut waiting) = (HashSet::new(), Vec::new());
        let mut current = Some(first);
        while let Some(exchange) = current {
            depends_on_headers |= exchange.kind == ExchangeType::Headers;
            let mut taken = false;
            let mut visit = |next: &str| {
                if visited.is_empty() {
                    visited.insert(name);
                }
                if let Some((next, found)) = self.exchanges.get_key_value(next)
                    && visited.insert(next)
                {
                    waiting.push(found);
                }
            };
            for destination in keys.iter().flat_map(|key| exchange.destinations(key, headers)) {
                taken = true;
                match destination {
                    Destination::Queue(queue) => queues.push(Arc::clone(queue)),
                    Destination::Exchange(name) => visit(name),
                }
            }
            if let (false, Some(alternate)) = (taken, &exchange.alternate) {
                visit(alternate);
            }
            current = waiting.pop();
        }
        Routed { queues: distinct(queues), depends_on_headers }
    }

    /// Removes an exchange, the bindings to it, and the exchanges that go with their last binding.
    fn remove_exchange(&mut self, name: &str) {
        if self.exchanges.remove(name).is_some() {
            self.remove_bindings_to(&Destination::Exchange(name.into()));
        }
    }

    /// Removes all bindings to what is gone, and the exchanges that go with their last binding.
    pub(super) fn remove_bindings_to(&mut self, gone: &Destination) {
        let mut waiting = vec![gone.clone()];
        while let Some(gone) = waiting.pop() {
            self.exchanges.retain(|name, exchange| {
                let goes = exchange.unbind_all(&gone);
                if goes {
                    waiting.push(Destination::Exchange(name.as_str().into()));
                }
                !goes
            });
        }
    }

    /// Whether a durable exchange may go with the last of its bindings, when `gone` goes.
    pub(super) fn loses_durable_exchange(&self, gone: Destination) -> bool {
        let mut going = vec![gone];
        let mut at = 0;
        while let Some(gone) = going.get(at).cloned() {
            at += 1;
            let sources = self.exchanges.iter();
            for (name, source) in sources.filter(|(_, known)| known.auto_delete && known.leads_to(&gone)) {
                if source.durable {
                    return true;
                }
                let source = Destination::Exchange(name.as_str().into());
                if !going.iter().any(|known| known.is_same(&source)) {
                    going.push(source);
                }
            }
        }
        false
    }
}

/// Each queue once, in a fixed order.
fn distinct(mut queues: Vec<Arc<SharedQueue>>) -> Routes {
    queues.sort_unstable_by_key(|queue| queue.id);
    queues.dedup_by_key(|queue| queue.id);
    queues.into()
}

fn check_alternate(what: &str, received: Option<&str>, current: Option<&str>) -> Outcome {
    if received == current {
        return Ok(());
    }
    let name = |value: Option<&str>| match value {
        Some(value) => format!("the value '{value}' of type 'longstr'"),
        None => "none".to_owned(),
    };
    let (received, current) = (name(received), name(current));
    let text = format!(
        "inequivalent arg 'alternate-exchange' for {what} in vhost '/': received {received} but current is {current}"
    );
    Fault::channel(PRECONDITION_FAILED, text)
}
