//! Queues, exchanges and bindings.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::connections::Owners;
use super::identity::NODE;
use super::properties;
use super::rates::{Rates, put_messages, queue_stats};
use super::request::{ApiError, ApiResult, encode};
use super::routes::Ends;
use super::totals::QueueFigures;
use crate::broker::Broker;
use crate::codec::raw_table::RawTable;
use crate::protocol::exchanges::ALTERNATE;
use crate::queues::exchange::{Destination, Exchange};
use crate::queues::topology::SharedQueue;

/// All queues.
pub(super) fn all<'b>(broker: &'b Broker, rates: &'b Rates) -> impl Iterator<Item = Value> + 'b {
    let mut queues = broker.topology.queues();
    queues.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    queues.into_iter().map(|queue| show(&queue, rates))
}

/// The queue called `name`, with its consumers.
pub(super) fn one(broker: &Broker, rates: &Rates, name: &str) -> ApiResult<Value> {
    let queue = find(broker, name)?;
    let mut shown = show(&queue, rates);
    shown["consumer_details"] = Owners::of(broker).consumers(&queue).into();
    Ok(shown)
}

pub(super) fn find(broker: &Broker, name: &str) -> ApiResult<Arc<SharedQueue>> {
    broker.topology.find_queue(name).ok_or(ApiError::NotFound)
}

/// What a queue was declared with, as definitions have it, too.
pub(super) fn declared(queue: &SharedQueue) -> Value {
    json!({
        "arguments": properties::arguments(queue.argument_table()),
        "auto_delete": queue.auto_delete,
        "durable": queue.declared_durable,
        "name": queue.name,
        "vhost": "/",
    })
}

fn show(queue: &SharedQueue, rates: &Rates) -> Value {
    let (figures, change) = (QueueFigures::of(queue), rates.queue(queue.id));
    let mut shown = declared(queue);
    shown["consumers"] = figures.consumers.into();
    shown["effective_policy_definition"] = json!({});
    shown["exclusive"] = queue.owner.is_some().into();
    shown["message_stats"] = queue_stats(&figures, change.as_ref());
    shown["node"] = NODE.into();
    shown["policy"] = Value::Null;
    shown["state"] = "running".into();
    let is_quorum = queue.arguments().is_some_and(|arguments| arguments.is_quorum);
    shown["type"] = if is_quorum { "quorum" } else { "classic" }.into();
    if let Value::Object(fields) = &mut shown {
        let waiting = |figures: &QueueFigures| (figures.ready, figures.unacknowledged);
        put_messages(fields, waiting(&figures), change.as_ref(), waiting);
    }
    shown
}

/// All exchanges, the default one first.
pub(super) fn exchanges(broker: &Broker) -> impl Iterator<Item = Value> {
    let mut exchanges = broker.topology.exchanges();
    exchanges.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let named = exchanges.into_iter().map(|(name, exchange)| declared_exchange(&name, &exchange));
    std::iter::once(default_exchange()).chain(named)
}

/// The exchange called `name`.
pub(super) fn exchange(broker: &Broker, name: &str) -> ApiResult<Value> {
    if name.is_empty() {
        return Ok(default_exchange());
    }
    find_exchange(broker, name).map(|exchange| declared_exchange(name, &exchange))
}

pub(super) fn find_exchange(broker: &Broker, name: &str) -> ApiResult<Exchange> {
    let found = broker.topology.exchanges().into_iter().find(|(known, _)| known == name);
    found.map(|(_, exchange)| exchange).ok_or(ApiError::NotFound)
}

fn default_exchange() -> Value {
    json!({ "arguments": {}, "auto_delete": false, "durable": true, "internal": false, "name": "",
        "type": "direct", "vhost": "/" })
}

/// What an exchange was declared with, as definitions have it, too.
pub(super) fn declared_exchange(name: &str, exchange: &Exchange) -> Value {
    let alternate = exchange.alternate.as_ref();
    json!({
        "arguments": alternate.map_or_else(|| json!({}), |name| json!({ ALTERNATE: name })),
        "auto_delete": exchange.auto_delete,
        "durable": exchange.durable,
        "internal": exchange.internal,
        "name": name,
        "type": exchange.kind.name(),
        "vhost": "/",
    })
}

/// A binding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bound {
    pub(super) source: String,
    pub(super) destination: String,
    /// The destination is a queue; else it is an exchange.
    pub(super) to_queue: bool,
    pub(super) routing_key: String,
    /// The fields of a table, as the exchange keeps them.
    arguments: Arc<[u8]>,
}

impl Bound {
    pub(super) fn arguments(&self) -> RawTable<'_> {
        RawTable::new(&self.arguments).unwrap_or_default()
    }

    /// As definitions have it.
    pub(super) fn declared(&self) -> Value {
        json!({
            "arguments": properties::arguments(self.arguments()),
            "destination": self.destination,
            "destination_type": if self.to_queue { "queue" } else { "exchange" },
            "routing_key": self.routing_key,
            "source": self.source,
            "vhost": "/",
        })
    }

    pub(super) fn show(&self) -> Value {
        let mut shown = self.declared();
        shown["properties_key"] = self.properties_key().into();
        shown
    }

    pub(super) fn properties_key(&self) -> String {
        properties_key(&self.routing_key, &self.arguments)
    }

    /// Whether it connects these two.
    pub(super) fn is_between(&self, ends: Ends<'_>) -> bool {
        (self.source.as_str(), self.destination.as_str(), self.to_queue)
            == (ends.source, ends.destination, ends.to_queue)
    }

    /// Whether the exchange is its source; else, whether it is its destination.
    pub(super) fn is_of_exchange(&self, exchange: &str, as_source: bool) -> bool {
        if as_source { self.source == exchange } else { !self.to_queue && self.destination == exchange }
    }
}

/// What tells the bindings between the same two ends apart: the routing key, encoded, and a digest of the arguments if
/// there are any.
pub(super) fn properties_key(routing_key: &str, arguments: &[u8]) -> String {
    match (routing_key.is_empty(), arguments.is_empty()) {
        (true, true) => "~".to_owned(),
        (false, true) => encode(routing_key),
        (_, false) => {
            let digest = Sha256::digest(arguments);
            format!("{}~{}", encode(routing_key), URL_SAFE_NO_PAD.encode(&digest[..16]))
        }
    }
}

/// All bindings that were made, and those that the default exchange has of every queue.
pub(super) fn bindings(broker: &Broker) -> Vec<Bound> {
    let queues = broker.topology.queues();
    let defaults = queues.iter().map(|queue| Bound {
        source: String::new(),
        destination: queue.name.clone(),
        to_queue: true,
        routing_key: queue.name.clone(),
        arguments: Arc::default(),
    });
    let exchanges = broker.topology.exchanges();
    let made = exchanges.iter().flat_map(|(name, exchange)| {
        exchange.bindings().map(|(routing_key, target)| {
            let (destination, to_queue) = match &target.destination {
                Destination::Queue(queue) => (queue.name.clone(), true),
                Destination::Exchange(name) => (name.as_ref().to_owned(), false),
            };
            let (routing_key, arguments) = (routing_key.to_owned(), Arc::clone(&target.arguments));
            Bound { source: name.clone(), destination, to_queue, routing_key, arguments }
        })
    });
    let mut bindings: Vec<Bound> = defaults.chain(made).collect();
    bindings.sort_unstable();
    bindings
}
