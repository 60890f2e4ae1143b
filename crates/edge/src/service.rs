//! What the edge calls for each request.

use crate::refusal::Refusal;
use crate::request::Request;
use crate::response::Response;

/// What the server calls for each request, from many threads at once.
pub trait Service: Send + Sync + 'static {
    /// Answers one request through `response`.
    ///
    /// A refusal of the edge (body too large, client gone) may be passed on with `?`; the edge then answers it, unless
    /// a byte of another response was sent. A service turns its own errors into responses itself. A response that is
    /// unfinished when this returns is cut off visibly.
    fn serve(&self, request: &mut Request<'_>, response: &mut Response<'_>) -> Result<(), Refusal>;

    /// Called, for the service's metrics, when the edge answers a request itself because [`Service::serve`] was not
    /// called, panicked or sent no response.
    fn refused(&self, refusal: &Refusal);
}
