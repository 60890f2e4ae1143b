//! The limits of the edge. Each protects the process from a client that is slow, greedy or hostile.

use std::time::Duration;

use foundation::{Environment, Error};

/// The limits for clients of a server. [`EdgeSettings::read`] reads those that an operator may want to change; only
/// tests change the others.
#[derive(Clone, Debug)]
pub struct EdgeSettings {
    /// `…_MAX_CONNECTIONS` (1024): most open client connections. One more replaces the one that has been idle longest;
    /// if none is idle, it is answered 503.
    pub max_connections: usize,
    /// `…_MAX_CONNECTIONS_PER_CLIENT` (256): most of them from one address (one /64 network for IPv6); one more is
    /// answered 429. Behind a load balancer all clients have its address: raise this to `max_connections`.
    pub max_connections_per_client: usize,
    /// `…_BODIES_MAX_BYTES` (33554432): the memory that all request bodies may take together; beyond it, requests are
    /// answered 503.
    pub bodies_max_bytes: usize,
    /// `…_HEAD_TIMEOUT_MS` (10000): from the first byte of a request to the end of its header block.
    pub head_timeout: Duration,
    /// `…_IDLE_TIMEOUT_MS` (60000): how long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// `…_BODY_TIMEOUT_MS` (15000): how long a request body may make no progress, and the window of the minimum rate.
    pub body_timeout: Duration,
    /// `…_WRITE_TIMEOUT_MS` (15000): how long a client may read nothing of its response, and the window of the minimum
    /// rate.
    pub write_timeout: Duration,
    /// `…_MIN_RATE_BYTES_PER_S` (4096): the average rate that a body or a response must reach within each window, so
    /// that a slow client cannot hold a thread for long. Only time spent waiting for the client counts.
    pub min_rate: u64,
    /// `…_STOP_TIMEOUT_MS` (9500): after a shutdown is requested, how long running requests may take to finish.
    pub stop_timeout: Duration,
    /// 10 s: how long a new connection may wait before it sends its first byte. Shorter than `idle_timeout`, so that
    /// connections that never send anything are closed sooner.
    pub first_byte_timeout: Duration,
    /// 2 minutes: how long a body may wait for its client in total, however steady the rate.
    pub body_deadline: Duration,
    /// 15 minutes: the same for a response.
    pub response_deadline: Duration,
    /// 2 s: after the server closes its side, how long it reads what the client is still sending, so that the
    /// response is not lost to a connection reset.
    pub linger_timeout: Duration,
}

impl Default for EdgeSettings {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_connections_per_client: 256,
            bodies_max_bytes: 32 << 20,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(15),
            min_rate: 4096,
            stop_timeout: Duration::from_millis(9_500),
            first_byte_timeout: Duration::from_secs(10),
            body_deadline: Duration::from_secs(120),
            response_deadline: Duration::from_secs(900),
            linger_timeout: Duration::from_secs(2),
        }
    }
}

impl EdgeSettings {
    /// Reads `{prefix}_MAX_CONNECTIONS` and so on. Only a service's own `settings.rs` calls this.
    pub fn read(environment: &Environment, prefix: &str) -> Result<Self, Error> {
        let default = Self::default();
        let connections_max = 65_536;
        let millis = |name: &str, default: Duration| {
            environment.millis(name, u64::try_from(default.as_millis()).unwrap_or(u64::MAX))
        };
        Ok(Self {
            max_connections: environment.size(
                &format!("{prefix}_MAX_CONNECTIONS"),
                default.max_connections,
                connections_max,
            )?,
            max_connections_per_client: environment.size(
                &format!("{prefix}_MAX_CONNECTIONS_PER_CLIENT"),
                default.max_connections_per_client,
                connections_max,
            )?,
            bodies_max_bytes: environment.size(
                &format!("{prefix}_BODIES_MAX_BYTES"),
                default.bodies_max_bytes,
                1 << 40,
            )?,
            head_timeout: millis(&format!("{prefix}_HEAD_TIMEOUT_MS"), default.head_timeout)?,
            idle_timeout: millis(&format!("{prefix}_IDLE_TIMEOUT_MS"), default.idle_timeout)?,
            body_timeout: millis(&format!("{prefix}_BODY_TIMEOUT_MS"), default.body_timeout)?,
            write_timeout: millis(&format!("{prefix}_WRITE_TIMEOUT_MS"), default.write_timeout)?,
            min_rate: environment.number(
                &format!("{prefix}_MIN_RATE_BYTES_PER_S"),
                default.min_rate,
                1..=1 << 30,
            )?,
            stop_timeout: millis(&format!("{prefix}_STOP_TIMEOUT_MS"), default.stop_timeout)?,
            ..default
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_under_the_prefix_of_the_service() {
        let environment =
            Environment::from_pairs([("SHOP_MAX_CONNECTIONS", "7"), ("SHOP_IDLE_TIMEOUT_MS", "5")]);
        let settings = EdgeSettings::read(&environment, "SHOP").unwrap();
        assert_eq!((settings.max_connections, settings.idle_timeout), (7, Duration::from_millis(5)));
        assert_eq!(settings.max_connections_per_client, 256);
        let environment = Environment::from_pairs([("SHOP_MAX_CONNECTIONS", "0")]);
        let error = EdgeSettings::read(&environment, "SHOP").unwrap_err().to_string();
        assert!(error.contains("SHOP_MAX_CONNECTIONS"), "{error}");
    }
}
