//! Inventory's behaviour at the wire: the real binary and a real PostgreSQL, which all tests share.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod crud;
mod failures;
mod gateway_only;
mod lists;
mod support;
