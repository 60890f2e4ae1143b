//! What every binary stands on: settings, flags, logging, shutdown, back-off, metrics and the private listener.
//!
//! Nothing here knows a route of the services, a table or a queue's name.

pub mod backoff;
pub mod codes;
mod env_file;
mod error;
pub mod json;
pub mod listener;
pub mod logging;
pub mod metrics;
pub mod program;
pub mod service_token;
pub mod settings;
pub mod shutdown;
mod warnings;

pub use backoff::Backoff;
pub use error::Error;
pub use service_token::ServiceToken;
pub use settings::Environment;
pub use shutdown::Shutdown;
pub use warnings::Warnings;
