//! A request of the management API, taken apart, and what it can be answered with.

use std::fmt::Write as _;

use foundation::listener::Answer;
use serde_json::{Value, json};

use super::identity::NODE;
use crate::queues::fault::{Fault, INTERNAL_ERROR, NOT_FOUND};

/// What a handler returns.
pub(super) type ApiResult<T = Reply> = Result<T, ApiError>;

/// The answer to a request that was served.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    /// 200 with a page.
    Json(Value),
    /// 200 with a page that is text already.
    Text(String),
    /// 201; what was created may have an address.
    Created(Option<String>),
    /// 204.
    Done,
}

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ApiError {
    /// 400, with the reason.
    BadRequest(String),
    /// 401, with the reason.
    NotAuthorized(&'static str),
    /// 400 for a page of a list that cannot be: RabbitMQ's name of the error, and the reason.
    Page(&'static str, String),
    /// 404.
    NotFound,
    /// 404 for something that the request needs, with the reason.
    Missing(String),
    /// 405, with the methods that are allowed.
    Method(&'static str),
    /// 413, with the limit in bytes.
    TooLarge(usize),
    /// 500: the log has the cause.
    Internal,
    /// 503, with the reason.
    Unavailable(&'static str),
    /// 503: a check found an alarm of this resource.
    Alarm(&'static str),
}

impl ApiError {
    /// A request that cannot be understood, or that asks for what cannot be.
    pub(super) fn bad<T>(reason: impl Into<String>) -> ApiResult<T> {
        Err(Self::BadRequest(reason.into()))
    }

    /// A fault of publishing and getting, of which RabbitMQ names the code.
    pub(super) fn with_code(fault: Fault) -> Self {
        match fault {
            Fault::Channel(INTERNAL_ERROR, _) | Fault::Connection(INTERNAL_ERROR, _) => Self::Internal,
            fault => Self::BadRequest(fault.to_string()),
        }
    }
}

/// A fault of declaring, binding and deleting.
impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Channel(INTERNAL_ERROR, _) | Fault::Connection(INTERNAL_ERROR, _) => Self::Internal,
            Fault::Channel(NOT_FOUND, text) => Self::Missing(text),
            Fault::Channel(_, text) | Fault::Connection(_, text) | Fault::Gone(text) => {
                Self::BadRequest(text)
            }
        }
    }
}

/// The answer on the wire.
pub(super) fn answer(result: ApiResult) -> Answer {
    let error = |status, name: &str, reason: &str| {
        Answer::json(status, json!({ "error": name, "reason": reason }).to_string())
    };
    match result {
        Ok(Reply::Json(page)) => Answer::json(200, page.to_string()).with("Cache-Control", "no-cache"),
        Ok(Reply::Text(page)) => Answer::json(200, page).with("Cache-Control", "no-cache"),
        Ok(Reply::Created(location)) => match location {
            Some(location) => Answer::empty(201).with("Location", location),
            None => Answer::empty(201),
        },
        Ok(Reply::Done) => Answer::empty(204),
        Err(ApiError::BadRequest(reason)) => error(400, "bad_request", &reason),
        Err(ApiError::Page(name, reason)) => error(400, name, &reason),
        Err(ApiError::NotAuthorized(reason)) => {
            error(401, "not_authorized", reason).with("WWW-Authenticate", "Basic realm=\"broker\"")
        }
        Err(ApiError::NotFound) => error(404, "Object Not Found", "Not Found"),
        Err(ApiError::Missing(reason)) => error(404, "not_found", &reason),
        Err(ApiError::Method(allowed)) => {
            error(405, "Method Not Allowed", "the page has other methods").with("Allow", allowed)
        }
        Err(ApiError::TooLarge(limit)) => {
            error(413, "payload_too_large", &format!("the body has more than {limit} bytes"))
        }
        Err(ApiError::Internal) => error(500, "internal_error", "the log has the cause"),
        Err(ApiError::Unavailable(reason)) => error(503, "unavailable", reason).with("Retry-After", "5"),
        Err(ApiError::Alarm(resource)) => {
            let alarms = json!([{ "node": NODE, "resource": resource }]);
            let reason = "There are alarms in effect in the cluster";
            let page = json!({ "alarms": alarms, "reason": reason, "status": "failed" });
            Answer::json(503, page.to_string())
        }
    }
}

/// The target of a request: the segments of the path and the fields of the query, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) segments: Vec<String>,
    query: Vec<(String, String)>,
}

impl Target {
    /// Takes a target apart. `None` if an escape or its text is malformed.
    pub(super) fn parse(target: &str) -> Option<Self> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = path.strip_prefix('/')?;
        let mut segments: Vec<String> =
            path.split('/').map(|segment| decode(segment, false)).collect::<Option<_>>()?;
        // A slash at the end makes no difference; an exchange's empty name can stand in the middle only.
        segments
            .truncate(segments.iter().rposition(|segment| !segment.is_empty()).map_or(0, |last| last + 1));
        let fields = query.split('&').filter(|field| !field.is_empty()).map(|field| {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            Some((decode(name, true)?, decode(value, true)?))
        });
        Some(Self { segments, query: fields.collect::<Option<_>>()? })
    }

    /// The value of the query's field `name`.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether the query's field `name` is `true`.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.query(name) == Some("true")
    }
}

/// Decodes percent escapes (RFC 3986 §2.1), and `+` as a space in a query.
fn decode(text: &str, in_query: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let (high, low) = (rest.next()?, rest.next()?);
                let digit =
                    |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit(high)? << 4 | digit(low)?
            }
            b'+' if in_query => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Encodes everything but unreserved characters (RFC 3986 §2.3).
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// A body that must be a JSON object; an empty one counts as `{}`.
pub(super) fn object(body: &[u8]) -> ApiResult<Value> {
    if body.is_empty() {
        return Ok(json!({}));
    }
    match serde_json::from_slice(body) {
        Ok(value @ Value::Object(_)) => Ok(value),
        _ => ApiError::bad("not_json"),
    }
}

/// The text `name` of a body.
pub(super) fn text<'v>(body: &'v Value, name: &str) -> ApiResult<&'v str> {
    body[name].as_str().ok_or_else(|| ApiError::BadRequest(format!("key_missing: {name}")))
}

/// The truth value `name` of a body; programs send it as a text, too.
pub(super) fn flag(body: &Value, name: &str, default: bool) -> ApiResult<bool> {
    match &body[name] {
        Value::Null => Ok(default),
        Value::Bool(value) => Ok(*value),
        Value::String(text) if text == "true" => Ok(true),
        Value::String(text) if text == "false" => Ok(false),
        other => ApiError::bad(format!("'{name}' must be true or false, not {other}")),
    }
}

/// The count `name` of a body; programs send it as a text, too.
pub(super) fn count(body: &Value, name: &str) -> ApiResult<usize> {
    let number = match &body[name] {
        Value::String(text) => text.parse().ok(),
        value => value.as_u64().and_then(|number| usize::try_from(number).ok()),
    };
    number.ok_or_else(|| ApiError::BadRequest(format!("'{name}' must be a number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_taken_apart_after_they_were_split() {
        let target =
            Target::parse("/api/queues/%2F/a%20b+c?columns=name,x&sort=a+b&flag&if-empty=true").unwrap();
        assert_eq!(target.segments, ["api", "queues", "/", "a b+c"]);
        assert_eq!((target.query("columns"), target.query("sort")), (Some("name,x"), Some("a b")));
        assert_eq!((target.query("flag"), target.query("none")), (Some(""), None));
        assert!(target.is_set("if-empty") && !target.is_set("flag"));
        let target = Target::parse("/api/bindings/%2f/e//q/orders/").unwrap();
        assert_eq!(target.segments, ["api", "bindings", "/", "e", "", "q", "orders"]);
        for malformed in ["/api/%", "/api/%2", "/api/%zz", "/api/%ff", "/api?a=%+1", "api"] {
            assert_eq!(Target::parse(malformed), None, "{malformed}");
        }
    }

    #[test]
    fn what_was_encoded_decodes_to_the_same() {
        let text = "order.#/ä b~";
        assert_eq!(encode(text), "order.%23%2F%C3%A4%20b~");
        assert_eq!(decode(&encode(text), false).as_deref(), Some(text));
    }

    #[test]
    fn flags_and_counts_may_be_texts() {
        let body = object(br#"{"a":true,"b":"false","c":3,"d":"4","e":null}"#).unwrap();
        assert_eq!(flag(&body, "a", false), Ok(true));
        assert_eq!(flag(&body, "b", true), Ok(false));
        assert_eq!((flag(&body, "e", true), flag(&body, "x", true)), (Ok(true), Ok(true)));
        assert!(flag(&body, "c", true).is_err());
        assert_eq!((count(&body, "c"), count(&body, "d")), (Ok(3), Ok(4)));
        assert!(count(&body, "a").is_err() && count(&body, "x").is_err());
        assert!(object(b"[]").is_err() && object(b"{").is_err());
        assert_eq!(object(b""), Ok(json!({})));
    }
}
