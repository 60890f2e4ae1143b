//! The schema's history: files that are applied in order, once, and never change afterwards.
//!
//! `schema_migrations` keeps a digest of each applied file. If a file were edited later, old and new databases would
//! have different schemas under the same version. So a program whose files differ from the digests refuses to start.

use std::fmt::Write as _;

use postgres::{Client, GenericClient};
use sha2::{Digest, Sha256};

use crate::Error;

/// One step of a schema's history.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Its number: 1 for the first, without gaps.
    pub version: i32,
    /// The name of its file, stored in `schema_migrations` for people who look there.
    pub name: &'static str,
    /// Its statements. All missing steps run in one transaction.
    pub sql: &'static str,
}

impl Migration {
    /// SHA-256 of the statements, in hexadecimal.
    fn digest(&self) -> String {
        Sha256::digest(self.sql).iter().fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// The advisory lock that serialises the migrations of a database. Any number would do, as long as all programs use the
/// same one.
const MIGRATION_LOCK: i64 = 0x6372_7564_5f6d;

/// A migration that was applied to the database.
struct Applied {
    version: i32,
    /// `None` if an old version, which stored no digests, applied it.
    digest: Option<String>,
}

/// Whether there is nothing to migrate, which is the usual case. Takes no lock.
pub(crate) fn is_current(client: &mut Client, migrations: &[Migration]) -> Result<bool, Error> {
    if migrations.is_empty() {
        return Ok(true);
    }
    let failed = |source| Error::Postgres { action: "read the schema's version", source };
    let has_digests = "SELECT EXISTS (SELECT FROM pg_attribute
                        WHERE attrelid = to_regclass('schema_migrations') AND attname = 'digest')";
    let has_digests: bool =
        client.query_one(has_digests, &[]).and_then(|row| row.try_get(0)).map_err(failed)?;
    if !has_digests {
        return Ok(false);
    }
    let applied = applied(client)?;
    check(&applied, migrations)?;
    Ok(applied.len() == migrations.len() && applied.iter().all(|applied| applied.digest.is_some()))
}

/// Applies the missing migrations. Programs that start at the same time take turns.
pub(crate) fn apply(client: &mut Client, migrations: &[Migration]) -> Result<(), Error> {
    let failed = |action| move |source| Error::Postgres { action, source };
    let mut transaction = client.transaction().map_err(failed("begin the migration"))?;
    transaction
        .batch_execute(&format!(
            "SET LOCAL statement_timeout = '120s';
             SELECT pg_advisory_xact_lock({MIGRATION_LOCK});
             CREATE TABLE IF NOT EXISTS schema_migrations (
                 version integer PRIMARY KEY,
                 name text NOT NULL,
                 applied_at timestamptz NOT NULL DEFAULT now()
             );
             ALTER TABLE schema_migrations ADD COLUMN IF NOT EXISTS digest text;"
        ))
        .map_err(failed("lock the schema for migration"))?;
    let applied = applied(&mut transaction)?;
    check(&applied, migrations)?;
    for migration in migrations {
        let (version, digest) = (migration.version, migration.digest());
        match applied.iter().find(|applied| applied.version == version) {
            Some(Applied { digest: Some(_), .. }) => {}
            Some(Applied { digest: None, .. }) => {
                transaction
                    .execute(
                        "UPDATE schema_migrations SET digest = $2 WHERE version = $1",
                        &[&version, &digest],
                    )
                    .map_err(failed("record a migration's digest"))?;
            }
            None => {
                transaction.batch_execute(migration.sql).map_err(failed("apply a migration"))?;
                transaction
                    .execute(
                        "INSERT INTO schema_migrations (version, name, digest) VALUES ($1, $2, $3)",
                        &[&version, &migration.name, &digest],
                    )
                    .map_err(failed("record a migration"))?;
                log::info!("applied migration {}", migration.name);
            }
        }
    }
    transaction.commit().map_err(failed("commit the migration"))
}

fn applied(client: &mut impl GenericClient) -> Result<Vec<Applied>, Error> {
    let failed = |source| Error::Postgres { action: "read the schema's version", source };
    let rows = client
        .query("SELECT version, digest FROM schema_migrations ORDER BY version", &[])
        .map_err(failed)?;
    let applied: Result<_, _> =
        rows.iter().map(|row| Ok(Applied { version: row.try_get(0)?, digest: row.try_get(1)? })).collect();
    applied.map_err(failed)
}

/// Compares the database's history with this program's.
fn check(applied: &[Applied], migrations: &[Migration]) -> Result<(), Error> {
    for Applied { version, digest } in applied {
        let Some(migration) = migrations.iter().find(|migration| migration.version == *version) else {
            let known = migrations.last().map_or(0, |migration| migration.version);
            return Err(Error::TooNew { found: *version, known });
        };
        if digest.as_ref().is_some_and(|digest| *digest != migration.digest()) {
            return Err(Error::Edited { name: migration.name.to_owned() });
        }
    }
    Ok(())
}
