//! Reads the log back after a start: which messages still wait, where each queue goes on, and what cannot be read.
//!
//! It happens in two steps. [`survey`] reads everything and changes nothing; [`Survey::take_over`] refuses to go on
//! if a part of the log is missing, and else tidies up what an interruption left. No byte of a segment is ever
//! changed, and no file is removed that was not read completely. Segments are read from the newest to the oldest, so
//! that every ack is known before the message it settles.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::error::Error;
use crate::log::definitions::{self, Header, Stored};
use crate::log::record::{self, Position};
use crate::log::segment_reader::SegmentReader;
use crate::log::segment_table::{NEXT, Segment, file_name, file_number};
use crate::log::storage::{self, Storage, StorageFile};
use crate::log::survey::{Chore, Finding, Log, RecoveredQueue, Severity, Survey};

/// Left out of the numbering when something could not be read, so that what is restored later has numbers of its own.
const SKIPPED: u64 = 1 << 24;

/// What recovery found.
pub(crate) struct Recovered {
    pub(crate) queues: HashMap<u32, RecoveredQueue>,
    pub(crate) segments: BTreeMap<u32, Segment>,
    pub(crate) position: Position,
    pub(crate) prepared: Option<Arc<dyn StorageFile>>,
    /// The lowest position of the next message of a queue of which nothing was found.
    pub(crate) first_position: u64,
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
    let mut reader = SegmentReader::new(storage, log, &numbers);
    reader.read_all(&numbers);
    let has_prepared = names.iter().any(|name| name == NEXT) && reader.check_prepared();
    let mut survey = reader.finish(has_prepared);
    let temporary = definitions::TEMPORARY.into_iter().chain(crate::log::segment_table::TEMPORARY);
    let left = temporary.filter(|temporary| names.iter().any(|name| name == temporary));
    survey.chores.extend(left.map(|name| Chore::Remove(name.to_owned())));
    Ok(survey)
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
        if let Some(number) = self.segments.last_key_value().map(|(number, _)| number) {
            // The next segment says how far this one goes, so it must be durable that far.
            let synced = storage.open(&file_name(*number)).and_then(|file| file.sync());
            synced.map_err(Error::io(format!("sync {}", file_name(*number))))?;
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
