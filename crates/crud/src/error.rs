//! The one error type of this crate: why a service cannot start or go on. Errors for clients are in `problem.rs`.

use std::{fmt, io};

/// Why a service cannot start, or cannot go on.
#[derive(Debug)]
pub enum Error {
    /// The description of a resource is invalid.
    Description {
        /// The resource.
        name: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A setting is wrong.
    Foundation(foundation::Error),
    /// The database cannot be used.
    Database(database::Error),
    /// The listening socket could not be made.
    Listen {
        /// Where it should have listened.
        address: String,
        /// The operating system's report.
        source: io::Error,
    },
    /// A thread could not be started.
    Thread(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Description { name, problem } => write!(f, "the description of {name}: {problem}"),
            Self::Foundation(source) => source.fmt(f),
            Self::Database(source) => source.fmt(f),
            Self::Listen { address, source } => write!(f, "listen on {address}: {source}"),
            Self::Thread(source) => write!(f, "start a thread: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Foundation(source) => Some(source),
            Self::Database(source) => Some(source),
            Self::Listen { source, .. } | Self::Thread(source) => Some(source),
            Self::Description { .. } => None,
        }
    }
}

impl From<foundation::Error> for Error {
    fn from(source: foundation::Error) -> Self {
        Self::Foundation(source)
    }
}

impl From<database::Error> for Error {
    fn from(source: database::Error) -> Self {
        Self::Database(source)
    }
}
