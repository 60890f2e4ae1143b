//! The codes of error responses: stable names for programs, beside the text for people. Only here are they spelt out.
//!
//! A code never changes its meaning. Resources add codes of their own: `movie` has `movie_not_found`, `movie_exists` and
//! `movie_in_use`. `docs/openapi.yaml` describes all of them; a test compares the two.

/// Defines the constants, and [`ALL`].
macro_rules! codes {
    ($($(#[$about:meta])+ $name:ident = $code:literal;)+) => {
        $($(#[$about])+ pub const $name: &str = $code;)+

        /// Every code that does not belong to a resource.
        pub const ALL: &[&str] = &[$($name),+];
    };
}

codes! {
    /// 400: the request breaks a rule of HTTP, or its path, query or a header field cannot be read.
    REQUEST_MALFORMED = "request_malformed";
    /// 400: the body is no JSON, or not of the form that is needed.
    BODY_MALFORMED = "body_malformed";
    /// 400: a member of the body, a query parameter, a header field or an id in the path breaks a rule.
    FIELD_INVALID = "field_invalid";
    /// 401: this needs a token, and none was sent.
    TOKEN_MISSING = "token_missing";
    /// 401: the token is not known.
    TOKEN_INVALID = "token_invalid";
    /// 401: the token has expired.
    TOKEN_EXPIRED = "token_expired";
    /// 401: a service was asked directly, past the gateway.
    GATEWAY_ONLY = "gateway_only";
    /// 403: the client's role may not do this.
    ROLE_TOO_SMALL = "role_too_small";
    /// 404: there is no such path.
    PATH_NOT_FOUND = "path_not_found";
    /// 405: the path exists, but not with this method; `Allow` has those that exist.
    METHOD_NOT_ALLOWED = "method_not_allowed";
    /// 408: the request was begun and not completed in time.
    REQUEST_TIMEOUT = "request_timeout";
    /// 412: the record is not in the state that the client names; nothing was changed.
    PRECONDITION_FAILED = "precondition_failed";
    /// 413: the body exceeds the limit.
    BODY_TOO_LARGE = "body_too_large";
    /// 414: the request line exceeds the limit.
    URI_TOO_LONG = "uri_too_long";
    /// 415: the body is not JSON by its `Content-Type`.
    MEDIA_TYPE_UNSUPPORTED = "media_type_unsupported";
    /// 417: `Expect` asks for something other than `100-continue`.
    EXPECTATION_FAILED = "expectation_failed";
    /// 421: the gateway does not serve the host that the request names.
    HOST_UNKNOWN = "host_unknown";
    /// 422: the `Idempotency-Key` was used for another order.
    KEY_USED = "key_used";
    /// 429: the client sends more requests than it may, or has too many lists streamed to it.
    TOO_MANY_REQUESTS = "too_many_requests";
    /// 429: the client's address has too many connections.
    TOO_MANY_CONNECTIONS = "too_many_connections";
    /// 431: the header block exceeds a limit.
    HEADERS_TOO_LARGE = "headers_too_large";
    /// 500: a bug; the log has the cause.
    INTERNAL_ERROR = "internal_error";
    /// 502: a service's answer is not valid. A change may have been made.
    ANSWER_INVALID = "answer_invalid";
    /// 503: what is needed cannot be reached or takes nothing now. Nothing was done.
    DEPENDENCY_DOWN = "dependency_down";
    /// 503: there is too much to do. Nothing was done.
    OVERLOADED = "overloaded";
    /// 503: the answer of `/ready` while a dependency is away.
    NOT_READY = "not_ready";
    /// 503 or 504: no answer came in time. A change may have been made.
    OUTCOME_UNKNOWN = "outcome_unknown";
    /// 505: an unsupported version of HTTP.
    VERSION_NOT_SUPPORTED = "version_not_supported";
}

/// The code of a resource's own error: `movie_not_found` for the resource `movie` and the problem `not_found`.
pub fn of_resource(name: &str, problem: &str) -> String {
    let mut code: String =
        name.chars().map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    code.push('_');
    code.push_str(problem);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_words_and_different() {
        let mut seen = std::collections::BTreeSet::new();
        for code in ALL {
            assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{code}");
            assert!(seen.insert(code), "{code} twice");
        }
        assert_eq!(of_resource("my Pizza", "not_found"), "my_pizza_not_found");
    }
}
