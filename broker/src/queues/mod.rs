//! What queues and exchanges are and do, whoever asks. They stand on [`crate::log`] and know nothing of connections,
//! channels and frames.

pub(crate) mod arguments;
mod backlog;
pub(crate) mod bindings;
pub(crate) mod counts;
pub(crate) mod dead_letters;
pub(crate) mod death;
pub(crate) mod delivery;
pub(crate) mod exchange;
pub(crate) mod fault;
pub(crate) mod headers;
mod lifetimes;
mod limits;
pub(crate) mod queue;
mod rules;
pub(crate) mod shared_queue;
pub(crate) mod store;
pub(crate) mod store_threads;
pub(crate) mod subscriber;
pub(crate) mod timers;
pub(crate) mod topology;
pub(crate) mod upkeep;
