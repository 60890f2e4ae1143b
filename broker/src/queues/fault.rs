//! What a client is told when it breaks a rule: an AMQP reply code (AMQP 0-9-1 §1.8, RabbitMQ's texts) and whether the
//! channel or the whole connection ends with it.

use std::fmt;

/// A reply code with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) u16, pub(crate) &'static str);

pub(crate) const CONNECTION_FORCED: Code = Code(320, "CONNECTION_FORCED");
pub(crate) const ACCESS_REFUSED: Code = Code(403, "ACCESS_REFUSED");
pub(crate) const NOT_FOUND: Code = Code(404, "NOT_FOUND");
pub(crate) const RESOURCE_LOCKED: Code = Code(405, "RESOURCE_LOCKED");
pub(crate) const PRECONDITION_FAILED: Code = Code(406, "PRECONDITION_FAILED");
pub(crate) const FRAME_ERROR: Code = Code(501, "FRAME_ERROR");
pub(crate) const SYNTAX_ERROR: Code = Code(502, "SYNTAX_ERROR");
pub(crate) const COMMAND_INVALID: Code = Code(503, "COMMAND_INVALID");
pub(crate) const CHANNEL_ERROR: Code = Code(504, "CHANNEL_ERROR");
pub(crate) const UNEXPECTED_FRAME: Code = Code(505, "UNEXPECTED_FRAME");
pub(crate) const RESOURCE_ERROR: Code = Code(506, "RESOURCE_ERROR");
pub(crate) const NOT_ALLOWED: Code = Code(530, "NOT_ALLOWED");
pub(crate) const NOT_IMPLEMENTED: Code = Code(540, "NOT_IMPLEMENTED");
pub(crate) const INTERNAL_ERROR: Code = Code(541, "INTERNAL_ERROR");

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Ends the channel.
    Channel(Code, String),
    /// Ends the connection.
    Connection(Code, String),
    /// The peer is gone, or must be dropped without a word; the text is for the log, empty if there is nothing to say.
    Gone(String),
}

/// The outcome of handling what a client sent.
pub(crate) type Outcome<T = ()> = Result<T, Fault>;

impl Fault {
    pub(crate) fn channel<T>(code: Code, text: impl Into<String>) -> Outcome<T> {
        Err(Self::Channel(code, text.into()))
    }

    pub(crate) fn connection<T>(code: Code, text: impl Into<String>) -> Outcome<T> {
        Err(Self::Connection(code, text.into()))
    }

    pub(crate) fn gone<T>(why: impl Into<String>) -> Outcome<T> {
        Err(Self::Gone(why.into()))
    }
}

/// The text of a close method: the code's name, then what happened.
pub(crate) fn close_text(code: Code, text: &str) -> String {
    format!("{} - {text}", code.1)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(code, text) | Self::Connection(code, text) => {
                write!(f, "{} {}", code.0, close_text(*code, text))
            }
            Self::Gone(text) => f.write_str(text),
        }
    }
}
