//! The blocking AMQP 0-9-1 client.
//!
//! A [`Connection`] is one TCP connection with one channel in confirm mode. It does not reconnect: when it has ended,
//! the caller opens the next one, with its own back-off. Only `io` knows of the asynchronous runtime that the protocol
//! library needs.

mod broker;
mod browse;
mod close_reason;
mod confirms;
mod connection;
mod delivery;
mod error;
mod io;
mod properties;
mod publish;
mod questions;
mod refusal;
mod settings;
mod topics;

pub use broker::{BrokerProgram, QueueFigures};
pub use browse::{BrowseLimits, Browsed};
pub use connection::Connection;
pub use delivery::{Deliveries, Delivery};
pub use error::{BrokerError, PublishError};
pub use properties::Properties;
pub use settings::AmqpSettings;
pub use topics::Event;
