//! The AMQP 0-9-1 wire format: frames and methods, made of the data types in [`crate::codec`]. No I/O, no broker
//! state.

pub(crate) mod frame;
pub(crate) mod method;
pub(crate) mod reply;

pub(crate) use crate::codec::{properties, raw_table, table, wire};
