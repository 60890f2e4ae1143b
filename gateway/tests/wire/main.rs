//! The gateway's behaviour at the wire: the real binary, raw sockets, and stand-ins for inventory and the broker.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod edge_connection;
mod edge_framing;
mod edge_limits;
mod orders;
mod outbox;
mod paths;
mod proxy_failures;
mod proxy_verbatim;
mod services;
mod shutdown;
mod support;
mod upstream;
