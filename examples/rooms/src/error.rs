//! Why the service cannot start or go on.

use std::fmt;

/// Why the service cannot start or go on.
#[derive(Debug)]
pub enum Error {
    /// The part that answers HTTP.
    Http(crud::Error),
    /// The part that publishes events.
    Events(events::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(source) => source.fmt(f),
            Self::Events(source) => source.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Http(source) => Some(source),
            Self::Events(source) => Some(source),
        }
    }
}

impl From<crud::Error> for Error {
    fn from(source: crud::Error) -> Self {
        Self::Http(source)
    }
}

impl From<events::Error> for Error {
    fn from(source: events::Error) -> Self {
        Self::Events(source)
    }
}
