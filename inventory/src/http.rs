//! A request and a response as the handlers see them, free of the server library.

use std::fmt;

use serde::Serialize;

use crate::repository::MovieRows;

/// A request whose body has been read.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// The method, in capitals as sent.
    pub method: String,
    /// The path, still percent-encoded, and without the query.
    pub path: String,
    /// The query string, empty if there is none.
    pub query: String,
    /// The values of the header fields that handlers look at, several of a name joined by commas
    /// (RFC 9110 §5.2).
    pub if_match: Option<String>,
    /// Likewise.
    pub if_none_match: Option<String>,
    /// Likewise.
    pub content_type: Option<String>,
    /// The body; empty if there is none.
    pub body: Vec<u8>,
}

/// A response. Its headers hold neither length nor framing, which are the server's business.
pub(crate) struct Response<'a> {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body<'a>,
    /// What went wrong, for the log alone.
    pub cause: Option<String>,
}

/// What a response carries.
pub(crate) enum Body<'a> {
    /// A text that is complete, possibly empty.
    Whole(Vec<u8>),
    /// Movies that are still being read.
    Movies(Box<MovieRows<'a>>),
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Response<'_> {
    /// `value` as JSON.
    pub(crate) fn json(status: u16, value: &impl Serialize) -> Self {
        // What this program serialises has text keys only, so that serialisation cannot fail.
        let body = serde_json::to_vec(value).unwrap_or_default();
        let headers = vec![("Content-Type", "application/json".to_owned())];
        Self { status, headers, body: Body::Whole(body), cause: None }
    }

    /// A text of another media type.
    pub(crate) fn text(media_type: &str, text: String) -> Self {
        let headers = vec![("Content-Type", media_type.to_owned())];
        Self { status: 200, headers, body: Body::Whole(text.into_bytes()), cause: None }
    }

    /// No content, which only the header fields describe.
    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Whole(Vec::new()), cause: None }
    }

    /// An error, in words fit for the client.
    pub(crate) fn error(status: u16, error: &str) -> Self {
        Self::json(status, &ErrorBody { error, fields: None })
    }

    /// A body whose fields break rules.
    pub(crate) fn invalid_fields(fields: &[(&str, &str)]) -> Self {
        let error =
            fields.iter().map(|(name, problem)| format!("{name} {problem}")).collect::<Vec<_>>().join(", ");
        let fields = fields.iter().map(|(name, problem)| ((*name).to_owned(), (*problem).into())).collect();
        Self::json(400, &ErrorBody { error: &error, fields: Some(fields) })
    }

    /// PostgreSQL is away; the client may come back in a moment.
    pub(crate) fn unavailable() -> Self {
        Self::error(503, "The movie database is not available, please try again").with("Retry-After", "1")
    }

    /// Whether the body is still being read from the database.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.body, Body::Movies(_))
    }

    /// Notes what went wrong, for the log alone.
    pub(crate) fn because(mut self, cause: &impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// Adds a header field.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}
