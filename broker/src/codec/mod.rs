//! AMQP's data types (AMQP 0-9-1 §4.2.5): integers, strings, field tables, and the properties of a message. The log's
//! definitions, queues and the protocol all read and write them. No I/O, no broker state.

pub(crate) mod properties;
pub(crate) mod raw_table;
pub(crate) mod table;
pub(crate) mod wire;
