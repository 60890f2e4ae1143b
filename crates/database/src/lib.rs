//! PostgreSQL: how services connect, migrate their schema and describe a failure.
//!
//! No table is named here; the statements live in each service's `repository.rs` and under `sql/`.

mod error;

use std::time::Duration;

use postgres::config::SslMode;
use postgres::{Client, Config, NoTls};

pub use error::Error;
use foundation::Environment;

/// Where a service's database is, and how long it may take to answer.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    config: Config,
    /// Host and port, for messages.
    server: String,
    application: &'static str,
    statement_timeout: Duration,
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
            .connect_timeout(environment.millis(&format!("{prefix}_CONNECT_TIMEOUT_MS"), 2_000)?)
            // A peer that vanished without a word is noticed within these bounds, not after the kernel's two hours.
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(2)
            .tcp_user_timeout(Duration::from_secs(10));
        let statement_timeout = environment.millis(&format!("{prefix}_STATEMENT_TIMEOUT_MS"), 5_000)?;
        Ok(Self { config, server: format!("{host}:{port}"), application, statement_timeout })
    }

    /// How long PostgreSQL may work on one statement before it cancels it.
    pub fn statement_timeout(&self) -> Duration {
        self.statement_timeout
    }

    /// Opens a connection and brings the schema up to date. Blocks for as long as the server takes to answer; a
    /// caller with a deadline must not wait on this alone.
    pub fn connect(&self, migrations: &[Migration]) -> Result<Client, Error> {
        let options = format!("-c statement_timeout={}", self.statement_timeout.as_millis());
        let mut client = self
            .config
            .clone()
            .options(&options)
            .connect(NoTls)
            .map_err(|source| Error::Connect { server: self.server.clone(), source })?;
        migrate(&mut client, migrations)?;
        log::debug!("{}: connected to postgresql", self.application);
        Ok(client)
    }
}

/// One step of a schema's history.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Its number: 1 for the first, without gaps.
    pub version: i32,
    /// The name of its file, kept in the database for whoever looks there.
    pub name: &'static str,
    /// Its statements. They run in one transaction with those of the other missing steps.
    pub sql: &'static str,
}

/// Serialises migrations among all programs that use one database; the number only has to be the same everywhere.
const MIGRATION_LOCK: i64 = 0x6372_7564_5f6d;

fn migrate(client: &mut Client, migrations: &[Migration]) -> Result<(), Error> {
    let known = migrations.last().map_or(0, |migration| migration.version);
    // Nearly every connection finds nothing to do, and then must not queue for the lock.
    if applied_version(client)? == known {
        return Ok(());
    }
    let failed = |action| move |source| Error::Postgres { action, source };
    let mut transaction = client.transaction().map_err(failed("begin the migration"))?;
    transaction
        .batch_execute(&format!(
            "SET LOCAL statement_timeout = '60s';
             SELECT pg_advisory_xact_lock({MIGRATION_LOCK});
             CREATE TABLE IF NOT EXISTS schema_migrations (
                 version integer PRIMARY KEY,
                 name text NOT NULL,
                 applied_at timestamptz NOT NULL DEFAULT now()
             );"
        ))
        .map_err(failed("lock the schema for migration"))?;
    let found = newest_version(&mut transaction)?;
    if found > known {
        return Err(Error::TooNew { found, known });
    }
    for migration in migrations.iter().filter(|migration| migration.version > found) {
        transaction.batch_execute(migration.sql).map_err(failed("apply a migration"))?;
        transaction
            .execute(
                "INSERT INTO schema_migrations (version, name) VALUES ($1, $2)",
                &[&migration.version, &migration.name],
            )
            .map_err(failed("record a migration"))?;
        log::info!("applied migration {}", migration.name);
    }
    transaction.commit().map_err(failed("commit the migration"))
}

/// The newest migration that was applied; 0 for a database that has never seen one.
fn applied_version(client: &mut Client) -> Result<i32, Error> {
    let failed = |source| Error::Postgres { action: "read the schema's version", source };
    let row = client.query_one("SELECT to_regclass('schema_migrations') IS NOT NULL", &[]).map_err(failed)?;
    if row.try_get(0).map_err(failed)? { newest_version(client) } else { Ok(0) }
}

fn newest_version(client: &mut impl postgres::GenericClient) -> Result<i32, Error> {
    let failed = |source| Error::Postgres { action: "read the schema's version", source };
    let row =
        client.query_one("SELECT coalesce(max(version), 0) FROM schema_migrations", &[]).map_err(failed)?;
    row.try_get(0).map_err(failed)
}

/// PostgreSQL's error with its cause. The library's own text for a server's answer is only "db error".
pub fn describe(error: &postgres::Error) -> String {
    if let Some(answer) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", answer.message(), answer.code().code());
    }
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
