//! One request and its response, as a service sees them.

use std::time::Duration;

use foundation::Shutdown;

use super::body::Body;
use super::date;
use super::head::{Head, Method};
use super::response::{BodySize, Response};
use crate::Problem;

/// A request that waits for its response.
pub(crate) struct Exchange<'c> {
    /// The request's head.
    pub(crate) head: &'c Head,
    /// The request's body; it need not be read.
    pub(crate) body: Body<'c>,
    /// The response. [`Exchange::begin`] starts it.
    pub(crate) response: Response<'c>,
    /// The client's address.
    pub(crate) peer: &'c str,
    /// The name of this exchange in responses and logs.
    pub(crate) request_id: &'c str,
    pub(super) shutdown: &'c Shutdown,
}

impl Exchange<'_> {
    /// Begins a response. Nothing but its fields and its body are left to be added.
    pub(crate) fn begin(&mut self, status: u16) {
        let keep_alive = self.head.keep_alive() && self.body.can_drain() && !self.shutdown.requested();
        self.response.begin(status, keep_alive);
        self.response.field(b"x-request-id", self.request_id.as_bytes());
    }

    /// Sends a whole response with a JSON body.
    pub(crate) fn answer(&mut self, status: u16, json: &[u8]) -> Result<(), Problem> {
        self.answer_with(status, &[], json)
    }

    /// Sends a whole response with further fields and a body, which is JSON unless one of the fields is `content-type`;
    /// a 204 without any.
    pub(crate) fn answer_with(
        &mut self,
        status: u16,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Result<(), Problem> {
        self.begin(status);
        self.response.field(b"date", date::now().as_bytes());
        for (name, value) in fields {
            self.response.field(name.as_bytes(), value.as_bytes());
        }
        if body.is_empty() && status == 204 {
            self.response.end_head(BodySize::None);
        } else {
            if !fields.iter().any(|(name, _)| *name == "content-type") {
                self.response.field(b"content-type", b"application/json");
            }
            // The answer to HEAD tells the length of what it leaves out (RFC 9110 §9.3.2).
            if self.head.method() == Method::Head {
                self.response.field(b"content-length", body.len().to_string().as_bytes());
                self.response.end_head(BodySize::None);
            } else {
                self.response.end_head(BodySize::Known(body.len() as u64));
                self.response.write(body).map_err(Problem::ClientGone)?;
            }
        }
        self.response.finish().map_err(Problem::ClientGone)
    }

    /// Tells the client what went wrong, if it can still be told, and the log, if it is our side's fault.
    pub(super) fn answer_problem(&mut self, problem: &Problem) {
        let (status, public) = (problem.status(), problem.public());
        let cause = problem.cause().unwrap_or_default();
        let separator = if cause.is_empty() { "" } else { ": " };
        match problem {
            Problem::ClientGone(_) => log::debug!("{} client gone{separator}{cause}", self.request_id),
            _ if status >= 500 && status != 501 && status != 505 => {
                log::warn!("{} {status} {public}{separator}{cause}", self.request_id);
            }
            _ => log::debug!("{} {status} {public}{separator}{cause}", self.request_id),
        }
        if self.response.is_sent() || matches!(problem, Problem::ClientGone(_)) {
            return;
        }
        let retry_after = problem.retry_after().map(|seconds| seconds.to_string());
        let fields: Vec<_> = problem
            .allow()
            .map(|methods| ("allow", methods))
            .into_iter()
            .chain(retry_after.as_deref().map(|seconds| ("retry-after", seconds)))
            .collect();
        let _ = self.answer_with(status, &fields, &problem.to_json());
    }

    /// The line that describes this exchange to whoever debugs.
    pub(super) fn log(&self, took: Duration) {
        log::debug!(
            "{} {} {:?} {} {} {:.1} ms",
            self.request_id,
            self.peer,
            self.head.method(),
            String::from_utf8_lossy(self.head.target()).escape_debug(),
            self.response.status(),
            took.as_secs_f64() * 1_000.0,
        );
    }
}
