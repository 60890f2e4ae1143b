//! The table `outbox`. Only this file of the crate contains SQL; `crud` inserts the events.

use std::collections::HashSet;

use database::{Connection, DatabaseSettings, Migration};

use crate::error::Error;

/// Most events that are read at a time.
pub(crate) const BATCH_MAX: i64 = 256;
/// When the bodies of a batch reach this size, in bytes, it ends; only its last body may exceed it.
const BATCH_MAX_BYTES: i64 = 1 << 20;

/// The advisory lock of the instance that publishes. Any number would do, as long as all instances use the same one and
/// nothing else in this database does.
const LOCK: i64 = 0x6f75_7462_6f78;

const TRY_LOCK: &str = "SELECT pg_try_advisory_lock($1)";

/// The oldest events. PostgreSQL knows the length of a long body without reading it.
const NEXT: &str = "
    SELECT id, message_id::text, event, record, body, extract(epoch FROM created_at)::bigint
      FROM (SELECT *, sum(octet_length(body)) OVER (ORDER BY id) - octet_length(body) AS bytes_before
              FROM (SELECT * FROM outbox ORDER BY id LIMIT $1) AS oldest) AS sized
     WHERE bytes_before < $2
     ORDER BY id";

/// Statements are planned while the table is nearly empty, when reading all of it seems to be cheapest. It holds many more
/// rows soon: those that were deleted, until they are vacuumed.
const BY_KEY: &str = "SET enable_seqscan = off";

const FORGET: &str = "DELETE FROM outbox WHERE id = ANY($1)";

/// An event that waits to be published.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub id: i64,
    pub message_id: String,
    /// Its name, such as `room.created.1`.
    pub event: String,
    /// The record that it is about, such as `rooms/7`.
    pub record: String,
    pub body: String,
    /// When the change was made, in seconds since 1970.
    pub created_s: i64,
}

/// Access to the outbox, over a connection of its own: the lock is held as long as the connection lasts.
pub(crate) struct Outbox {
    connection: Connection,
}

impl Outbox {
    pub(crate) fn open(settings: &DatabaseSettings, migrations: &'static [Migration]) -> Result<Self, Error> {
        let mut connection = settings.connect(migrations).map_err(Error::Database)?;
        connection.client.batch_execute(BY_KEY)?;
        Ok(Self { connection })
    }

    /// Tries to become the one instance that publishes.
    pub(crate) fn try_lock(&mut self) -> Result<bool, Error> {
        Ok(self.connection.client.query_one(TRY_LOCK, &[&LOCK])?.try_get(0)?)
    }

    /// The oldest events, in order, each of another record.
    pub(crate) fn next(&mut self) -> Result<Vec<Waiting>, Error> {
        let next = self.connection.prepared(NEXT)?;
        let rows = self.connection.client.query(&next, &[&BATCH_MAX, &BATCH_MAX_BYTES])?;
        let events = rows.iter().map(|row| {
            Ok(Waiting {
                id: row.try_get(0)?,
                message_id: row.try_get(1)?,
                event: row.try_get(2)?,
                record: row.try_get(3)?,
                body: row.try_get(4)?,
                created_s: row.try_get(5)?,
            })
        });
        Ok(until_a_record_repeats(events.collect::<Result<_, postgres::Error>>()?))
    }

    /// Deletes events that the broker has confirmed.
    pub(crate) fn forget(&mut self, ids: &[i64]) -> Result<(), Error> {
        let forget = self.connection.prepared(FORGET)?;
        self.connection.client.execute(&forget, &[&ids])?;
        Ok(())
    }
}

fn until_a_record_repeats(mut events: Vec<Waiting>) -> Vec<Waiting> {
    let mut records = HashSet::new();
    let repeated = events.iter().position(|waiting| !records.insert(waiting.record.as_str()));
    events.truncate(repeated.unwrap_or(events.len()));
    events
}

#[cfg(test)]
mod tests {
    use foundation::Environment;
    use testkit::{Database, Postgres};

    use super::*;

    const MIGRATIONS: &[Migration] = &[Migration {
        version: 1,
        name: "0001_outbox",
        sql: include_str!("../../../sql/events/0001_outbox.sql"),
    }];

    fn open(database: &Database) -> Outbox {
        let settings = database.settings("T_DB");
        let pairs = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut settings = DatabaseSettings::read(&Environment::from_pairs(pairs), "T_DB", "test").unwrap();
        // The machine may be busy with other tests.
        settings.connect_timeout = testkit::patience();
        Outbox::open(&settings, MIGRATIONS).unwrap()
    }

    fn write(outbox: &mut Outbox, record: &str, body: &str) {
        let sql = "INSERT INTO outbox (event, record, body) VALUES ('room.created.1', $1, $2)";
        outbox.connection.client.execute(sql, &[&record, &body]).unwrap();
    }

    fn records(events: &[Waiting]) -> Vec<&str> {
        events.iter().map(|waiting| waiting.record.as_str()).collect()
    }

    #[test]
    fn the_oldest_events_come_first_and_no_record_twice() {
        let mut outbox = open(&Postgres::shared().create_database());
        assert!(outbox.next().unwrap().is_empty());
        for record in ["a", "b", "c", "b", "d"] {
            write(&mut outbox, record, "{}");
        }
        let first = outbox.next().unwrap();
        assert_eq!(records(&first), ["a", "b", "c"]);
        assert!(first[0].created_s > 1_000_000_000 && first[0].message_id != first[1].message_id);
        let again = outbox.next().unwrap();
        assert_eq!(again[2].message_id, first[2].message_id, "a repetition can be recognised");
        outbox.forget(&[first[0].id, first[1].id]).unwrap();
        assert_eq!(records(&outbox.next().unwrap()), ["c", "b", "d"]);
    }

    #[test]
    fn a_batch_is_bounded_in_number_and_size() {
        let mut outbox = open(&Postgres::shared().create_database());
        let fill = "INSERT INTO outbox (event, record, body)
                    SELECT 'a.created.1', 'a/' || number, repeat('x', $1) FROM generate_series(1, 300) AS number";
        outbox.connection.client.execute(fill, &[&10]).unwrap();
        assert_eq!(outbox.next().unwrap().len(), 256);
        outbox.connection.client.execute("DELETE FROM outbox", &[]).unwrap();
        outbox.connection.client.execute(fill, &[&(100 << 10)]).unwrap();
        assert_eq!(outbox.next().unwrap().len(), 11, "ten of 100 KiB are below 1 MiB");
        outbox.connection.client.execute("DELETE FROM outbox", &[]).unwrap();
        write(&mut outbox, "large", &"x".repeat(2 << 20));
        write(&mut outbox, "small", "{}");
        assert_eq!(records(&outbox.next().unwrap()), ["large"], "one that is too large alone is not stuck");
    }

    #[test]
    fn one_instance_publishes_until_its_connection_ends() {
        let database = Postgres::shared().create_database();
        let (mut first, mut second) = (open(&database), open(&database));
        assert!(first.try_lock().unwrap());
        assert!(!second.try_lock().unwrap());
        drop(first);
        testkit::wait_until(testkit::patience(), "the lock is free", || second.try_lock().unwrap());
    }
}
