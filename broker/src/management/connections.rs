//! Connections, their channels, and consumers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::identity::NODE;
use super::rates::{Rates, put};
use super::request::{ApiError, ApiResult, Reply};
use crate::broker::Broker;
use crate::codec::table::{Table, Value as Field};
use crate::protocol::channel_output::ChannelFigures;
use crate::protocol::codec::reply::Reply as Method;
use crate::protocol::connections::Peer;
use crate::queues::fault::{CONNECTION_FORCED, close_text};
use crate::queues::queue::Consumer;
use crate::queues::subscriber::SharedSubscriber;
use crate::queues::topology::SharedQueue;

/// How long a client may take to answer when its connection is closed from here.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The open connections, by name.
fn peers(broker: &Broker) -> Vec<(String, Arc<Peer>)> {
    let mut peers: Vec<_> = broker
        .peers()
        .into_iter()
        .filter(|peer| peer.client.get().is_some())
        .map(|peer| (connection_name(&peer), peer))
        .collect();
    peers.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    peers
}

fn find(broker: &Broker, name: &str) -> ApiResult<(String, Arc<Peer>)> {
    peers(broker).into_iter().find(|(known, _)| known == name).ok_or(ApiError::NotFound)
}

/// RabbitMQ's name of a connection: both of its ends.
fn connection_name(peer: &Peer) -> String {
    let local = peer.send_buffer.local_addr().map(|addr| addr.to_string()).unwrap_or_default();
    format!("{} -> {local}", peer.address)
}

/// All connections.
pub(super) fn all<'b>(broker: &'b Broker, rates: &'b Rates) -> impl Iterator<Item = Value> + 'b {
    peers(broker).into_iter().map(|(name, peer)| connection(&name, &peer, rates))
}

/// The connection called `name`.
pub(super) fn one(broker: &Broker, rates: &Rates, name: &str) -> ApiResult<Value> {
    let (name, peer) = find(broker, name)?;
    Ok(connection(&name, &peer, rates))
}

fn connection(name: &str, peer: &Peer, rates: &Rates) -> Value {
    let Some(client) = peer.client.get() else { return Value::Null };
    let (remote, local) = (peer.socket_addr(), peer.send_buffer.local_addr());
    let connected_at = client.connected_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut shown = json!({
        "auth_mechanism": client.mechanism,
        "channel_max": client.channel_max,
        "channels": peer.channels().len(),
        "client_properties": table(&client.properties),
        "connected_at": u64::try_from(connected_at.as_millis()).unwrap_or(u64::MAX),
        "frame_max": client.frame_max,
        "host": local.map(|local| local.ip().to_string()),
        "name": name,
        "node": NODE,
        "peer_host": remote.map(|remote| remote.ip().to_string()),
        "peer_port": remote.map(|remote| remote.port()),
        "port": local.map(|local| local.port()),
        "protocol": "AMQP 0-9-1",
        "send_pend": peer.send_buffer.pending_bytes(),
        "ssl": false,
        "state": if peer.throttle.is_halted() { "blocked" } else { "running" },
        "timeout": client.heartbeat_s,
        "type": "network",
        "user": client.user,
        "user_who_performed_action": client.user,
        "vhost": "/",
    });
    if let Value::Object(fields) = &mut shown {
        let (traffic, change) = (&peer.send_buffer.traffic, rates.connection(peer.id));
        let rate = |pick: fn(&(u64, u64)) -> u64| change.as_ref().map(|change| change.rate(pick));
        put(fields, "recv_oct", traffic.received.bytes.get(), rate(|(received, _)| *received));
        put(fields, "send_oct", traffic.sent.bytes.get(), rate(|(_, sent)| *sent));
        fields.insert("recv_cnt".to_owned(), traffic.received.packets.get().into());
        fields.insert("send_cnt".to_owned(), traffic.sent.packets.get().into());
        if let Some(Field::Text(name)) = client.properties.get("connection_name") {
            fields.insert("user_provided_name".to_owned(), String::from_utf8_lossy(name).into());
        }
    }
    shown
}

/// Texts and truth values of a table.
fn table(table: &Table) -> Value {
    let fields = table.0.iter().filter_map(|(name, value)| {
        let value = if let Field::Bool(value) = value {
            Value::Bool(*value)
        } else if let Field::Text(text) = value {
            String::from_utf8_lossy(text).into()
        } else if let Field::Table(inner) = value {
            self::table(inner)
        } else {
            return None;
        };
        Some((name.clone(), value))
    });
    Value::Object(fields.collect::<Map<_, _>>())
}

/// Closes a connection: its client is told, and after a moment it is gone in any case.
pub(super) fn close(broker: &Broker, name: &str, reason: Option<&str>) -> ApiResult {
    let (name, peer) = find(broker, name)?;
    let text = close_text(CONNECTION_FORCED, reason.unwrap_or("Closed via management plugin"));
    log::info!("{name}: closed through the management API");
    let (code, failed) = (CONNECTION_FORCED.0, (0, 0));
    peer.send_buffer.send(&Method::ConnectionClose { code, text: &text, failed }, 0);
    peer.send_buffer.finish();
    let deadline = Instant::now() + CLOSE_TIMEOUT;
    while broker.peers().iter().any(|known| known.id == peer.id) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    peer.send_buffer.close();
    Ok(Reply::Done)
}

/// The channels of all connections, or of the one called `connection`.
pub(super) fn channels(broker: &Broker, connection: Option<&str>) -> ApiResult<impl Iterator<Item = Value>> {
    let peers = match connection {
        Some(name) => vec![find(broker, name)?],
        None => peers(broker),
    };
    Ok(peers.into_iter().flat_map(|(name, peer)| {
        let mut channels: Vec<_> = peer.channels().iter().filter_map(|output| output.figures()).collect();
        channels.sort_unstable_by_key(|figures| figures.number);
        channels.into_iter().map(move |figures| channel(&name, &peer, &figures))
    }))
}

/// The channel called `name`.
pub(super) fn one_channel(broker: &Broker, name: &str) -> ApiResult<Value> {
    // "peer -> local (number)"
    let connection = name.rsplit_once(" (").map(|(connection, _)| connection);
    let mut found = channels(broker, Some(connection.ok_or(ApiError::NotFound)?))?;
    found.find(|channel| channel["name"] == name).ok_or(ApiError::NotFound)
}

fn channel(connection: &str, peer: &Peer, figures: &ChannelFigures) -> Value {
    let remote = peer.socket_addr();
    let user = peer.client.get().map(|client| client.user.as_str());
    json!({
        "confirm": figures.confirms,
        "connection_details": {
            "name": connection,
            "peer_host": remote.map(|remote| remote.ip().to_string()),
            "peer_port": remote.map(|remote| remote.port()),
        },
        "consumer_count": figures.consumers.len(),
        "global_prefetch_count": figures.prefetch,
        "messages_unacknowledged": figures.unsettled,
        "name": format!("{connection} ({})", figures.number),
        "node": NODE,
        "number": figures.number,
        "prefetch_count": figures.consumer_prefetch,
        "state": "running",
        "transactional": figures.transactional,
        "user": user,
        "user_who_performed_action": user,
        "vhost": "/",
    })
}

/// The consumers of all channels, by number: a consumer's tag, its channel's number, and the name of its connection.
pub(super) struct Owners(HashMap<u64, Owner>);

struct Owner {
    tag: Arc<str>,
    channel: u16,
    connection: Arc<str>,
    peer: Arc<Peer>,
}

impl Owners {
    pub(super) fn of(broker: &Broker) -> Self {
        let mut owners = HashMap::new();
        for (name, peer) in peers(broker) {
            let connection: Arc<str> = name.into();
            for figures in peer.channels().iter().filter_map(|output| output.figures()) {
                let channel = figures.number;
                owners.extend(figures.consumers.into_iter().map(|(id, tag)| {
                    (id, Owner { tag, channel, connection: Arc::clone(&connection), peer: Arc::clone(&peer) })
                }));
            }
        }
        Self(owners)
    }

    /// The consumers of a queue.
    pub(super) fn consumers(&self, queue: &SharedQueue) -> Vec<Value> {
        let is_single = queue.arguments().is_some_and(|arguments| arguments.single_active_consumer);
        // Of those, the first is the active one.
        let status = |index| match (is_single, index) {
            (false, _) => "up",
            (true, 0) => "single_active",
            (true, _) => "waiting",
        };
        let state = queue.lock();
        let consumers = state.consumers().iter().enumerate();
        consumers.map(|(index, consumer)| self.consumer(queue, consumer, status(index))).collect()
    }

    fn consumer(&self, queue: &SharedQueue, consumer: &Consumer<SharedSubscriber>, status: &str) -> Value {
        let owner = self.0.get(&consumer.id);
        let details = owner.map(|Owner { channel, connection, peer, .. }| {
            let remote = peer.socket_addr();
            json!({
                "connection_name": &**connection,
                "name": format!("{connection} ({channel})"),
                "node": NODE,
                "number": channel,
                "peer_host": remote.map(|remote| remote.ip().to_string()),
                "peer_port": remote.map(|remote| remote.port()),
                "user": peer.client.get().map(|client| client.user.as_str()),
            })
        });
        json!({
            "ack_required": !consumer.no_ack,
            "active": status != "waiting",
            "activity_status": status,
            "arguments": {},
            "channel_details": details.unwrap_or_else(|| json!({})),
            "consumer_tag": owner.map(|owner| &*owner.tag),
            "exclusive": consumer.exclusive,
            "prefetch_count": consumer.prefetch,
            "queue": { "name": queue.name, "vhost": "/" },
        })
    }
}

/// The consumers of all queues.
pub(super) fn consumers(broker: &Broker) -> impl Iterator<Item = Value> {
    let owners = Owners::of(broker);
    let mut queues = broker.topology.queues();
    queues.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    queues.into_iter().flat_map(move |queue| owners.consumers(&queue))
}
