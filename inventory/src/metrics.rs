//! What inventory counts.

use std::time::SystemTime;

use foundation::metrics::{Counter, Exposition, HttpMetrics};

use crate::http::Response;
use crate::routes::LABELS;

/// All metrics of one process.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// The requests.
    pub http: HttpMetrics,
    /// Requests that PostgreSQL kept waiting for too long.
    pub database_timeouts: Counter,
    /// Requests that found PostgreSQL away.
    pub database_unavailable: Counter,
    /// Requests that PostgreSQL refused in a way that should not happen.
    pub database_failures: Counter,
    started: SystemTime,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            http: HttpMetrics::new(LABELS),
            database_timeouts: Counter::default(),
            database_unavailable: Counter::default(),
            database_failures: Counter::default(),
            started: SystemTime::now(),
        }
    }

    /// Counts the failure that a response tells of. Only PostgreSQL's failures come with a cause.
    pub(crate) fn count_failure(&self, response: &Response) {
        if response.cause.is_some() {
            match response.status {
                503 => self.database_unavailable.increment(),
                504 => self.database_timeouts.increment(),
                _ => self.database_failures.increment(),
            }
        }
    }

    /// The text for Prometheus.
    pub(crate) fn text(&self) -> String {
        let mut text = Exposition::new();
        self.http.write(&mut text);
        let name = "database_errors_total";
        text.family(name, "counter", "Requests that PostgreSQL did not serve, by kind.");
        text.sample(name, &[("kind", "unavailable")], self.database_unavailable.get());
        text.sample(name, &[("kind", "timeout")], self.database_timeouts.get());
        text.sample(name, &[("kind", "internal")], self.database_failures.get());
        text.process("inventory-app", env!("CARGO_PKG_VERSION"), self.started);
        text.finish()
    }
}
