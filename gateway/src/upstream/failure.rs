//! Why a service did not answer a request.

use std::fmt;

/// The cause in the log when no instance can be used.
pub(super) const NOBODY: &str = "no instance answers for now";

/// Why an instance did not answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection could be made, so the request was not sent. `silent`: there was no answer, not even a refusal.
    NotConnected { silent: bool, cause: String },
    /// This process or its system has run out of a resource, such as file descriptors; the request was not sent.
    Local(String),
    /// Every available instance has the most requests that it may have.
    Overloaded,
    /// The connection was lost before a byte of the answer came.
    Lost {
        /// Whether it is certain that no byte of the request was sent.
        unsent: bool,
        /// Whether the connection came from the pool, so that it may have been dead already.
        reused: bool,
        cause: String,
    },
    /// While waiting for the answer, the instance was found to be hung.
    Hung(String),
    /// The answer did not come in time.
    TimedOut(String),
    /// The answer is not HTTP, or was cut off within its head.
    Invalid(String),
    /// The target has a character that cannot be sent.
    BadTarget,
}

/// What a failure means for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No instance can be reached; nothing was done.
    Unreachable = 0,
    /// Every available instance has the most requests that it may have; nothing was done.
    Overloaded = 1,
    /// This process or its system has run out of a resource; nothing was done.
    Local = 2,
    /// The answer is not HTTP, or incomplete.
    Invalid = 3,
    /// The answer did not come in time; the outcome is unknown.
    TimedOut = 4,
}

impl Reason {
    /// The names of all reasons in metrics.
    pub(crate) const NAMES: [&str; 5] = ["unavailable", "overloaded", "local", "invalid", "timeout"];
}

impl Failure {
    /// The reason; `None` if the request itself cannot be sent.
    pub(crate) fn reason(&self) -> Option<Reason> {
        match self {
            Self::NotConnected { .. } => Some(Reason::Unreachable),
            Self::Local(_) => Some(Reason::Local),
            Self::Overloaded => Some(Reason::Overloaded),
            Self::Lost { .. } | Self::Invalid(_) => Some(Reason::Invalid),
            Self::Hung(_) | Self::TimedOut(_) => Some(Reason::TimedOut),
            Self::BadTarget => None,
        }
    }

    /// What happened, for the log.
    pub(crate) fn cause(&self) -> &str {
        match self {
            Self::NotConnected { cause, .. }
            | Self::Local(cause)
            | Self::Hung(cause)
            | Self::TimedOut(cause)
            | Self::Invalid(cause)
            | Self::Lost { cause, .. } => cause,
            Self::Overloaded => "too many requests wait for it",
            Self::BadTarget => "the target cannot be sent",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cause())
    }
}

impl std::error::Error for Failure {}

impl From<ureq::Error> for Failure {
    /// Unwraps the transport's own failures, which pass through ureq as I/O errors.
    fn from(error: ureq::Error) -> Self {
        use ureq::{Error, Timeout};
        let cause = error.to_string();
        match error {
            Error::Io(e) => e.downcast().unwrap_or(Self::Invalid(cause)),
            Error::Timeout(Timeout::Connect | Timeout::Resolve) => Self::NotConnected { silent: true, cause },
            Error::HostNotFound => Self::NotConnected { silent: false, cause },
            Error::Timeout(_) => Self::TimedOut(cause),
            _ => Self::Invalid(cause),
        }
    }
}
