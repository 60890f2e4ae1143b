//! What every binary stands on: settings, flags, logging, shutdown, back-off and metrics.
//!
//! Nothing here knows a route, a table or a queue's name, and nothing here speaks to another process.

pub mod backoff;
mod env_file;
mod error;
pub mod json;
mod logging;
pub mod metrics;
pub mod program;
pub mod settings;
pub mod shutdown;

pub use backoff::Backoff;
pub use error::Error;
pub use settings::Environment;
pub use shutdown::Shutdown;
