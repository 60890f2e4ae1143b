//! Figures for Prometheus. They carry the names that RabbitMQ's Prometheus plugin has for the same thing, so that
//! dashboards made for RabbitMQ show them; those that begin with `broker_` have no counterpart there.

use foundation::metrics::Exposition;

use super::identity::{API_VERSION, NODE};
use super::process::ProcessFigures;
use super::totals::{QueueFigures, Totals};
use crate::broker::Broker;
use crate::logins::Protocol;
use crate::protocol::connections::{MAX_CHANNELS, MAX_CONSUMERS};
use crate::queues::store::Store;

/// What messages come and go by.
const AMQP: (&str, &str) = ("protocol", "amqp091");
/// What RabbitMQ calls the one type of queue that there is.
const CLASSIC: (&str, &str) = ("queue_type", "rabbit_classic_queue");

/// Writes everything.
pub(super) fn write(broker: &Broker, text: &mut Exposition) {
    identity(text);
    queues(broker, text);
    objects(broker, text);
    messages(broker, text);
    logins(broker, text);
    process(broker, text);
    limits(broker, text);
    storage(broker, text);
}

/// Which dashboards join everything else with.
fn identity(text: &mut Exposition) {
    text.family("rabbitmq_identity_info", "gauge", "Node and cluster; the value is always 1.");
    let cluster = [("rabbitmq_node", NODE), ("rabbitmq_cluster", NODE)];
    text.sample("rabbitmq_identity_info", &cluster, 1);
    text.family("rabbitmq_build_info", "gauge", "Versions; the value is always 1.");
    let version = env!("CARGO_PKG_VERSION");
    let versions =
        [("rabbitmq_version", API_VERSION), ("product_name", "broker"), ("product_version", version)];
    text.sample("rabbitmq_build_info", &versions, 1);
}

/// One number of each queue.
type Pick = fn(&QueueFigures) -> u64;

/// Families with a sample for each queue: name, kind, help, value.
const QUEUE_FAMILIES: [(&str, &str, &str, Pick); 11] = [
    ("rabbitmq_queue_messages_ready", "gauge", "Messages that wait for a consumer.", |queue| queue.ready),
    ("rabbitmq_queue_messages_unacked", "gauge", "Messages delivered and not acknowledged.", |queue| {
        queue.unacknowledged
    }),
    ("rabbitmq_queue_messages", "gauge", "Messages that wait or are not acknowledged.", |queue| {
        queue.ready + queue.unacknowledged
    }),
    ("rabbitmq_queue_consumers", "gauge", "Consumers of the queue.", |queue| queue.consumers as u64),
    ("rabbitmq_queue_messages_published_total", "counter", "Messages that entered the queue.", |queue| {
        queue.counts.published
    }),
    (
        "rabbitmq_channel_messages_delivered_ack_total",
        "counter",
        "Messages delivered to consumers that acknowledge.",
        |queue| queue.counts.delivered,
    ),
    (
        "rabbitmq_channel_messages_delivered_total",
        "counter",
        "Messages delivered to consumers that do not acknowledge.",
        |queue| queue.counts.delivered_no_ack,
    ),
    (
        "rabbitmq_channel_get_ack_total",
        "counter",
        "Messages taken by basic.get, to be acknowledged.",
        |queue| queue.counts.got,
    ),
    (
        "rabbitmq_channel_get_total",
        "counter",
        "Messages taken by basic.get without acknowledgement.",
        |queue| queue.counts.got_no_ack,
    ),
    ("rabbitmq_channel_messages_redelivered_total", "counter", "Messages delivered again.", |queue| {
        queue.counts.redelivered
    }),
    (
        "rabbitmq_channel_messages_acked_total",
        "counter",
        "Messages acknowledged, or rejected for good.",
        |queue| queue.counts.acknowledged,
    ),
];

fn queues(broker: &Broker, text: &mut Exposition) {
    let queues = broker.topology.queues();
    let mut figures: Vec<_> =
        queues.iter().map(|queue| (queue.name.as_str(), QueueFigures::of(queue))).collect();
    figures.sort_unstable_by_key(|(name, _)| *name);
    for (family, kind, help, pick) in QUEUE_FAMILIES {
        text.family(family, kind, help);
        for (name, figures) in &figures {
            text.sample(family, &[("vhost", "/"), ("queue", name)], pick(figures));
        }
    }
}

fn objects(broker: &Broker, text: &mut Exposition) {
    let peers = broker.peers();
    let channels: usize = peers.iter().map(|peer| peer.channels().len()).sum();
    text.single("rabbitmq_connections", "gauge", "Open connections.", peers.len());
    text.single("rabbitmq_channels", "gauge", "Open channels.", channels);
    let publishers: usize = peers.iter().map(|peer| peer.throttle.publishers()).sum();
    text.family("rabbitmq_global_publishers", "gauge", "Channels that have published.");
    text.sample("rabbitmq_global_publishers", &[AMQP], publishers);
    let (connections, counts) = (&broker.connections, &broker.counts);
    for (name, help, counter) in [
        ("rabbitmq_connections_opened_total", "Connections opened.", &connections.opened),
        ("rabbitmq_connections_closed_total", "Connections closed.", &connections.closed),
        ("rabbitmq_channels_opened_total", "Channels opened.", &connections.channels_opened),
        ("rabbitmq_channels_closed_total", "Channels closed.", &connections.channels_closed),
        ("rabbitmq_queues_declared_total", "Declarations of queues.", &counts.queues_declared),
        ("rabbitmq_queues_created_total", "Queues created.", &counts.queues_created),
        ("rabbitmq_queues_deleted_total", "Queues deleted.", &counts.queues_deleted),
    ] {
        text.single(name, "counter", help, counter.get());
    }
}

fn messages(broker: &Broker, text: &mut Exposition) {
    let totals = Totals::of(broker);
    let counts = totals.counts;
    text.single("rabbitmq_queues", "gauge", "Queues.", totals.queues);
    text.single("rabbitmq_consumers", "gauge", "Consumers.", totals.consumers);
    text.family("rabbitmq_global_consumers", "gauge", "Consumers.");
    text.sample("rabbitmq_global_consumers", &[AMQP], totals.consumers);
    for (name, help, value) in [
        ("received", "Messages received from publishers.", totals.received()),
        ("routed", "Messages that entered queues.", totals.routed),
        ("confirmed", "Messages confirmed to their publishers.", totals.confirmed),
        ("unroutable_returned", "Messages without a queue, returned.", totals.returned),
        ("unroutable_dropped", "Messages without a queue, dropped.", totals.dropped),
    ] {
        let name = format!("rabbitmq_global_messages_{name}_total");
        text.family(&name, "counter", help);
        text.sample(&name, &[AMQP], value);
    }
    for (name, help, value) in [
        ("delivered", "Messages delivered, or taken by basic.get.", counts.delivered_or_got()),
        (
            "delivered_consume_auto_ack",
            "Messages delivered without acknowledgement.",
            counts.delivered_no_ack,
        ),
        ("delivered_consume_manual_ack", "Messages delivered to be acknowledged.", counts.delivered),
        ("delivered_get_auto_ack", "Messages taken without acknowledgement.", counts.got_no_ack),
        ("delivered_get_manual_ack", "Messages taken to be acknowledged.", counts.got),
        ("get_empty", "Calls of basic.get that found nothing.", counts.get_empty),
        ("redelivered", "Messages delivered again.", counts.redelivered),
        ("acknowledged", "Messages acknowledged, or rejected for good.", counts.acknowledged),
    ] {
        let name = format!("rabbitmq_global_messages_{name}_total");
        text.family(&name, "counter", help);
        text.sample(&name, &[AMQP, CLASSIC], value);
    }
}

fn logins(broker: &Broker, text: &mut Exposition) {
    let protocols = [("amqp091", Protocol::Amqp), ("http", Protocol::Http)];
    let attempts = protocols.map(|(name, protocol)| {
        let attempts = broker.logins.attempts(protocol);
        (name, attempts.accepted.get(), attempts.failed.get())
    });
    let mut family = |name: &str, help: &str, pick: fn(u64, u64) -> u64| {
        text.family(name, "counter", help);
        for (protocol, accepted, failed) in attempts {
            text.sample(name, &[("protocol", protocol)], pick(accepted, failed));
        }
    };
    family("rabbitmq_auth_attempts_total", "Logins.", |accepted, failed| accepted + failed);
    family("rabbitmq_auth_attempts_succeeded_total", "Logins that were accepted.", |accepted, _| accepted);
    family("rabbitmq_auth_attempts_failed_total", "Logins that were refused.", |_, failed| failed);
}

fn process(broker: &Broker, text: &mut Exposition) {
    let process = ProcessFigures::now();
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Memory that the process holds.", process.memory_bytes),
        ("process_open_fds", "Open files and sockets.", process.open_files as u64),
        ("process_max_fds", "The most files and sockets that may be open.", process.max_open_files),
        ("process_open_tcp_sockets", "Open client connections.", broker.peers().len() as u64),
        ("process_max_tcp_sockets", "The most client connections.", broker.connections.limit() as u64),
    ] {
        text.single(&format!("rabbitmq_{name}"), "gauge", help, value);
    }
}

/// The limits of the process, and how near it is to them; what is not here is in [`objects`] and [`messages`].
fn limits(broker: &Broker, text: &mut Exposition) {
    let connections = &broker.connections;
    let (exchanges, most_exchanges) = broker.topology.exchange_usage();
    let (binding_bytes, most_binding_bytes) = broker.topology.binding_usage();
    let (buffered, most_buffered) = broker.memory.usage();
    let (uncommitted, most_uncommitted) = broker.uncommitted.usage();
    for (name, help, value) in [
        ("connections_limit", "Connections there may be.", connections.limit()),
        ("channels_limit", "Channels there may be.", MAX_CHANNELS),
        ("consumers_limit", "Consumers there may be.", MAX_CONSUMERS),
        ("queues_limit", "Queues there may be.", broker.settings.max_queues),
        ("exchanges", "Exchanges.", exchanges),
        ("exchanges_limit", "Exchanges there may be.", most_exchanges),
        ("memory_bindings_bytes", "What all bindings take.", binding_bytes),
        ("memory_bindings_limit_bytes", "Bindings beyond this are refused.", most_binding_bytes),
        ("memory_buffered_bytes", "Unfinished messages, and what waits for clients to read it.", buffered),
        ("memory_buffered_limit_bytes", "Publishers and deliveries wait beyond this.", most_buffered),
        ("memory_uncommitted_bytes", "Messages in transactions that are not committed.", uncommitted),
        (
            "memory_uncommitted_limit_bytes",
            "Channels that publish beyond this in transactions are closed.",
            most_uncommitted,
        ),
    ] {
        text.single(&format!("broker_{name}"), "gauge", help, value);
    }
    for (name, help, counter) in [
        ("broker_connections_refused_total", "Connections that found no place.", &connections.refused),
        (
            "broker_connections_displaced_total",
            "Connections closed before their login to make room for newer ones.",
            &connections.displaced,
        ),
    ] {
        text.single(name, "counter", help, counter.get());
    }
    let short = u8::from(broker.memory.is_short());
    let name = "rabbitmq_alarms_memory_used_watermark";
    text.single(name, "gauge", "1 while clients wait for memory.", short);
}

fn storage(broker: &Broker, text: &mut Exposition) {
    let Store { persister, segment_table, alarm, .. } = &*broker.store;
    text.single(
        "broker_messages_settled_total",
        "counter",
        "Messages acknowledged, rejected or purged.",
        persister.metrics.settled.get(),
    );
    text.histogram(
        "broker_confirm_duration_seconds",
        "From the first message of a batch to the confirms of all.",
        &persister.metrics.confirm_latency,
    );
    text.histogram(
        "broker_log_sync_duration_seconds",
        "Time of one fdatasync of the log.",
        &segment_table.sync_time,
    );
    text.single("broker_log_segments", "gauge", "Files of the log.", segment_table.segments().len());
    if let Ok(free) = segment_table.storage().free_bytes() {
        text.single("rabbitmq_disk_space_available_bytes", "gauge", "Free disk space.", free);
    }
    let minimum = broker.settings.disk_free_min_bytes;
    let name = "rabbitmq_disk_space_available_limit_bytes";
    text.single(name, "gauge", "Publishers wait while less is free.", minimum);
    let name = "rabbitmq_alarms_free_disk_space_watermark";
    text.single(name, "gauge", "1 while publishers wait for disk space.", u8::from(alarm.is_raised()));
}
