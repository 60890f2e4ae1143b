//! Gives disk space back: removes segments whose messages are all settled, and rewrites stretches of segments that
//! hold little of what is still wanted.

use crate::broker::Broker;
use crate::error::Error;
use crate::wal::{NEXT, Segment, Wal, file_name};

/// One round of giving space back.
pub(crate) fn reclaim(broker: &Broker) -> Result<(), Error> {
    remove_unwanted(&broker.wal)
}

/// Removes the oldest segments as long as nobody wants anything in them. The acks in them are for messages in them or
/// in still older segments, so they are not missed. The newest segment stays in any case: its number and its acks are
/// what the next start goes on from.
fn remove_unwanted(wal: &Wal) -> Result<(), Error> {
    let mut segments: Vec<(u32, Segment)> = wal.segments().into_iter().collect();
    segments.sort_unstable_by_key(|(_, segment)| segment.number);
    segments.pop();
    for (slot, segment) in segments {
        if !segment.sealed || segment.live > 0 {
            break;
        }
        wal.forget(&[slot]);
        discard(wal, &segment).map_err(Error::log(format!("remove {}", file_name(segment.number))))?;
    }
    Ok(())
}

/// Removes a segment's file, or makes it the next segment if one is needed: its blocks exist already.
fn discard(wal: &Wal, segment: &Segment) -> std::io::Result<()> {
    let name = file_name(segment.number);
    if wal.is_prepared() || segment.file.length()? < u64::from(wal.segment_bytes()) {
        return wal.storage().remove(&name);
    }
    wal.storage().rename(&name, NEXT)?;
    wal.storage().sync_folder()?;
    wal.set_prepared(segment.file.clone());
    Ok(())
}
