//! What queues and exchanges are and do, whoever asks.

pub(crate) mod counts;
pub(crate) mod delivery;
pub(crate) mod exchange;
pub(crate) mod queue;
pub(crate) mod subscriber;
pub(crate) mod topology;
