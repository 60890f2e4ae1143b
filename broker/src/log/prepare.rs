//! Prepares the file that becomes the next segment.

use std::io;

use foundation::Warnings;

use crate::descriptors;
use crate::error::Error;
use crate::log::segment_table::{self, NEXT, SegmentTable};
use crate::log::storage;

/// A file that is being prepared.
const TEMPORARY: &str = segment_table::TEMPORARY[0];

/// The alarm that follows names the disk alone.
static SHORT: Warnings = Warnings::new("attempts to prepare a segment while too many files were open");

/// Sees to it that the next segment is ready: a file whose blocks exist, so that writing to it cannot fail for want of
/// space. False if there is no space for it, or if too many files are open, for the moment.
pub(crate) fn prepare(segment_table: &SegmentTable) -> Result<bool, Error> {
    if segment_table.is_prepared() {
        return Ok(true);
    }
    match try_prepare(segment_table) {
        Ok(()) => Ok(true),
        // It is tried again soon, like on a full disk.
        Err(error) if descriptors::are_short(&error) => {
            SHORT.warn(format_args!("the log cannot prepare its next segment for the moment: {error}"));
            Ok(false)
        }
        Err(error) if storage::is_full(&error) => {
            // What was half prepared only takes up space.
            let _ = segment_table.storage().remove(TEMPORARY);
            Ok(false)
        }
        Err(error) => Err(Error::log("prepare the next segment")(error)),
    }
}

fn try_prepare(segment_table: &SegmentTable) -> io::Result<()> {
    let storage = segment_table.storage();
    let file = storage.create(TEMPORARY)?;
    storage::write_zeros(&*file, 0, segment_table.segment_bytes().into())?;
    file.sync()?;
    storage.rename(TEMPORARY, NEXT)?;
    storage.sync_folder()?;
    segment_table.set_prepared(file);
    Ok(())
}
