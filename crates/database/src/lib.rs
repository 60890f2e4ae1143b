//! PostgreSQL: how services connect, migrate their schema, classify failures, and execute jobs in batches.
//!
//! | file | what it holds |
//! |---|---|
//! | [`settings`] | where a database is, and how long it may take |
//! | [`connect`] | opening a connection within a deadline |
//! | [`migrate`] | applying the files under `sql/`, and checking those that were applied |
//! | [`connection`] | one connection and its prepared statements |
//! | [`failure`] | what a failed statement means to whoever asked for it |
//! | [`reconnection`] | when the next attempt to connect may be made |
//! | [`workers`] | how a service has jobs executed |
//! | [`queue`] | the jobs that wait for a worker |
//! | [`slot`] | where an answer is waited for |
//! | [`worker`] | a thread that owns a connection and executes batches |
//!
//! No table is named here except the list of migrations; the statements live with each service and under `sql/`.

mod connect;
mod connection;
mod error;
mod failure;
mod migrate;
mod queue;
mod reconnection;
mod settings;
mod slot;
mod worker;
mod workers;

pub use connection::Connection;
pub use error::Error;
pub use failure::{Failure, describe, ends_connection};
pub use migrate::Migration;
pub use settings::DatabaseSettings;
pub use workers::{BATCH_MAX, Executor, Pending, Results, Stats, WorkerSettings, Workers};
