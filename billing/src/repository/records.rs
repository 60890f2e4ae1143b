//! What can be asked about orders: single ones by their message id, the list, their number, and why messages are dead.

use std::collections::HashMap;

use order::question::{OrderRecord, StoredOrder};
use postgres::Row;

use super::Repository;
use crate::error::Error;

/// Longest reason that is kept, in characters.
const REASON_MAX_CHARS: usize = 1_000;

/// A time in UTC (RFC 3339), with milliseconds.
macro_rules! rfc3339 {
    ($time:literal) => {
        concat!("to_char(", $time, " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')")
    };
}

/// Everything that is known of some message ids, one row for each.
const RECORDS: &str = concat!(
    "SELECT asked.message_id, ",
    rfc3339!("processed.processed_at"),
    ", dead.reason, dead.requeued, ",
    rfc3339!("dead.dead_at"),
    ",
           orders.id, orders.user_id, orders.number_of_items, orders.total_amount::text
    FROM unnest($1::text[]) AS asked (message_id)
    LEFT JOIN processed_messages AS processed ON processed.message_id = asked.message_id
    LEFT JOIN orders ON orders.id = processed.order_id
    LEFT JOIN dead_messages AS dead ON dead.message_id = asked.message_id"
);

const OLDEST: &str = "
    SELECT id, user_id, number_of_items, total_amount::text FROM orders
    WHERE id > $1 AND id < $2 AND ($3::text IS NULL OR user_id = $3) ORDER BY id LIMIT $4";

const NEWEST: &str = "
    SELECT id, user_id, number_of_items, total_amount::text FROM orders
    WHERE id > $1 AND id < $2 AND ($3::text IS NULL OR user_id = $3) ORDER BY id DESC LIMIT $4";

/// The messages in which orders came, and when these were stored.
const MESSAGES: &str = concat!(
    "SELECT order_id, message_id, ",
    rfc3339!("processed_at"),
    " FROM processed_messages WHERE order_id BETWEEN $1 AND $2"
);

/// The same for orders that are far apart: each is looked up by the index.
const MESSAGES_OF: &str = concat!(
    "SELECT wanted.id, found.message_id, ",
    rfc3339!("found.processed_at"),
    " FROM unnest($1::bigint[]) AS wanted (id), LATERAL (
        SELECT message_id, processed_at FROM processed_messages WHERE order_id = wanted.id LIMIT 1) AS found"
);

/// Counts at most $2 orders after the id $1, and finds the id of the $3rd.
const COUNT: &str = "
    SELECT count(*), min(id) FILTER (WHERE position = $3)
    FROM (SELECT id, row_number() OVER (ORDER BY id) AS position FROM orders WHERE id > $1 ORDER BY id LIMIT $2)
        AS next";

/// Of several messages with the same id, the first reason stays.
const RECORD_DEAD: &str = "
    INSERT INTO dead_messages (message_id, reason)
    SELECT DISTINCT ON (message_id) message_id, reason
    FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS dead (message_id, reason, position)
    ORDER BY message_id, position
    ON CONFLICT (message_id) DO UPDATE SET reason = excluded.reason, dead_at = now(), requeued = false";

const MARK_REQUEUED: &str = "
    INSERT INTO dead_messages (message_id, reason, requeued) VALUES ($1, $2, true)
    ON CONFLICT (message_id) DO UPDATE SET requeued = true";

const MARK_DEAD: &str = "UPDATE dead_messages SET requeued = false WHERE message_id = $1";

/// How many orders come after an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrdersAfter {
    /// Their number, up to a maximum.
    pub(crate) count: u64,
    /// The id of the order at the position that was asked for, if there are so many.
    pub(crate) at_position: Option<i64>,
}

/// Which orders are asked for.
pub(crate) struct Wanted<'q> {
    /// Only orders with an id between these two.
    pub(crate) after: i64,
    pub(crate) before: i64,
    /// Only orders of this customer.
    pub(crate) user_id: Option<&'q str>,
    /// The newest first, instead of the oldest.
    pub(crate) newest: bool,
    /// At most so many.
    pub(crate) limit: i64,
}

impl Repository {
    /// What is known of each of these message ids.
    pub(crate) fn order_records(&mut self, ids: &[&str]) -> Result<HashMap<String, OrderRecord>, Error> {
        // No message with such an id is ever stored, and PostgreSQL would refuse the whole statement.
        let ids: Vec<_> = ids.iter().copied().filter(|id| !id.contains('\0')).collect();
        self.with_connection(|connection| {
            let statement = connection.prepared(RECORDS)?;
            connection.client.query(&statement, &[&ids])?.iter().map(order_record).collect()
        })
    }

    /// The orders that are wanted, in the order of their ids.
    pub(crate) fn orders(&mut self, wanted: &Wanted<'_>) -> Result<Vec<StoredOrder>, Error> {
        self.with_connection(|connection| {
            let statement = connection.prepared(if wanted.newest { NEWEST } else { OLDEST })?;
            let Wanted { after, before, user_id, limit, .. } = wanted;
            let rows = connection.client.query(&statement, &[after, before, user_id, limit])?;
            let orders = rows.iter().map(|row| stored_order(row, 0)).collect::<Result<Vec<_>, _>>()?;
            let mut orders: Vec<_> = orders.into_iter().flatten().collect();
            let ids: Vec<_> = orders.iter().map(|order| order.id).collect();
            let (Some(first), Some(last)) = (ids.iter().min(), ids.iter().max()) else { return Ok(orders) };
            let rows = if user_id.is_some() {
                let statement = connection.prepared(MESSAGES_OF)?;
                connection.client.query(&statement, &[&ids])?
            } else {
                let statement = connection.prepared(MESSAGES)?;
                connection.client.query(&statement, &[first, last])?
            };
            for row in rows {
                let id: i64 = row.try_get(0)?;
                if let Some(index) = ids.iter().position(|known| *known == id) {
                    orders[index].message_id = row.try_get(1)?;
                    orders[index].stored_at = row.try_get(2)?;
                }
            }
            Ok(orders)
        })
    }

    /// Counts the orders after the id `after`, up to `max`, and finds the one at `position`, which counts from 1.
    pub(crate) fn orders_after(&mut self, after: i64, max: i64, position: i64) -> Result<OrdersAfter, Error> {
        self.with_connection(|connection| {
            let statement = connection.prepared(COUNT)?;
            let row = connection.client.query_one(&statement, &[&after, &max, &position])?;
            let count: i64 = row.try_get(0)?;
            Ok(OrdersAfter { count: count.unsigned_abs(), at_position: row.try_get(1)? })
        })
    }

    /// Records why messages are dead, as pairs of message id and reason.
    pub(crate) fn record_dead(&mut self, dead: &[(&str, &str)]) -> Result<(), Error> {
        let dead = dead.iter().filter(|(id, _)| !id.contains('\0'));
        let (ids, reasons): (Vec<_>, Vec<_>) = dead.map(|(id, reason)| (*id, storable(reason))).unzip();
        let recorded = self.with_connection(|connection| {
            let statement = connection.prepared(RECORD_DEAD)?;
            connection.client.execute(&statement, &[&ids, &reasons])
        });
        match recorded {
            // Orders must not wait for a reason that PostgreSQL will never take.
            Err(Error::Refused(cause)) => {
                log::warn!("why messages are dead cannot be recorded: {cause}");
                Ok(())
            }
            recorded => recorded.map(|_| ()),
        }
    }

    /// Notes that a dead message is on its way back to the queue.
    pub(crate) fn mark_requeued(&mut self, message_id: &str, reason: &str) -> Result<(), Error> {
        self.with_connection(|connection| {
            let statement = connection.prepared(MARK_REQUEUED)?;
            connection.client.execute(&statement, &[&message_id, &storable(reason)])
        })
        .map(|_| ())
    }

    /// Notes that it did not get there.
    pub(crate) fn mark_dead(&mut self, message_id: &str) -> Result<(), Error> {
        self.with_connection(|connection| {
            let statement = connection.prepared(MARK_DEAD)?;
            connection.client.execute(&statement, &[&message_id])
        })
        .map(|_| ())
    }
}

/// A reason that PostgreSQL takes as a text.
fn storable(reason: &str) -> String {
    reason
        .chars()
        .take(REASON_MAX_CHARS)
        .map(|c| if c == '\0' { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

fn order_record(row: &Row) -> Result<(String, OrderRecord), postgres::Error> {
    let message_id: String = row.try_get(0)?;
    let (reason, requeued): (Option<String>, Option<bool>) = (row.try_get(2)?, row.try_get(3)?);
    let requeued = requeued.unwrap_or_default();
    let stored_at: Option<String> = row.try_get(1)?;
    let order = stored_order(row, 5)?.map(|order| StoredOrder {
        message_id: Some(message_id.clone()),
        stored_at: stored_at.clone(),
        ..order
    });
    let dead_at: Option<String> = row.try_get(4)?;
    let (dead, dead_at) = (reason.filter(|_| !requeued), dead_at.filter(|_| !requeued));
    Ok((message_id, OrderRecord { stored_at, order, dead, dead_at, requeued }))
}

/// The order in the columns from `first` on, without its message; `None` if they are null.
fn stored_order(row: &Row, first: usize) -> Result<Option<StoredOrder>, postgres::Error> {
    let Some(id) = row.try_get(first)? else { return Ok(None) };
    Ok(Some(StoredOrder {
        id,
        message_id: None,
        user_id: row.try_get(first + 1)?,
        number_of_items: row.try_get(first + 2)?,
        total_amount: row.try_get(first + 3)?,
        stored_at: None,
    }))
}
