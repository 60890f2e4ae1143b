//! Why the edge refuses a request, and how it answers the client.

use std::borrow::Cow;
use std::fmt;

use foundation::codes;

/// Why a request is refused. [`Refusal::status`] and [`Refusal::public`] are for the client, [`Refusal::cause`] is for
/// the log.
#[derive(Debug)]
pub enum Refusal {
    /// 400: the request breaks a rule of HTTP; the text says which.
    BadRequest(&'static str),
    /// 408: the request was begun and not completed in time.
    Timeout(&'static str),
    /// 413: the body exceeds this many bytes.
    BodyTooLarge(u64),
    /// 414: the request line exceeds this many bytes.
    UriTooLong(usize),
    /// 417: `Expect` asks for something other than `100-continue`.
    ExpectationFailed,
    /// 429: the client's address has too many connections.
    TooManyConnections,
    /// 431: the header block exceeds a limit; the text says which.
    HeadersTooLarge(&'static str),
    /// 500: a bug in the service or here; the text is for the log only.
    Internal(&'static str),
    /// 503: all connections are taken.
    Overloaded,
    /// 503: the bodies of all requests together exceed their budget.
    BodiesTooLarge,
    /// 505: an unsupported version of HTTP.
    VersionNotSupported,
    /// The client is gone or has stopped reading, so no answer can be sent.
    ClientGone(std::io::Error),
}

impl Refusal {
    /// The status code of the answer; 400 for a client that will never see it.
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest(_) | Self::ClientGone(_) => 400,
            Self::Timeout(_) => 408,
            Self::BodyTooLarge(_) => 413,
            Self::UriTooLong(_) => 414,
            Self::ExpectationFailed => 417,
            Self::TooManyConnections => 429,
            Self::HeadersTooLarge(_) => 431,
            Self::Internal(_) => 500,
            Self::Overloaded | Self::BodiesTooLarge => 503,
            Self::VersionNotSupported => 505,
        }
    }

    /// The text for the client: never an internal name, address or cause.
    pub fn public(&self) -> Cow<'static, str> {
        match self {
            Self::BadRequest(text) | Self::Timeout(text) | Self::HeadersTooLarge(text) => (*text).into(),
            Self::BodyTooLarge(limit) => format!("the body exceeds {limit} bytes").into(),
            Self::UriTooLong(limit) => format!("the request line exceeds {limit} bytes").into(),
            Self::ExpectationFailed => "only 100-continue can be expected".into(),
            Self::TooManyConnections => "too many connections from this address".into(),
            Self::Internal(_) => "internal error".into(),
            Self::Overloaded => "too many connections".into(),
            Self::BodiesTooLarge => "too many large bodies at the same time".into(),
            Self::VersionNotSupported => "only HTTP/1.0 and HTTP/1.1 are spoken here".into(),
            Self::ClientGone(_) => "the request is incomplete".into(),
        }
    }

    /// The stable name of the error, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) | Self::ClientGone(_) => codes::REQUEST_MALFORMED,
            Self::Timeout(_) => codes::REQUEST_TIMEOUT,
            Self::BodyTooLarge(_) => codes::BODY_TOO_LARGE,
            Self::UriTooLong(_) => codes::URI_TOO_LONG,
            Self::ExpectationFailed => codes::EXPECTATION_FAILED,
            Self::TooManyConnections => codes::TOO_MANY_CONNECTIONS,
            Self::HeadersTooLarge(_) => codes::HEADERS_TOO_LARGE,
            Self::Internal(_) => codes::INTERNAL_ERROR,
            Self::Overloaded | Self::BodiesTooLarge => codes::OVERLOADED,
            Self::VersionNotSupported => codes::VERSION_NOT_SUPPORTED,
        }
    }

    /// What the log shows in addition to the public text.
    pub fn cause(&self) -> Option<String> {
        match self {
            Self::Internal(cause) => Some((*cause).to_owned()),
            Self::ClientGone(error) => Some(error.to_string()),
            _ => None,
        }
    }

    /// The value of `Retry-After` in seconds, where trying again can help.
    pub fn retry_after(&self) -> Option<&'static str> {
        matches!(self.status(), 429 | 503).then_some("1")
    }

    /// The response body.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::json!({ "error": self.public(), "code": self.code() }).to_string().into_bytes()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.public())?;
        self.cause().map_or(Ok(()), |cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::ClientGone(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_never_sees_the_cause() {
        let refusal = Refusal::Internal("the index is off by one");
        assert_eq!(refusal.to_json(), br#"{"code":"internal_error","error":"internal error"}"#);
        assert_eq!(refusal.to_string(), "internal error: the index is off by one");
        assert_eq!(Refusal::BodiesTooLarge.retry_after(), Some("1"));
    }
}
