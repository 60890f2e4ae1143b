//! The one error type of this crate.

use std::fmt;

/// Why a database cannot be used.
#[derive(Debug)]
pub enum Error {
    /// PostgreSQL could not be reached, or did not let us in.
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
    /// The database was migrated by a newer version of this program, which this one must not touch.
    TooNew {
        /// The newest migration found in the database.
        found: i32,
        /// The newest migration this program knows.
        known: i32,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { server, source } => {
                write!(f, "connect to postgresql at {server}: {}", crate::describe(source))
            }
            Self::Postgres { action, source } => write!(f, "{action}: {}", crate::describe(source)),
            Self::TooNew { found, known } => write!(
                f,
                "the database is at migration {found}, newer than {known}, the newest this program knows"
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect { source, .. } | Self::Postgres { source, .. } => Some(source),
            Self::TooNew { .. } => None,
        }
    }
}
