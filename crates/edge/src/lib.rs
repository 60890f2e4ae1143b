//! The edge: an HTTP/1.1 server for strangers, bounded in everything. It knows nothing of what it serves.
//!
//! One thread per connection, blocking, one request at a time; what a client sends ahead waits in the kernel, which
//! slows the client down. The accept loop never writes, reads or waits for a client. Routes, JSON documents and
//! anything else that a service means by a request do not belong here.
//!
//! A request's way: `server` (accepts) → `admission` (is there room?) → `connection` (reads the head with `head` and
//! `framing`) → [`Service::serve`] → `response`.

mod admission;
mod body;
mod budget;
mod chunked;
mod connection;
mod date;
mod framing;
mod head;
mod input;
mod method;
mod pace;
pub mod path;
mod refusal;
mod request;
mod request_id;
mod response;
mod server;
mod service;
mod settings;
mod socket;

pub use admission::Connections;
pub use body::Body;
pub use framing::tokens;
pub use head::{HEADERS_MAX_BYTES, REQUEST_LINE_MAX_BYTES};
pub use method::Method;
pub use refusal::Refusal;
pub use request::Request;
pub use response::{BodySize, Response};
pub use server::Server;
pub use service::Service;
pub use settings::EdgeSettings;
