//! What can go wrong: [`Error`] keeps the gateway from starting, [`Problem`] is the answer to one request.

use std::borrow::Cow;
use std::fmt;

use order::InvalidOrder;

/// Why the gateway cannot start.
#[derive(Debug)]
pub enum Error {
    /// A setting or something else that all services share.
    Foundation(foundation::Error),
    /// The address to listen on cannot be had.
    Listen {
        /// The address.
        addr: String,
        /// The operating system's own report.
        source: std::io::Error,
    },
    /// The operating system refused something else.
    Io {
        /// What was being done.
        action: &'static str,
        /// The operating system's own report.
        source: std::io::Error,
    },
    /// `--check` found a dependency that does not answer.
    Dependency(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foundation(error) => error.fmt(f),
            Self::Listen { addr, source } => write!(f, "listen on {addr}: {source}"),
            Self::Io { action, source } => write!(f, "{action}: {source}"),
            Self::Dependency(problem) => f.write_str(problem),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Foundation(error) => Some(error),
            Self::Listen { source, .. } | Self::Io { source, .. } => Some(source),
            Self::Dependency(_) => None,
        }
    }
}

impl From<foundation::Error> for Error {
    fn from(error: foundation::Error) -> Self {
        Self::Foundation(error)
    }
}

/// Why a request was not served. [`Problem::status`] and [`Problem::public`] are for the client,
/// [`Problem::cause`] is for the log.
#[derive(Debug)]
pub enum Problem {
    /// The request breaks a rule of HTTP or of this service; the text says which.
    BadRequest(&'static str),
    /// The body of an order is no valid order.
    InvalidOrder(InvalidOrder),
    /// No such path.
    NotFound,
    /// The path exists, the method on it does not.
    MethodNotAllowed {
        /// The methods that do exist, as the field `Allow` lists them.
        allow: &'static str,
    },
    /// The request was begun and not completed in time.
    Timeout(&'static str),
    /// The body exceeds the route's limit, in bytes.
    BodyTooLarge(u64),
    /// The request line exceeds the limit, in bytes.
    UriTooLong(usize),
    /// The body is not JSON by its own declaration.
    UnsupportedMediaType,
    /// `Expect` asks for something else than `100-continue`.
    ExpectationFailed,
    /// The client's address has too many connections.
    TooManyConnections,
    /// The header block exceeds the limit.
    HeadersTooLarge(&'static str),
    /// A bug of ours.
    Internal(&'static str),
    /// A method that no route knows.
    NotImplemented,
    /// Inventory answered something that is not HTTP.
    BadUpstream(String),
    /// All connections are taken.
    Overloaded,
    /// No inventory can be reached.
    UpstreamDown(String),
    /// The broker did not confirm the order.
    NotPublished {
        /// The id under which the order may or may not have reached the queue.
        message_id: String,
        /// Why.
        cause: String,
    },
    /// Inventory did not answer in time.
    UpstreamTimeout(String),
    /// A version of HTTP that is not spoken here.
    VersionNotSupported,
    /// The client is gone; there is nobody to answer.
    ClientGone(std::io::Error),
}

impl Problem {
    /// The status code of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest(_) | Self::InvalidOrder(_) | Self::ClientGone(_) => 400,
            Self::NotFound => 404,
            Self::MethodNotAllowed { .. } => 405,
            Self::Timeout(_) => 408,
            Self::BodyTooLarge(_) => 413,
            Self::UriTooLong(_) => 414,
            Self::UnsupportedMediaType => 415,
            Self::ExpectationFailed => 417,
            Self::TooManyConnections => 429,
            Self::HeadersTooLarge(_) => 431,
            Self::Internal(_) => 500,
            Self::NotImplemented => 501,
            Self::BadUpstream(_) => 502,
            Self::Overloaded | Self::UpstreamDown(_) | Self::NotPublished { .. } => 503,
            Self::UpstreamTimeout(_) => 504,
            Self::VersionNotSupported => 505,
        }
    }

    /// What the client is told: never an internal name, address or cause.
    pub fn public(&self) -> Cow<'static, str> {
        match self {
            Self::BadRequest(text) | Self::Timeout(text) | Self::HeadersTooLarge(text) => (*text).into(),
            Self::InvalidOrder(InvalidOrder::Malformed(text)) => text.clone().into(),
            Self::InvalidOrder(InvalidOrder::Fields(_)) => "the order is invalid".into(),
            Self::NotFound => "not found".into(),
            Self::MethodNotAllowed { .. } => "method not allowed".into(),
            Self::BodyTooLarge(limit) => format!("the body exceeds {limit} bytes").into(),
            Self::UriTooLong(limit) => format!("the request line exceeds {limit} bytes").into(),
            Self::UnsupportedMediaType => "the body must be application/json".into(),
            Self::ExpectationFailed => "only 100-continue can be expected".into(),
            Self::TooManyConnections => "too many connections from this address".into(),
            Self::Internal(_) => "internal error".into(),
            Self::NotImplemented => "this method is not implemented".into(),
            Self::BadUpstream(_) => "inventory sent an invalid answer".into(),
            Self::Overloaded => "too many connections".into(),
            Self::UpstreamDown(_) => "inventory is not reachable".into(),
            Self::NotPublished { .. } => "the order could not be queued".into(),
            Self::UpstreamTimeout(_) => "inventory did not answer in time".into(),
            Self::VersionNotSupported => "only HTTP/1.0 and HTTP/1.1 are spoken here".into(),
            Self::ClientGone(_) => "the request is incomplete".into(),
        }
    }

    /// What the log is told beyond the public text.
    pub fn cause(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::BadUpstream(cause)
            | Self::UpstreamDown(cause)
            | Self::UpstreamTimeout(cause)
            | Self::NotPublished { cause, .. } => Some(cause.as_str().into()),
            Self::Internal(cause) => Some((*cause).into()),
            Self::ClientGone(error) => Some(error.to_string().into()),
            _ => None,
        }
    }

    /// The value of `Allow`, which a 405 must have.
    pub fn allow(&self) -> Option<&'static str> {
        match self {
            Self::MethodNotAllowed { allow } => Some(allow),
            _ => None,
        }
    }

    /// When to try again, in seconds, where trying again can help.
    pub fn retry_after(&self) -> Option<u32> {
        matches!(self.status(), 429 | 503).then_some(1)
    }

    /// The answer's body.
    pub fn to_json(&self) -> Vec<u8> {
        let mut members = serde_json::Map::new();
        members.insert("error".to_owned(), self.public().into_owned().into());
        match self {
            Self::InvalidOrder(InvalidOrder::Fields(fields)) => {
                let fields: serde_json::Map<_, _> =
                    fields.iter().map(|(name, problem)| ((*name).to_owned(), (*problem).into())).collect();
                members.insert("fields".to_owned(), fields.into());
            }
            Self::NotPublished { message_id, .. } => {
                members.insert("message_id".to_owned(), message_id.as_str().into());
            }
            _ => {}
        }
        serde_json::Value::Object(members).to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_never_sees_the_cause() {
        let problem = Problem::UpstreamDown("connect to 10.0.0.7:8080: refused".to_owned());
        assert_eq!(problem.to_json(), br#"{"error":"inventory is not reachable"}"#);
        assert!(problem.cause().unwrap().contains("10.0.0.7"));
        assert_eq!(problem.retry_after(), Some(1));
    }

    #[test]
    fn invalid_fields_are_named() {
        let invalid = InvalidOrder::Fields(vec![("user_id", "is required")]);
        let json = String::from_utf8(Problem::InvalidOrder(invalid).to_json()).unwrap();
        assert_eq!(json, r#"{"error":"the order is invalid","fields":{"user_id":"is required"}}"#);
    }
}
