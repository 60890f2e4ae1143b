//! How much a connection receives and sends, for the metrics and the management API.

use foundation::metrics::Counter;

/// How many bytes and how many reads and writes of the socket a connection took.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) received: Direction,
    pub(crate) sent: Direction,
}

/// One direction of [`Traffic`].
#[derive(Debug, Default)]
pub(crate) struct Direction {
    pub(crate) bytes: Counter,
    pub(crate) packets: Counter,
}

impl Direction {
    pub(crate) fn count(&self, bytes: usize) {
        self.bytes.add(bytes as u64);
        self.packets.increment();
    }
}
