//! What the private listener shows of the broker: its queues, and figures for Prometheus.
//!
//! Metrics carry the names that RabbitMQ's Prometheus plugin has for the same thing, and queues the names of its
//! management API, so that dashboards and people need to learn nothing new. Nothing here changes anything.

use std::sync::Arc;

use foundation::listener::{Dependency, Inspect};
use foundation::metrics::Exposition;

use crate::broker::Broker;
use crate::descriptors;
use crate::queues::store::Store;

/// A look inside a running broker.
pub(crate) struct Inspection(Arc<Broker>);

/// A queue at one moment.
struct QueueFigures {
    name: String,
    durable: bool,
    auto_delete: bool,
    exclusive: bool,
    ready: u64,
    unacknowledged: usize,
    consumers: usize,
}

impl Inspection {
    pub(crate) fn new(broker: Arc<Broker>) -> Self {
        Self(broker)
    }

    /// All queues by name. Each is locked for a moment, one after the other.
    fn queues(&self) -> Vec<QueueFigures> {
        let mut figures: Vec<_> = self
            .0
            .topology
            .queues()
            .iter()
            .map(|queue| {
                let state = queue.lock();
                QueueFigures {
                    name: queue.name.clone(),
                    durable: queue.declared_durable,
                    auto_delete: queue.auto_delete,
                    exclusive: queue.owner.is_some(),
                    ready: state.waiting(),
                    unacknowledged: state.unsettled(),
                    consumers: state.consumers().len(),
                }
            })
            .collect();
        figures.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        figures
    }
}

impl Inspection {
    /// The limits of the process, and how near it is to them.
    fn limits(&self, text: &mut Exposition) {
        let connections = &self.0.connections;
        text.single("broker_connections_limit", "gauge", "Connections there may be.", connections.limit());
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
        let (used, limit) = self.0.memory.usage();
        let name = "broker_memory_buffered_bytes";
        text.single(name, "gauge", "Unfinished messages, and what waits for clients to read it.", used);
        let name = "broker_memory_buffered_limit_bytes";
        text.single(name, "gauge", "Publishers and deliveries wait beyond this.", limit);
        let (used, limit) = self.0.uncommitted.usage();
        let name = "broker_memory_uncommitted_bytes";
        text.single(name, "gauge", "Messages in transactions that are not committed.", used);
        let name = "broker_memory_uncommitted_limit_bytes";
        text.single(name, "gauge", "Channels that publish beyond this in transactions are closed.", limit);
        let short = u8::from(self.0.memory.is_short());
        text.single(
            "rabbitmq_alarms_memory_used_watermark",
            "gauge",
            "1 while clients wait for memory.",
            short,
        );
        if let Some(open) = descriptors::open() {
            text.single("rabbitmq_process_open_fds", "gauge", "Open files and sockets.", open);
        }
    }
}

impl Inspect for Inspection {
    fn dependencies(&self) -> Vec<Dependency> {
        let problem = "nearly full: publishers wait until there is room".to_owned();
        vec![Dependency { name: "disk", problem: self.0.alarm.is_raised().then_some(problem) }]
    }

    fn metrics(&self, text: &mut Exposition) {
        let Store { persister, segment_table, alarm, .. } = &*self.0.store;
        let queues = self.queues();
        for (name, help, figure) in [
            (
                "rabbitmq_queue_messages_ready",
                "Messages that wait for a consumer.",
                (|queue| queue.ready) as fn(&QueueFigures) -> u64,
            ),
            ("rabbitmq_queue_messages_unacked", "Messages delivered and not acknowledged.", |queue| {
                queue.unacknowledged as u64
            }),
            ("rabbitmq_queue_consumers", "Consumers of the queue.", |queue| queue.consumers as u64),
        ] {
            text.family(name, "gauge", help);
            for queue in &queues {
                text.sample(name, &[("vhost", "/"), ("queue", &queue.name)], figure(queue));
            }
        }
        text.single("rabbitmq_queues", "gauge", "Queues.", queues.len());
        text.single("rabbitmq_connections", "gauge", "Open connections.", self.0.peers().len());
        self.limits(text);
        let counters = &persister.metrics;
        for (name, help, counter) in [
            (
                "rabbitmq_global_messages_routed_total",
                "Messages that entered their queues.",
                &counters.messages,
            ),
            (
                "rabbitmq_global_messages_confirmed_total",
                "Messages confirmed to their publishers.",
                &counters.confirmed,
            ),
            (
                "broker_messages_settled_total",
                "Messages acknowledged, rejected or purged.",
                &counters.settled,
            ),
        ] {
            text.single(name, "counter", help, counter.get());
        }
        text.histogram(
            "broker_confirm_duration_seconds",
            "From the first message of a batch to the confirms of all.",
            &counters.confirm_latency,
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
        let minimum = self.0.settings.disk_free_min_bytes;
        let name = "rabbitmq_disk_space_available_limit_bytes";
        text.single(name, "gauge", "Publishers wait while less is free.", minimum);
        let name = "rabbitmq_alarms_free_disk_space_watermark";
        text.single(name, "gauge", "1 while publishers wait for disk space.", u8::from(alarm.is_raised()));
    }

    /// `/api/queues`, as RabbitMQ's management API names things.
    fn page(&self, path: &str) -> Option<String> {
        (path == "/api/queues").then(|| {
            let queues = self.queues().into_iter().map(|queue| {
                serde_json::json!({
                    "name": queue.name,
                    "vhost": "/",
                    "durable": queue.durable,
                    "auto_delete": queue.auto_delete,
                    "exclusive": queue.exclusive,
                    "messages": queue.ready + queue.unacknowledged as u64,
                    "messages_ready": queue.ready,
                    "messages_unacknowledged": queue.unacknowledged,
                    "consumers": queue.consumers,
                })
            });
            serde_json::Value::Array(queues.collect()).to_string()
        })
    }
}
