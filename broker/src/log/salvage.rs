//! Starts a log from what can be read of one that cannot be started, for `--salvage`.
//!
//! Every message that can be read and was not acked is written to a new log, in new files with names of their own.
//! When they are complete and durable, a list of them is: from then on, whatever interrupts it, the old files are set
//! aside and the new ones take their names. No old file is changed or removed.

use std::collections::{BTreeMap, HashSet};

use crate::codec::raw_table::RawTable;
use crate::error::Error;
use crate::log::definitions::{self, Definition, Header, Stored};
use crate::log::record::{self, Head, MAGIC, Message, Origin, Previous, RecordKind};
use crate::log::recovery;
use crate::log::segment::SegmentContents;
use crate::log::segment_table::{self, NEXT, file_name, file_number};
use crate::log::storage::{self, Storage};
use crate::log::stored_message::FIRST_TRANSIENT_ID;
use crate::log::survey::{RecoveredQueue, Severity, Survey};

/// How the names of new files begin until the old ones are out of the way.
const PREFIX: &str = "salvaged-";
/// The names that the new files get, one in each line. It is there while files are being renamed.
const LIST: &str = "salvage";
const LIST_TEMPORARY: &str = "salvage.tmp";

/// Refuses to go on where a salvage was interrupted: its files have to get their names first.
pub(crate) fn refuse_interrupted(storage: &dyn Storage) -> Result<(), Error> {
    let names = storage.list().map_err(Error::io("list the data folder"))?;
    if !names.iter().any(|name| name == LIST) {
        return Ok(());
    }
    Err(Error::format(LIST, "a salvage was interrupted: run broker --salvage again to complete it"))
}

/// Does it; tells what it did.
pub(crate) fn salvage(storage: &dyn Storage, segment_bytes: u32) -> Result<String, Error> {
    let mut messages = None;
    if refuse_interrupted(storage).is_ok() {
        let (survey, stored) = recovery::examine(storage, true)?;
        // Strictly, to see what a start would say.
        let (strict, _) = recovery::examine(storage, false)?;
        if strict.findings.iter().all(|finding| finding.severity != Severity::Refusal) {
            return Ok("nothing was done: the broker can start on this folder as it is".to_owned());
        }
        if survey.segments.is_empty() {
            return Err(Error::format(
                "the log",
                "no segment can be read, so there is nothing to go on with",
            ));
        }
        let copied = Copying::new(storage, &survey, &stored, segment_bytes).run(&stored);
        messages = Some(copied.map_err(Error::io("write the new log"))?);
    }
    let aside = rename_all(storage).map_err(Error::io("rename the old and the new files"))?;
    let what = match messages {
        Some(messages) => format!("{messages} messages are in the new log"),
        None => "the salvage that was interrupted is complete".to_owned(),
    };
    Ok(format!("{what}; kept aside: {}", aside.join(", ")))
}

/// Sets the old files aside and gives the new ones their names. Returns what was set aside.
fn rename_all(storage: &dyn Storage) -> std::io::Result<Vec<String>> {
    let list = storage::read_whole(&*storage.open(LIST)?)?;
    let list = String::from_utf8_lossy(&list).into_owned();
    let new: HashSet<&str> = list.lines().collect();
    let names: HashSet<String> = storage.list()?.into_iter().collect();
    let is_log = |name: &str| file_number(name).is_some() || name.starts_with(definitions::PREFIX);
    let temporary =
        |name: &str| segment_table::TEMPORARY.contains(&name) || definitions::TEMPORARY.contains(&name);
    let mut aside = Vec::new();
    for name in &names {
        // What has its final name already, because this was interrupted, stays.
        let arrived = new.contains(name.as_str()) && !names.contains(&format!("{PREFIX}{name}"));
        if !arrived && (is_log(name) || name == NEXT || temporary(name)) {
            aside.push(storage::set_aside(storage, name)?);
        }
    }
    // All old ones have to be gone before the first new one comes.
    storage.sync_folder()?;
    for name in new.iter().filter(|name| names.contains(&format!("{PREFIX}{name}"))) {
        storage.rename(&format!("{PREFIX}{name}"), name)?;
    }
    storage.sync_folder()?;
    storage.remove(LIST)?;
    storage.sync_folder()?;
    aside.sort_unstable();
    Ok(aside)
}

/// Copies what waits into the files of a new log.
struct Copying<'a> {
    storage: &'a dyn Storage,
    survey: &'a Survey,
    segment_bytes: u32,
    header: Header,
    bytes: Vec<u8>,
    sequence: u64,
    messages: u64,
    /// The names that the new files will get.
    files: Vec<String>,
    /// Names of queues that the definitions lack.
    unknown: BTreeMap<u32, String>,
    known: HashSet<u32>,
}

impl<'a> Copying<'a> {
    fn new(storage: &'a dyn Storage, survey: &'a Survey, stored: &Stored, segment_bytes: u32) -> Self {
        let header = Header {
            generation: stored.header.unwrap_or_default().generation + 1,
            segment: survey.position.segment,
            ..Header::new()
        };
        let known = stored.queues().map(|queues| queues.ids).unwrap_or_default();
        Self {
            storage,
            survey,
            segment_bytes,
            header,
            bytes: Vec::new(),
            sequence: 0,
            messages: 0,
            files: Vec::new(),
            unknown: BTreeMap::new(),
            known,
        }
    }

    /// Writes everything, and the list last. Returns the number of messages.
    fn run(mut self, stored: &Stored) -> std::io::Result<u64> {
        for number in self.survey.segments.keys() {
            let file = self.storage.open(&file_name(*number))?;
            let bytes = storage::read_whole(&*file)?;
            let origin = Origin { salt: self.survey.position.salt, segment: *number };
            let scan = SegmentContents::of(&bytes, origin, u64::MAX);
            for (_, found) in scan.records(&bytes).filter(|(_, found)| found.kind == RecordKind::Message) {
                self.copy(*number, found.payload)?;
            }
        }
        self.begin();
        self.end()?;
        self.write_definitions(stored)?;
        let list = self.files.join("\n");
        storage::replace(self.storage, LIST_TEMPORARY, LIST, list.as_bytes())?;
        Ok(self.messages)
    }

    fn copy(&mut self, segment: u32, payload: &[u8]) -> std::io::Result<()> {
        let queues = &self.survey.queues;
        let places = record::message_places(payload);
        let wanted: Vec<_> =
            places.filter(|(id, position)| waits(queues.get(id), segment, *position)).collect();
        let Some(message) = record::read_message(payload).filter(|_| !wanted.is_empty()) else {
            return Ok(());
        };
        for (id, _) in &wanted {
            if !self.known.contains(id) {
                self.name(*id, &message);
            }
        }
        if self.bytes.len() + record::total_bytes(payload.len()) > self.segment_bytes as usize
            && !self.bytes.is_empty()
        {
            self.end()?;
            self.header.segment += 1;
        }
        self.begin();
        self.put(RecordKind::Message, record::FLAG_PERSISTENT, |out| {
            record::put_message(out, &message, record::arrival(payload), wanted.iter().copied());
        });
        self.messages += 1;
        Ok(())
    }

    /// Finds a name for a queue whose definition is lost: the default exchange's routing key is one.
    fn name(&mut self, id: u32, message: &Message<'_>) {
        let given = std::str::from_utf8(message.routing_key).ok().filter(|_| message.exchange.is_empty());
        let name = self.unknown.entry(id).or_insert_with(|| format!("salvaged-{id}"));
        if let Some(given) = given {
            given.clone_into(name);
        }
    }

    fn begin(&mut self) {
        if self.bytes.is_empty() {
            let segment = self.header.segment;
            self.bytes.extend_from_slice(MAGIC);
            self.put(RecordKind::Start, 0, |out| record::put_start(out, segment, 0, &Previous::default()));
        }
    }

    fn put(&mut self, kind: RecordKind, flags: u8, fill: impl FnOnce(&mut Vec<u8>)) {
        self.sequence += 1;
        let origin = Origin { salt: self.header.salt, segment: self.header.segment };
        record::put(&mut self.bytes, Head { kind, flags, origin, sequence: self.sequence }, fill);
    }

    /// Writes the segment that was gathered.
    fn end(&mut self) -> std::io::Result<()> {
        let segment = self.header.segment;
        self.put(RecordKind::End, 0, |out| record::put_end(out, segment));
        let bytes = std::mem::take(&mut self.bytes);
        self.write(&file_name(segment), &bytes)
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        storage::write_new(self.storage, &format!("{PREFIX}{name}"), bytes)?;
        self.files.push(name.to_owned());
        Ok(())
    }

    fn write_definitions(&mut self, stored: &Stored) -> std::io::Result<()> {
        let unreadable = |error: Error| std::io::Error::other(error.to_string());
        let mut all = stored.definitions().map_err(unreadable)?;
        let mut names: HashSet<String> = HashSet::new();
        for definition in &all {
            if let Definition::Queue { name, .. } = definition {
                names.insert((*name).to_owned());
            }
        }
        let mut unknown = std::mem::take(&mut self.unknown);
        for (id, name) in &mut unknown {
            if !names.insert(name.clone()) {
                *name = format!("salvaged-{id}");
            }
        }
        let highest = self.survey.queues.keys().filter(|id| **id < FIRST_TRANSIENT_ID).max();
        all.push(Definition::NextQueue(highest.map_or(1, |highest| highest + 1)));
        let found = unknown.iter().map(|(id, name)| Definition::Queue {
            id: *id,
            name,
            auto_delete: false,
            arguments: RawTable::default(),
        });
        all.extend(found);
        let bytes = definitions::encode(self.header, &all);
        definitions::FILES.iter().try_for_each(|name| self.write(name, &bytes))
    }
}

/// Whether a message waits in a queue, and is read from this segment.
fn waits(queue: Option<&RecoveredQueue>, segment: u32, position: u64) -> bool {
    let Some(runs) = queue.map(|queue| &queue.runs) else { return false };
    let behind = runs.partition_point(|run| run.first <= position);
    let run = behind.checked_sub(1).and_then(|index| runs.get(index));
    run.is_some_and(|run| run.slot == segment && position - run.first < u64::from(run.count))
}
