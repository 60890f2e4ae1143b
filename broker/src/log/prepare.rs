//! Prepares the file that becomes the next segment.

use std::io;

use crate::error::Error;
use crate::log::segment_table::{self, NEXT, SegmentTable};
use crate::log::storage;

/// A file that is being prepared.
const TEMPORARY: &str = segment_table::TEMPORARY[0];
/// Zeros are written in pieces of this size.
const ZEROS_BYTES: usize = 64 << 10;

/// Sees to it that the next segment is ready: a file whose blocks exist, so that writing to it cannot fail for want of
/// space. False if there is no space for it.
pub(crate) fn prepare(segment_table: &SegmentTable) -> Result<bool, Error> {
    if segment_table.is_prepared() {
        return Ok(true);
    }
    match try_prepare(segment_table) {
        Ok(()) => Ok(true),
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
    let zeros = vec![0; ZEROS_BYTES];
    for offset in (0..segment_table.segment_bytes()).step_by(ZEROS_BYTES) {
        let piece = zeros.len().min((segment_table.segment_bytes() - offset) as usize);
        file.write_at(&zeros[..piece], offset.into())?;
    }
    file.sync()?;
    storage.rename(TEMPORARY, NEXT)?;
    storage.sync_folder()?;
    segment_table.set_prepared(file);
    Ok(())
}
