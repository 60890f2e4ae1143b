//! Passes requests on to a service and its answers back, verbatim except for hop-by-hop fields.

use std::io::Read;

use edge::{BodySize, Client, Method, tokens};
use foundation::service_token;
use ureq::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ureq::http::{self, Request, Response};

use crate::error::Problem;
use crate::rates::Rates;
use crate::upstream::{Failure, Instance, Reason, Repetition, SERVICE_TOKEN, UpstreamService, unread_input};

/// How much of a response body is read at once, in bytes.
const READ_BYTES: usize = 16 << 10;
/// The size of the end of a chunked body, `CR LF 0 CR LF CR LF`. If fewer bytes are unread, the next read of the body
/// may have to wait for the service.
const CHUNKED_END_BYTES: usize = 7;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The value of `Via`: the client's HTTP version and the gateway's name.
const VIA_HTTP10: HeaderValue = HeaderValue::from_static("1.0 api-gateway");
const VIA_HTTP11: HeaderValue = HeaderValue::from_static("1.1 api-gateway");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Under which conditions a request is passed on.
#[derive(Clone, Copy)]
pub(crate) struct Conditions<'r> {
    /// The scheme that the client used, for the service.
    pub(crate) scheme: &'static str,
    /// Whether to drop what the service says about pages of other origins.
    pub(crate) own_cors: bool,
    /// What bounds the lists that are on their way to one client.
    pub(crate) rates: Option<&'r Rates>,
}

/// The proxy in front of one service.
pub(crate) struct Proxy {
    service: &'static UpstreamService,
    /// The largest request body, in bytes.
    body_max_bytes: u64,
}

impl Proxy {
    pub(crate) fn new(service: &'static UpstreamService, body_max_bytes: u64) -> Self {
        Self { service, body_max_bytes }
    }

    /// Passes the request on; `target` is its path and query as they were sent. Reads the whole body first, so that a
    /// slow client does not occupy the service, and so that the request can be sent again.
    pub(crate) fn serve(
        &self,
        request: &mut edge::Request<'_>,
        response: &mut edge::Response<'_>,
        target: &[u8],
        conditions: Conditions<'_>,
    ) -> Result<(), Problem> {
        let bytes = request.read_body(self.body_max_bytes)?;
        let outgoing = Outgoing { request, target, scheme: conditions.scheme };
        let body = (!bytes.is_empty() || outgoing.announces_body()).then_some(&*bytes);
        let answer = self
            .service
            .send(|instance| outgoing.request(instance), body, repetition(request.method()))
            .map_err(|failure| self.describe(&failure))?;
        drop(bytes);
        self.relay(request, response, answer, conditions)
    }

    fn describe(&self, failure: &Failure) -> Problem {
        match failure.reason() {
            Some(reason) => self.problem(reason, failure.cause().to_owned()),
            None => Problem::bad_request("the request target has an invalid character"),
        }
    }

    fn problem(&self, reason: Reason, cause: String) -> Problem {
        self.service.count_unanswered(reason);
        Problem::Upstream { service: self.service.name(), reason, cause }
    }

    /// Passes the answer on to the client.
    fn relay(
        &self,
        request: &edge::Request<'_>,
        response: &mut edge::Response<'_>,
        mut answer: Response<ureq::Body>,
        conditions: Conditions<'_>,
    ) -> Result<(), Problem> {
        let status = answer.status().as_u16();
        if status < 200 {
            return Err(self.problem(Reason::Invalid, format!("it answered {status}")));
        }
        if status == 401 && refuses_gateway(answer.headers()) {
            return Err(self.problem(Reason::Invalid, "it does not accept our SERVICE_TOKEN".to_owned()));
        }
        remove_named_in_connection(answer.headers_mut());
        let bodiless = request.method() == Method::Head || matches!(status, 204 | 304);
        let size = if bodiless { BodySize::None } else { announced_size(answer.headers()) };
        // What a write has done cannot be refused any more, so its answer counts as no list, however long it is.
        let is_list = request.method() == Method::Get && size == BodySize::Unknown;
        let rates = conditions.rates.filter(|_| is_list);
        let _stream = rates.map(|rates| rates.begin_stream(request.client())).transpose()?;
        response.begin(status);
        for (name, value) in answer.headers() {
            let own = name == X_REQUEST_ID
                || name == header::SERVER
                || name == header::X_CONTENT_TYPE_OPTIONS
                || (conditions.own_cors && name.as_str().starts_with("access-control-"))
                || (name == header::CONTENT_LENGTH && (!bodiless || status == 204));
            if !own && !is_hop_by_hop(name) {
                response.field(name.as_str(), value.as_bytes());
            }
        }
        response.end_head(size);
        if !bodiless {
            self.relay_body(response, size, &mut answer.body_mut().as_reader())?;
        }
        Ok(response.finish()?)
    }

    fn relay_body(
        &self,
        response: &mut edge::Response<'_>,
        size: BodySize,
        body: &mut impl Read,
    ) -> Result<(), Problem> {
        let mut left = match size {
            BodySize::Known(length) => length,
            BodySize::None | BodySize::Unknown => u64::MAX,
        };
        let room = usize::try_from(left).unwrap_or(usize::MAX).clamp(1, READ_BYTES);
        let mut buffer = vec![0; room];
        loop {
            let count = body.read(&mut buffer).map_err(|error| {
                let timed_out =
                    matches!(error.get_ref().and_then(|e| e.downcast_ref()), Some(ureq::Error::Timeout(_)));
                let reason = if timed_out { Reason::TimedOut } else { Reason::Invalid };
                self.problem(reason, format!("the answer's body: {error}"))
            })?;
            if count == 0 {
                return Ok(());
            }
            response.write(&buffer[..count])?;
            left = left.saturating_sub(count as u64);
            // If the next read would wait, send first what has arrived.
            if left > 0 && unread_input() < CHUNKED_END_BYTES {
                response.flush()?;
            }
        }
    }
}

/// How a request that got no answer may be repeated (RFC 9110 §9.2).
fn repetition(method: Method) -> Repetition {
    match method {
        Method::Get | Method::Head | Method::Options => Repetition::Safe,
        method if method.is_idempotent() => Repetition::Idempotent,
        _ => Repetition::Never,
    }
}

/// Builds the request for the service, once for each attempt.
struct Outgoing<'e> {
    request: &'e edge::Request<'e>,
    target: &'e [u8],
    scheme: &'static str,
}

impl Outgoing<'_> {
    /// Whether to send `Content-Length: 0` for an empty body: for methods that usually have a body (RFC 9110 §8.6), and
    /// if the client sent a length.
    fn announces_body(&self) -> bool {
        matches!(self.request.method(), Method::Post | Method::Put | Method::Patch)
            || self.request.has_field("content-length")
    }

    /// The request for an instance; `None` if the target or the method cannot be sent.
    fn request(&self, instance: &Instance) -> Option<Request<()>> {
        let mut request = Request::new(());
        *request.method_mut() = http::Method::from_bytes(self.request.method_name().as_bytes()).ok()?;
        *request.uri_mut() = instance.uri(self.target)?;
        let fields = request.headers_mut();
        // Seven fields are added below. Reserving the exact size avoids a larger allocation, which would be much slower.
        fields.reserve(self.request.fields().len() + 7);
        fields.insert(header::HOST, instance.host.clone());
        self.copy_fields(fields);
        self.add_fields(fields);
        if let Some(token) = instance.service_token() {
            fields.insert(SERVICE_TOKEN, token.clone());
        }
        Some(request)
    }

    /// Copies the end-to-end fields.
    fn copy_fields(&self, fields: &mut HeaderMap) {
        // A token of ours was for the gateway; no service gets to see it.
        let has_token = matches!(self.request.client(), Client::Named(_));
        for (name, value) in self.request.fields() {
            // The edge's parser has accepted both, so neither conversion fails.
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                let own = name == header::HOST
                    || name == header::CONTENT_LENGTH
                    || name == header::EXPECT
                    || name == X_REQUEST_ID
                    || name == SERVICE_TOKEN
                    || (name == header::AUTHORIZATION && has_token)
                    || name == X_FORWARDED_HOST
                    || name == X_FORWARDED_PROTO;
                if !own && (name == header::CONNECTION || !is_hop_by_hop(&name)) {
                    fields.append(name, value);
                }
            }
        }
        remove_named_in_connection(fields);
    }

    /// Adds the gateway's own fields.
    fn add_fields(&self, fields: &mut HeaderMap) {
        let mut forwarded_for = Vec::new();
        for value in fields.get_all(X_FORWARDED_FOR) {
            forwarded_for.extend_from_slice(value.as_bytes());
            forwarded_for.extend_from_slice(b", ");
        }
        forwarded_for.extend_from_slice(self.request.peer().as_bytes());
        let mut insert = |name, value: &[u8]| {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                fields.insert(name, value);
            }
        };
        insert(X_FORWARDED_FOR, &forwarded_for);
        insert(X_FORWARDED_PROTO, self.scheme.as_bytes());
        if !self.request.host().is_empty() {
            insert(X_FORWARDED_HOST, self.request.host());
        }
        insert(X_REQUEST_ID, self.request.request_id().as_bytes());
        // Appended, so that earlier proxies stay in front (RFC 9110 §7.6.3).
        fields.append(header::VIA, if self.request.is_http10() { VIA_HTTP10 } else { VIA_HTTP11 });
    }
}

/// Whether the field concerns one connection, not the message (RFC 9110 §7.6.1), or is meant for a proxy.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    *name == header::CONNECTION
        || *name == header::TRANSFER_ENCODING
        || *name == header::TE
        || *name == header::TRAILER
        || *name == header::UPGRADE
        || matches!(name.as_str(), "keep-alive" | "http2-settings")
        || name.as_str().starts_with("proxy-")
}

/// Drops `Connection` and the fields that it names.
fn remove_named_in_connection(fields: &mut HeaderMap) {
    if !fields.contains_key(header::CONNECTION) {
        return;
    }
    let named: Vec<HeaderName> = fields
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| tokens(value.as_bytes()))
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .collect();
    fields.remove(header::CONNECTION);
    for name in named {
        // These two must stay, even if `Connection` names them: without the length the message would end elsewhere.
        if name != header::CONTENT_LENGTH && name != header::HOST {
            fields.remove(name);
        }
    }
}

/// Whether 401 is about the gateway's own token, not the client's.
fn refuses_gateway(fields: &HeaderMap) -> bool {
    fields.get_all(header::WWW_AUTHENTICATE).iter().any(|value| value == service_token::SCHEME)
}

/// The size of the response body, if the head announces it.
fn announced_size(fields: &HeaderMap) -> BodySize {
    if fields.contains_key(header::TRANSFER_ENCODING) {
        return BodySize::Unknown;
    }
    let length =
        fields.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    length.map_or(BodySize::Unknown, BodySize::Known)
}
