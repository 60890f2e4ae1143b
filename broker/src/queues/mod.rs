//! What queues and exchanges are and do, whoever asks. They stand on [`crate::log`] and know nothing of connections,
//! channels and frames.

pub(crate) mod counts;
pub(crate) mod delivery;
pub(crate) mod exchange;
pub(crate) mod fault;
pub(crate) mod queue;
pub(crate) mod store;
pub(crate) mod subscriber;
pub(crate) mod topology;
