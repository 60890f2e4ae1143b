//! Why a broker cannot be used, and why a message was not published.

use std::fmt;

/// Why a broker could not be reached or used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerError {
    text: String,
    /// The text without addresses, if it has any.
    reason: Option<String>,
}

impl BrokerError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), reason: None }
    }

    /// The problem of each host that was tried.
    pub(crate) fn of_hosts(problems: &[((&str, u16), String)]) -> Self {
        let texts = problems.iter().map(|((host, port), reason)| format!("{host}:{port}: {reason}"));
        let mut reasons: Vec<_> = problems.iter().map(|(_, reason)| reason.as_str()).collect();
        reasons.dedup();
        Self { text: texts.collect::<Vec<_>>().join("; "), reason: Some(reasons.join("; ")) }
    }

    /// The text without the addresses of the broker, for people who need not know them.
    pub fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or(&self.text)
    }
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for BrokerError {}

/// Why a publish failed, or may have failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// The connection is closed, or closed before the confirm came.
    Closed(String),
    /// The broker accepts no messages at the moment, because its disk or memory is nearly full. The message was not
    /// sent.
    Blocked(String),
    /// No queue took the message (AMQP 0-9-1 §1.8.3.9, `mandatory`).
    Returned(String),
    /// The broker rejected the message (basic.nack).
    Nacked,
    /// No confirm came in time; the message may or may not be stored.
    TimedOut,
    /// Too many messages already wait for their confirm.
    Busy,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(reason) => write!(f, "the connection to the broker is closed: {reason}"),
            Self::Blocked(reason) => write!(f, "the broker takes no messages for now: {reason}"),
            Self::Returned(reason) => write!(f, "the broker returned the message: {reason}"),
            Self::Nacked => f.write_str("the broker refused the message"),
            Self::TimedOut => f.write_str("the broker did not confirm the message in time"),
            Self::Busy => f.write_str("too many messages wait for a confirm"),
        }
    }
}

impl std::error::Error for PublishError {}
