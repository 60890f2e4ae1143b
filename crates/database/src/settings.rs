//! The address and timeouts of a service's database.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foundation::Environment;
use postgres::Config;
use postgres::config::SslMode;

/// Lets PostgreSQL end the session of a client whose machine has vanished within about 20 s. Its own default is two
/// hours, for which the session would keep its locks. Without effect on a unix socket.
const VANISHED_CLIENT: &str = "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=2 \
     -c tcp_user_timeout=20000";

/// Keeps plans serial and uncompiled. Services mostly want the first rows of a result, and want them for many clients at a
/// time: PostgreSQL would prefer a parallel scan of the whole table to an index that gives those rows at once.
const FIRST_ROWS: &str = "-c max_parallel_workers_per_gather=0 -c jit=off";

/// The address and timeouts of a service's database.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// 2 s: how long connecting may take.
    pub connect_timeout: Duration,
    /// 5 s: how long PostgreSQL may work on a statement before cancelling it.
    pub statement_timeout: Duration,
    config: Config,
    /// Host and port, for messages.
    pub(crate) server: String,
    pub(crate) application: &'static str,
    /// How many attempts to connect are under way. Clones share it, so the limit holds for the process.
    pub(crate) attempts: Arc<AtomicUsize>,
    /// The version of the server that was connected last. Clones share it.
    server_version: Arc<Mutex<Option<String>>>,
}

impl DatabaseSettings {
    /// Reads `{prefix}_HOST`, `_PORT`, `_NAME`, `_USER` and `_PASSWORD`. A host that starts with `/` is the folder of a
    /// unix socket. `application` is the name that `pg_stat_activity` shows.
    pub fn read(
        environment: &Environment,
        prefix: &str,
        application: &'static str,
    ) -> Result<Self, foundation::Error> {
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
            .ssl_mode(SslMode::Disable)
            // Detects a peer that has vanished within about 20 s instead of the kernel's two hours.
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(2)
            .tcp_user_timeout(Duration::from_secs(10));
        Ok(Self {
            connect_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(5),
            config,
            server: format!("{host}:{port}"),
            application,
            attempts: Arc::default(),
            server_version: Arc::default(),
        })
    }

    /// The version of the PostgreSQL that this process connected to last, such as `17.2`; `None` before the first time.
    pub fn server_version(&self) -> Option<String> {
        self.server_version.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes `server_version` as the server tells it; a distribution may add its own after a space.
    pub(crate) fn note_server_version(&self, told: &str) {
        let version = told.split(' ').next().map(str::to_owned);
        *self.server_version.lock().unwrap_or_else(PoisonError::into_inner) = version;
    }

    /// What the PostgreSQL library needs to connect.
    pub(crate) fn config(&self) -> Config {
        let mut config = self.config.clone();
        let statement_timeout_ms = self.statement_timeout.as_millis();
        config
            .options(&format!("-c statement_timeout={statement_timeout_ms} {VANISHED_CLIENT} {FIRST_ROWS}"))
            .connect_timeout(self.connect_timeout);
        config
    }
}
