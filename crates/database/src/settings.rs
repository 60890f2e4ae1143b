//! The address and timeouts of a service's database.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use foundation::Environment;
use postgres::Config;
use postgres::config::SslMode;

/// The address and timeouts of a service's database.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    pub(crate) config: Config,
    /// Host and port, for messages.
    pub(crate) server: String,
    pub(crate) application: &'static str,
    pub(crate) connect_timeout: Duration,
    statement_timeout: Duration,
    /// How many attempts to connect are under way. Clones share it, so the limit holds for the process.
    pub(crate) attempts: Arc<AtomicUsize>,
}

impl DatabaseSettings {
    /// Reads `{prefix}_HOST`, `_PORT`, `_NAME`, `_USER`, `_PASSWORD`, `_CONNECT_TIMEOUT_MS` and
    /// `_STATEMENT_TIMEOUT_MS`. A host that starts with `/` is the folder of a unix socket. `application` is the
    /// name that `pg_stat_activity` shows.
    pub fn read(
        environment: &Environment,
        prefix: &str,
        application: &'static str,
    ) -> Result<Self, foundation::Error> {
        let connect_timeout = environment.millis(&format!("{prefix}_CONNECT_TIMEOUT_MS"), 2_000)?;
        let statement_timeout = environment.millis(&format!("{prefix}_STATEMENT_TIMEOUT_MS"), 5_000)?;
        let host = environment.text(&format!("{prefix}_HOST"), "127.0.0.1");
        let port = environment.port(&format!("{prefix}_PORT"), 5432)?;
        let mut config = Config::new();
        config
            .host(&host)
            .port(port)
            .dbname(&environment.required(&format!("{prefix}_NAME"))?)
            .user(&environment.required(&format!("{prefix}_USER"))?)
            .password(&environment.required(&format!("{prefix}_PASSWORD"))?)
            .application_name(application)
            .options(&format!("-c statement_timeout={}", statement_timeout.as_millis()))
            .ssl_mode(SslMode::Disable)
            .connect_timeout(connect_timeout)
            // Detects a peer that has vanished within about 20 s instead of the kernel's two hours.
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(2)
            .tcp_user_timeout(Duration::from_secs(10));
        let server = format!("{host}:{port}");
        Ok(Self { config, server, application, connect_timeout, statement_timeout, attempts: Arc::default() })
    }

    /// How long PostgreSQL may work on a statement before cancelling it.
    pub fn statement_timeout(&self) -> Duration {
        self.statement_timeout
    }
}
