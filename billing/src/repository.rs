//! The orders in PostgreSQL. Only this file contains SQL.

use database::{DatabaseSettings, Migration};
use order::Order;
use postgres::{Client, Statement};

use crate::error::Error;

/// The schema's history.
const MIGRATIONS: &[Migration] =
    &[Migration { version: 1, name: "0001_orders", sql: include_str!("../../sql/billing/0001_orders.sql") }];

/// Most inbox entries that one clean-up deletes, so that it never holds up orders for long.
const EXPIRED_MAX: i64 = 10_000;

/// An order and the message it came in.
#[derive(Clone, Debug)]
pub(crate) struct IncomingOrder {
    /// What makes a repetition recognisable. Without it, every delivery counts as an order of its own.
    pub message_id: Option<String>,
    /// The order.
    pub order: Order,
}

/// An open connection with its prepared statements.
pub(crate) struct Repository {
    client: Client,
    store: Statement,
    expire: Statement,
}

impl Repository {
    /// Connects and brings the schema up to date.
    pub(crate) fn connect(database: &DatabaseSettings) -> Result<Self, Error> {
        let mut client = database.connect(MIGRATIONS).map_err(|error| match error {
            database::Error::Connect { .. } | database::Error::Postgres { .. } => {
                Error::Database(error.to_string())
            }
            database::Error::TooNew { .. } => Error::Schema(error),
        })?;
        // One statement, and so one transaction and one round trip. Message ids are claimed in sorted order, so that
        // two processes with overlapping batches wait for each other instead of deadlocking; orders are stored in
        // the order of their delivery.
        let store = client.prepare(
            "WITH batch AS (
                 SELECT * FROM unnest($1::text[], $2::text[], $3::integer[], $4::text[]) WITH ORDINALITY
                     AS batch (message_id, user_id, number_of_items, total_amount, position)
             ), fresh AS (
                 INSERT INTO processed_messages (message_id)
                 SELECT message_id FROM batch WHERE message_id IS NOT NULL ORDER BY message_id
                 ON CONFLICT DO NOTHING RETURNING message_id
             )
             INSERT INTO orders (user_id, number_of_items, total_amount)
             SELECT user_id, number_of_items, total_amount::numeric FROM batch
             WHERE message_id IS NULL OR message_id IN (SELECT message_id FROM fresh)
             ORDER BY position",
        );
        let store = store.map_err(|error| classify(&error))?;
        let expire = client.prepare(
            "DELETE FROM processed_messages WHERE message_id IN (
                 SELECT message_id FROM processed_messages
                 WHERE processed_at < now() - make_interval(days => $1) LIMIT $2)",
        );
        let expire = expire.map_err(|error| classify(&error))?;
        Ok(Self { client, store, expire })
    }

    /// Stores those orders whose message has not been processed before, all or none, and returns how many those are.
    /// No message id may occur twice in the batch.
    pub(crate) fn store(&mut self, batch: &[IncomingOrder]) -> Result<u64, Error> {
        let message_ids: Vec<_> = batch.iter().map(|incoming| incoming.message_id.as_deref()).collect();
        let user_ids: Vec<_> = batch.iter().map(|incoming| incoming.order.user_id()).collect();
        let numbers: Vec<_> = batch.iter().map(|incoming| incoming.order.number_of_items()).collect();
        let amounts: Vec<_> = batch.iter().map(|incoming| incoming.order.total_amount()).collect();
        self.client
            .execute(&self.store, &[&message_ids, &user_ids, &numbers, &amounts])
            .map_err(|error| classify(&error))
    }

    /// Forgets messages that were processed more than `days` days ago, some thousands at a time.
    pub(crate) fn expire(&mut self, days: i32) -> Result<u64, Error> {
        self.client.execute(&self.expire, &[&days, &EXPIRED_MAX]).map_err(|error| classify(&error))
    }
}

/// Tells an order that will never be taken from a database that is away (PostgreSQL, appendix A: class 22 is data
/// exceptions, class 23 integrity constraint violations).
fn classify(error: &postgres::Error) -> Error {
    let text = database::describe(error);
    match error.code().map(|code| &code.code()[..2]) {
        Some("22" | "23") => Error::Refused(text),
        _ => Error::Database(text),
    }
}
