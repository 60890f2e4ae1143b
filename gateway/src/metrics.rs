//! The gateway's metrics.

use std::ops::Range;
use std::time::Instant;

use amqp::PublishError;
use edge::Connections;
use foundation::metrics::{Counter, Exposition, HttpMetrics};

use crate::failures::Failures;
use crate::upstream::UpstreamService;

/// All metrics of one process.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// The requests.
    pub(crate) http: HttpMetrics,
    /// Those that failed, by cause.
    pub(crate) failures: Failures,
    /// The connections of clients.
    connections: Connections,
    /// Orders that the broker has confirmed.
    pub(crate) orders_confirmed: Counter,
    /// Orders that came back because no queue took them.
    orders_returned: Counter,
    /// Orders that the broker refused.
    orders_refused: Counter,
    /// Orders that failed because the broker was not connected or the connection was lost.
    broker_unavailable: Counter,
    /// Orders that were not confirmed in time.
    broker_timeouts: Counter,
    /// Orders that were not sent because the broker had blocked publishers, or because too many were waiting for
    /// confirms.
    broker_overloaded: Counter,
    /// The services behind the gateway.
    services: Box<[&'static UpstreamService]>,
    /// The routes that lead to each of them.
    service_routes: Box<[Range<usize>]>,
    started: Instant,
}

impl Metrics {
    /// `routes` are the route templates by which requests are counted, `service_routes` the positions of those that lead to
    /// each of the services.
    pub(crate) fn new(
        routes: &'static [&'static str],
        connections: Connections,
        services: Box<[&'static UpstreamService]>,
        service_routes: Box<[Range<usize>]>,
    ) -> Self {
        Self {
            http: HttpMetrics::new(routes),
            failures: Failures::new(services.iter().map(|service| service.name())),
            connections,
            orders_confirmed: Counter::default(),
            orders_returned: Counter::default(),
            orders_refused: Counter::default(),
            broker_unavailable: Counter::default(),
            broker_timeouts: Counter::default(),
            broker_overloaded: Counter::default(),
            services,
            service_routes,
            started: Instant::now(),
        }
    }

    /// The process's uptime in seconds.
    pub(crate) fn uptime_s(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// How many requests for a service were answered so far. The services count from inventory, which is 0.
    pub(crate) fn answered_for(&self, service: usize) -> u64 {
        self.http.answered_on(self.service_routes[service].clone())
    }

    /// Counts an order that was not published.
    pub(crate) fn count_unpublished(&self, error: &PublishError) {
        match error {
            PublishError::Returned(_) => self.orders_returned.increment(),
            PublishError::Nacked => self.orders_refused.increment(),
            PublishError::Closed(_) => self.broker_unavailable.increment(),
            PublishError::TimedOut => self.broker_timeouts.increment(),
            PublishError::Blocked(_) | PublishError::Busy => self.broker_overloaded.increment(),
        }
    }

    /// Counts an order that failed because the broker was not connected.
    pub(crate) fn count_disconnected(&self) {
        self.broker_unavailable.increment();
    }

    /// Adds everything to a text for Prometheus.
    pub(crate) fn write(&self, text: &mut Exposition, broker_connected: bool) {
        self.http.write(text);
        self.connections.write(text);
        for (name, help, counter) in [
            ("orders_confirmed_total", "Orders that the broker has confirmed.", &self.orders_confirmed),
            (
                "orders_returned_total",
                "Orders that came back because no queue took them.",
                &self.orders_returned,
            ),
            ("orders_refused_total", "Orders that the broker refused to store.", &self.orders_refused),
        ] {
            text.single(name, "counter", help, counter.get());
        }
        let kinds = |text: &mut Exposition, name: &str, kinds: [(&str, &Counter); 3]| {
            for (kind, counter) in kinds {
                text.sample(name, &[("kind", kind)], counter.get());
            }
        };
        text.family("broker_errors_total", "counter", "Orders that the broker did not take, by kind.");
        kinds(
            text,
            "broker_errors_total",
            [
                ("unavailable", &self.broker_unavailable),
                ("timeout", &self.broker_timeouts),
                ("overloaded", &self.broker_overloaded),
            ],
        );
        let connected = u8::from(broker_connected);
        text.single("broker_connected", "gauge", "Whether there is a connection to the broker.", connected);
        self.write_services(text);
    }

    fn write_services(&self, text: &mut Exposition) {
        text.family(
            "upstream_errors_total",
            "counter",
            "Requests that a service did not answer, by service and kind.",
        );
        for service in &self.services {
            for (kind, count) in service.unanswered() {
                text.sample("upstream_errors_total", &[("service", service.name()), ("kind", kind)], count);
            }
        }
        text.family("upstream_instances_up", "gauge", "Instances that are not left out, by service.");
        for service in &self.services {
            text.sample("upstream_instances_up", &[("service", service.name())], service.instances_up());
        }
        text.family(
            "upstream_requests_in_flight",
            "gauge",
            "Requests that wait for the head of their answer, by service.",
        );
        for service in &self.services {
            text.sample("upstream_requests_in_flight", &[("service", service.name())], service.in_flight());
        }
    }
}
