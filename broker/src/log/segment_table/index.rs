//! Where in a complete segment the messages of each queue are.
//!
//! Queues that share the log have their messages between those of others. A queue whose stretch is mostly others'
//! messages would read all of them to find its own; the index is made once by reading the segment, and serves all
//! queues that are drained at the same time.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;

use super::{PAGE_BYTES, SegmentTable, file_name};
use crate::error::Error;
use crate::log::record::{self, MAGIC, RecordKind};
use crate::log::stored_message::{Fetch, Location};
use crate::sync::lock;

/// Segments whose indexes are kept. One takes 8 bytes for each message.
const MOST: usize = 4;
/// Bytes between two messages of a queue that are rather read along than skipped.
const GAP_BYTES: u32 = 4 << 10;

/// The records of each queue: offset and end, ascending.
#[derive(Default)]
struct SegmentIndex(HashMap<u32, Vec<(u32, u32)>>);

/// The indexes that were used last, by slot, the most recent at the end.
#[derive(Default)]
pub(super) struct Indexes(VecDeque<(u32, Arc<SegmentIndex>)>);

impl Indexes {
    fn find(&mut self, slot: u32) -> Option<Arc<SegmentIndex>> {
        let at = self.0.iter().position(|(known, _)| *known == slot)?;
        let found = self.0.remove(at)?;
        let index = Arc::clone(&found.1);
        self.0.push_back(found);
        Some(index)
    }

    fn keep(&mut self, slot: u32, index: Arc<SegmentIndex>) {
        self.0.push_back((slot, index));
        if self.0.len() > MOST {
            self.0.pop_front();
        }
    }
}

impl SegmentIndex {
    /// The first message of `queue` at or after `offset`, and the end of those that follow it closely.
    fn stretch(&self, queue: u32, offset: u32) -> Option<(u32, u32)> {
        let records = self.0.get(&queue)?;
        let first = records.partition_point(|(start, _)| *start < offset);
        let &(start, mut end) = records.get(first)?;
        for &(next, next_end) in &records[first + 1..] {
            if next - end > GAP_BYTES || (next_end - start) as usize > PAGE_BYTES {
                break;
            }
            end = next_end;
        }
        Some((start, end))
    }
}

impl SegmentTable {
    /// What `queue` has to read instead of `fetch`: from its first message there to the end of those that follow
    /// closely. None if that is not known, because the segment is still being written, is gone or cannot be read as a
    /// whole.
    pub(crate) fn narrow(&self, queue: u32, fetch: Fetch) -> Result<Option<Fetch>, Error> {
        let slot = fetch.at.slot;
        let known = lock(&self.indexes).find(slot);
        let index = if let Some(index) = known {
            index
        } else {
            let made = self.make_index(slot).map_err(Error::log(format!("index segment {slot}")))?;
            let Some(index) = made.map(Arc::new) else { return Ok(None) };
            lock(&self.indexes).keep(slot, Arc::clone(&index));
            index
        };
        let stretch = index.stretch(queue, fetch.at.offset).filter(|(_, end)| *end <= fetch.end);
        Ok(stretch.map(|(offset, end)| Fetch { at: Location { slot, offset }, end }))
    }

    fn make_index(&self, slot: u32) -> io::Result<Option<SegmentIndex>> {
        let end =
            lock(&self.table).segments.get(&slot).filter(|segment| segment.sealed).map(|segment| segment.end);
        let (Some(end), Some((number, file))) = (end, self.open(slot)?) else { return Ok(None) };
        let mut bytes = vec![0; end as usize];
        file.read_at(&mut bytes, 0)?;
        let mut index = SegmentIndex::default();
        let mut read = MAGIC.len();
        for (at, found) in record::iterate(bytes.get(read..).unwrap_or_default(), self.origin(number)) {
            let start = MAGIC.len() + at;
            read = start + found.total;
            if found.kind == RecordKind::Message {
                let place = (to_u32(start), to_u32(read));
                for (queue, _) in record::message_places(found.payload) {
                    index.0.entry(queue).or_default().push(place);
                }
            }
        }
        if read < bytes.len() {
            // A part of it is damaged: what is behind that has to be found record by record.
            log::debug!("{} cannot be indexed beyond offset {read}", file_name(number));
            return Ok(None);
        }
        Ok(Some(index))
    }
}

fn to_u32(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_lie_closely_together_are_read_together() {
        let index =
            SegmentIndex(HashMap::from([(7, vec![(100, 200), (300, 400), (9_000, 9_100), (9_100, 50_000)])]));
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
            indexes.keep(slot, Arc::default());
        }
        assert!(indexes.find(0).is_some());
        indexes.keep(4, Arc::default());
        assert!(indexes.find(1).is_none() && indexes.find(0).is_some() && indexes.find(4).is_some());
    }
}
