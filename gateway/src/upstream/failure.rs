//! Why a service did not answer a request.

use std::fmt;

/// Why an instance did not answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection could be made, so that the request did not reach anybody. `silent`: nobody answered, not even
    /// with a refusal.
    NotConnected { silent: bool, cause: String },
    /// This process or its system has run out of something, such as descriptors; the request did not reach anybody.
    Local(String),
    /// Every instance that could be asked has all the requests that it may have.
    Overloaded,
    /// The connection was lost before a byte of the answer came.
    Lost {
        /// Whether it is certain that no byte of the request was sent.
        unsent: bool,
        /// Whether the connection had been used before, so that it may have been dead already.
        reused: bool,
        cause: String,
    },
    /// The instance turned out to be hung while the answer was awaited.
    Hung(String),
    /// The answer did not come in time.
    TimedOut(String),
    /// The answer is not HTTP, or was cut off within its head.
    Invalid(String),
    /// The target has a character that cannot be sent.
    BadTarget,
}

/// What a failure means to whoever sent the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No instance can be reached; nothing was done.
    Unreachable = 0,
    /// Each instance has all the requests that it may have; nothing was done.
    Overloaded = 1,
    /// This process or its system has run out of something; nothing was done.
    Local = 2,
    /// The answer is not HTTP, or incomplete.
    Invalid = 3,
    /// The answer did not come in time; nobody knows what was done.
    TimedOut = 4,
}

impl Reason {
    /// All of them, as metrics name them.
    pub(crate) const NAMES: [&str; 5] = ["unavailable", "overloaded", "local", "invalid", "timeout"];
}

impl Failure {
    /// What it means; `None` when the request is to blame.
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
    /// The transport's own failures pass through ureq as they are.
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
