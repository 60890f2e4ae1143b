//! The settings of billing. Nothing else in this crate reads the environment.

use std::time::Duration;

use amqp::AmqpSettings;
use database::DatabaseSettings;
use foundation::Environment;
use foundation::listener::ListenerSettings;

/// The settings of billing.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The queue that orders come from. Messages that can never succeed go to the queue of the same name with
    /// `.dead` behind it.
    pub queue: String,
    /// Most unacknowledged messages at a time, and most in one transaction.
    pub prefetch: u16,
    /// 5 s: how long the broker may take to confirm a message in the dead-letter queue.
    pub confirm_timeout: Duration,
    /// For how many days message ids are kept to recognise repetitions.
    pub inbox_days: u32,
    /// 5 s: the longest delay between attempts to reach the broker or the database.
    pub retry_max: Duration,
    /// `PRIVATE_HOST` (127.0.0.1) and `BILLING_PRIVATE_PORT` (9303): where `/ready` and `/metrics` are.
    pub private: ListenerSettings,
    /// Where the broker is.
    pub broker: AmqpSettings,
    /// Where `billing_db` is.
    pub database: DatabaseSettings,
}

impl Settings {
    /// Reads and checks all settings.
    pub fn read(environment: &Environment) -> Result<Self, foundation::Error> {
        let number = |name, default, max| {
            let value = environment.number(name, default, 1..=max)?;
            u32::try_from(value).map_err(|error| foundation::Error::setting(name, error.to_string()))
        };
        Ok(Self {
            queue: environment.text("BILLING_QUEUE", "billing_queue"),
            prefetch: u16::try_from(number("BILLING_PREFETCH", 500, 10_000)?).unwrap_or(u16::MAX),
            confirm_timeout: Duration::from_secs(5),
            inbox_days: number("BILLING_INBOX_DAYS", 30, 36_500)?,
            retry_max: Duration::from_secs(5),
            private: ListenerSettings::read(environment, "BILLING", 9_303)?,
            broker: AmqpSettings::read(environment)?,
            database: DatabaseSettings::read(environment, "BILLING_DB", "billing-app")?,
        })
    }

    /// The queue for messages that can never succeed.
    pub fn dead_letter_queue(&self) -> String {
        format!("{}.dead", self.queue)
    }
}
