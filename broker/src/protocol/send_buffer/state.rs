//! What the lock of a send buffer protects: the bytes, and what its threads have to know of each other.

use std::time::Duration;

use crate::protocol::memory::Pace;

/// Buffers that grew beyond this for a large body are given back.
const KEEP_BYTES: usize = 256 << 10;

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a condition of its own, and all combinations occur"
)]
#[derive(Default)]
pub(super) struct State {
    pub(super) pending: Vec<u8>,
    /// Bytes that somebody is sending outside the lock.
    pub(super) in_flight: usize,
    /// Since when the writer thread sends how many bytes.
    pub(super) pace: Option<Pace>,
    /// Bytes that are counted in the budget.
    pub(super) counted: usize,
    /// It holds a delivery that exceeds the budget.
    pub(super) exceeds: bool,
    /// The other buffer of the pair, empty.
    pub(super) spare: Vec<u8>,
    /// Somebody is sending outside the lock.
    pub(super) sending: bool,
    /// The socket took no more; the writer thread has to go on.
    pub(super) stalled: bool,
    /// A delivery was refused for want of room.
    pub(super) starved: bool,
    /// Somebody who appended has promised to call [`super::SendBuffer::flush`].
    pub(super) flush_promised: bool,
    /// The reader thread waits in [`super::SendBuffer::wait_for_room`].
    pub(super) reader_waits: bool,
    /// Nothing more may be appended; the writer thread ends when everything is sent.
    pub(super) finished: bool,
    /// The socket is of no more use.
    pub(super) closed: bool,
    /// Something was sent since the writer thread last looked.
    pub(super) active: bool,
    /// The interval at which something must be sent; none before it is negotiated, or if it is 0.
    pub(super) heartbeat: Option<Duration>,
}

impl State {
    pub(super) fn take_pending(&mut self) -> Vec<u8> {
        let spare = std::mem::take(&mut self.spare);
        self.in_flight = self.pending.len();
        std::mem::replace(&mut self.pending, spare)
    }

    /// Bytes beyond what every connection may hold.
    pub(super) fn beyond(&self, allowance: usize) -> usize {
        (self.in_flight + self.pending.len()).saturating_sub(allowance)
    }

    pub(super) fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= KEEP_BYTES {
            buffer.clear();
            self.spare = buffer;
        }
    }
}
