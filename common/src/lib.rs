//! What the services share. A module is admitted here only when two services use it.
//!
//! Nothing here knows a route, a table or a queue's name.

pub mod amqp;
pub mod backoff;
pub mod database;
mod error;
pub mod json;
mod logging;
pub mod metrics;
pub mod order;
pub mod program;
pub mod report;
pub mod settings;
pub mod shutdown;

pub use backoff::Backoff;
pub use error::Error;
pub use order::Order;
pub use settings::Environment;
pub use shutdown::Shutdown;
