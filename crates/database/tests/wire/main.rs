//! The crate's behaviour against a real PostgreSQL.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod failures;
mod migrations;
mod support;
mod workers;
