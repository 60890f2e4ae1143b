//! How many orders there are in the table, whoever stored them, without reading all of it each time.
//!
//! Rows are counted once, some at a time, up to an id; after that only the latest ones are counted. A transaction that
//! was begun before the latest [`STEP`] orders is over, so no row appears below that id any more. Rows that somebody
//! deletes by hand are noticed by counting all of it again from time to time.

use std::time::{Duration, Instant};

use crate::error::Error;
use crate::repository::{OrdersAfter, Repository};

/// How many orders are counted at a time: some milliseconds of work.
const STEP: u64 = 20_000;
/// How often everything is counted again.
const RECOUNT_INTERVAL: Duration = Duration::from_secs(600);

/// The number of orders.
pub(crate) struct OrderCount {
    settled: Settled,
    /// What has been counted again so far.
    recount: Option<Settled>,
    begun: Instant,
}

/// Orders that are counted for good.
#[derive(Default)]
struct Settled {
    count: u64,
    up_to: i64,
}

impl OrderCount {
    pub(crate) fn new() -> Self {
        Self { settled: Settled::default(), recount: None, begun: Instant::now() }
    }

    /// The number of orders now; `None` if more of them must be counted first, by [`OrderCount::step`].
    pub(crate) fn total(&mut self, repository: &mut Repository) -> Result<Option<u64>, Error> {
        let latest = self.settled.latest(repository)?;
        if latest.count == 0 && self.settled.count > 0 {
            // Somebody may have emptied the table.
            *self = Self::new();
            return self.total(repository);
        }
        if self.recount.is_none() && self.begun.elapsed() >= RECOUNT_INTERVAL {
            self.recount = Some(Settled::default());
        }
        Ok((latest.count < 2 * STEP).then_some(self.settled.count + latest.count))
    }

    /// Counts some more; returns whether there is more to count.
    pub(crate) fn step(&mut self, repository: &mut Repository) -> Result<bool, Error> {
        if self.recount.as_mut().unwrap_or(&mut self.settled).step(repository)? {
            return Ok(true);
        }
        if let Some(settled) = self.recount.take() {
            self.settled = settled;
            self.begun = Instant::now();
        }
        Ok(false)
    }
}

impl Settled {
    /// The orders that are not counted for good, at most twice [`STEP`].
    fn latest(&self, repository: &mut Repository) -> Result<OrdersAfter, Error> {
        let step = i64::try_from(STEP).unwrap_or(i64::MAX);
        repository.orders_after(self.up_to, step.saturating_mul(2), step)
    }

    fn step(&mut self, repository: &mut Repository) -> Result<bool, Error> {
        let latest = self.latest(repository)?;
        let Some(up_to) = latest.at_position.filter(|_| latest.count >= 2 * STEP) else { return Ok(false) };
        *self = Self { count: self.count + STEP, up_to };
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use database::DatabaseSettings;
    use foundation::Environment;
    use testkit::Postgres;

    use super::*;

    #[test]
    fn every_order_counts_once_and_deleted_ones_do_not() {
        let database = Postgres::shared().create_database();
        let environment = Environment::from_pairs(database.settings("BILLING_DB"));
        let mut settings = DatabaseSettings::read(&environment, "BILLING_DB", "test").unwrap();
        // The machine may be busy with other tests.
        settings.connect_timeout = Duration::from_secs(60);
        let mut repository = Repository::new(settings);
        let mut count = OrderCount::new();
        assert_eq!(count.total(&mut repository).unwrap(), Some(0));
        let mut client = database.client();
        let mut insert = |orders: i32| {
            let sql = "INSERT INTO orders (user_id, number_of_items, total_amount)
                       SELECT 'u', 1, 1 FROM generate_series(1, $1)";
            client.execute(sql, &[&orders]).unwrap();
        };
        insert(39_999);
        assert_eq!(count.total(&mut repository).unwrap(), Some(39_999));
        insert(60_002);
        assert_eq!(count.total(&mut repository).unwrap(), None, "not all are counted yet");
        let mut steps = 0;
        while count.step(&mut repository).unwrap() {
            steps += 1;
        }
        assert_eq!((steps, count.total(&mut repository).unwrap()), (4, Some(100_001)));

        database.client().execute("DELETE FROM orders WHERE id % 2 = 0", &[]).unwrap();
        count.begun = Instant::now().checked_sub(RECOUNT_INTERVAL).unwrap();
        count.total(&mut repository).unwrap();
        while count.step(&mut repository).unwrap() {}
        assert_eq!(count.total(&mut repository).unwrap(), Some(50_001));
        database.client().execute("TRUNCATE orders", &[]).unwrap();
        assert_eq!(count.total(&mut repository).unwrap(), Some(0));
    }
}
