//! The edge at the wire: a small service behind real sockets, and clients that are slow, greedy or hostile.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]
#![expect(unreachable_pub, reason = "the modules of a test are its own")]

mod admission;
mod answers;
mod bodies;
mod server;
mod speed;
mod stopping;
