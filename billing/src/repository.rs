//! The orders in PostgreSQL. Only this file and [`records`] contain SQL.

mod records;

use std::collections::HashMap;

use database::{Connection, DatabaseSettings, Failure, Migration};

use crate::error::Error;
use crate::service::{IncomingOrder, OrderStore, Stored};

pub(crate) use records::{OrdersAfter, Wanted};

/// The schema's history.
const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "0001_orders", sql: include_str!("../../sql/billing/0001_orders.sql") },
    Migration {
        version: 2,
        name: "0002_inbox_digest",
        sql: include_str!("../../sql/billing/0002_inbox_digest.sql"),
    },
    Migration {
        version: 3,
        name: "0003_order_records",
        sql: include_str!("../../sql/billing/0003_order_records.sql"),
    },
];

/// Stores those orders of a batch whose message was not processed before.
///
/// It is a single statement, so one transaction and one round trip. Message ids are inserted in sorted order, so that
/// two processes with overlapping batches wait for each other instead of deadlocking. Orders are inserted in the order
/// of delivery. Their ids are taken first, so that the inbox can name them; those of repetitions are left out.
const STORE: &str = "
    WITH batch AS MATERIALIZED (
        SELECT *, nextval('orders_id_seq') AS order_id
        FROM unnest($1::text[], $2::bytea[], $3::text[], $4::integer[], $5::text[]) WITH ORDINALITY
            AS batch (message_id, digest, user_id, number_of_items, total_amount, position)
    ), fresh AS (
        INSERT INTO processed_messages (message_id, digest, order_id)
        SELECT message_id, digest, order_id FROM batch WHERE message_id IS NOT NULL ORDER BY message_id
        ON CONFLICT DO NOTHING RETURNING message_id
    )
    INSERT INTO orders (id, user_id, number_of_items, total_amount)
    OVERRIDING SYSTEM VALUE
    SELECT order_id, user_id, number_of_items, total_amount::numeric FROM batch
    WHERE message_id IS NULL OR message_id IN (SELECT message_id FROM fresh)
    ORDER BY position";

/// The digests of the bodies that were processed under these ids. It is a separate statement, because `STORE` does not
/// see rows that another process commits while it waits for them.
const KNOWN: &str =
    "SELECT message_id, digest FROM processed_messages WHERE message_id = ANY($1) AND digest IS NOT NULL";

/// Deletes by `ctid`, without an index. A scan reads the table from its first page, where the oldest rows are.
const FORGET: &str = "
    DELETE FROM processed_messages WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM processed_messages
        WHERE processed_at < now() - make_interval(days => $1) LIMIT $2))";

const FORGET_DEAD: &str = "
    DELETE FROM dead_messages WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM dead_messages
        WHERE dead_at < now() - make_interval(days => $1) LIMIT $2))";

/// Access to the database. Connects on first use and again after a failure.
pub(crate) struct Repository {
    settings: DatabaseSettings,
    connection: Option<Connection>,
}

impl Repository {
    pub(crate) fn new(settings: DatabaseSettings) -> Self {
        Self { settings, connection: None }
    }

    /// Makes sure that there is a connection and that the schema is up to date.
    pub(crate) fn connect(&mut self) -> Result<&mut Connection, Error> {
        let connection = match self.connection.take() {
            Some(connection) if !connection.client.is_closed() => connection,
            _ => self.settings.connect(MIGRATIONS).map_err(|error| {
                if error.is_permanent() { Error::Schema(error) } else { Error::Database(error.to_string()) }
            })?,
        };
        Ok(self.connection.insert(connection))
    }

    /// Deletes the ids of up to `max` messages that were processed more than `days` days ago, and of as many that died;
    /// returns how many.
    pub(crate) fn forget(&mut self, days: i32, max: i64) -> Result<u64, Error> {
        self.with_connection(|connection| {
            let mut forgotten = 0;
            for statement in [FORGET, FORGET_DEAD] {
                let forget = connection.prepared(statement)?;
                forgotten += connection.client.execute(&forget, &[&days, &max])?;
            }
            Ok(forgotten)
        })
    }

    /// Closes the connection.
    pub(crate) fn disconnect(&mut self) {
        self.connection = None;
    }

    /// Runs `work`. If PostgreSQL is unreachable or temporarily refuses work, closes the connection: after a failover,
    /// the next one may reach a server that accepts writes.
    pub(super) fn with_connection<T>(
        &mut self,
        work: impl FnOnce(&mut Connection) -> Result<T, postgres::Error>,
    ) -> Result<T, Error> {
        let result = work(self.connect()?).map_err(|error| classify(&error));
        if matches!(result, Err(Error::Database(_))) {
            self.connection = None;
        }
        result
    }
}

impl OrderStore for Repository {
    fn store(&mut self, batch: &[IncomingOrder]) -> Result<Stored, Error> {
        let message_ids: Vec<_> = batch.iter().map(|incoming| incoming.message_id.as_deref()).collect();
        let digests: Vec<_> = batch.iter().map(|incoming| incoming.digest.as_slice()).collect();
        let user_ids: Vec<_> = batch.iter().map(|incoming| incoming.order.user_id()).collect();
        let numbers: Vec<_> = batch.iter().map(|incoming| incoming.order.number_of_items()).collect();
        let amounts: Vec<_> = batch.iter().map(|incoming| incoming.order.total_amount()).collect();
        self.with_connection(|connection| {
            let store = connection.prepared(STORE)?;
            let new = connection
                .client
                .execute(&store, &[&message_ids, &digests, &user_ids, &numbers, &amounts])?;
            // Only repeated ids can conflict, and they are rare.
            let is_repeated = new < batch.len() as u64;
            let conflicts = if is_repeated { conflicts(connection, batch)? } else { Vec::new() };
            Ok(Stored { new, conflicts })
        })
    }
}

/// The positions in the batch of messages whose id was processed before with another body. Newly stored messages are
/// found, too, but with their own digest, so they do not conflict.
fn conflicts(connection: &mut Connection, batch: &[IncomingOrder]) -> Result<Vec<usize>, postgres::Error> {
    let ids: Vec<_> = batch.iter().filter_map(|incoming| incoming.message_id.as_deref()).collect();
    let known = connection.prepared(KNOWN)?;
    let rows = connection.client.query(&known, &[&ids])?;
    let digests = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    let digests: HashMap<&str, &[u8]> = digests.collect::<Result<_, postgres::Error>>()?;
    let differs = |incoming: &IncomingOrder| {
        let known = incoming.message_id.as_deref().and_then(|id| digests.get(id));
        known.is_some_and(|digest| **digest != incoming.digest)
    };
    Ok(batch.iter().enumerate().filter(|(_, incoming)| differs(incoming)).map(|(at, _)| at).collect())
}

/// Distinguishes values that PostgreSQL will always reject from an unavailable database. A transaction with an unknown
/// outcome may be repeated, because the inbox recognises its messages.
fn classify(error: &postgres::Error) -> Error {
    match Failure::of(error, true) {
        Failure::Refused(_) => Error::Refused(database::describe(error)),
        _ => Error::Database(database::describe(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use foundation::Environment;
    use order::Order;
    use testkit::{Database, Postgres};

    use super::*;
    use crate::service::digest;

    fn repository(database: &Database) -> Repository {
        let environment = Environment::from_pairs(database.settings("BILLING_DB"));
        let mut settings = DatabaseSettings::read(&environment, "BILLING_DB", "test").unwrap();
        // The machine may be busy with other tests.
        settings.connect_timeout = Duration::from_secs(60);
        Repository::new(settings)
    }

    fn incoming(message_id: Option<&str>, user_id: u32) -> IncomingOrder {
        let body = format!(r#"{{"user_id":{user_id},"number_of_items":1,"total_amount":1}}"#);
        IncomingOrder {
            message_id: message_id.map(str::to_owned),
            digest: digest(body.as_bytes()),
            order: Order::parse(body.as_bytes()).unwrap(),
        }
    }

    #[test]
    fn a_repeated_message_stores_no_second_order_and_another_body_is_a_conflict() {
        let database = Postgres::shared().create_database();
        let mut repository = repository(&database);
        let first = [incoming(Some("a"), 1), incoming(None, 2), incoming(Some("b"), 3)];
        assert_eq!(repository.store(&first).unwrap(), Stored { new: 3, conflicts: Vec::new() });
        let second =
            [incoming(Some("b"), 3), incoming(Some("a"), 4), incoming(Some("c"), 5), incoming(None, 2)];
        assert_eq!(repository.store(&second).unwrap(), Stored { new: 2, conflicts: vec![1] });
        let mut client = database.client();
        let rows = client.query("SELECT user_id FROM orders ORDER BY id", &[]).unwrap();
        let users: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(users, ["1", "2", "3", "5", "2"]);
        // An entry from before there were digests says nothing about its body.
        client.execute("UPDATE processed_messages SET digest = NULL", &[]).unwrap();
        let known = [incoming(Some("a"), 9)];
        assert_eq!(repository.store(&known).unwrap(), Stored { new: 0, conflicts: Vec::new() });
    }

    #[test]
    fn all_that_is_old_is_forgotten_some_at_a_time() {
        let database = Postgres::shared().create_database();
        let mut repository = repository(&database);
        repository.connect().unwrap();
        let mut client = database.client();
        client
            .batch_execute(
                "INSERT INTO processed_messages (message_id, processed_at)
                 SELECT md5(n::text), now() - make_interval(days => CASE WHEN n <= 100000 THEN 31 ELSE 29 END)
                   FROM generate_series(1, 120000) AS n",
            )
            .unwrap();
        let (mut forgotten, mut rounds) = (0, 0);
        loop {
            let round = repository.forget(30, 10_000).unwrap();
            forgotten += round;
            rounds += 1;
            if round < 10_000 {
                break;
            }
        }
        assert_eq!((forgotten, rounds), (100_000, 11));
        let left = client.query_one("SELECT count(*) FROM processed_messages", &[]).unwrap();
        assert_eq!(left.get::<_, i64>(0), 20_000);
    }
}
