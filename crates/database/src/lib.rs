//! PostgreSQL: how services connect, migrate their schema, classify failures, and execute jobs in batches.
//!
//! | file | what it holds |
//! |---|---|
//! | [`settings`] | the database's address and timeouts |
//! | [`connect`] | opening a connection within a deadline |
//! | [`migrate`] | applying the files under `sql/`, and checking those that were applied |
//! | [`connection`] | one connection and its prepared statements |
//! | [`failure`] | what a failed statement means for the caller |
//! | [`reconnection`] | when the next attempt to connect may be made |
//! | [`executor`] | what a service implements to have jobs executed |
//! | [`workers`], [`shared`] | how a service submits jobs; what all workers share |
//! | [`queue`] | the jobs that wait for a worker |
//! | [`promise`] | a job's answer, which a worker sets and the caller waits for |
//! | [`worker`] | a thread that owns a connection and executes batches |
//!
//! The only table named here is `schema_migrations`; all other SQL belongs to the services or to `sql/`.

mod connect;
mod connection;
mod error;
mod executor;
mod failure;
mod migrate;
mod promise;
mod queue;
mod reconnection;
mod settings;
mod shared;
mod worker;
mod workers;

pub use connection::Connection;
pub use error::Error;
pub use executor::{BATCH_MAX, Executor, Results};
pub use failure::{Failure, describe, ends_connection};
pub use migrate::Migration;
pub use settings::DatabaseSettings;
pub use shared::Stats;
pub use workers::{Pending, WorkerSettings, Workers};
