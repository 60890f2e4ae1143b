//! What changes queues, exchanges and bindings. The rules are those of the protocol: the same functions are called.

use serde_json::Value;

use super::properties::put_table;
use super::queues::{Bound, bindings, find, find_exchange, properties_key};
use super::request::{ApiError, ApiResult, Reply, Target, encode, flag, text};
use super::routes::Ends;
use crate::broker::Broker;
use crate::codec::raw_table::RawTable;
use crate::codec::table::Table;
use crate::codec::wire::{Put, Reader};
use crate::protocol::codec::method::{ExchangeDeclare, QueueDeclare};
use crate::protocol::{declare, exchanges};
use crate::queues::bindings::Binding;
use crate::queues::exchange::Destination;

/// No connection has this number, so a queue that is exclusive to one is never ours.
pub(super) const NO_CONNECTION: u64 = 0;

/// The `arguments` of a body as the protocol has them.
fn arguments(body: &Value) -> ApiResult<Vec<u8>> {
    let mut bytes = Vec::new();
    match &body["arguments"] {
        Value::Object(fields) => put_table(&mut bytes, fields)?,
        // Empty tables may come as lists.
        Value::Null => _ = bytes.put_long_string(b""),
        Value::Array(list) if list.is_empty() => _ = bytes.put_long_string(b""),
        _ => return ApiError::bad("'arguments' must be an object"),
    }
    Ok(bytes)
}

/// The table with these bytes, its length in front.
fn raw_table(bytes: &[u8]) -> ApiResult<RawTable<'_>> {
    RawTable::read(&mut Reader::new(bytes)).or_else(|_| not_understood())
}

fn not_understood<T>() -> ApiResult<T> {
    ApiError::bad("'arguments' cannot be understood")
}

fn check_length(name: &str) -> ApiResult<()> {
    if name.len() > 255 { ApiError::bad("a name has at most 255 bytes") } else { Ok(()) }
}

/// Answers a declaration.
fn declared(is_new: bool) -> Reply {
    if is_new { Reply::Created(None) } else { Reply::Done }
}

/// Declares a queue as `body` says.
pub(super) fn declare_queue(broker: &Broker, name: &str, body: &Value) -> ApiResult {
    check_length(name)?;
    if name.is_empty() {
        return ApiError::bad("a queue needs a name");
    }
    let is_new = broker.topology.find_queue(name).is_none();
    let arguments = arguments(body)?;
    let queue = QueueDeclare {
        queue: name,
        passive: false,
        durable: flag(body, "durable", false)?,
        exclusive: false,
        auto_delete: flag(body, "auto_delete", false)?,
        no_wait: false,
        arguments: raw_table(&arguments)?,
    };
    declare::declare_queue(broker, &queue, NO_CONNECTION)?;
    Ok(declared(is_new))
}

/// Deletes a queue; the query may say `if-unused` and `if-empty`.
pub(super) fn delete_queue(broker: &Broker, name: &str, target: &Target) -> ApiResult {
    let queue = find(broker, name)?;
    queue.check_access(NO_CONNECTION)?;
    let (if_unused, if_empty) = (target.is_set("if-unused"), target.is_set("if-empty"));
    declare::delete_queue(broker, &queue, if_unused, if_empty, |_| {})?;
    Ok(Reply::Done)
}

/// Drops everything that waits in a queue.
pub(super) fn purge_queue(broker: &Broker, name: &str) -> ApiResult {
    let queue = find(broker, name)?;
    queue.check_access(NO_CONNECTION)?;
    broker.purge(&queue);
    Ok(Reply::Done)
}

/// Declares an exchange as `body` says.
pub(super) fn declare_exchange(broker: &Broker, name: &str, body: &Value) -> ApiResult {
    check_length(name)?;
    let is_new = broker.topology.exchange_is_internal(name).is_err();
    let exchange = ExchangeDeclare {
        exchange: name,
        kind: if body["type"].is_null() { "direct" } else { text(body, "type")? },
        passive: false,
        durable: flag(body, "durable", false)?,
        auto_delete: flag(body, "auto_delete", false)?,
        internal: flag(body, "internal", false)?,
        no_wait: false,
        arguments: Table::read(&mut Reader::new(&arguments(body)?)).or_else(|_| not_understood())?,
    };
    exchanges::declare_exchange(broker, &exchange)?;
    Ok(declared(is_new))
}

/// Deletes an exchange; the query may say `if-unused`.
pub(super) fn delete_exchange(broker: &Broker, name: &str, target: &Target) -> ApiResult {
    if !name.is_empty() {
        find_exchange(broker, name)?;
    }
    exchanges::delete_exchange(broker, name, target.is_set("if-unused"))?;
    Ok(Reply::Done)
}

/// Binds a queue or an exchange with the routing key and arguments of `body`.
pub(super) fn bind(broker: &Broker, ends: Ends<'_>, body: &Value) -> ApiResult {
    let routing_key = body["routing_key"].as_str().unwrap_or_default();
    check_length(routing_key)?;
    let arguments = arguments(body)?;
    let binding = binding(broker, ends, routing_key, raw_table(&arguments)?)?;
    broker.topology.bind(&binding)?;
    let key = properties_key(routing_key, &binding.target().arguments);
    Ok(Reply::Created(Some(format!("{}/{}", encode(ends.destination), encode(&key)))))
}

/// Removes the binding with this key.
pub(super) fn unbind(broker: &Broker, ends: Ends<'_>, key: &str) -> ApiResult {
    let bindings = bindings(broker);
    let mut between = bindings.iter().filter(|bound| bound.is_between(ends));
    let bound = between.find(|bound| is_named(bound, key)).ok_or(ApiError::NotFound)?;
    broker.topology.unbind(&binding(broker, ends, &bound.routing_key, bound.arguments())?)?;
    Ok(Reply::Done)
}

/// Whether `key`, a segment of a path that was decoded once, names this binding.
pub(super) fn is_named(bound: &Bound, key: &str) -> bool {
    // Programs differ in whether they encode the key, which is encoded already, once more.
    key == bound.properties_key()
        || (key == bound.routing_key && !key.is_empty() && bound.arguments() == RawTable::default())
}

fn binding<'b>(
    broker: &Broker,
    ends: Ends<'b>,
    routing_key: &'b str,
    arguments: RawTable<'b>,
) -> ApiResult<Binding<'b>> {
    exchanges::check_not_default(ends.source)?;
    let destination = if ends.to_queue {
        Destination::Queue(broker.topology.queue(ends.destination, NO_CONNECTION)?)
    } else {
        exchanges::check_not_default(ends.destination)?;
        Destination::Exchange(ends.destination.into())
    };
    Ok(Binding { source: ends.source, routing_key, destination, arguments })
}
