//! The settings of a service made of resources.

use std::time::Duration;

use database::DatabaseSettings;
use edge::EdgeSettings;
use foundation::Environment;
use foundation::listener::ListenerSettings;

/// The settings of a service made of resources.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `…_HOST` (127.0.0.1): the address to listen on.
    pub host: String,
    /// `…_PORT`: the port to listen on; 0 lets the operating system choose.
    pub port: u16,
    /// `PRIVATE_HOST` (127.0.0.1) and `…_PRIVATE_PORT`: where `/metrics` and the causes in `/ready` are.
    pub private: ListenerSettings,
    /// `…_WORKERS` (8): worker threads, each with one connection to PostgreSQL.
    pub workers: usize,
    /// `…_BODY_MAX_BYTES` (262144): the largest request body, in bytes.
    pub body_max_bytes: usize,
    /// 6 s: how long a request waits for PostgreSQL before it is answered 503 or 504.
    pub deadline: Duration,
    /// The edge's defaults, except that all connections may come from one address, since most come from the gateway.
    pub edge: EdgeSettings,
    /// `…_DB_…`: where the database is.
    pub database: DatabaseSettings,
}

impl Settings {
    /// Reads and checks all settings: `{prefix}_PORT` and so on. Only a service's own `settings.rs` calls this.
    pub fn read(
        environment: &Environment,
        prefix: &str,
        (default_port, default_private_port): (u16, u16),
        application: &'static str,
    ) -> Result<Self, foundation::Error> {
        let edge = EdgeSettings::default();
        Ok(Self {
            host: environment.text(&format!("{prefix}_HOST"), "127.0.0.1"),
            port: environment.port(&format!("{prefix}_PORT"), default_port)?,
            private: ListenerSettings::read(environment, prefix, default_private_port)?,
            workers: environment.size(&format!("{prefix}_WORKERS"), 8, 256)?,
            body_max_bytes: environment.size(&format!("{prefix}_BODY_MAX_BYTES"), 256 << 10, 1 << 30)?,
            deadline: Duration::from_secs(6),
            edge: EdgeSettings { max_connections_per_client: edge.max_connections, ..edge },
            database: DatabaseSettings::read(environment, &format!("{prefix}_DB"), application)?,
        })
    }
}
