//! The broker's behaviour at the wire: the real binary, raw sockets, and a client that shares no code with it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

mod connection;
mod consuming;
mod durability;
mod hostile;
mod http;
mod limits;
mod management;
mod metrics;
mod publishing;
mod recovery;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod throttle;
mod topology;
