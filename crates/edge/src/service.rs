//! What the edge calls for each request.

use std::time::Duration;

use crate::client::Client;
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

    /// Called once for each request after its answer, also for those that the edge answered itself: for an access log.
    fn answered(&self, _: &Answered<'_>) {}
}

/// A request after its answer.
#[derive(Debug)]
pub struct Answered<'a> {
    /// Who sent it.
    pub client: &'a Client,
    /// The method's name; `-` if the head could not be read.
    pub method: &'a str,
    /// The request target as it was sent; `-` if the head could not be read.
    pub target: &'a [u8],
    /// The status of the answer; 0 if there was none, because the client was gone.
    pub status: u16,
    /// How many bytes of the answer's body were sent, without the framing of chunks.
    pub body_bytes: u64,
    /// From the end of the request's head to the last byte of the answer; zero if the head could not be read.
    pub took: Duration,
    /// Identifies the request in responses and logs.
    pub request_id: &'a str,
}
