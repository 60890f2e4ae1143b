//! Publishes the events of a service, which `crud` writes to the table `outbox` together with the changes that they
//! tell of.
//!
//! | file | what it holds |
//! |---|---|
//! | [`relay`] | the thread that publishes, its settings, its metrics |
//! | [`outbox`] | the SQL: the lock, the next events, forgetting what was published |
//! | [`error`] | why publishing was interrupted |
//!
//! **At least once.** An event is deleted from the outbox after the broker's confirm. What was published without being
//! deleted, because the service or a connection ended in between, is published again with the same `message_id`.
//!
//! **In order.** Of all instances of a service, one publishes at a time: the one that holds an advisory lock in the
//! service's database. It publishes in the order of the outbox, and never two events of one record without the confirm
//! of the first. So the events of a record keep their order whatever happens. Events of different records keep it, too,
//! unless the broker refuses one in the middle of a batch.
//!
//! **No waiting.** Requests never wait for the broker; while it is away, the outbox grows.

mod error;
mod outbox;
mod relay;

pub use error::Error;
pub use relay::{Relay, RelaySettings};
