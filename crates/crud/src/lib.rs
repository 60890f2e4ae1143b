//! Makes a service from resources, each described by a table of fields: routes, validation, SQL, search, paging, entity
//! tags, metrics and documentation follow from the description.
//!
//! | file, in the order in which a request meets them | what it holds |
//! |---|---|
//! | [`application`], [`resource`], [`field`] | how a service and its resources are described |
//! | [`server`], [`settings`] | a service's start, its stop, its settings |
//! | [`service`] | a request from its head to its answer; metrics |
//! | [`routes`] | the operation for a path and a method |
//! | [`handlers`] | one function for each operation |
//! | [`query`], [`body`], [`value`] | parsing and checking what clients send |
//! | [`preconditions`] | entity tags, `If-Match`, `If-None-Match` |
//! | [`store`] | the records as handlers see them; lists, batch by batch |
//! | [`jobs`] | the jobs of the database workers, several in one statement |
//! | [`statements`], [`table`] | the SQL, made once from a description; events as part of a change |
//! | [`record`], [`page`] | a row as JSON; the frame around a page with `count`, `next`, `previous` and `results` |
//! | [`problem`] | error responses |
//! | [`openapi`], [`asyncapi`], [`schema`], [`describe`] | documentation for programs and for people |

mod application;
mod asyncapi;
mod body;
mod describe;
mod error;
mod examples;
mod field;
mod handlers;
mod jobs;
mod openapi;
mod page;
mod preconditions;
mod problem;
mod query;
mod record;
mod resource;
mod routes;
mod schema;
mod server;
mod service;
mod settings;
mod statements;
mod store;
mod table;
mod value;

pub use application::Application;
pub use error::Error;
pub use field::{Caller, Field};
pub use resource::{
    Action, Call, Check, Errors, Given, Key, Lists, Operation, Parameter, Refinement, Reply, Resource,
};
pub use server::Running;
pub use settings::{Profile, Settings};
