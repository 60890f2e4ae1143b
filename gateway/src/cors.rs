//! Which pages of other origins may call the gateway: the fields of CORS (WHATWG Fetch §3.2), and preflight requests.

use edge::{Method, Refusal, Request, Response};

/// The methods that pages may use.
const METHODS: &str = "DELETE, GET, HEAD, PATCH, POST, PUT";
/// The fields that pages may send beside those that need no permission.
const REQUEST_FIELDS: &str =
    "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-Request-Id";
/// The fields of answers that pages may read beside those that need no permission.
const RESPONSE_FIELDS: &str =
    "ETag, Link, Location, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, X-Request-Id";
/// How long a browser may remember the answer to a preflight request, in seconds.
const MAX_AGE_S: &str = "600";

/// The origins whose pages may call.
pub(crate) struct Cors {
    /// Such as `https://shop.example`; `*` stands for all.
    origins: Vec<String>,
}

impl Cors {
    pub(crate) fn new(origins: Vec<String>) -> Self {
        Self { origins }
    }

    /// Whether this decides which pages may read answers; services then have no say in it.
    pub(crate) fn is_on(&self) -> bool {
        !self.origins.is_empty()
    }

    /// Lets the browser show the answer to the page that asked, if that page may call. Answers a preflight request and
    /// returns whether it did; such a request has no token, because browsers send none with it.
    pub(crate) fn serve(&self, request: &Request<'_>, response: &mut Response<'_>) -> Result<bool, Refusal> {
        if !self.is_on() {
            return Ok(false);
        }
        // Caches must not show the answer for one origin to another.
        response.add_standing_field("vary", b"Origin");
        let Some(origin) = request.field("origin") else { return Ok(false) };
        if !self.origins.iter().any(|own| own == "*" || own.as_bytes() == origin) {
            return Ok(false);
        }
        response.add_standing_field("access-control-allow-origin", origin);
        response.add_standing_field("access-control-expose-headers", RESPONSE_FIELDS.as_bytes());
        if request.method() != Method::Options || !request.has_field("access-control-request-method") {
            return Ok(false);
        }
        let fields = [
            ("access-control-allow-methods", METHODS),
            ("access-control-allow-headers", REQUEST_FIELDS),
            ("access-control-max-age", MAX_AGE_S),
        ];
        response.send(204, &fields, b"")?;
        Ok(true)
    }
}
