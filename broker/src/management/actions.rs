//! What changes queues, exchanges and bindings. The rules are those of the protocol: the same functions are called.

use serde_json::Value;

use super::properties::put_table;
use super::queues::{bindings, find, find_exchange, properties_key};
use super::request::{ApiError, ApiResult, Reply, Target, encode, flag, text};
use super::routes::Ends;
use crate::broker::Broker;
use crate::codec::table::Table;
use crate::codec::wire::{Put, Reader};
use crate::protocol::codec::method::{ExchangeDeclare, QueueDeclare};
use crate::protocol::declare;

/// No connection has this number, so a queue that is exclusive to one is never ours.
pub(super) const NO_CONNECTION: u64 = 0;

/// The `arguments` of a body as the protocol has them.
fn arguments(body: &Value) -> ApiResult<Table> {
    let mut bytes = Vec::new();
    match &body["arguments"] {
        Value::Object(fields) => put_table(&mut bytes, fields)?,
        // Empty tables may come as lists.
        Value::Null => _ = bytes.put_long_string(b""),
        Value::Array(list) if list.is_empty() => _ = bytes.put_long_string(b""),
        _ => return ApiError::bad("'arguments' must be an object"),
    }
    Table::read(&mut Reader::new(&bytes)).or_else(|_| ApiError::bad("'arguments' cannot be understood"))
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
    let queue = QueueDeclare {
        queue: name,
        passive: false,
        durable: flag(body, "durable", false)?,
        exclusive: false,
        auto_delete: flag(body, "auto_delete", false)?,
        no_wait: false,
        arguments: arguments(body)?,
    };
    declare::declare_queue(broker, &queue, NO_CONNECTION)?;
    Ok(declared(is_new))
}

/// Deletes a queue; the query may say `if-unused` and `if-empty`.
pub(super) fn delete_queue(broker: &Broker, name: &str, target: &Target) -> ApiResult {
    let queue = find(broker, name)?;
    queue.check_access(NO_CONNECTION)?;
    let (if_unused, if_empty) = (target.is_set("if-unused"), target.is_set("if-empty"));
    declare::delete_queue(broker, &queue, if_unused, if_empty)?;
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
        kind: text(body, "type")?,
        passive: false,
        durable: flag(body, "durable", false)?,
        auto_delete: flag(body, "auto_delete", false)?,
        internal: flag(body, "internal", false)?,
        no_wait: false,
        arguments: arguments(body)?,
    };
    declare::declare_exchange(broker, &exchange)?;
    Ok(declared(is_new))
}

/// Deletes an exchange; the query may say `if-unused`.
pub(super) fn delete_exchange(broker: &Broker, name: &str, target: &Target) -> ApiResult {
    if !name.is_empty() {
        find_exchange(broker, name)?;
    }
    declare::delete_exchange(broker, name, target.is_set("if-unused"))?;
    Ok(Reply::Done)
}

/// Binds a queue with the routing key of `body`.
pub(super) fn bind(broker: &Broker, ends: Ends<'_>, body: &Value) -> ApiResult {
    let routing_key = body["routing_key"].as_str().unwrap_or_default();
    check_length(routing_key)?;
    if !ends.to_queue {
        return ApiError::bad("540 NOT_IMPLEMENTED - exchange-to-exchange bindings");
    }
    if !arguments(body)?.0.is_empty() {
        return ApiError::bad("arguments of bindings are not supported");
    }
    set_binding(broker, ends, routing_key, true)?;
    let address = format!("{}/{}", encode(ends.destination), encode(&properties_key(routing_key)));
    Ok(Reply::Created(Some(address)))
}

/// Removes the binding with this key.
pub(super) fn unbind(broker: &Broker, ends: Ends<'_>, key: &str) -> ApiResult {
    let bindings = bindings(broker);
    let Some(bound) =
        bindings.iter().find(|bound| bound.is_between(ends) && is_named(&bound.routing_key, key))
    else {
        return Err(ApiError::NotFound);
    };
    set_binding(broker, ends, &bound.routing_key, false)?;
    Ok(Reply::Done)
}

/// Whether `key`, a segment of a path that was decoded once, names a binding of this routing key.
pub(super) fn is_named(routing_key: &str, key: &str) -> bool {
    // Programs differ in whether they encode the key, which is encoded already, once more.
    key == properties_key(routing_key) || (key == routing_key && !key.is_empty())
}

fn set_binding(broker: &Broker, ends: Ends<'_>, routing_key: &str, bound: bool) -> ApiResult<()> {
    declare::check_not_default(ends.source)?;
    let queue = broker.topology.queue(ends.destination, NO_CONNECTION)?;
    Ok(broker.topology.set_binding(ends.source, routing_key, &queue, bound)?)
}
