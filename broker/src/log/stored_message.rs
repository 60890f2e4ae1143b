//! How queues, the log and recovery speak of messages: where they are, and what became of them. No I/O.

use crate::log::record::{self, Range};

/// Queues that do not survive a restart have numbers from here on; they are counted anew after it.
pub(crate) const FIRST_TRANSIENT_ID: u32 = 1 << 31;

/// Where a record is: the slot of its segment in the segment table, and its offset there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Location {
    pub(crate) slot: u32,
    pub(crate) offset: u32,
}

/// A message of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredMessage {
    /// Its position: positions of a queue are dense and ascend in the order of arrival.
    pub(crate) position: u64,
    pub(crate) at: Location,
    /// Bytes of its record.
    pub(crate) length: u32,
    pub(crate) persistent: bool,
    pub(crate) redelivered: bool,
    /// Its record says when it came in, since something limits its life.
    pub(crate) timed: bool,
}

impl StoredMessage {
    /// What the log has to know when queue `queue` is done with it.
    pub(crate) fn settled(&self, queue: u32, durable: bool) -> Settled {
        let range = Range { queue, from: self.position, to: self.position };
        let logged = durable && self.persistent;
        Settled { range, slot: self.at.slot, count: 1, bytes: u64::from(self.length), logged }
    }
}

/// A stretch of one segment in which every message of this queue from position `first` on waits. Other queues'
/// records may lie between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) slot: u32,
    /// Where to start reading.
    pub(crate) offset: u32,
    /// The end of the last message.
    pub(crate) end: u32,
    pub(crate) first: u64,
    pub(crate) count: u32,
    /// Bytes of the records that are this queue's.
    pub(crate) bytes: u64,
}

impl Run {
    /// A stretch of one message.
    pub(crate) fn of(entry: &StoredMessage) -> Self {
        Self {
            slot: entry.at.slot,
            offset: entry.at.offset,
            end: entry.at.offset + entry.length,
            first: entry.position,
            count: 1,
            bytes: u64::from(entry.length),
        }
    }

    /// Takes `entry` in, if it is the next message of the same stretch.
    pub(crate) fn extend(&mut self, entry: &StoredMessage) -> bool {
        let fits = self.slot == entry.at.slot
            && self.end <= entry.at.offset
            && self.first + u64::from(self.count) == entry.position;
        if fits {
            self.end = entry.at.offset + entry.length;
            self.count += 1;
            self.bytes += u64::from(entry.length);
        }
        fits
    }

    pub(crate) fn range(&self, queue: u32) -> Range {
        Range { queue, from: self.first, to: self.first + u64::from(self.count) - 1 }
    }
}

/// Messages that are settled: what the log and the segment table have to know of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) range: Range,
    pub(crate) slot: u32,
    pub(crate) count: u32,
    pub(crate) bytes: u64,
    /// Whether the log has to remember it: a message that would not come back anyway needs no record.
    pub(crate) logged: bool,
}

/// A part of the log that the queue needs, and what it will do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) at: Location,
    /// Nothing at or after this offset is of interest.
    pub(crate) end: u32,
}

/// The payload of the record at `start` of a page whose records were checked when it was read. Its length is the
/// record's own: a page may be older than a rearrangement of the log that made the record shorter.
pub(crate) fn payload_at(page: &[u8], start: usize) -> Option<&[u8]> {
    let bytes = page.get(start..)?;
    let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    bytes.get(record::HEADER_BYTES..record::HEADER_BYTES + length)
}
