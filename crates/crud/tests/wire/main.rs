//! Services made of resources, asked over real sockets, with a real PostgreSQL behind them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod contract;
mod counted;
mod events;
mod rooms;

use std::net::SocketAddr;

/// Where requests are sent: here, to the service itself.
struct Front(SocketAddr);

impl Front {
    fn of(service: SocketAddr) -> Self {
        Self(service)
    }

    fn addr(&self) -> SocketAddr {
        self.0
    }
}
