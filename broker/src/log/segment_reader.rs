//! Reads the segments of the log, from the newest to the oldest, and changes nothing: the first step of
//! [`crate::log::recovery`].

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::log::intervals::Intervals;
use crate::log::record::{self, MAX_TORN, Origin, Position, Previous, Record, RecordKind, Returned};
use crate::log::segment::{self, SegmentContents};
use crate::log::segment_table::{NEXT, Segment, file_name};
use crate::log::storage::{self, Storage};
use crate::log::stored_message::FIRST_TRANSIENT_ID;
use crate::log::stored_message::{Location, Run, StoredMessage};
use crate::log::survey::{Chore, Finding, Log, RecoveredQueue, Severity, Survey};

/// What a segment needs to know of the one after it.
struct Newer {
    /// The first segment that it replaces.
    replaces: u32,
    first_sequence: u64,
    /// None if that cannot be read.
    previous: Option<Previous>,
    is_whole: bool,
}

/// Reads the segments, from the newest to the oldest.
pub(crate) struct SegmentReader<'a> {
    storage: &'a dyn Storage,
    log: &'a Log,
    acks: HashMap<u32, Intervals>,
    queues: HashMap<u32, RecoveredQueue>,
    segments: BTreeMap<u32, Segment>,
    newer: Option<Newer>,
    last_sequence: u64,
    /// How far the newest segment was read.
    previous: Previous,
    /// How far each queue had delivered, if the last life ended in good order.
    delivered: Option<HashMap<u32, u64>>,
    findings: Vec<Finding>,
    chores: Vec<Chore>,
    next_segment: u32,
}

impl<'a> SegmentReader<'a> {
    /// A reader of the log that has segments of these numbers, the highest first.
    pub(crate) fn new(storage: &'a dyn Storage, log: &'a Log, numbers: &[u32]) -> Self {
        Self {
            storage,
            log,
            acks: HashMap::new(),
            queues: HashMap::new(),
            segments: BTreeMap::new(),
            newer: None,
            last_sequence: 0,
            previous: Previous::default(),
            delivered: None,
            findings: Vec::new(),
            chores: Vec::new(),
            next_segment: numbers.first().map_or(1, |highest| highest + 1),
        }
    }

    /// Reads them all.
    pub(crate) fn read_all(&mut self, numbers: &[u32]) {
        for (index, number) in numbers.iter().enumerate() {
            self.read_segment(*number, index == 0);
        }
        if self.next_segment <= self.log.segment {
            self.find(Severity::Refusal, &file_name(self.log.segment), "it is missing, or a later one is");
        }
    }

    fn find(&mut self, severity: Severity, file: &str, text: impl Into<String>) {
        self.findings.push(Finding { severity, file: file.to_owned(), text: text.into() });
    }

    /// Takes one segment in.
    fn read_segment(&mut self, number: u32, is_highest: bool) {
        let name = file_name(number);
        let read = || {
            let file = self.storage.open(&name)?;
            storage::read_whole(&*file)
        };
        let bytes = match read() {
            Ok(bytes) => bytes,
            Err(error) => return self.find(Severity::Refusal, &name, format!("it cannot be read: {error}")),
        };
        let origin = Origin { salt: self.log.salt, segment: number };
        let older_than = self.newer.as_ref().filter(|newer| number < newer.replaces);
        let ceiling = older_than.map_or(u64::MAX, |newer| newer.first_sequence);
        let scan = SegmentContents::of(&bytes, origin, ceiling);
        if !self.is_in_order(number, &name, &scan) {
            return;
        }
        if scan.stretches.is_empty() {
            if is_highest && number > self.log.segment && !bytes.is_empty() && segment::is_zero(&bytes) {
                // It was begun, and not even its start record was written.
                self.next_segment = number;
                self.chores.push(Chore::Remove(name));
                return;
            }
            let why = segment::describe_unreadable(&bytes, origin);
            self.find(Severity::Refusal, &name, why);
            self.newer =
                Some(Newer { replaces: number, first_sequence: ceiling, previous: None, is_whole: false });
            return;
        }
        let start = scan.start(&bytes);
        if let Some(start) = start.as_ref().filter(|start| start.version != record::VERSION) {
            let why = format!("its format is {}, this program knows {}", start.version, record::VERSION);
            return self.find(Severity::Refusal, &name, why);
        }
        let is_newest = self.segments.is_empty();
        if is_newest {
            self.last_sequence = scan.last_sequence;
            self.previous.end = to_u32(scan.end);
            let last = scan.records(&bytes).filter(|(_, record)| record.kind != RecordKind::End).last();
            self.delivered = last
                .filter(|(_, record)| record.kind == RecordKind::Close)
                .map(|(_, record)| record::read_close(record.payload).collect());
        }
        let size = start.as_ref().map_or(0, |start| start.size as usize);
        let is_whole = self.judge(&name, &bytes, &scan, size, is_newest);
        let (live, live_bytes) = self.read_records(&scan, &bytes, number);
        let (end, size) = (to_u32(scan.end), bytes.len() as u64);
        let damaged = !is_whole || !scan.gaps.is_empty();
        let segment =
            Segment { number, file: None, pinned: false, end, size, sealed: true, damaged, live, live_bytes };
        self.segments.insert(number, segment);
        self.newer = Some(Newer {
            replaces: scan.replaces(&bytes).unwrap_or(number).min(number),
            first_sequence: scan.first_sequence,
            previous: start.map(|start| start.previous),
            is_whole,
        });
    }

    /// Whether this is the segment that has to come next. One that was merged into a newer one is not read, and what
    /// is missing in between is told.
    fn is_in_order(&mut self, number: u32, name: &str, scan: &SegmentContents) -> bool {
        let Some(newer) = &self.newer else { return true };
        let (replaces, is_whole) = (newer.replaces, newer.is_whole);
        if number >= replaces {
            if !is_whole {
                let why = "the segment that it was merged into is damaged";
                self.find(Severity::Refusal, name, why);
            } else if scan.stretches.is_empty() || !scan.gaps.is_empty() {
                self.find(Severity::Damage, name, "it cannot be read, and a newer segment replaces it");
                self.chores.push(Chore::SetAside(name.to_owned()));
            } else {
                // The merge was interrupted before it could remove it.
                self.chores.push(Chore::Remove(name.to_owned()));
            }
            return false;
        }
        for missing in (number + 1..replaces).take(3) {
            self.find(Severity::Refusal, &file_name(missing), "it is missing");
        }
        true
    }

    /// Tells what of a segment cannot be read. Returns whether nothing of it is damaged.
    fn judge(
        &mut self,
        name: &str,
        bytes: &[u8],
        scan: &SegmentContents,
        size: usize,
        is_newest: bool,
    ) -> bool {
        let count = self.findings.len();
        let newer = self.newer.take();
        let previous = newer.as_ref().and_then(|newer| newer.previous.as_ref());
        for &(from, to) in &scan.gaps {
            let torn = (to_u32(from), to_u32(to));
            let what = format!("it cannot be read from offset {from} to {to}; everything else is read");
            if previous.is_some_and(|previous| previous.torn.contains(&torn)) {
                continue;
            }
            // The start record is durable before anything is written behind it.
            let unproven = is_newest && from > 0 && !scan.is_proven(to);
            if unproven && self.previous.torn.len() < MAX_TORN {
                self.previous.torn.push(torn);
                let why = "an unfinished write of a power failure, or damage to what was written last";
                self.find(Severity::Unfinished, name, format!("{what}: {why}"));
            } else {
                self.find(Severity::Damage, name, what);
            }
        }
        let cut = is_newest && !scan.has_tail && bytes.len() < size;
        let end = scan.end;
        if scan.ended {
        } else if cut {
            self.find(Severity::Damage, name, format!("it was cut at offset {}", bytes.len()));
        } else if is_newest && scan.has_tail {
            self.find(Severity::Unfinished, name, format!("an unfinished write begins at offset {end}"));
        } else if !is_newest && previous.is_none_or(|previous| previous.end as usize != end) {
            self.find(Severity::Damage, name, format!("it cannot be read from offset {end} on"));
        }
        !self.findings[count..].iter().any(|finding| finding.severity > Severity::Unfinished)
    }

    /// Takes in the acks of a segment, then its messages. Returns how many of these are wanted, and their bytes.
    fn read_records(&mut self, scan: &SegmentContents, bytes: &[u8], number: u32) -> (u64, u64) {
        for (offset, record) in scan.records(bytes).filter(|(_, record)| record.kind == RecordKind::Acks) {
            for range in record::read_acks(record.payload) {
                self.exists(range.queue, number, offset);
                self.acks.entry(range.queue).or_default().insert(range.from, range.to);
                let queue = self.queues.entry(range.queue).or_default();
                queue.next_position = queue.next_position.max(range.to + 1);
            }
        }
        for (offset, record) in scan.records(bytes).filter(|(_, record)| record.kind == RecordKind::Returns) {
            for Returned { queue, position, times } in record::read_returns(record.payload) {
                if !self.exists(queue, number, offset) {
                    continue;
                }
                let known = self.queues.entry(queue).or_default().returns.entry(position).or_default();
                *known = times.max(*known);
            }
        }
        let mut runs: HashMap<u32, VecDeque<Run>> = HashMap::new();
        let mut lowest: HashMap<u32, u64> = HashMap::new();
        let (mut live, mut live_bytes) = (0, 0);
        for (offset, record) in scan.records(bytes).filter(|(_, record)| record.kind == RecordKind::Message) {
            // What lies behind damage is read by itself: a page cannot be read across it.
            let stretch = scan.start_of_stretch(offset);
            let at = Location { slot: number, offset: to_u32(offset) };
            let length = to_u32(record.total);
            for (id, position) in record::message_places(record.payload) {
                lowest.entry(id).or_insert(position);
                if !self.wants(id, position, &record, (number, offset)) {
                    continue;
                }
                let timed = record::arrival(record.payload).is_some();
                let entry =
                    StoredMessage { position, at, length, persistent: true, redelivered: true, timed };
                let queue = self.queues.entry(id).or_default();
                queue.timed |= timed;
                queue.body_bytes += record::body_length(record.payload);
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

    /// Whether a message still waits in one of its queues. `at` is the number of its segment and its offset there.
    fn wants(&mut self, id: u32, position: u64, record: &Record<'_>, at: (u32, usize)) -> bool {
        let exists = self.exists(id, at.0, at.1);
        let queue = self.queues.entry(id).or_default();
        queue.next_position = queue.next_position.max(position + 1);
        if queue.lowest.is_some_and(|lowest| position >= lowest) {
            let text =
                format!("message {position} of queue {id} at offset {} is in a newer segment, too", at.1);
            self.find(Severity::Refusal, &file_name(at.0), text);
            return false;
        }
        let persistent = record.flags & record::FLAG_PERSISTENT != 0;
        exists && persistent && !self.acks.get(&id).is_some_and(|acks| acks.contains(position))
    }

    /// Whether a durable queue exists. One that was never defined means that the definitions are older than the log.
    fn exists(&mut self, id: u32, segment: u32, offset: usize) -> bool {
        let queues = &self.log.queues;
        if queues.ids.contains(&id) {
            return true;
        }
        if self.log.lenient {
            return (queues.next..FIRST_TRANSIENT_ID).contains(&id);
        }
        if (queues.next..FIRST_TRANSIENT_ID).contains(&id) && !self.queues.contains_key(&id) {
            let text = format!("the record at offset {offset} is for queue {id}, which the definitions lack");
            self.find(Severity::Refusal, &file_name(segment), text);
            // Told once.
            self.queues.entry(id).or_default();
        }
        false
    }

    /// Whether the prepared segment may be used.
    pub(crate) fn check_prepared(&mut self) -> bool {
        let bytes = self.storage.open(NEXT).and_then(|file| storage::read_whole(&*file));
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                self.find(Severity::Refusal, NEXT, format!("it cannot be read: {error}"));
                return false;
            }
        };
        if segment::is_zero(&bytes) {
            return true;
        }
        let salt = self.log.salt.to_le_bytes();
        if bytes.chunks_exact(salt.len()).any(|chunk| chunk == salt) {
            self.find(Severity::Refusal, NEXT, "it should be empty, and holds a part of the log");
        } else {
            self.find(Severity::Damage, NEXT, "it should hold nothing but zeros");
            self.chores.push(Chore::SetAside(NEXT.to_owned()));
        }
        false
    }

    /// What was found.
    pub(crate) fn finish(self, has_prepared: bool) -> Survey {
        let Self { mut queues, segments, findings, chores, delivered, previous, .. } = self;
        for (id, queue) in &mut queues {
            // Without a close record nobody knows what was delivered, so everything may have been.
            let last = queue.next_position.saturating_sub(1);
            queue.redelivered_through =
                delivered.as_ref().map_or(last, |delivered| delivered.get(id).copied().unwrap_or(0));
        }
        let (segment, sequence) = (self.next_segment, self.last_sequence + 1);
        let position = Position { segment, sequence, salt: self.log.salt, previous };
        Survey { queues, segments, findings, position, chores, has_prepared }
    }
}

fn to_u32(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}
