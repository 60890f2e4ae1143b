//! The edge: an HTTP/1.1 server for public clients, with a limit on every resource. It knows nothing of what it serves.
//!
//! Each connection has a thread that blocks and serves one request at a time; pipelined requests wait in the kernel,
//! which slows the client down. The accept loop never reads from, writes to or waits for a client. Routes, JSON
//! documents and the meaning of requests do not belong here.
//!
//! The path of a request: `server` (accepts) → `admission` (is there room?) → `connection` (reads the head with `head`
//! and `framing`) → [`Service::serve`] → `response`.

mod admission;
mod body;
mod budget;
mod chunked;
mod client;
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
pub use client::{Client, network_of};
pub use framing::tokens;
pub use head::{HEADERS_MAX_BYTES, REQUEST_LINE_MAX_BYTES};
pub use method::Method;
pub use refusal::Refusal;
pub use request::Request;
pub use response::{BodySize, Response};
pub use server::Server;
pub use service::{Answered, Service};
pub use settings::EdgeSettings;
