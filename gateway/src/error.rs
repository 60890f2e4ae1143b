//! What can go wrong: [`Error`] keeps the gateway from starting, [`Problem`] is the answer to one request.

use std::borrow::Cow;
use std::fmt;

use edge::{Refusal, Request, Response};
use foundation::{Warnings, codes};
use order::InvalidOrder;

use crate::token_table::{Role, TokenFault};
use crate::upstream::Reason;

/// Requests that failed, of which strangers can send any number.
static FAILED: Warnings = Warnings::new("requests that failed");

/// Why the gateway cannot start.
#[derive(Debug)]
pub enum Error {
    /// A setting or something else that all services share.
    Foundation(foundation::Error),
    /// The address cannot be listened on.
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
    /// The outbox cannot be used.
    Outbox(broker::Error),
    /// `--check` found a dependency that does not answer.
    Dependency(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foundation(error) => error.fmt(f),
            Self::Listen { addr, source } => write!(f, "listen on {addr}: {source}"),
            Self::Io { action, source } => write!(f, "{action}: {source}"),
            Self::Outbox(error) => write!(f, "GATEWAY_OUTBOX_DIR: {error}"),
            Self::Dependency(problem) => f.write_str(problem),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Foundation(error) => Some(error),
            Self::Listen { source, .. } | Self::Io { source, .. } => Some(source),
            Self::Outbox(error) => Some(error),
            Self::Dependency(_) => None,
        }
    }
}

impl From<foundation::Error> for Error {
    fn from(error: foundation::Error) -> Self {
        Self::Foundation(error)
    }
}

/// Why a request was not served. [`Problem::status`] and [`Problem::public`] are for the client, [`Problem::cause`] is
/// for the log.
#[derive(Debug)]
pub enum Problem {
    /// The edge refuses it, and answers it.
    Refused(Refusal),
    /// The body is no valid order.
    InvalidOrder(InvalidOrder),
    /// There is no token, though one is needed, or it is not valid.
    Unauthorized(Option<TokenFault>),
    /// The client may not do this.
    Forbidden {
        /// The role that may.
        needed: Role,
    },
    /// The gateway does not serve the host that the request names.
    Misdirected,
    /// A parameter, a header field or an id in the path breaks a rule; the text says which.
    FieldInvalid(&'static str),
    /// No such path.
    NotFound,
    /// The path exists, but not the thing that its last segment names, such as `Order`.
    NoSuch(&'static str),
    /// The path exists, but not with this method.
    MethodNotAllowed {
        /// The methods that exist, as the value of `Allow`.
        allow: &'static str,
    },
    /// The client asks too much.
    TooManyRequests {
        /// After how many seconds it may try again.
        retry_after_s: u64,
    },
    /// The `Content-Type` is not JSON.
    UnsupportedMediaType,
    /// A service gave no answer, or only part of one.
    Upstream {
        /// The service's name.
        service: &'static str,
        /// What that means for the request.
        reason: Reason,
        /// Why.
        cause: String,
    },
    /// The order was not confirmed to be stored.
    NotPublished {
        /// The id under which the order can be repeated.
        message_id: String,
        /// Nobody knows whether it was stored.
        may_be_stored: bool,
        /// Why.
        cause: String,
    },
    /// The key of the order was used for another one.
    KeyUsed {
        /// The message id that it stands for.
        message_id: String,
    },
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Problem {
    /// A request that breaks a rule of the gateway; the text says which.
    pub(crate) const fn bad_request(text: &'static str) -> Self {
        Self::Refused(Refusal::BadRequest(text))
    }

    /// The status code of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::Refused(refusal) => refusal.status(),
            Self::InvalidOrder(_) | Self::FieldInvalid(_) => 400,
            Self::Unauthorized(_) => 401,
            Self::Forbidden { .. } => 403,
            Self::NotFound | Self::NoSuch(_) => 404,
            Self::MethodNotAllowed { .. } => 405,
            Self::UnsupportedMediaType => 415,
            Self::Misdirected => 421,
            Self::KeyUsed { .. } => 422,
            Self::TooManyRequests { .. } => 429,
            Self::Upstream { reason: Reason::Invalid, .. } => 502,
            Self::Upstream { reason: Reason::TimedOut, .. } => 504,
            Self::Upstream { .. } | Self::NotPublished { .. } => 503,
        }
    }

    /// The text for the client: never an internal name, address or cause.
    pub fn public(&self) -> Cow<'static, str> {
        match self {
            Self::Refused(refusal) => refusal.public(),
            Self::InvalidOrder(InvalidOrder::Malformed(text)) => text.clone().into(),
            Self::InvalidOrder(InvalidOrder::Fields(_)) => "the order is invalid".into(),
            Self::Unauthorized(None) => "this needs a token".into(),
            Self::Unauthorized(Some(TokenFault::Unknown)) => "the token is not valid".into(),
            Self::Unauthorized(Some(TokenFault::Expired)) => "the token has expired".into(),
            Self::Forbidden { needed } => format!("this needs the role {}", needed.name()).into(),
            Self::Misdirected => {
                "the gateway does not serve this host name; see GATEWAY_ALLOWED_HOSTS".into()
            }
            Self::FieldInvalid(text) => (*text).into(),
            Self::NotFound => "not found".into(),
            Self::NoSuch(what) => format!("{what} not found").into(),
            Self::MethodNotAllowed { .. } => "method not allowed".into(),
            Self::TooManyRequests { .. } => "too many requests; slow down".into(),
            Self::UnsupportedMediaType => "the body must be application/json".into(),
            Self::Upstream { service, reason, .. } => match reason {
                Reason::Unreachable => format!("{service} is not reachable").into(),
                Reason::Overloaded => format!("too many requests wait for {service}").into(),
                Reason::Local => "the gateway has too much to do".into(),
                Reason::Invalid => format!("{service} sent an invalid answer").into(),
                Reason::TimedOut => format!("{service} did not answer in time").into(),
            },
            Self::NotPublished { message_id, may_be_stored: false, .. } => {
                format!("the order was not stored by this request; repeat it with Idempotency-Key {message_id}").into()
            }
            Self::NotPublished { message_id, .. } => format!(
                "the order is not confirmed: it may have been stored; repeat it with Idempotency-Key {message_id}"
            )
            .into(),
            Self::KeyUsed { .. } => "the Idempotency-Key was used for another order".into(),
        }
    }

    /// The stable name of the error, for programs.
    pub fn code(&self) -> Cow<'static, str> {
        let code = match self {
            Self::NoSuch(what) => return codes::of_resource(what, "not_found").into(),
            Self::Refused(refusal) => refusal.code(),
            Self::InvalidOrder(InvalidOrder::Malformed(_)) => codes::BODY_MALFORMED,
            Self::InvalidOrder(InvalidOrder::Fields(_)) | Self::FieldInvalid(_) => codes::FIELD_INVALID,
            Self::Unauthorized(None) => codes::TOKEN_MISSING,
            Self::Unauthorized(Some(TokenFault::Unknown)) => codes::TOKEN_INVALID,
            Self::Unauthorized(Some(TokenFault::Expired)) => codes::TOKEN_EXPIRED,
            Self::Forbidden { .. } => codes::ROLE_TOO_SMALL,
            Self::Misdirected => codes::HOST_UNKNOWN,
            Self::NotFound => codes::PATH_NOT_FOUND,
            Self::MethodNotAllowed { .. } => codes::METHOD_NOT_ALLOWED,
            Self::TooManyRequests { .. } => codes::TOO_MANY_REQUESTS,
            Self::UnsupportedMediaType => codes::MEDIA_TYPE_UNSUPPORTED,
            Self::Upstream { reason: Reason::Unreachable, .. }
            | Self::NotPublished { may_be_stored: false, .. } => codes::DEPENDENCY_DOWN,
            Self::Upstream { reason: Reason::Overloaded | Reason::Local, .. } => codes::OVERLOADED,
            Self::Upstream { reason: Reason::Invalid, .. } => codes::ANSWER_INVALID,
            Self::Upstream { reason: Reason::TimedOut, .. } | Self::NotPublished { .. } => {
                codes::OUTCOME_UNKNOWN
            }
            Self::KeyUsed { .. } => codes::KEY_USED,
        };
        code.into()
    }

    /// What the log shows in addition to the public text.
    pub fn cause(&self) -> Option<&str> {
        match self {
            Self::Upstream { cause, .. } | Self::NotPublished { cause, .. } => Some(cause),
            _ => None,
        }
    }

    /// Logs the problem and answers with it, if no byte of another response was sent. Returns a refusal of the edge for
    /// the edge to answer.
    pub(crate) fn answer(self, request: &Request<'_>, response: &mut Response<'_>) -> Result<(), Refusal> {
        if let Self::Refused(refusal) = self {
            return Err(refusal);
        }
        let status = self.status();
        let cause = self.cause().unwrap_or_default();
        let separator = if cause.is_empty() { "" } else { ": " };
        let (id, public) = (request.request_id(), self.public());
        if status >= 500 {
            FAILED.warn(format_args!("{id} {status} {public}{separator}{cause}"));
        } else {
            log::debug!("{id} {status} {public}{separator}{cause}");
        }
        if response.is_sent() {
            return Ok(());
        }
        let retry_after: String;
        let fields: &[_] = match self {
            Self::TooManyRequests { retry_after_s } => {
                retry_after = retry_after_s.to_string();
                &[("retry-after", retry_after.as_str())]
            }
            Self::MethodNotAllowed { allow } => &[("allow", allow)],
            Self::Unauthorized(fault) => &[("www-authenticate", challenge(fault))],
            Self::Forbidden { needed } => &[("www-authenticate", challenge_for(needed))],
            _ if status == 503 => &[("retry-after", "1")],
            _ => &[],
        };
        response.send_json(status, fields, &self.to_json())
    }

    /// The response body.
    pub fn to_json(&self) -> Vec<u8> {
        let mut members = serde_json::Map::new();
        members.insert("error".to_owned(), self.public().into_owned().into());
        members.insert("code".to_owned(), self.code().into_owned().into());
        match self {
            Self::InvalidOrder(InvalidOrder::Fields(fields)) => {
                let fields: serde_json::Map<_, _> =
                    fields.iter().map(|(name, problem)| ((*name).to_owned(), (*problem).into())).collect();
                members.insert("fields".to_owned(), fields.into());
            }
            Self::NotPublished { message_id, .. } | Self::KeyUsed { message_id } => {
                members.insert("message_id".to_owned(), message_id.as_str().into());
            }
            _ => {}
        }
        serde_json::Value::Object(members).to_string().into_bytes()
    }
}

/// What `WWW-Authenticate` says with 401 (RFC 6750 §3): without a token, only how to send one.
fn challenge(fault: Option<TokenFault>) -> &'static str {
    match fault {
        None => r#"Bearer realm="movies""#,
        Some(TokenFault::Unknown) => {
            r#"Bearer realm="movies", error="invalid_token", error_description="the token is not valid""#
        }
        Some(TokenFault::Expired) => {
            r#"Bearer realm="movies", error="invalid_token", error_description="the token has expired""#
        }
    }
}

/// What `WWW-Authenticate` says with 403 (RFC 6750 §3.1).
fn challenge_for(needed: Role) -> &'static str {
    match needed {
        Role::Read => r#"Bearer realm="movies", error="insufficient_scope", scope="read""#,
        Role::Write => r#"Bearer realm="movies", error="insufficient_scope", scope="write""#,
        Role::Admin => r#"Bearer realm="movies", error="insufficient_scope", scope="admin""#,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_never_sees_the_cause() {
        let cause = "connect to 10.0.0.7:8080: refused".to_owned();
        let problem = Problem::Upstream { service: "todo", reason: Reason::Unreachable, cause };
        assert_eq!(problem.to_json(), br#"{"code":"dependency_down","error":"todo is not reachable"}"#);
        assert!(problem.cause().unwrap().contains("10.0.0.7"));
    }

    #[test]
    fn invalid_fields_are_named() {
        let invalid = InvalidOrder::Fields(vec![("user_id", "is required")]);
        let json = String::from_utf8(Problem::InvalidOrder(invalid).to_json()).unwrap();
        assert_eq!(
            json,
            r#"{"code":"field_invalid","error":"the order is invalid","fields":{"user_id":"is required"}}"#
        );
    }
}
