//! The limits of the edge. Each protects the process from a client that is slow, greedy or hostile.

use std::time::Duration;

/// The limits for clients of a server. A service's own `settings.rs` reads those that an operator may want to change.
#[derive(Clone, Debug)]
pub struct EdgeSettings {
    /// 1024: most open client connections. One more replaces the one that has been idle longest; if none is idle, it is
    /// answered 503.
    pub max_connections: usize,
    /// 256: most of them from one address (one /64 network for IPv6); one more is answered 429. Behind a load balancer
    /// all clients have its address: raise this to `max_connections`.
    pub max_connections_per_client: usize,
    /// 32 MiB: the memory that all request bodies may take together; beyond it, requests are answered 503.
    pub bodies_max_bytes: usize,
    /// 10 s: from the first byte of a request to the end of its header block.
    pub head_timeout: Duration,
    /// 60 s: how long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// 15 s: how long a request body may make no progress, and the window of the minimum rate.
    pub body_timeout: Duration,
    /// 15 s: how long a client may read nothing of its response, and the window of the minimum rate.
    pub write_timeout: Duration,
    /// 4096 bytes per second: the average rate that a body or a response must reach within each window, so that a slow
    /// client cannot hold a thread for long. Only time spent waiting for the client counts.
    pub min_rate: u64,
    /// 9.5 s: after a shutdown is requested, how long running requests may take to finish.
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
