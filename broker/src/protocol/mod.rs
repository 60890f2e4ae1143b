//! AMQP 0-9-1 on the wire: connections, channels and their methods. What a method does to queues is in
//! [`crate::queues`].

pub(crate) mod age_of_deliveries;
pub(crate) mod carbon_copies;
pub(crate) mod channel;
pub(crate) mod channel_output;
pub(crate) mod client;
pub(crate) mod closing;
pub(crate) mod codec;
pub(crate) mod commit;
pub(crate) mod connection;
pub(crate) mod connections;
pub(crate) mod consume;
pub(crate) mod declare;
pub(crate) mod exchanges;
pub(crate) mod handshake;
pub(crate) mod listen;
pub(crate) mod memory;
pub(crate) mod publish;
pub(crate) mod send_buffer;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod throttle;
pub(crate) mod traffic;
pub(crate) mod transaction;

pub(crate) use crate::queues::fault;
