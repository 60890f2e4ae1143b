//! The settings of inventory. Nothing else in this crate reads the environment.

use std::time::Duration;

use database::DatabaseSettings;
use foundation::Environment;

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address to listen on: loopback or a private network, where only the gateway reaches it.
    pub host: String,
    /// The port to listen on; 0 lets the operating system choose.
    pub port: u16,
    /// Threads that serve single movies, each with a connection to PostgreSQL of its own.
    pub workers: usize,
    /// Threads that serve lists and large bodies, each with a connection of its own. They are apart because a
    /// client that reads or sends slowly holds its thread all the while.
    pub list_workers: usize,
    /// Lists that may wait for a free thread; more are refused with 503.
    pub lists_waiting: usize,
    /// Largest request body, in bytes.
    pub body_max_bytes: usize,
    /// How long PostgreSQL may keep a client waiting before it is told 503.
    pub deadline: Duration,
    /// How long a client may take none of a response before it is cut.
    pub stall_timeout: Duration,
    /// Where `movies_db` is.
    pub database: DatabaseSettings,
}

impl Settings {
    /// Reads and checks them all.
    pub fn read(environment: &Environment) -> Result<Self, foundation::Error> {
        Ok(Self {
            host: environment.text("INVENTORY_HOST", "127.0.0.1"),
            port: environment.port("INVENTORY_PORT", 8080)?,
            workers: environment.size("INVENTORY_WORKERS", 8, 256)?,
            list_workers: environment.size("INVENTORY_LIST_WORKERS", 4, 256)?,
            lists_waiting: environment.size("INVENTORY_LISTS_WAITING", 64, 4_096)?,
            body_max_bytes: environment.size("INVENTORY_BODY_MAX_BYTES", 10 << 20, 1 << 30)?,
            deadline: environment.millis("INVENTORY_DEADLINE_MS", 6_000)?,
            stall_timeout: environment.millis("INVENTORY_STALL_TIMEOUT_MS", 30_000)?,
            database: DatabaseSettings::read(environment, "INVENTORY_DB", "inventory-app")?,
        })
    }
}
