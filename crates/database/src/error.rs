//! Why a database cannot be used at all. A single statement's failure is classified in `failure`.

use std::time::Duration;
use std::{fmt, io};

/// Why a database cannot be used.
#[derive(Debug)]
pub enum Error {
    /// PostgreSQL could not be reached, or refused the login.
    Connect {
        /// Its host and port.
        server: String,
        /// The refusal.
        source: postgres::Error,
    },
    /// PostgreSQL refused, failed or went away.
    Postgres {
        /// What was being done.
        action: &'static str,
        /// PostgreSQL's own report.
        source: postgres::Error,
    },
    /// PostgreSQL did not finish in time. It may have accepted the connection and then hung.
    TimedOut {
        /// What was being done.
        action: &'static str,
        /// Its host and port.
        server: String,
        /// The time limit.
        limit: Duration,
    },
    /// Too many earlier attempts still hang, so no further one is made.
    Hanging {
        /// PostgreSQL's host and port.
        server: String,
        /// How many hang.
        attempts: usize,
    },
    /// A thread could not be started.
    Thread(io::Error),
    /// A newer version of this program has migrated the database; this version must not touch it.
    TooNew {
        /// The newest migration found in the database.
        found: i32,
        /// The newest migration this program knows.
        known: i32,
    },
    /// A migration's file is not what it was when it was applied to this database.
    Edited {
        /// The file's name.
        name: String,
    },
}

impl Error {
    /// Whether every further attempt would fail in the same way until the program or the database is changed.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::TooNew { .. } | Self::Edited { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { server, source } => {
                write!(f, "connect to postgresql at {server}: {}", crate::describe(source))
            }
            Self::Postgres { action, source } => write!(f, "{action}: {}", crate::describe(source)),
            Self::TimedOut { action, server, limit } => {
                write!(f, "{action} at {server}: not finished within {} ms", limit.as_millis())
            }
            Self::Hanging { server, attempts } => {
                write!(f, "connect to postgresql at {server}: {attempts} earlier attempts still hang")
            }
            Self::Thread(source) => write!(f, "start a thread to connect to postgresql: {source}"),
            Self::TooNew { found, known } => write!(
                f,
                "the database is at migration {found}, newer than {known}, the newest this program knows"
            ),
            Self::Edited { name } => write!(
                f,
                "migration {name} was edited after it had been applied to this database; restore the file, and \
                 put the change into a new one"
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect { source, .. } | Self::Postgres { source, .. } => Some(source),
            Self::Thread(source) => Some(source),
            Self::TimedOut { .. } | Self::Hanging { .. } | Self::TooNew { .. } | Self::Edited { .. } => None,
        }
    }
}
