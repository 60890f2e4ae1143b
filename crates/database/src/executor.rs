//! What a service implements to have its jobs executed in batches.

use crate::connection::Connection;

/// Most jobs in one batch.
pub const BATCH_MAX: usize = 128;

/// Executes the jobs of a service. Each worker thread has its own.
pub trait Executor: Send + 'static {
    /// The request.
    type Job: Send + 'static;
    /// The answer.
    type Answer: Send + 'static;

    /// Whether `next` may be in a batch with `first`: two reads by id from one table, for example, or two inserts into
    /// one. Reads and writes are never mixed, whatever this returns.
    fn joins(&self, first: &Self::Job, next: &Self::Job) -> bool;

    /// Whether the job may change anything. Such a job is not repeated once it may have had an effect.
    fn is_write(&self, job: &Self::Job) -> bool;

    /// Executes a batch of 1 to [`BATCH_MAX`] jobs: one result for each, in their order.
    ///
    /// An error for the whole batch must mean that none of it was done, unless the connection was lost; so use one
    /// statement or one transaction. When PostgreSQL rejects a batch of several jobs, each is executed again alone, so
    /// that only the faulty ones fail.
    fn execute(&mut self, connection: &mut Connection, jobs: &[Self::Job]) -> Results<Self::Answer>;
}

/// One result for each job of a batch, or one error for all of them.
pub type Results<A> = Result<Vec<Result<A, postgres::Error>>, postgres::Error>;
