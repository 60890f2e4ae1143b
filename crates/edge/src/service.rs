//! What the edge calls for each request.

use crate::refusal::Refusal;
use crate::request::Request;
use crate::response::Response;

/// What the server serves. Called from many threads at once.
pub trait Service: Send + Sync + 'static {
    /// Answers one request through `response`.
    ///
    /// An edge refusal (a body that is too large, a client that is gone) may be passed on with `?`; the edge then
    /// answers it, if no byte of another response was sent. A service turns its own errors into responses itself. A
    /// response that was begun and not finished is cut off visibly when this returns.
    fn serve(&self, request: &mut Request<'_>, response: &mut Response<'_>) -> Result<(), Refusal>;

    /// Called when the edge answers a request by itself because [`Service::serve`] never saw it, panicked or sent no
    /// response. This is for the service's metrics.
    fn refused(&self, refusal: &Refusal);
}
