//! A resource, described by a table of fields, as a service: routes, checked bodies, SQL, search, pages, entity tags,
//! metrics and documentation follow from the description.
//!
//! | file, in the order in which a request meets them | what it holds |
//! |---|---|
//! | [`resource`], [`field`] | how a resource is described |
//! | [`server`], [`settings`] | a service as a whole: its start, its stop, its settings |
//! | [`service`] | a request from its head to its answer; what is counted |
//! | [`routes`] | which request is meant by a path and a method |
//! | [`handlers`] | one function for each operation |
//! | [`query`], [`body`], [`value`] | what clients send, and the rules for it |
//! | [`preconditions`] | entity tags, `If-Match`, `If-None-Match` |
//! | [`store`] | the records as handlers see them; lists, batch by batch |
//! | [`jobs`] | what workers do with PostgreSQL, several jobs in one statement |
//! | [`statements`], [`table`] | the SQL, made once from a description |
//! | [`record`] | a row as JSON |
//! | [`problem`] | what a client is told when something is wrong |
//! | [`openapi`], [`describe`] | what is said of all this to programs and to people |

mod body;
mod describe;
mod error;
mod field;
mod handlers;
mod jobs;
mod openapi;
mod preconditions;
mod problem;
mod query;
mod record;
mod resource;
mod routes;
mod server;
mod service;
mod settings;
mod statements;
mod store;
mod table;
mod value;

pub use error::Error;
pub use field::Field;
pub use resource::{Action, Call, Caller, Check, Given, Key, Operation, Parameter, Reply, Resource};
pub use server::{Application, Running};
pub use settings::Settings;
