//! The one error type of this crate.

use std::fmt;

use amqp::{BrokerError, PublishError};

/// What can go wrong in billing.
#[derive(Debug)]
pub enum Error {
    /// PostgreSQL is unreachable or temporarily refuses work; the batch is retried.
    Database(String),
    /// PostgreSQL rejects the values of an order, and always will.
    Refused(String),
    /// The broker is unreachable; it delivers unacknowledged messages again.
    Broker(BrokerError),
    /// The broker session ended while messages were kept; the broker delivers them again.
    SessionEnded(String),
    /// A message could not be put into the dead-letter queue.
    DeadLetter(PublishError),
    /// A setting is wrong.
    Foundation(foundation::Error),
    /// The database's schema does not fit this program.
    Schema(database::Error),
    /// The consumer's thread could not be started, or ended without a result.
    Worker(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(cause) => write!(f, "postgresql is not available: {cause}"),
            Self::Refused(cause) => write!(f, "postgresql refuses the order: {cause}"),
            Self::Broker(cause) => write!(f, "the broker is not available: {cause}"),
            Self::SessionEnded(reason) => write!(f, "the broker session ended: {reason}"),
            Self::DeadLetter(cause) => write!(f, "a message could not be dead-lettered: {cause}"),
            Self::Foundation(source) => source.fmt(f),
            Self::Schema(source) => source.fmt(f),
            Self::Worker(problem) => write!(f, "the worker thread: {problem}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Broker(source) => Some(source),
            Self::DeadLetter(source) => Some(source),
            Self::Foundation(source) => Some(source),
            Self::Schema(source) => Some(source),
            Self::Database(_) | Self::Refused(_) | Self::SessionEnded(_) | Self::Worker(_) => None,
        }
    }
}

impl From<foundation::Error> for Error {
    fn from(source: foundation::Error) -> Self {
        Self::Foundation(source)
    }
}

impl From<BrokerError> for Error {
    fn from(source: BrokerError) -> Self {
        Self::Broker(source)
    }
}
