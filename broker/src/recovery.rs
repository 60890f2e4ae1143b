//! Reads the log back after a start: which messages still wait, where each queue goes on, and what cannot be read.
//!
//! It happens in two steps. [`survey`] reads everything and changes nothing; [`Survey::take_over`] refuses to go on
//! if a part of the log is missing, and else tidies up what an interruption left. No byte of a segment is ever
//! changed, and no file is removed that was not read completely. Segments are read from the newest to the oldest, so
//! that every ack is known before the message it settles.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use crate::definitions::{self, Header, Queues, Stored};
use crate::entry::{Entry, Location, Run};
use crate::error::Error;
use crate::intervals::Intervals;
use crate::persister::Position;
use crate::record::{self, Kind, MAX_TORN, Origin, Previous, Record};
use crate::segment::{self, Scan};
use crate::storage::{self, Storage, StorageFile};
use crate::topology::FIRST_TRANSIENT_ID;
use crate::wal::{NEXT, Segment, file_name, file_number};

/// Left out of the numbering when something could not be read, so that what is restored later has numbers of its own.
const SKIPPED: u64 = 1 << 24;

/// What the definitions say of the log.
pub(crate) struct Log {
    pub(crate) salt: u64,
    /// The log has a segment of this number or a higher one.
    pub(crate) segment: u32,
    /// Which durable queues exist.
    pub(crate) queues: Queues,
    /// Queues that the definitions lack count as existing.
    pub(crate) lenient: bool,
}

/// What recovery found.
pub(crate) struct Recovered {
    pub(crate) queues: HashMap<u32, RecoveredQueue>,
    pub(crate) segments: BTreeMap<u32, Segment>,
    pub(crate) position: Position,
    pub(crate) prepared: Option<Arc<dyn StorageFile>>,
    /// The lowest position of the next message of a queue of which nothing was found.
    pub(crate) first_position: u64,
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

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// The rest of a write that was interrupted, and so was never confirmed.
    Unfinished,
    /// Something cannot be read; everything else can.
    Damage,
    /// The broker must not start on this: confirmed messages may be missing.
    Refusal,
}

/// Something that the reader of the log has to tell.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    pub(crate) file: String,
    pub(crate) text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.text)
    }
}

/// What is to be done with a file before the log goes on.
#[derive(Debug)]
enum Chore {
    /// It was read completely and holds nothing, or nothing that is not elsewhere.
    Remove(String),
    /// It cannot be read and is not needed.
    SetAside(String),
}

/// What the files of the log hold.
pub(crate) struct Survey {
    pub(crate) queues: HashMap<u32, RecoveredQueue>,
    pub(crate) segments: BTreeMap<u32, Segment>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) position: Position,
    chores: Vec<Chore>,
    has_prepared: bool,
}

/// Whether there is no file of a log, and so no reason to expect definitions.
pub(crate) fn is_new(storage: &dyn Storage) -> Result<bool, Error> {
    let names = storage.list().map_err(Error::io("list the data folder"))?;
    Ok(!names.iter().any(|name| name == NEXT || file_number(name).is_some()))
}

/// Reads the whole folder, even if there are no definitions, and changes nothing. If `lenient` is set, queues that the
/// definitions lack count as existing.
pub(crate) fn examine(storage: &dyn Storage, lenient: bool) -> Result<(Survey, Stored), Error> {
    match definitions::load(storage, is_new(storage)?) {
        Ok(stored) => {
            let header = stored.header.unwrap_or_default();
            let log = Log { salt: header.salt, segment: header.segment, queues: stored.queues()?, lenient };
            let mut survey = read_log(storage, &log)?;
            survey.add_definitions(&stored);
            Ok((survey, stored))
        }
        Err(Error::Format { file, problem: text }) => {
            let stored = Stored::default();
            let log = Log { salt: guess_salt(storage)?, segment: 0, queues: stored.queues()?, lenient: true };
            let mut survey = read_log(storage, &log)?;
            survey.findings.insert(0, Finding { severity: Severity::Refusal, file, text });
            Ok((survey, stored))
        }
        Err(error) => Err(error),
    }
}

/// The salt of the newest segment that names one.
fn guess_salt(storage: &dyn Storage) -> Result<u64, Error> {
    let mut names = storage.list().map_err(Error::io("list the data folder"))?;
    names.retain(|name| file_number(name).is_some());
    names.sort_unstable_by(|a, b| b.cmp(a));
    let salts = names.iter().filter_map(|name| {
        let bytes = storage.open(name).and_then(|file| storage::read_whole(&*file)).ok()?;
        record::claimed_origin(bytes.get(record::MAGIC.len()..)?).map(|origin| origin.salt)
    });
    Ok(salts.into_iter().next().unwrap_or_default())
}

/// Reads the log that belongs to these definitions, and changes nothing.
pub(crate) fn survey(storage: &dyn Storage, header: Header, stored: &Stored) -> Result<Survey, Error> {
    let log = Log { salt: header.salt, segment: header.segment, queues: stored.queues()?, lenient: false };
    let mut survey = read_log(storage, &log)?;
    survey.add_definitions(stored);
    Ok(survey)
}

/// Reads the log, and changes nothing.
fn read_log(storage: &dyn Storage, log: &Log) -> Result<Survey, Error> {
    let names = storage.list().map_err(Error::io("list the data folder"))?;
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| file_number(name)).collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    let mut reader = Reader {
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
    };
    for (index, number) in numbers.iter().enumerate() {
        reader.read_segment(*number, index == 0);
    }
    if reader.next_segment <= log.segment {
        reader.find(Severity::Refusal, &file_name(log.segment), "it is missing, or a later one is");
    }
    let has_prepared = names.iter().any(|name| name == NEXT) && reader.check_prepared();
    let temporary = definitions::TEMPORARY.into_iter().chain(crate::wal::TEMPORARY);
    let left = temporary.filter(|temporary| names.iter().any(|name| name == temporary));
    reader.chores.extend(left.map(|name| Chore::Remove(name.to_owned())));
    Ok(reader.finish(has_prepared))
}

impl Survey {
    /// Takes in what is wrong with the definitions.
    fn add_definitions(&mut self, stored: &Stored) {
        let Some(header) = stored.header else { return };
        for (name, problem) in &stored.damaged {
            let text = format!("{problem}; the other copy, generation {}, is used", header.generation);
            self.findings.push(Finding { severity: Severity::Damage, file: (*name).to_owned(), text });
            if problem != definitions::MISSING {
                self.chores.push(Chore::SetAside((*name).to_owned()));
            }
        }
    }

    /// The first refusal and how many there are.
    fn refusal(&self) -> Option<Error> {
        let mut refusals = self.findings.iter().filter(|finding| finding.severity == Severity::Refusal);
        let first = refusals.next()?;
        let more = match refusals.count() {
            0 => String::new(),
            count => format!(" (and {count} more)"),
        };
        let problem = format!(
            "{}{more}; nothing was changed: put the file back, or run broker --check-log to see what can be read and \
             broker --salvage to go on with that",
            first.text
        );
        Some(Error::format(&first.file, problem))
    }

    /// Reports, refuses to go on if confirmed messages may be missing, and else tidies up.
    pub(crate) fn take_over(self, storage: &dyn Storage, segment_bytes: u32) -> Result<Recovered, Error> {
        for finding in &self.findings {
            match finding.severity {
                Severity::Unfinished => log::warn!("{finding}"),
                Severity::Damage | Severity::Refusal => log::error!("{finding}"),
            }
        }
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        for chore in &self.chores {
            match chore {
                Chore::Remove(name) => storage.remove(name).map_err(Error::io(format!("remove {name}")))?,
                Chore::SetAside(name) => {
                    let aside =
                        storage::set_aside(storage, name).map_err(Error::io(format!("rename {name}")))?;
                    log::error!("{name} is kept as {aside}");
                }
            }
        }
        storage.sync_folder().map_err(Error::io("sync the data folder"))?;
        if let Some((number, newest)) = self.segments.last_key_value() {
            // The next segment says how far this one goes, so it must be durable that far.
            newest.file.sync().map_err(Error::io(format!("sync {}", file_name(*number))))?;
        }
        let mut prepared = None;
        if self.has_prepared {
            // The prepared file of the last life, unless it is not whole.
            let file = storage.open(NEXT).map_err(Error::io(format!("open {NEXT}")))?;
            let length = file.length().map_err(Error::io(format!("measure {NEXT}")))?;
            prepared = (length >= u64::from(segment_bytes)).then_some(file);
        }
        let Self { mut queues, segments, mut position, .. } = self;
        let skipped = if self.findings.is_empty() { 0 } else { SKIPPED };
        position.sequence += skipped;
        for queue in queues.values_mut() {
            queue.next_position += skipped;
        }
        Ok(Recovered { queues, segments, position, prepared, first_position: 1 + skipped })
    }
}

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
struct Reader<'a> {
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

impl Reader<'_> {
    fn find(&mut self, severity: Severity, file: &str, text: impl Into<String>) {
        self.findings.push(Finding { severity, file: file.to_owned(), text: text.into() });
    }

    /// Takes one segment in.
    fn read_segment(&mut self, number: u32, is_highest: bool) {
        let name = file_name(number);
        let read = || {
            let file = self.storage.open(&name)?;
            Ok::<_, std::io::Error>((storage::read_whole(&*file)?, file))
        };
        let (bytes, file) = match read() {
            Ok(read) => read,
            Err(error) => return self.find(Severity::Refusal, &name, format!("it cannot be read: {error}")),
        };
        let origin = Origin { salt: self.log.salt, segment: number };
        let older_than = self.newer.as_ref().filter(|newer| number < newer.replaces);
        let ceiling = older_than.map_or(u64::MAX, |newer| newer.first_sequence);
        let scan = Scan::of(&bytes, origin, ceiling);
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
            let last = scan.records(&bytes).filter(|(_, record)| record.kind != Kind::End).last();
            self.delivered = last
                .filter(|(_, record)| record.kind == Kind::Close)
                .map(|(_, record)| record::read_close(record.payload).collect());
        }
        let size = start.as_ref().map_or(0, |start| start.size as usize);
        let is_whole = self.judge(&name, &bytes, &scan, size, is_newest);
        let (live, live_bytes) = self.read_records(&scan, &bytes, number);
        let (end, size) = (to_u32(scan.end), bytes.len() as u64);
        let damaged = !is_whole || !scan.gaps.is_empty();
        let segment = Segment { number, file, end, size, sealed: true, damaged, live, live_bytes };
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
    fn is_in_order(&mut self, number: u32, name: &str, scan: &Scan) -> bool {
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
    fn judge(&mut self, name: &str, bytes: &[u8], scan: &Scan, size: usize, is_newest: bool) -> bool {
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
    fn read_records(&mut self, scan: &Scan, bytes: &[u8], number: u32) -> (u64, u64) {
        for (offset, record) in scan.records(bytes).filter(|(_, record)| record.kind == Kind::Acks) {
            for range in record::read_acks(record.payload) {
                self.exists(range.queue, number, offset);
                self.acks.entry(range.queue).or_default().insert(range.from, range.to);
                let queue = self.queues.entry(range.queue).or_default();
                queue.next_position = queue.next_position.max(range.to + 1);
            }
        }
        let mut runs: HashMap<u32, VecDeque<Run>> = HashMap::new();
        let mut lowest: HashMap<u32, u64> = HashMap::new();
        let (mut live, mut live_bytes) = (0, 0);
        for (offset, record) in scan.records(bytes).filter(|(_, record)| record.kind == Kind::Message) {
            // What lies behind damage is read by itself: a page cannot be read across it.
            let stretch = scan.start_of_stretch(offset);
            let at = Location { slot: number, offset: to_u32(offset) };
            let length = to_u32(record.total);
            for (id, position) in record::message_places(record.payload) {
                lowest.entry(id).or_insert(position);
                if !self.wants(id, position, &record, (number, offset)) {
                    continue;
                }
                let entry = Entry { position, at, length, persistent: true, redelivered: true };
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
    fn check_prepared(&mut self) -> bool {
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

    fn finish(self, has_prepared: bool) -> Survey {
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
