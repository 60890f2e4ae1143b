//! The AMQP 0-9-1 wire format: frames, methods, field tables and basic properties. No I/O, no broker state.

pub(crate) mod fields;
pub(crate) mod frame;
pub(crate) mod method;
pub(crate) mod properties;
pub(crate) mod reply;
pub(crate) mod table;
pub(crate) mod wire;
