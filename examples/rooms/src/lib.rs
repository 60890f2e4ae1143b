//! Rooms to let: a service made with the crates `crud` and `events`.
//!
//! | file | what it holds |
//! |---|---|
//! | [`rooms`] | the rooms: fields, query parameters, events, the history of their table |
//! | [`search`] | reading the query parameters of the rooms' own |
//! | [`service`] | the service as a whole: HTTP, and the relay of its events |
//! | [`settings`] | its settings |

mod error;
mod rooms;
mod search;
mod service;
mod settings;

pub use error::Error;
pub use rooms::{EXCHANGE, ROOMS, SERVICE};
pub use service::{check, run};
pub use settings::Settings;
