//! The thread that keeps the log's files in order: it prepares the next segment, removes those that nobody wants,
//! and raises the alarm while the disk is nearly full.

use std::time::Duration;

use crate::error::Error;
use crate::log::compaction;
use crate::log::owner::LogOwner;
use crate::log::prepare::prepare;
use crate::log::storage;

/// How often free space is looked at when nothing else happens.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often, while space is short.
const SHORT_INTERVAL: Duration = Duration::from_millis(100);

/// The body of the housekeeper's thread; ends with its owner.
pub(crate) fn run(owner: &impl LogOwner) {
    while !owner.shutdown().requested() {
        let seen = owner.segment_table().changes();
        match keep(owner) {
            Ok(short) => {
                owner.segment_table().wait_for_change(seen, if short { SHORT_INTERVAL } else { INTERVAL });
            }
            Err(error) => {
                owner.fail(error);
                owner.segment_table().wake(true);
                return;
            }
        }
    }
}

/// One round; tells whether space is short.
pub(crate) fn keep(owner: &impl LogOwner) -> Result<bool, Error> {
    let segment_table = owner.segment_table();
    let mut full = !prepare(segment_table)?;
    compaction::reclaim(owner)?;
    if full {
        // Segments that were just removed may have made room.
        full = !prepare(segment_table)?;
    }
    match owner.note_segment(segment_table.begun()) {
        // The old copies are still there, and the next round tries again.
        Err(Error::Io { source, .. }) if storage::may_succeed_later(&source) => {}
        noted => noted?,
    }
    let free = segment_table.storage().free_bytes().map_err(Error::io("measure free disk space"))?;
    let minimum = owner.disk_free_min_bytes();
    let short = full || free < minimum;
    if owner.alarm().set(short) {
        if short {
            log::error!("the disk is nearly full: {free} bytes are free, publishers wait for {minimum}");
        } else {
            log::info!("the disk has room again: {free} bytes are free, publishers go on");
        }
    }
    Ok(short)
}
