//! Publishing and getting single messages, for people; programs use the protocol.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::actions::NO_CONNECTION;
use super::properties::{properties, put_properties};
use super::queues::find;
use super::request::{ApiError, ApiResult, Reply, count, text};
use crate::broker::Broker;
use crate::codec::properties::Properties;
use crate::codec::raw_table::RawTable;
use crate::log::persister::Progress;
use crate::log::record::{self, Message};
use crate::log::stored_message::payload_at;
use crate::protocol::carbon_copies;
use crate::protocol::codec::method::QueueDeclare;
use crate::protocol::declare;
use crate::protocol::publish::{check_exchange, check_properties};
use crate::queues::delivery::{self, Settlement, Unsettled};
use crate::users::User;

/// An answer takes no further message once it has this many bytes.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// How long storing a message may take.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);
/// The queue of the aliveness test.
const ALIVENESS_QUEUE: &str = "aliveness-test";

/// Publishes the message that `body` describes, and answers when it is durable.
pub(super) fn publish(broker: &Broker, user: &User, exchange: &str, body: &Value) -> ApiResult {
    let routing_key = text(body, "routing_key")?;
    if routing_key.len() > 255 {
        return ApiError::bad("a routing key has at most 255 bytes");
    }
    let payload = text(body, "payload")?;
    let payload = match text(body, "payload_encoding")? {
        "string" => payload.as_bytes().to_vec(),
        "base64" => STANDARD.decode(payload).or_else(|_| ApiError::bad("the payload is not base64"))?,
        other => return ApiError::bad(format!("unsupported_encoding: {other}")),
    };
    let limit = broker.settings.body_max_bytes;
    if payload.len() > limit {
        let size = payload.len();
        return ApiError::bad(format!("message size {size} is larger than configured max size {limit}"));
    }
    let bytes = match &body["properties"] {
        Value::Object(fields) => put_properties(fields)?,
        // No properties may come as a list, which is how they are shown.
        Value::Array(list) if list.is_empty() => put_properties(&Map::new())?,
        _ => return ApiError::bad("key_missing: properties"),
    };
    let routed = store(broker, user, exchange, routing_key, &bytes, &payload)?;
    Ok(Reply::Json(json!({ "routed": routed })))
}

/// Takes a message in as the protocol does; returns whether there was a queue for it.
fn store(
    broker: &Broker,
    user: &User,
    exchange: &str,
    routing_key: &str,
    properties: &[u8],
    body: &[u8],
) -> ApiResult<bool> {
    check_exchange(&broker.topology, exchange).map_err(ApiError::with_code)?;
    let read = Properties::read(properties).or_else(|_| ApiError::bad("the properties cannot be encoded"))?;
    check_properties(&read, &user.name).map_err(ApiError::with_code)?;
    if broker.alarm.is_raised() || !broker.has_room_for(body.len()) {
        return Err(ApiError::Unavailable("the disk is nearly full: publishers wait until there is room"));
    }
    let copies = carbon_copies::routing_keys(read.headers).map_err(ApiError::with_code)?;
    let keys: Vec<&str> = std::iter::once(routing_key).chain(copies.iter().map(String::as_str)).collect();
    let found = broker.topology.route(exchange, &keys, read.headers).map_err(ApiError::with_code)?;
    let routes = found.queues;
    if routes.is_empty() {
        broker.counts.returned.increment();
        return Ok(false);
    }
    let (exchange, routing_key) = (exchange.as_bytes(), routing_key.as_bytes());
    let mut visible = Vec::new();
    carbon_copies::put_without_bcc(&mut visible, properties, &read);
    let message = Message { exchange, routing_key, properties: &visible, body };
    let (persister, deadline) = (&broker.persister, Instant::now() + STORE_TIMEOUT);
    let Some(batch) = persister.publish_until(&message, &routes, read.persistent, None, Some(deadline))
    else {
        return Err(ApiError::Unavailable(
            "the message was not stored: the disk is too slow, or the broker stops",
        ));
    };
    persister.kick();
    match persister.wait_until(batch, deadline) {
        Progress::Through => Ok(true),
        Progress::Pending | Progress::Ended => {
            Err(ApiError::Unavailable("nobody knows whether the message was stored"))
        }
    }
}

/// How messages are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AckMode {
    /// They are settled as they are taken.
    no_ack: bool,
    afterwards: Settlement,
}

impl AckMode {
    fn parse(name: &str) -> ApiResult<Self> {
        match name {
            "ack_requeue_true" | "reject_requeue_true" => {
                Ok(Self { no_ack: false, afterwards: Settlement::Requeue })
            }
            "ack_requeue_false" => Ok(Self { no_ack: true, afterwards: Settlement::Settle }),
            "reject_requeue_false" => Ok(Self { no_ack: false, afterwards: Settlement::Reject }),
            other => ApiError::bad(format!("unknown ackmode '{other}'")),
        }
    }
}

/// Takes up to `count` messages from the head of a queue.
pub(super) fn get(broker: &Broker, queue: &str, body: &Value) -> ApiResult {
    let queue = find(broker, queue)?;
    queue.check_access(NO_CONNECTION).map_err(ApiError::with_code)?;
    let mode = AckMode::parse(text(body, "ackmode")?)?;
    let wanted = count(body, "count")?;
    let as_base64 = match text(body, "encoding")? {
        "auto" => false,
        "base64" => true,
        other => return ApiError::bad(format!("unsupported_encoding: {other}")),
    };
    let truncate = if body["truncate"].is_null() { usize::MAX } else { count(body, "truncate")? };
    // Each message becomes text at once, which takes the least memory.
    let (mut answer, mut taken, mut count) = ("[".to_owned(), Vec::new(), 0);
    while count < wanted && answer.len() < MAX_ANSWER_BYTES {
        let Some((entry, page, start, left)) = delivery::take(broker, &queue, mode.no_ack) else { break };
        if !mode.no_ack {
            taken.push(Unsettled::got(&queue, entry.position));
        }
        let Some(message) = payload_at(&page, start).and_then(record::read_message) else { continue };
        if count > 0 {
            answer.push(',');
        }
        count += 1;
        answer.push_str(&show(&message, entry.redelivered, left, as_base64, truncate).to_string());
    }
    delivery::end_deliveries(broker, &taken, mode.afterwards);
    answer.push(']');
    Ok(Reply::Text(answer))
}

fn show(message: &Message<'_>, redelivered: bool, left: u64, as_base64: bool, truncate: usize) -> Value {
    let body = &message.body[..message.body.len().min(truncate)];
    let (payload, encoding) = match std::str::from_utf8(body) {
        Ok(text) if !as_base64 => (text.to_owned(), "string"),
        _ => (STANDARD.encode(body), "base64"),
    };
    json!({
        "exchange": String::from_utf8_lossy(message.exchange),
        "message_count": left,
        "payload": payload,
        "payload_bytes": message.body.len(),
        "payload_encoding": encoding,
        "properties": properties(message.properties),
        "redelivered": redelivered,
        "routing_key": String::from_utf8_lossy(message.routing_key),
    })
}

/// Declares a queue, publishes a message to it and takes it out again.
pub(super) fn aliveness(broker: &Broker, user: &User) -> ApiResult {
    let queue = QueueDeclare {
        queue: ALIVENESS_QUEUE,
        passive: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: RawTable::default(),
    };
    let queue = declare::declare_queue(broker, &queue, NO_CONNECTION)?;
    store(broker, user, "", ALIVENESS_QUEUE, &[0, 0], b"test_message")?;
    match delivery::take(broker, &queue, true) {
        Some(_) => Ok(Reply::Json(json!({ "status": "ok" }))),
        None => Err(ApiError::Unavailable("the test message did not arrive")),
    }
}
