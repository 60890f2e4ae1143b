//! Reads the log back after a start: which messages still wait, where each queue goes on, and what was damaged.
//!
//! Segments are read from the newest to the oldest, so that every ack is known before the message it settles. A torn
//! tail (what was being written when the process died, and was never confirmed) is cut; damage in front of something
//! that was written after an fdatasync is reported and stepped over.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::entry::{Entry, Location, Run};
use crate::error::Error;
use crate::persister::Position;
use crate::record::{self, Head, Kind, Record};
use crate::storage::{self, Storage, StorageFile};
use crate::wal::{NEXT, Segment, file_name, file_number};

/// What recovery found.
pub(crate) struct Recovered {
    pub(crate) queues: HashMap<u32, RecoveredQueue>,
    pub(crate) segments: BTreeMap<u32, Segment>,
    pub(crate) position: Position,
    pub(crate) prepared: Option<Arc<dyn StorageFile>>,
}

/// One queue's messages.
#[derive(Default)]
pub(crate) struct RecoveredQueue {
    pub(crate) runs: VecDeque<Run>,
    /// Every position that appears in the log is lower.
    pub(crate) next_position: u64,
    /// Messages up to this position may have been delivered.
    pub(crate) redelivered_through: u64,
    /// The lowest position seen in newer segments.
    lowest: Option<u64>,
}

/// Recovers the log. `known` tells which queues exist; messages of others are dropped.
pub(crate) fn recover(
    storage: &dyn Storage,
    segment_bytes: u32,
    known: impl Fn(u32) -> bool,
) -> Result<Recovered, Error> {
    let mut numbers = Vec::new();
    let mut has_next = false;
    for name in storage.list().map_err(Error::io("list the data folder"))? {
        if name.strip_suffix(".tmp").is_some() {
            storage.remove(&name).map_err(Error::io(format!("remove {name}")))?;
        }
        has_next |= name == NEXT;
        numbers.extend(file_number(&name));
    }
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    let mut recovery = Recovery {
        storage,
        known: &known,
        acks: HashMap::new(),
        queues: HashMap::new(),
        segments: BTreeMap::new(),
        newest: None,
        sequence: 1,
        delivered: None,
    };
    let mut replaced_from = u32::MAX;
    for number in numbers {
        if number >= replaced_from && recovery.newest.is_some() {
            // A merge took its contents over, and was interrupted before it could remove it.
            storage.remove(&file_name(number)).map_err(Error::io("remove a merged segment"))?;
            continue;
        }
        if let Some(replaces) = recovery.read_segment(number)? {
            replaced_from = replaces;
        }
    }
    storage.sync_folder().map_err(Error::io("sync the data folder"))?;
    let mut prepared = None;
    if has_next {
        // The prepared file of the last life, unless it is not whole.
        let file = storage.open(NEXT).map_err(Error::io(format!("open {NEXT}")))?;
        let length = file.length().map_err(Error::io(format!("measure {NEXT}")))?;
        prepared = (length >= u64::from(segment_bytes)).then_some(file);
    }
    let Recovery { mut queues, segments, newest, sequence, delivered, .. } = recovery;
    for (id, queue) in &mut queues {
        // Without a close record nobody knows what was delivered, so everything may have been.
        let last = queue.next_position.saturating_sub(1);
        queue.redelivered_through =
            delivered.as_ref().map_or(last, |delivered| delivered.get(id).copied().unwrap_or(0));
    }
    let position = Position { segment: newest.map_or(1, |newest| newest + 1), sequence };
    Ok(Recovered { queues, segments, position, prepared })
}

struct Recovery<'a> {
    storage: &'a dyn Storage,
    known: &'a dyn Fn(u32) -> bool,
    acks: HashMap<u32, Intervals>,
    queues: HashMap<u32, RecoveredQueue>,
    segments: BTreeMap<u32, Segment>,
    /// The newest segment that has a record.
    newest: Option<u32>,
    /// The next sequence number.
    sequence: u64,
    /// How far each queue had delivered, if the last life ended in good order.
    delivered: Option<HashMap<u32, u64>>,
}

impl Recovery<'_> {
    /// Takes one segment in. Returns the first of the segments that it replaces.
    fn read_segment(&mut self, number: u32) -> Result<Option<u32>, Error> {
        let name = file_name(number);
        let doing = |what: &str| Error::io(format!("{what} {name}"));
        let file = self.storage.open(&name).map_err(doing("open"))?;
        let bytes = storage::read_whole(&*file).map_err(doing("read"))?;
        let scan = Scan::of(&bytes, number, self.newest.is_none());
        if scan.spans.is_empty() && self.newest.is_none() {
            // It was begun, and nothing of it was ever durable.
            self.storage.remove(&name).map_err(doing("remove"))?;
            return Ok(None);
        }
        for &(from, to) in &scan.damage {
            self.report_damage(&name, &bytes, from, to)?;
        }
        let first = scan.records(&bytes, number).next().filter(|(_, first)| first.kind == Kind::Start);
        let start = first.and_then(|(_, first)| record::read_start(first.payload));
        if let Some((version, _)) = start
            && version != record::VERSION
        {
            let problem = format!("its format version is {version}, this program knows {}", record::VERSION);
            return Err(Error::Format { file: name, problem });
        }
        if self.newest.is_none() {
            self.newest = Some(number);
            // The last record of the log may say that the last life ended in good order.
            let last = scan.records(&bytes, number).filter(|(_, record)| record.kind != Kind::End).last();
            self.delivered = last
                .filter(|(_, record)| record.kind == Kind::Close)
                .map(|(_, record)| record::read_close(record.payload).collect());
        }
        let (live, live_bytes) = self.read_records(&scan, &bytes, number);
        let mut end = u32::try_from(scan.end).unwrap_or(u32::MAX);
        if !scan.ended {
            end = self.end_segment(&*file, number, end).map_err(doing("cut the torn tail of"))?;
            if scan.torn > 0 {
                log::warn!("{name}: cut a torn tail of {} bytes at offset {}", scan.torn, scan.end);
            }
        }
        self.segments.insert(number, Segment { number, file, end, sealed: true, live, live_bytes });
        Ok(start.map(|(_, replaces)| replaces))
    }

    /// Says loudly where the log is damaged, and keeps a copy of the file as it was found.
    fn report_damage(&self, name: &str, bytes: &[u8], from: usize, to: usize) -> Result<(), Error> {
        let copy = format!("damaged-{name}");
        log::error!(
            "{name} is damaged from offset {from} to {to}; the file is kept as {copy}: records in between are lost, \
             everything else is read"
        );
        let names = self.storage.list().map_err(Error::io("list the data folder"))?;
        if !names.contains(&copy) {
            let file = self.storage.create(&copy).map_err(Error::io(format!("create {copy}")))?;
            file.write_at(bytes, 0).and_then(|()| file.sync()).map_err(Error::io(format!("write {copy}")))?;
        }
        Ok(())
    }

    /// Takes in the acks of a segment, then its messages. Returns how many of these are wanted, and their bytes.
    fn read_records(&mut self, scan: &Scan, bytes: &[u8], number: u32) -> (u64, u64) {
        for (_, record) in scan.records(bytes, number) {
            self.sequence = self.sequence.max(record.sequence + 1);
            if record.kind == Kind::Acks {
                for range in record::read_acks(record.payload) {
                    self.acks.entry(range.queue).or_default().insert(range.from, range.to);
                    let queue = self.queues.entry(range.queue).or_default();
                    queue.next_position = queue.next_position.max(range.to + 1);
                }
            }
        }
        let mut runs: HashMap<u32, VecDeque<Run>> = HashMap::new();
        let mut lowest: HashMap<u32, u64> = HashMap::new();
        let (mut live, mut live_bytes) = (0, 0);
        for (offset, record) in scan.records(bytes, number).filter(|(_, record)| record.kind == Kind::Message)
        {
            // What lies behind damage is read by itself: a page cannot be read across it.
            let stretch = scan.start_of_stretch(offset);
            let at = Location { slot: number, offset: u32::try_from(offset).unwrap_or(u32::MAX) };
            let length = u32::try_from(record.total).unwrap_or(u32::MAX);
            for (id, position) in record::message_places(record.payload) {
                let queue = self.queues.entry(id).or_default();
                queue.next_position = queue.next_position.max(position + 1);
                lowest.entry(id).or_insert(position);
                let persistent = record.flags & record::FLAG_PERSISTENT != 0;
                let repeated = queue.lowest.is_some_and(|lowest| position >= lowest);
                let acked = self.acks.get(&id).is_some_and(|acks| acks.contains(position));
                if !persistent || repeated || acked || !(self.known)(id) {
                    continue;
                }
                let entry = Entry { position, at, length, persistent, redelivered: true };
                let runs = runs.entry(id).or_default();
                let joins = |run: &mut Run| run.offset as usize >= stretch && run.extend(&entry);
                if !runs.back_mut().is_some_and(joins) {
                    runs.push_back(Run::of(&entry));
                }
                live += 1;
                live_bytes += u64::from(length);
            }
        }
        for (id, lowest) in lowest {
            let queue = self.queues.entry(id).or_default();
            queue.lowest = Some(queue.lowest.map_or(lowest, |known| known.min(lowest)));
        }
        for (id, mut older) in runs {
            let queue = self.queues.entry(id).or_default();
            older.append(&mut queue.runs);
            queue.runs = older;
        }
        (live, live_bytes)
    }

    /// Ends a segment that was being written when the last life ended: an end record where its records end, and
    /// nothing after it. Nothing is appended to it any more; the log goes on in a new segment.
    fn end_segment(&mut self, file: &dyn StorageFile, number: u32, end: u32) -> std::io::Result<u32> {
        let mut bytes = Vec::new();
        let head =
            Head { kind: Kind::End, flags: record::FLAG_SYNCED, segment: number, sequence: self.sequence };
        record::put(&mut bytes, head, |_| {});
        self.sequence += 1;
        file.write_at(&bytes, end.into())?;
        let end = end + u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        file.set_length(end.into())?;
        file.sync()?;
        Ok(end)
    }
}

/// Which parts of a segment's bytes are valid records.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Stretches of valid records.
    spans: Vec<(usize, usize)>,
    /// Stretches that once were durable and are not valid any more.
    damage: Vec<(usize, usize)>,
    /// Where the records end.
    end: usize,
    /// The last record is an end record.
    ended: bool,
    /// Bytes after the end that look like the rest of an interrupted write.
    torn: usize,
}

impl Scan {
    /// Finds the valid records of segment `number`. In the newest segment whatever is not followed by proof that it
    /// was durable counts as torn; in all others everything was durable.
    pub(crate) fn of(bytes: &[u8], number: u32, newest: bool) -> Self {
        let mut spans: Vec<(usize, usize)> = Vec::new();
        let mut proofs = Vec::new();
        let (mut at, mut start, mut ended) = (0, 0, false);
        loop {
            if let Some(record) = record::parse(bytes.get(at..).unwrap_or_default(), number) {
                if record.flags & record::FLAG_SYNCED != 0 {
                    proofs.push(at);
                }
                at += record.total;
                ended = record.kind == Kind::End;
                if !ended {
                    continue;
                }
            }
            if at > start {
                spans.push((start, at));
            }
            let next = (at..bytes.len()).step_by(record::ALIGNMENT);
            let found = next.filter(|_| !ended).find(|at| record::parse(&bytes[*at..], number).is_some());
            let Some(found) = found else { break };
            (start, at) = (found, found);
        }
        let proof = if newest { proofs.last().copied() } else { Some(usize::MAX) };
        let (mut kept, mut damage, mut end) = (Vec::new(), Vec::new(), 0);
        let mut torn = 0;
        for (from, to) in spans {
            if from > end {
                // The proof must lie behind the gap.
                if proof.is_none_or(|proof| proof < from) {
                    torn = bytes.len() - end;
                    ended = false;
                    break;
                }
                damage.push((end, from));
            }
            kept.push((from, to));
            end = to;
        }
        if !newest && !ended && torn == 0 {
            // Its end record is missing, though a later segment proves that it was durable.
            damage.push((end, bytes.len()));
        }
        Self { spans: kept, damage, end, ended, torn }
    }

    /// Where the stretch of valid records that `offset` is in begins.
    fn start_of_stretch(&self, offset: usize) -> usize {
        let behind = self.spans.partition_point(|(from, _)| *from <= offset);
        behind.checked_sub(1).map_or(0, |index| self.spans[index].0)
    }

    /// The valid records with their offsets.
    pub(crate) fn records<'a>(
        &'a self,
        bytes: &'a [u8],
        number: u32,
    ) -> impl Iterator<Item = (usize, Record<'a>)> {
        self.spans.iter().flat_map(move |&(from, to)| {
            record::iterate(&bytes[from..to], number).map(move |(at, record)| (from + at, record))
        })
    }
}

/// A set of positions as disjoint ranges.
#[derive(Default)]
struct Intervals {
    /// First position to last position.
    ranges: BTreeMap<u64, u64>,
}

impl Intervals {
    fn insert(&mut self, mut from: u64, mut to: u64) {
        if to < from {
            return;
        }
        // Take in every range that touches the new one.
        while let Some((&first, &last)) = self.ranges.range(..=to.saturating_add(1)).next_back() {
            if last.saturating_add(1) < from {
                break;
            }
            self.ranges.remove(&first);
            from = from.min(first);
            to = to.max(last);
        }
        self.ranges.insert(from, to);
    }

    fn contains(&self, position: u64) -> bool {
        self.ranges.range(..=position).next_back().is_some_and(|(_, last)| *last >= position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_join_when_they_touch_or_overlap() {
        let mut set = Intervals::default();
        for (from, to) in [(10, 20), (30, 40), (22, 28), (21, 21), (1, 1), (5, 3)] {
            set.insert(from, to);
        }
        assert_eq!(set.ranges.into_iter().collect::<Vec<_>>(), [(1, 1), (10, 28), (30, 40)]);
        let mut set = Intervals::default();
        set.insert(2, 4);
        set.insert(6, 8);
        set.insert(1, 9);
        assert!(
            !set.contains(0) && set.contains(1) && set.contains(5) && set.contains(9) && !set.contains(10)
        );
    }

    fn bytes_of(flags: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (sequence, &flags) in (1..).zip(flags) {
            let head = Head { kind: Kind::Acks, flags, segment: 1, sequence };
            record::put(&mut bytes, head, |out| out.extend_from_slice(&[1; 20]));
        }
        bytes
    }

    #[test]
    fn a_gap_is_damage_only_if_something_behind_it_was_written_after_a_sync() {
        // Records of 48 bytes each.
        let mut torn = bytes_of(&[1, 0, 0, 0]);
        torn[60] ^= 1;
        torn.extend_from_slice(&[0; 64]);
        let scan = Scan::of(&torn, 1, true);
        assert_eq!((scan.spans, scan.damage, scan.end, scan.ended), (vec![(0, 48)], vec![], 48, false));
        let mut damaged = bytes_of(&[1, 0, 1, 0]);
        damaged[60] ^= 1;
        let scan = Scan::of(&damaged, 1, true);
        assert_eq!(scan.spans, [(0, 48), (96, 192)]);
        assert_eq!((scan.damage, scan.end), (vec![(48, 96)], 192));
    }
}
