//! Why publishing was interrupted. The relay logs it and begins again.

use std::fmt;

use amqp::{BrokerError, PublishError};

/// Why events cannot be published.
#[derive(Debug)]
pub enum Error {
    /// The database could not be reached, or its schema does not fit.
    Database(database::Error),
    /// A statement on the outbox failed.
    Outbox(postgres::Error),
    /// The broker could not be reached, or the exchange could not be declared.
    Broker(BrokerError),
    /// The broker did not confirm an event.
    Unconfirmed {
        /// Its name.
        event: String,
        /// The record that it is about.
        record: String,
        /// The reason.
        source: PublishError,
    },
    /// The connection to the broker ended while there was nothing to publish.
    Lost(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(source) => source.fmt(f),
            Self::Outbox(source) => write!(f, "read the outbox: {}", database::describe(source)),
            Self::Broker(source) => write!(f, "the broker: {source}"),
            Self::Unconfirmed { event, record, source } => write!(f, "publish {event} of {record}: {source}"),
            Self::Lost(reason) => write!(f, "the connection to the broker ended: {reason}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Database(source) => Some(source),
            Self::Outbox(source) => Some(source),
            Self::Broker(source) => Some(source),
            Self::Unconfirmed { source, .. } => Some(source),
            Self::Lost(_) => None,
        }
    }
}

impl From<BrokerError> for Error {
    fn from(source: BrokerError) -> Self {
        Self::Broker(source)
    }
}

impl From<postgres::Error> for Error {
    fn from(source: postgres::Error) -> Self {
        Self::Outbox(source)
    }
}
