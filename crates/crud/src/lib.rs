//! A resource, described by a table of fields, as a service: routes, checked bodies, SQL, search, pages, entity tags,
//! metrics and documentation follow from the description.

mod body;
mod error;
mod field;
mod preconditions;
mod query;
mod resource;
mod statements;
mod table;
mod value;

pub use error::Error;
pub use field::Field;
pub use resource::{Action, Call, Caller, Check, Given, Key, Operation, Parameter, Reply, Resource};
