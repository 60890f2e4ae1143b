//! One request, as a service sees it.

use crate::body::{Body, BodyReader};
use crate::head::Head;
use crate::method::Method;
use crate::refusal::Refusal;

/// A request that waits for its response.
#[derive(Debug)]
pub struct Request<'c> {
    pub(crate) head: &'c Head,
    pub(crate) body: BodyReader<'c>,
    pub(crate) peer: &'c str,
    pub(crate) id: &'c str,
}

impl<'c> Request<'c> {
    /// The method.
    pub fn method(&self) -> Method {
        self.head.method
    }

    /// The method's name as it was sent; a valid token (RFC 9110 §5.6.2).
    pub fn method_name(&self) -> &'c str {
        self.head.method_name()
    }

    /// Whether the client speaks HTTP/1.0, and not HTTP/1.1.
    pub fn is_http10(&self) -> bool {
        self.head.is_http10()
    }

    /// The request target as it was sent (RFC 9112 §3.2); [`path::parse`](crate::path::parse) reads it.
    pub fn target(&self) -> &'c [u8] {
        self.head.target()
    }

    /// The value of `Host`; empty when an HTTP/1.0 client sent none.
    pub fn host(&self) -> &'c [u8] {
        self.head.host()
    }

    /// All header fields as they were sent, in order.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&'c [u8], &'c [u8])> + use<'c> {
        self.head.fields()
    }

    /// The value of the field `name`, in any case, if it was sent exactly once.
    pub fn field(&self, name: &str) -> Option<&'c [u8]> {
        self.head.field(name)
    }

    /// Whether the field `name` was sent at all.
    pub fn has_field(&self, name: &str) -> bool {
        self.head.has_field(name)
    }

    /// The client's address, without its port.
    pub fn peer(&self) -> &'c str {
        self.peer
    }

    /// Identifies this request in responses and logs: the client's own `X-Request-Id` if it is valid, else an id that
    /// is unique across processes and restarts.
    pub fn request_id(&self) -> &'c str {
        self.id
    }

    /// Reads the whole body; empty if there is none or it was read before. A service need not read it.
    ///
    /// Fails when it is larger than `max_bytes` (413), slower than the minimum rate or its deadline (408), malformed
    /// (400), when the memory for all bodies is used up (503), or when the client is gone.
    pub fn read_body(&mut self, max_bytes: u64) -> Result<Body, Refusal> {
        self.body.read_all(max_bytes)
    }
}
