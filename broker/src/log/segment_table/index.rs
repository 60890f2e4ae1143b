//! Where in a segment the messages of each queue are.
//!
//! Queues that share the log have their messages between those of others. A queue whose messages are far apart would
//! read all the others to find its own. The index is made by reading the segment once, as far as it is written, and
//! serves all queues that are drained at the same time.

use std::collections::{HashMap, VecDeque};
use std::io;

use super::{PAGE_BYTES, SegmentTable};
use crate::error::Error;
use crate::log::record::{self, MAGIC, RecordKind};
use crate::log::stored_message::{Fetch, Location};
use crate::sync::lock;

/// Indexes are kept while they have this many records altogether, 8 bytes for each.
const MOST_RECORDS: usize = 1 << 18;
/// The most indexes that are kept.
const MOST: usize = 64;
/// Bytes that are read at a time to make an index, unless one record is larger.
const READ_BYTES: usize = 128 << 10;
/// Bytes between two messages of a queue that are rather read along than skipped.
pub(crate) const GAP_BYTES: u32 = 4 << 10;

/// The messages of each queue.
struct SegmentIndex {
    /// Offset and end of each, ascending.
    queues: HashMap<u32, Vec<(u32, u32)>>,
    records: usize,
    /// Everything before this offset is in it.
    through: u32,
    /// What follows there cannot be read: it is damaged, or the segment is gone.
    is_stuck: bool,
}

/// The indexes that were used last, by slot, the most recent at the end.
#[derive(Default)]
pub(super) struct Indexes(VecDeque<(u32, SegmentIndex)>);

impl Indexes {
    /// The index of a segment, which counts as used now; a new one if there is none.
    fn of(&mut self, slot: u32) -> &mut SegmentIndex {
        let at = self.0.iter().position(|(known, _)| *known == slot);
        let found = at.and_then(|at| self.0.remove(at)).unwrap_or_else(|| (slot, SegmentIndex::default()));
        self.0.push_back(found);
        let last = self.0.len() - 1;
        &mut self.0[last].1
    }

    /// These segments are gone.
    pub(super) fn forget(&mut self, slots: &[u32]) {
        self.0.retain(|(known, _)| !slots.contains(known));
    }

    /// Forgets those that were not used for the longest time while they are too many.
    fn shrink(&mut self) {
        let mut records: usize = self.0.iter().map(|(_, index)| index.records).sum();
        while (records > MOST_RECORDS || self.0.len() > MOST)
            && self.0.len() > 1
            && let Some((_, forgotten)) = self.0.pop_front()
        {
            records -= forgotten.records;
        }
    }
}

impl Default for SegmentIndex {
    fn default() -> Self {
        Self { queues: HashMap::new(), records: 0, through: to_u32(MAGIC.len()), is_stuck: false }
    }
}

impl SegmentIndex {
    /// The first message of `queue` at or after `offset`, and the end of those that follow it closely.
    fn stretch(&self, queue: u32, offset: u32) -> Option<(u32, u32)> {
        let places = self.queues.get(&queue)?;
        let first = places.partition_point(|(start, _)| *start < offset);
        let &(start, mut end) = places.get(first)?;
        for &(next, next_end) in &places[first + 1..] {
            if next - end > GAP_BYTES || (next_end - start) as usize > PAGE_BYTES {
                break;
            }
            end = next_end;
        }
        Some((start, end))
    }

    /// Takes in the records that `bytes`, which follow what it has, begin with.
    fn extend<'a>(&mut self, records: impl Iterator<Item = (usize, record::Record<'a>)>) {
        let from = self.through;
        for (at, found) in records {
            let start = from + to_u32(at);
            self.through = start + to_u32(found.total);
            if found.kind == RecordKind::Message {
                for (queue, _) in record::message_places(found.payload) {
                    self.queues.entry(queue).or_default().push((start, self.through));
                    self.records += 1;
                }
            }
        }
    }
}

impl SegmentTable {
    /// What `queue` has to read instead of `fetch`: from its first message there to the end of those that follow
    /// closely. None if that is not known, because the segment is gone or damaged.
    pub(crate) fn narrow(&self, queue: u32, fetch: Fetch) -> Result<Option<Fetch>, Error> {
        let slot = fetch.at.slot;
        // Whoever waits for this lock would read the same.
        let mut indexes = lock(&self.indexes);
        let index = indexes.of(slot);
        if index.through < fetch.end && !index.is_stuck {
            let extended = self.index(index, slot, fetch.end);
            extended.map_err(|error| Error::log(format!("index segment {slot}"))(error))?;
        }
        let known = index.through >= fetch.end;
        let stretch = if known { index.stretch(queue, fetch.at.offset) } else { None };
        indexes.shrink();
        Ok(stretch
            .filter(|(_, end)| *end <= fetch.end)
            .map(|(offset, end)| Fetch { at: Location { slot, offset }, end }))
    }

    /// Reads a segment up to `end`, where a record ends, from where its index ends.
    fn index(&self, index: &mut SegmentIndex, slot: u32, end: u32) -> io::Result<()> {
        index.is_stuck = true;
        let Some((number, file)) = self.open(slot)? else { return Ok(()) };
        let (mut bytes, mut wanted) = (Vec::new(), READ_BYTES);
        while index.through < end {
            let (from, left) = (index.through, (end - index.through) as usize);
            bytes.resize(left.min(wanted), 0);
            file.read_at(&mut bytes, from.into())?;
            index.extend(record::iterate(&bytes, self.origin(number)));
            wanted = READ_BYTES;
            if index.through == from {
                // Either the record is larger than what was read, or damaged.
                let total =
                    record::claimed_total(&bytes).filter(|total| (bytes.len() + 1..=left).contains(total));
                let Some(total) = total else { return Ok(()) };
                wanted = total;
            }
        }
        index.is_stuck = false;
        Ok(())
    }
}

fn to_u32(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::record::{Head, Message, Origin};

    #[test]
    fn messages_that_lie_closely_together_are_read_together() {
        let places = vec![(100, 200), (300, 400), (9_000, 9_100), (9_100, 50_000)];
        let index = SegmentIndex { queues: HashMap::from([(7, places)]), ..SegmentIndex::default() };
        assert_eq!(index.stretch(7, 0), Some((100, 400)));
        assert_eq!(index.stretch(7, 101), Some((300, 400)));
        assert_eq!(index.stretch(7, 500), Some((9_000, 9_100)), "a page is not exceeded by several");
        assert_eq!(index.stretch(7, 9_100), Some((9_100, 50_000)), "but by one");
        assert_eq!(index.stretch(7, 9_101), None);
        assert_eq!(index.stretch(8, 0), None);
    }

    #[test]
    fn the_indexes_that_were_used_last_are_kept() {
        let mut indexes = Indexes::default();
        for slot in 0..4 {
            indexes.of(slot).records = MOST_RECORDS / 4;
            indexes.shrink();
        }
        assert_eq!(indexes.of(0).records, MOST_RECORDS / 4);
        indexes.of(4).records = 1;
        indexes.shrink();
        assert_eq!(indexes.0.iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), [2, 3, 0, 4]);
        indexes.of(5).records = 2 * MOST_RECORDS;
        indexes.shrink();
        assert_eq!(indexes.0.len(), 1, "one is kept, however large");
        indexes.forget(&[5]);
        assert_eq!(indexes.0.len(), 0);
    }

    #[test]
    fn an_index_grows_with_its_segment() {
        let origin = Origin { salt: 3, segment: 1 };
        let mut bytes = MAGIC.to_vec();
        let mut index = SegmentIndex::default();
        for sequence in 1..=4 {
            let from = bytes.len();
            let head = Head { kind: RecordKind::Message, flags: 0, origin, sequence };
            let message = Message { exchange: b"", routing_key: b"", properties: b"\0\0", body: &[0; 5_000] };
            let queue = u32::from(sequence % 2 == 0);
            record::put(&mut bytes, head, |out| {
                record::put_message(out, &message, None, [(queue, sequence)].into_iter());
            });
            index.extend(record::iterate(&bytes[from..], origin));
            assert_eq!(index.through as usize, bytes.len());
        }
        let first = index.stretch(1, 0).unwrap();
        let second = index.stretch(1, first.1).unwrap();
        assert!(first.1 < second.0 && second.1 as usize == bytes.len(), "{first:?} {second:?}");
        assert_eq!((index.stretch(1, second.1), index.records), (None, 4));
    }
}
