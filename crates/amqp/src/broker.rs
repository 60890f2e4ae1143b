//! What a broker tells of itself and of its queues.

/// Which program a broker is, as it says itself (AMQP 0-9-1 §1.4.2.1); `unknown` where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerProgram {
    /// Its name, such as `RabbitMQ`.
    pub product: String,
    /// Its version.
    pub version: String,
}

/// How a queue is (AMQP 0-9-1 §1.7.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueFigures {
    /// Messages that wait for a consumer.
    pub messages: u32,
    /// Consumers.
    pub consumers: u32,
}
