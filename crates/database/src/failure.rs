//! What a failed statement means to whoever asked for it.

use std::fmt;

use postgres::error::{DbError, Severity, SqlState};

/// Why a job has no answer. The texts are for the log; a client gets a text of the service's own.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The queue is full. Nothing was done (503).
    Overloaded,
    /// PostgreSQL is away or refuses work for now. Nothing was done (503).
    Unavailable(String),
    /// The deadline passed before the job was begun, PostgreSQL cancelled the statement, or the job only reads.
    /// Nothing was done (503).
    TimedOut,
    /// The job was begun and may change something, and nobody knows whether it did (504).
    Unknown(String),
    /// PostgreSQL refuses the values: SQLSTATE class 22 (data exceptions, such as a text that is too long) or 23
    /// (constraints, such as a unique field). Nothing was done, and the same job would fail again.
    Refused(Box<DbError>),
    /// A statement failed in a way that should not happen (500).
    Internal(String),
}

impl Failure {
    /// What `error` means for a job. `is_write` tells whether the job may have changed something.
    ///
    /// An error that PostgreSQL itself reports undoes the statement and its transaction. Without a report, a write
    /// may have been committed before the connection was lost.
    pub fn of(error: &postgres::Error, is_write: bool) -> Self {
        let away = |text| if is_write { Self::Unknown(text) } else { Self::Unavailable(text) };
        let text = describe(error);
        let Some(report) = error.as_db_error() else {
            return if ends_connection(error) { away(text) } else { Self::Internal(text) };
        };
        let code = report.code();
        match &code.code()[..2] {
            _ if *code == SqlState::QUERY_CANCELED => Self::TimedOut,
            // The one report that leaves the outcome open.
            _ if *code == SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN => away(text),
            "08" => away(text),
            "22" | "23" => Self::Refused(Box::new(report.clone())),
            // Rolled-back transactions, insufficient resources, operator intervention and system errors pass; so
            // does a lock that was not granted in time, and a server that was set to read-only.
            "40" | "53" | "57" | "58" => Self::Unavailable(text),
            _ if *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::READ_ONLY_SQL_TRANSACTION => {
                Self::Unavailable(text)
            }
            _ => Self::Internal(text),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overloaded => f.write_str("too many jobs wait for postgresql"),
            Self::Unavailable(cause) => write!(f, "postgresql is not available: {cause}"),
            Self::TimedOut => f.write_str("postgresql did not answer in time"),
            Self::Unknown(cause) => write!(f, "nobody knows whether postgresql has done it: {cause}"),
            Self::Refused(report) => {
                write!(f, "postgresql refuses it: {} (SQLSTATE {})", report.message(), report.code().code())
            }
            Self::Internal(cause) => write!(f, "postgresql: {cause}"),
        }
    }
}

impl std::error::Error for Failure {}

/// Whether the connection that reported `error` is of no further use.
pub fn ends_connection(error: &postgres::Error) -> bool {
    match error.as_db_error() {
        Some(report) => matches!(report.parsed_severity(), Some(Severity::Fatal | Severity::Panic)),
        None => error.is_closed() || source_is_io(error),
    }
}

fn source_is_io(error: &postgres::Error) -> bool {
    let source = std::error::Error::source(error);
    source.and_then(|source| source.downcast_ref::<std::io::Error>()).is_some()
}

/// PostgreSQL's error with its cause. The library's own text for a server's answer is only "db error".
pub fn describe(error: &postgres::Error) -> String {
    if let Some(report) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", report.message(), report.code().code());
    }
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
