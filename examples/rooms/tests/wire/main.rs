//! The service at the wire: the real binary and a real PostgreSQL. There is no broker, which no request needs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod records;
mod search;
mod support;
