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

    /// What the jobs of one batch have in common: that they read by id from one table, for example, or insert into it.
    type Kind: Copy + PartialEq + Send + 'static;

    /// The kind of a job that may be in a batch with others of its kind; `None` for a job that is executed alone. Reads
    /// and writes are never mixed, whatever this returns.
    fn kind(job: &Self::Job) -> Option<Self::Kind>;

    /// Whether the job may change anything. Such a job is not repeated once it may have had an effect.
    fn is_write(job: &Self::Job) -> bool;

    /// Executes a batch of 1 to [`BATCH_MAX`] jobs: one result for each, in their order.
    ///
    /// An error for the whole batch must mean that none of it was done, unless the connection was lost; so use one
    /// statement or one transaction. When PostgreSQL rejects a batch of several jobs, each is executed again alone, so
    /// that only the faulty ones fail.
    fn execute(&mut self, connection: &mut Connection, jobs: &[Self::Job]) -> Results<Self::Answer>;
}

/// What keeps jobs out of each other's batches: their kind, and whether they may change anything.
pub(crate) type BatchKind<E> = (<E as Executor>::Kind, bool);

/// The jobs that `job` may be in a batch with; `None` if it is executed alone.
pub(crate) fn batch_kind<E: Executor>(job: &E::Job) -> Option<BatchKind<E>> {
    E::kind(job).map(|kind| (kind, E::is_write(job)))
}

/// One result for each job of a batch, or one error for all of them.
pub type Results<A> = Result<Vec<Result<A, postgres::Error>>, postgres::Error>;
