//! Billing's counters and current problems, for the private listener.

use std::sync::Mutex;

use foundation::listener::{Dependency, Inspect};
use foundation::metrics::{Counter, Exposition, Histogram};

use crate::error::Error;
use crate::service::BatchOutcome;

/// Billing's counters since its start, and its current problems.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Orders that were stored.
    stored: Counter,
    /// Messages that were recognised as repetitions, so that no second order was stored.
    repeated: Counter,
    /// Messages that can never become orders.
    dead: Counter,
    /// Messages that the broker redelivered.
    pub(crate) redelivered: Counter,
    /// Questions of gateways that were answered.
    pub(crate) questions: Counter,
    /// Batches that were stored, and the messages in them.
    batches: Counter,
    messages: Counter,
    /// The time of the transaction that stored a batch; failed attempts do not count.
    pub(crate) store_time: Histogram,
    /// Transactions and attempts to connect that PostgreSQL did not serve.
    database_errors: Counter,
    /// Sessions with the broker that ended.
    broker_errors: Counter,
    problems: Mutex<Problems>,
}

/// Why billing cannot work at the moment; all `None` if it can.
#[derive(Debug)]
struct Problems {
    database: Option<String>,
    broker: Option<String>,
}

impl Default for Problems {
    fn default() -> Self {
        let not_yet = || Some("no connection yet".to_owned());
        Self { database: not_yet(), broker: not_yet() }
    }
}

impl Metrics {
    fn problems(&self) -> std::sync::MutexGuard<'_, Problems> {
        self.problems.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Counts a batch of `messages` messages and its outcome.
    pub(crate) fn count(&self, messages: usize, outcome: &BatchOutcome) {
        let (messages, dead) = (messages as u64, outcome.dead.len() as u64);
        self.batches.increment();
        self.messages.add(messages);
        self.stored.add(outcome.stored);
        self.dead.add(dead);
        self.repeated.add(messages.saturating_sub(outcome.stored + dead));
        self.problems().database = None;
    }

    /// Records that PostgreSQL is reachable.
    pub(crate) fn database_works(&self) {
        self.problems().database = None;
    }

    /// Records that a broker session consumes.
    pub(crate) fn broker_works(&self) {
        self.problems().broker = None;
    }

    /// Records a failure that will be retried.
    pub(crate) fn failed(&self, error: &Error) {
        let mut problems = self.problems();
        match error {
            Error::Database(_) | Error::Refused(_) | Error::Schema(_) => {
                self.database_errors.increment();
                problems.database = Some(error.to_string());
            }
            Error::Broker(_) | Error::SessionEnded(_) | Error::DeadLetter(_) => {
                self.broker_errors.increment();
                problems.broker = Some(error.to_string());
            }
            Error::Foundation(_) | Error::Worker(_) => {}
        }
    }
}

impl Inspect for Metrics {
    fn dependencies(&self) -> Vec<Dependency> {
        let problems = self.problems();
        vec![
            Dependency { name: "postgresql", problem: problems.database.clone() },
            Dependency { name: "broker", problem: problems.broker.clone() },
        ]
    }

    fn metrics(&self, text: &mut Exposition) {
        for (name, help, counter) in [
            ("orders_stored_total", "Orders that were stored.", &self.stored),
            ("orders_repeated_total", "Messages that had been processed before.", &self.repeated),
            ("orders_dead_total", "Messages that can never become orders.", &self.dead),
            ("messages_redelivered_total", "Messages that were delivered once more.", &self.redelivered),
            ("batches_total", "Batches of messages that were processed.", &self.batches),
            ("batch_messages_total", "Messages in those batches.", &self.messages),
            ("database_errors_total", "Attempts that PostgreSQL did not serve.", &self.database_errors),
            ("questions_answered_total", "Questions of gateways that were answered.", &self.questions),
            ("broker_errors_total", "Sessions with the broker that ended.", &self.broker_errors),
        ] {
            text.single(name, "counter", help, counter.get());
        }
        text.histogram(
            "batch_store_duration_seconds",
            "Time of one transaction that stores a batch.",
            &self.store_time,
        );
        let connected = u8::from(self.problems().broker.is_none());
        text.single("broker_connected", "gauge", "Whether orders are consumed.", connected);
    }
}
