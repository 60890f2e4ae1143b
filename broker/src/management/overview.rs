//! The broker as a whole: overview, node, vhost, users.

use std::net::SocketAddr;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::identity::{API_VERSION, NODE};
use super::process::ProcessFigures;
use super::rates::{INTERVAL, Rates, put, put_messages, total_stats};
use super::request::{ApiError, ApiResult, Reply};
use super::totals::{CHURN, Totals};
use crate::broker::Broker;
use crate::queues::exchange::ExchangeType;
use crate::users::{HASHING_ALGORITHM, User};

/// `/api/overview`.
pub(super) fn overview(broker: &Broker, rates: &Rates, user: &User, listening: &[SocketAddr]) -> Value {
    let (totals, change) = (Totals::of(broker), rates.totals());
    let mut churn = Map::new();
    for (index, (name, _)) in CHURN.into_iter().enumerate() {
        let rate = change.as_ref().map(|change| change.rate(|totals| totals.churn[index]));
        put(&mut churn, name, totals.churn[index], rate);
    }
    let mut queue_totals = Map::new();
    let waiting = |totals: &Totals| (totals.ready, totals.unacknowledged);
    put_messages(&mut queue_totals, waiting(&totals), change.as_ref(), waiting);
    let peers = broker.peers();
    json!({
        "churn_rates": churn,
        "cluster_name": NODE,
        "contexts": [],
        "disable_stats": false,
        "enable_queue_totals": false,
        "exchange_types": exchange_types(),
        "listeners": listening.iter().map(listener).collect::<Vec<_>>(),
        "management_version": API_VERSION,
        "message_stats": total_stats(&totals, change.as_ref()),
        "node": NODE,
        "object_totals": {
            "channels": peers.iter().map(|peer| peer.channels().len()).sum::<usize>(),
            "connections": peers.len(),
            "consumers": totals.consumers,
            "exchanges": broker.topology.exchanges().len() + 1,
            "queues": totals.queues,
        },
        "product_name": "broker",
        "product_version": env!("CARGO_PKG_VERSION"),
        "queue_totals": queue_totals,
        "rabbitmq_version": API_VERSION,
        "rates_mode": "basic",
        "sample_retention_policies": { "basic": [INTERVAL.as_secs()], "detailed": [], "global": [] },
        "statistics_db_event_queue": 0,
        "user": user.name,
    })
}

fn listener(address: &SocketAddr) -> Value {
    json!({
        "ip_address": address.ip().to_string(),
        "node": NODE,
        "port": address.port(),
        "protocol": "amqp",
        "socket_opts": {},
    })
}

fn exchange_types() -> Value {
    let types = ExchangeType::ALL.into_iter().map(|kind| {
        let description = format!("AMQP {} exchange, as per the AMQP specification", kind.name());
        json!({ "name": kind.name(), "description": description, "enabled": true })
    });
    Value::Array(types.collect())
}

/// `/api/nodes/…`, of the one node.
pub(super) fn node(broker: &Broker, started: SystemTime) -> Value {
    let process = ProcessFigures::now();
    let connections = broker.peers().len();
    let uptime = started.elapsed().unwrap_or_default().as_millis();
    json!({
        "applications": [{
            "name": "broker",
            "description": env!("CARGO_PKG_DESCRIPTION"),
            "version": env!("CARGO_PKG_VERSION"),
        }],
        "auth_mechanisms": [
            { "name": "AMQPLAIN", "description": "AMQPLAIN mechanism", "enabled": true },
            { "name": "PLAIN", "description": "SASL PLAIN authentication mechanism", "enabled": true },
        ],
        "db_dir": broker.settings.data_dir.display().to_string(),
        "disk_free": broker.segment_table.storage().free_bytes().ok(),
        "disk_free_alarm": broker.alarm.is_raised(),
        "disk_free_limit": broker.settings.disk_free_min_bytes,
        "enabled_plugins": [],
        "exchange_types": exchange_types(),
        "fd_total": process.max_open_files,
        "fd_used": process.open_files,
        "mem_alarm": broker.memory.is_short(),
        "mem_used": process.memory_bytes,
        "name": NODE,
        "os_pid": std::process::id().to_string(),
        "partitions": [],
        "proc_used": process.threads,
        "processors": std::thread::available_parallelism().map_or(1, usize::from),
        "rates_mode": "basic",
        "running": true,
        "sockets_total": broker.connections.limit(),
        "sockets_used": connections,
        "type": "disc",
        "uptime": u64::try_from(uptime).unwrap_or(u64::MAX),
    })
}

/// `/api/vhosts/…`, of the one vhost.
pub(super) fn vhost(broker: &Broker, rates: &Rates) -> Value {
    let (totals, change) = (Totals::of(broker), rates.totals());
    let mut shown = json!({
        "cluster_state": { NODE: "running" },
        "description": "",
        "message_stats": total_stats(&totals, change.as_ref()),
        "name": "/",
        "tags": [],
        "tracing": false,
    });
    if let Value::Object(fields) = &mut shown {
        let waiting = |totals: &Totals| (totals.ready, totals.unacknowledged);
        put_messages(fields, waiting(&totals), change.as_ref(), waiting);
    }
    shown
}

/// A user with the hash of the password, as definitions have it.
pub(super) fn user(user: &User) -> Value {
    json!({
        "hashing_algorithm": HASHING_ALGORITHM,
        "limits": {},
        "name": user.name,
        "password_hash": user.password_hash(),
        "tags": user.tags,
    })
}

/// The permissions of a user: all of them.
pub(super) fn permissions(user: &User) -> Value {
    json!({ "user": user.name, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*" })
}

/// `/api/health/checks/…`.
pub(super) fn health(broker: &Broker, check: &str) -> ApiResult {
    match check {
        "alarms" | "local-alarms" if broker.alarm.is_raised() => Err(ApiError::Alarm("disk")),
        "alarms"
        | "local-alarms"
        | "virtual-hosts"
        | "node-is-mirror-sync-critical"
        | "node-is-quorum-critical" => Ok(Reply::Json(json!({ "status": "ok" }))),
        _ => Err(ApiError::NotFound),
    }
}
