//! Deletes old message ids from the inbox, on its own thread and connection, so that neither its work nor its failure
//! delays an order.

use std::time::Duration;

use foundation::{Backoff, Shutdown};

use crate::error::Error;
use crate::repository::Repository;
use crate::settings::Settings;

/// Interval between two prunings.
const INTERVAL: Duration = Duration::from_secs(60);

/// Most message ids that one statement deletes, so that it never runs for long.
const ROUND_MAX: i64 = 10_000;

/// The pause between two statements, which leaves the disk to the orders most of the time.
const PAUSE: Duration = Duration::from_millis(20);

/// Prunes until the process is told to stop.
pub(crate) fn run(settings: &Settings, shutdown: &Shutdown) {
    let days = i32::try_from(settings.inbox_days).unwrap_or(i32::MAX);
    let mut repository = Repository::new(settings.database.clone());
    let mut backoff = Backoff::new(INTERVAL, INTERVAL * 10);
    let mut delay = INTERVAL;
    while !shutdown.wait_timeout(delay) {
        delay = match prune(&mut repository, days, shutdown) {
            Ok(forgotten) => {
                if forgotten > 0 {
                    log::info!("forgot {forgotten} messages older than {days} days");
                }
                backoff.reset();
                INTERVAL
            }
            Err(error) => {
                let delay = backoff.next_delay();
                log::warn!("forget old messages: {error}; trying again in {} s", delay.as_secs());
                delay
            }
        };
        // Opening a connection every minute costs less than the memory of an idle one in PostgreSQL.
        repository.disconnect();
    }
}

/// Deletes all message ids older than `days` days; returns their number.
fn prune(repository: &mut Repository, days: i32, shutdown: &Shutdown) -> Result<u64, Error> {
    let mut forgotten = 0;
    loop {
        let round = repository.forget(days, ROUND_MAX)?;
        forgotten += round;
        if round < ROUND_MAX.unsigned_abs() || shutdown.wait_timeout(PAUSE) {
            return Ok(forgotten);
        }
    }
}

#[cfg(test)]
mod tests {
    use database::DatabaseSettings;
    use foundation::Environment;
    use testkit::Postgres;

    use super::*;

    #[test]
    fn a_failure_is_an_error_of_the_pruner_alone_and_passes() {
        let database = Postgres::shared().create_database();
        let environment = Environment::from_pairs(database.settings("BILLING_DB"));
        let mut settings = DatabaseSettings::read(&environment, "BILLING_DB", "test").unwrap();
        // The machine may be busy with other tests.
        settings.connect_timeout = Duration::from_secs(60);
        let (mut repository, shutdown) = (Repository::new(settings), Shutdown::new());
        repository.connect().unwrap();
        let mut client = database.client();
        client
            .batch_execute(
                "INSERT INTO processed_messages (message_id, processed_at)
                 SELECT n, now() - interval '31 days' FROM generate_series(1, 25000) AS n;
                 ALTER TABLE processed_messages RENAME TO elsewhere",
            )
            .unwrap();
        assert!(matches!(prune(&mut repository, 30, &shutdown), Err(Error::Database(_))));
        client.batch_execute("ALTER TABLE elsewhere RENAME TO processed_messages").unwrap();
        assert_eq!(prune(&mut repository, 30, &shutdown).unwrap(), 25_000);
    }
}
