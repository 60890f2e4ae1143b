//! The one error type of this crate.

use std::{fmt, io};

/// What can go wrong in inventory.
#[derive(Debug)]
pub enum Error {
    /// There is no movie with this id.
    NotFound,
    /// The movie has changed since the client read it.
    Stale,
    /// PostgreSQL cannot be reached, or refuses work for now; the cause is for the log.
    Unavailable(String),
    /// PostgreSQL did not finish a statement within its time limit.
    TooSlow,
    /// A statement failed in a way that should not happen; the cause is for the log.
    Internal(String),
    /// The client went away while it was being answered.
    Client(io::Error),
    /// A setting is wrong.
    Foundation(foundation::Error),
    /// The schema does not fit this program.
    Database(database::Error),
    /// The listening socket could not be made.
    Listen {
        /// Where it should have listened.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// No connection can be accepted any more; the process has to be started again.
    Accept(io::Error),
    /// A thread could not be started.
    Thread(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("no such movie"),
            Self::Stale => f.write_str("the movie has changed meanwhile"),
            Self::Unavailable(cause) => write!(f, "postgresql is not available: {cause}"),
            Self::TooSlow => f.write_str("postgresql did not finish the statement in time"),
            Self::Internal(cause) => f.write_str(cause),
            Self::Client(source) => write!(f, "answer the client: {source}"),
            Self::Foundation(source) => source.fmt(f),
            Self::Database(source) => source.fmt(f),
            Self::Listen { address, source } => write!(f, "listen on {address}: {source}"),
            Self::Accept(source) => write!(f, "accept a connection: {source}"),
            Self::Thread(source) => write!(f, "start a thread: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Foundation(source) => Some(source),
            Self::Database(source) => Some(source),
            Self::Listen { source, .. }
            | Self::Accept(source)
            | Self::Client(source)
            | Self::Thread(source) => Some(source),
            Self::NotFound | Self::Stale | Self::Unavailable(_) | Self::TooSlow | Self::Internal(_) => None,
        }
    }
}

impl From<foundation::Error> for Error {
    fn from(source: foundation::Error) -> Self {
        Self::Foundation(source)
    }
}

impl From<database::Error> for Error {
    fn from(error: database::Error) -> Self {
        if error.is_permanent() { Self::Database(error) } else { Self::Unavailable(error.to_string()) }
    }
}
