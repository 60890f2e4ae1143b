//! Gives disk space back: removes segments whose messages are all settled, and merges stretches of segments that hold
//! little of what is still wanted into one.
//!
//! A merge writes the wanted messages of neighbouring segments, in their order and at their positions, into a new file
//! that then takes the name of the last of them; its start record says which segments it replaces. Their other
//! messages are gone with them, so acks for these are dropped, too. Acks for messages in still older segments are
//! taken along. A merge that is interrupted leaves either the old segments or a whole new one that replaces them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use crate::descriptors;
use crate::error::Error;
use crate::log::owner::{LogOwner, LogQueue};
use crate::log::record::{self, Head, MAGIC, Previous, Range, RecordKind, Returned};
use crate::log::segment_table::{self, FIRST_MERGED_SLOT, Segment, SegmentTable, file_name};
use crate::log::storage;
use crate::log::stored_message::{Location, StoredMessage};

/// A file that is being merged.
const TEMPORARY: &str = segment_table::TEMPORARY[1];
/// Merging pays when the segments are at least this many times as large as what is wanted of them.
const GAIN: u64 = 2;
/// Segments that are merged at once: all of them are open meanwhile.
const MOST_MERGED: usize = 16;

/// One round of giving space back.
pub(crate) fn reclaim<O: LogOwner>(owner: &O) -> Result<(), Error> {
    let segment_table = owner.segment_table();
    remove_unwanted(segment_table)?;
    while let Some(group) = choose(&segment_table.segments(), u64::from(segment_table.segment_bytes())) {
        match Merge::new(owner, &group).and_then(Merge::run) {
            Ok(()) => {}
            Err(error) if storage::may_succeed_later(&error) => {
                // There is no room for the copy, or no file can be opened; removing whole segments has to do for now.
                segment_table.unpin(&group.iter().map(|(slot, _)| *slot).collect::<Vec<_>>());
                let _ = segment_table.storage().remove(TEMPORARY);
                return Ok(());
            }
            Err(error) => {
                let last = group.last().map_or(0, |(_, segment)| segment.number);
                return Err(Error::log(format!("merge segments into {}", file_name(last)))(error));
            }
        }
    }
    Ok(())
}

/// Removes the oldest segments as long as nobody wants anything in them. The acks in them are for messages in them or
/// in still older segments, so they are not missed. The newest segment stays in any case: its number and its acks are
/// what the next start goes on from.
fn remove_unwanted(segment_table: &SegmentTable) -> Result<(), Error> {
    let mut segments = segment_table.segments();
    segments.pop();
    for (slot, segment) in segments {
        if !segment.sealed || segment.live > 0 {
            break;
        }
        let (storage, name) = (segment_table.storage(), file_name(segment.number));
        // One that is damaged only gets another name: it may hold what nobody could read.
        let aside = segment.damaged.then(|| storage::name_aside(storage, &name)).transpose();
        let aside = match aside {
            // It is tried again soon. Those after it wait, too: their numbers have no gap.
            Err(error) if descriptors::are_short(&error) => return Ok(()),
            aside => aside.map_err(Error::log(format!("find another name for {name}")))?,
        };
        segment_table.forget(&[slot]);
        let removed = match &aside {
            Some(aside) => storage.rename(&name, aside),
            None => storage.remove(&name),
        };
        removed.map_err(Error::log(format!("remove {name}")))?;
        if let Some(aside) = aside {
            log::error!("{name} was damaged, and is kept as {aside}");
        }
    }
    Ok(())
}

/// Finds the first stretch of sealed neighbours that is worth merging: what is wanted fits into one segment, and the
/// space that comes free is at least as much as what has to be copied, and not less than half a segment.
fn choose(segments: &[(u32, Segment)], segment_bytes: u64) -> Option<Vec<(u32, Segment)>> {
    // The newest segment is never touched, sealed or not.
    let (_, candidates) = segments.split_last()?;
    for start in 0..candidates.len() {
        let (mut wanted, mut size, mut best) = (0, 0, None);
        for (at, (slot, segment)) in candidates.iter().enumerate().skip(start).take(MOST_MERGED) {
            let kept = segment.live_bytes.min(segment.end.into());
            // A segment that is mostly wanted ends the stretch: copying it gains nothing.
            let worthwhile = kept * GAIN <= segment.size && wanted + kept <= segment_bytes / GAIN;
            if !segment.sealed || segment.damaged || !worthwhile {
                break;
            }
            wanted += kept;
            size += segment.size;
            // One that was merged already has nothing more to give by itself but acks that are still needed.
            let gives = at > start || *slot < FIRST_MERGED_SLOT;
            if gives && size - wanted >= wanted.max(segment_bytes / 2) {
                best = Some(at);
            }
        }
        if let Some(end) = best {
            return Some(candidates[start..=end].to_vec());
        }
    }
    None
}

/// A merge in progress.
struct Merge<'a, O: LogOwner> {
    segment_table: &'a SegmentTable,
    group: &'a [(u32, Segment)],
    queues: HashMap<u32, Arc<O::Queue>>,
    /// The new file's bytes so far.
    bytes: Vec<u8>,
    number: u32,
    sequence: u64,
    /// Where each queue's messages went, ascending by position; slots are filled in later.
    moved: BTreeMap<u32, Vec<StoredMessage>>,
    /// The lowest position of each queue that occurs in the group: acks below it are for older segments.
    lowest: HashMap<u32, u64>,
    acks: Vec<Range>,
    returned: Vec<Returned>,
    /// The first of the segments whose contents it takes over.
    replaces: u32,
}

impl<'a, O: LogOwner> Merge<'a, O> {
    fn new(owner: &'a O, group: &'a [(u32, Segment)]) -> io::Result<Self> {
        let (Some((_, first)), Some((_, last))) = (group.first(), group.last()) else {
            return Err(io::Error::other("nothing to merge"));
        };
        let queues = owner.queues().into_iter().map(|queue| (queue.id(), queue)).collect();
        Ok(Self {
            segment_table: owner.segment_table(),
            group,
            queues,
            bytes: Vec::new(),
            number: last.number,
            sequence: 0,
            moved: BTreeMap::new(),
            lowest: HashMap::new(),
            acks: Vec::new(),
            returned: Vec::new(),
            replaces: first.number,
        })
    }

    fn put(&mut self, kind: RecordKind, flags: u8, sequence: u64, fill: impl FnOnce(&mut Vec<u8>)) {
        self.sequence = self.sequence.max(sequence);
        let head = Head { kind, flags, origin: self.segment_table.origin(self.number), sequence };
        record::put(&mut self.bytes, head, fill);
    }

    fn run(mut self) -> io::Result<()> {
        for (slot, segment) in self.group {
            self.copy(*slot, segment)?;
        }
        self.copy_acks();
        self.copy_returns();
        let (sequence, replaces) = (self.sequence, self.replaces);
        self.put(RecordKind::End, record::FLAG_SYNCED, sequence, |out| record::put_end(out, replaces));
        let storage = self.segment_table.storage();
        let name = file_name(self.number);
        let file = storage::replace(storage, TEMPORARY, &name, &self.bytes)?;
        // From here on a restart sees the new file.
        let end = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let slot = self.segment_table.add_merged(self.number, file, end);
        let slots: Vec<u32> = self.group.iter().map(|(slot, _)| *slot).collect();
        self.relocate(&slots, slot);
        self.segment_table.forget(&slots);
        for (_, segment) in &self.group[..self.group.len() - 1] {
            storage.remove(&file_name(segment.number))?;
        }
        log::debug!("merged {} segments into {name}, {end} bytes", self.group.len());
        Ok(())
    }

    /// Copies what is wanted of one segment.
    fn copy(&mut self, slot: u32, segment: &Segment) -> io::Result<()> {
        let mut bytes = vec![0; segment.end as usize];
        self.segment_table.pin(slot)?.read_at(&mut bytes, 0)?;
        let mut read = MAGIC.len();
        let records = bytes.get(read..).unwrap_or_default();
        for (at, found) in record::iterate(records, self.segment_table.origin(segment.number)) {
            read = MAGIC.len() + at + found.total;
            match found.kind {
                RecordKind::Message => self.copy_message(slot, &found),
                RecordKind::Acks => self.acks.extend(record::read_acks(found.payload)),
                RecordKind::Returns => self.returned.extend(record::read_returns(found.payload)),
                RecordKind::Start if self.bytes.is_empty() => self.begin(&found),
                RecordKind::Start | RecordKind::End | RecordKind::Close => {}
            }
        }
        if read < bytes.len() || self.bytes.is_empty() {
            // The next start keeps the file and reads everything else.
            let problem = format!("{} is damaged at offset {read}", file_name(segment.number));
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        Ok(())
    }

    /// Writes the start record: what the first segment's says of the one before stays true.
    fn begin(&mut self, start: &record::Record<'_>) {
        let mut previous = Previous::default();
        if let Some(start) = record::read_start(start.payload) {
            // It may have been merged from others before.
            self.replaces = start.replaces;
            previous = start.previous;
        }
        let replaces = self.replaces;
        self.bytes.extend_from_slice(MAGIC);
        self.put(RecordKind::Start, 0, start.sequence, |out| record::put_start(out, replaces, 0, &previous));
    }

    fn copy_message(&mut self, slot: u32, found: &record::Record<'_>) {
        let mut wanted = Vec::new();
        for (id, position) in record::message_places(found.payload) {
            self.lowest.entry(id).or_insert(position);
            let queue = self.queues.get(&id);
            if queue.is_some_and(|queue| queue.holds(position, slot)) {
                wanted.push((id, position));
            }
        }
        let Some(message) = record::read_message(found.payload).filter(|_| !wanted.is_empty()) else {
            return;
        };
        let offset = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let flags = found.flags & record::FLAG_PERSISTENT;
        self.put(RecordKind::Message, flags, found.sequence, |out| {
            record::put_message(out, &message, record::arrival(found.payload), wanted.iter().copied());
        });
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX) - offset;
        let (at, persistent) = (Location { slot: 0, offset }, flags != 0);
        for (id, position) in wanted {
            let entry = StoredMessage { position, at, length, persistent, redelivered: false, timed: false };
            self.moved.entry(id).or_default().push(entry);
        }
    }

    /// Takes along the acks of messages in older segments than these.
    fn copy_acks(&mut self) {
        let mut kept: Vec<Range> = Vec::new();
        for mut range in std::mem::take(&mut self.acks) {
            let queue_exists = self.queues.get(&range.queue).is_some_and(|queue| queue.is_durable());
            if let Some(&lowest) = self.lowest.get(&range.queue) {
                range.to = range.to.min(lowest.saturating_sub(1));
            }
            if queue_exists && range.from <= range.to {
                kept.push(range);
            }
        }
        let slot = |segments: &[(u32, Segment)]| segments.first().map(|(slot, _)| *slot);
        let is_oldest = slot(&self.segment_table.segments()) == slot(self.group);
        if !is_oldest {
            record::join(&mut kept);
            let sequence = self.sequence;
            for ranges in kept.chunks(4096) {
                self.put(RecordKind::Acks, 0, sequence, |out| record::put_acks(out, ranges));
            }
        }
    }

    /// Takes along how often messages came back that are still there. What the queue knows is at least as new.
    fn copy_returns(&mut self) {
        let mut returned = std::mem::take(&mut self.returned);
        returned.sort_unstable_by_key(|one| (one.queue, one.position));
        returned.dedup_by_key(|one| (one.queue, one.position));
        returned.retain_mut(|one| {
            one.times = self.queues.get(&one.queue).map_or(0, |queue| queue.delivery_count(one.position));
            one.times > 0
        });
        let sequence = self.sequence;
        for returned in returned.chunks(4096) {
            self.put(RecordKind::Returns, 0, sequence, |out| record::put_returns(out, returned));
        }
    }

    /// Tells the queues where their messages are now. Counted under each queue's lock, like everything that is wanted.
    fn relocate(&mut self, slots: &[u32], slot: u32) {
        for (id, moved) in &mut self.moved {
            for entry in moved.iter_mut() {
                entry.at.slot = slot;
            }
            if let Some(queue) = self.queues.get(id) {
                let segment_table = self.segment_table;
                queue.relocate(slots, moved, |count, bytes| segment_table.add(slot, count.into(), bytes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(contents: &[(u32, u64, bool)]) -> Vec<(u32, Segment)> {
        (1..)
            .zip(contents)
            .map(|(number, &(end, live_bytes, sealed))| {
                let size = end.into();
                let (file, pinned, damaged) = (None, false, false);
                (number, Segment { number, file, pinned, end, size, sealed, damaged, live: 1, live_bytes })
            })
            .collect()
    }

    fn chosen(contents: &[(u32, u64, bool)]) -> Option<Vec<u32>> {
        choose(&segments(contents), 1000).map(|group| group.iter().map(|(slot, _)| *slot).collect())
    }

    #[test]
    fn one_old_message_does_not_pin_the_dead_behind_it() {
        assert_eq!(chosen(&[(1000, 10, true), (1000, 0, true), (1000, 0, false)]), Some(vec![1, 2]));
        assert_eq!(chosen(&[(1000, 10, true), (1000, 0, false)]), Some(vec![1]));
        assert_eq!(chosen(&[(20, 10, true), (1000, 0, true), (1000, 0, false)]), Some(vec![1, 2]));
    }

    #[test]
    fn what_is_mostly_wanted_is_left_alone() {
        assert_eq!(chosen(&[(1000, 900, true), (1000, 900, true), (1000, 0, false)]), None);
        assert_eq!(chosen(&[(1000, 900, true), (1000, 100, true), (1000, 0, false)]), Some(vec![2]));
        assert_eq!(chosen(&[(20, 10, true), (20, 10, true), (1000, 0, false)]), None, "nothing to gain");
        assert_eq!(chosen(&[(1000, 10, false)]), None);
    }

    #[test]
    fn no_more_is_merged_than_fits() {
        let group = chosen(&[(1000, 300, true), (1000, 300, true), (1000, 0, true), (1000, 0, false)]);
        assert_eq!(group, Some(vec![1]));
    }
}
