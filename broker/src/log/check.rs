//! `--check-log` and `--salvage`: the data folder without a broker on it.

use std::fmt::Write as _;

use crate::error::Error;
use crate::log::definitions::Definition;
use crate::log::folder_lock;
use crate::log::recovery;
use crate::log::salvage;
use crate::log::storage::{DiskStorage, Storage};
use crate::log::survey::Severity;
use crate::settings::Settings;

/// Reads the data folder, changes nothing in it, and tells what is there and what cannot be read. The report is an
/// error if a start would tell of damage or be refused.
pub fn check_log(settings: &Settings) -> Result<String, Error> {
    let folder = settings.data_dir.display();
    let storage = DiskStorage::open_for_reading(&settings.data_dir);
    let storage = storage.map_err(Error::io(format!("open {folder}")))?;
    let _lock = folder_lock::take_existing(&settings.data_dir)?;
    let (report, fine) = report(&storage)?;
    let report = format!("{folder}: {report}");
    if fine { Ok(report) } else { Err(Error::Damaged { report }) }
}

/// Starts a log from what can be read, and keeps everything else aside. Tells what it did.
pub fn salvage_log(settings: &Settings) -> Result<String, Error> {
    let folder = settings.data_dir.display();
    DiskStorage::open_for_reading(&settings.data_dir).map_err(Error::io(format!("open {folder}")))?;
    let storage = DiskStorage::open(&settings.data_dir).map_err(Error::io(format!("open {folder}")))?;
    let _lock = folder_lock::take(&settings.data_dir)?;
    salvage::salvage(&storage, settings.segment_bytes)
}

/// What is in a folder, and whether all of it can be read.
pub(crate) fn report(storage: &dyn Storage) -> Result<(String, bool), Error> {
    salvage::refuse_interrupted(storage)?;
    let (survey, stored) = recovery::examine(storage, false)?;
    let waiting = |id: u32| {
        let runs = survey.queues.get(&id).map(|queue| &queue.runs);
        runs.map_or(0, |runs| runs.iter().map(|run| u64::from(run.count)).sum())
    };
    let total: u64 = survey.queues.keys().map(|id| waiting(*id)).sum();
    let mut text = format!("{total} messages wait in {} segments", survey.segments.len());
    for definition in stored.definitions()? {
        if let Definition::Queue { id, name, .. } = definition {
            let _ = write!(text, "\n  queue {name}: {}", waiting(id));
        }
    }
    for finding in &survey.findings {
        let severity = match finding.severity {
            Severity::Unfinished => "harmless",
            Severity::Damage => "damage",
            Severity::Refusal => "stops the start",
        };
        let _ = write!(text, "\n  {severity}: {finding}");
    }
    let fine = survey.findings.iter().all(|finding| finding.severity == Severity::Unfinished);
    Ok((text, fine))
}
