//! The broker's behaviour at the wire: the real binary, raw sockets, and a client that shares no code with it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

mod arguments;
mod connection;
mod consuming;
mod dead_letters;
mod durability;
mod hostile;
mod http;
mod limits;
mod management;
mod metrics;
mod properties;
mod publishing;
mod queue_limits;
mod quorum;
mod recovery;
mod routing;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod throttle;
mod topology;
mod transactions;
