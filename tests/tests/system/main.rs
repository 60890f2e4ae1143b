//! The platform as a whole: the real binaries together, with a real PostgreSQL and a real broker.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

mod architecture;
mod audit;
mod circles;
mod contract;
mod described;
mod documentation;
mod durability;
mod events;
mod nearly_full;
mod order_states;
mod outbox;
mod poison;
mod ranges;
mod recovery;
mod refusals;
mod rooms;
mod settings;
mod todo;
mod tokens;
