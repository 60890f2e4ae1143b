//! What a channel needs to know of its connection.

use std::sync::Arc;

use crate::broker::Broker;
use crate::protocol::connections::Peer;
use crate::protocol::handshake::Agreement;

/// A connection whose handshake is over, as its channels see it.
pub(crate) struct Session {
    pub(crate) broker: Arc<Broker>,
    pub(crate) peer: Arc<Peer>,
    pub(crate) agreement: Agreement,
}
