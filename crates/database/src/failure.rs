//! What a failed statement means for the caller.

use std::fmt;

use postgres::error::{DbError, Severity, SqlState};

/// Why a job has no answer. The texts are for the log; the service chooses its own text for clients.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The queue is full. Nothing was done (503).
    Overloaded,
    /// PostgreSQL is unreachable or temporarily refuses work. Nothing was done (503).
    Unavailable(String),
    /// The time ran out before the job began, PostgreSQL cancelled the statement, or the job only reads. Nothing was
    /// done (503).
    TimedOut,
    /// A write was begun and its outcome is unknown (504).
    Unknown(String),
    /// PostgreSQL rejected the values: SQLSTATE class 22 (data exceptions, such as a number that is too large), 23
    /// (constraints, such as a unique field), or 54000 (a value that is too large for an index). Nothing was done, and
    /// the same job would fail again.
    Refused(Box<DbError>),
    /// A statement failed in a way that should not happen (500).
    Internal(String),
}

impl Failure {
    /// Classifies `error`. `is_write` says whether the job may have changed something.
    ///
    /// If PostgreSQL itself reports an error, the statement and its transaction are rolled back. Without such a report,
    /// a write may have been committed before the connection was lost.
    pub fn of(error: &postgres::Error, is_write: bool) -> Self {
        let away = |text| if is_write { Self::Unknown(text) } else { Self::Unavailable(text) };
        let text = describe(error);
        let Some(report) = error.as_db_error() else {
            return if ends_connection(error) { away(text) } else { Self::Internal(text) };
        };
        let code = report.code();
        match &code.code()[..2] {
            _ if *code == SqlState::QUERY_CANCELED => Self::TimedOut,
            // The only report after which the outcome is unknown.
            _ if *code == SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN => away(text),
            "08" => away(text),
            "22" | "23" => Self::Refused(Box::new(report.clone())),
            _ if *code == SqlState::PROGRAM_LIMIT_EXCEEDED => Self::Refused(Box::new(report.clone())),
            // These are temporary: a rolled-back transaction (40), insufficient resources (53), operator intervention
            // (57), a system error (58), a lock that was not granted in time, a server set to read-only.
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

/// Whether `error` means that its connection can no longer be used.
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

/// PostgreSQL's error with its cause. The library's own text for an error from the server is only "db error".
pub fn describe(error: &postgres::Error) -> String {
    if let Some(report) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", report.message(), report.code().code());
    }
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
