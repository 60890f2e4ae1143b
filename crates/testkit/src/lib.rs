//! What tests share: real servers and real binaries, on free ports, in their own folders.
//!
//! | what | how |
//! |---|---|
//! | a database | `Postgres::shared().create_database()` |
//! | a PostgreSQL to kill, pause or restart | `Postgres::start()` |
//! | one of our binaries | `Service::new(binary("inventory-app"), settings)` |
//! | the broker, embedded or RabbitMQ | `Broker::start()` |
//! | all of it together | `Platform::start()` |
//!
//! Every function panics with a message if it fails, which fails the test. Everything that was started is stopped and
//! removed when its value is dropped, or by the [guardian] when the test process dies.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::print_stderr,
    reason = "a test kit that cannot do its work fails the test, and shows what the binaries logged"
)]

mod binaries;
mod broker;
mod folder;
mod guardian;
pub mod http;
pub mod orders;
mod platform;
mod ports;
mod postgresql;
mod random;
mod service;
mod signals;
mod wait;

use std::collections::BTreeMap;

pub use binaries::binary;
pub use broker::Broker;
pub use folder::Folder;
pub use platform::Platform;
pub use ports::free_port;
pub use postgresql::{Database, Postgres};
pub use random::{hex, password};
pub use service::Service;
pub use signals::send_signal;
pub use wait::{patience, wait_until};

/// The settings of one binary: the only environment it sees.
pub type Settings = BTreeMap<String, String>;

/// Settings from literals: `settings([("INVENTORY_HOST", "127.0.0.1")])`.
pub fn settings<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Settings {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
