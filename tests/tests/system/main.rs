//! The platform as a whole: the real binaries together, with a real PostgreSQL and a real broker.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

mod architecture;
mod audit;
mod contract;
mod documentation;
mod durability;
mod nearly_full;
mod outbox;
mod poison;
mod recovery;
mod refusals;
mod settings;
