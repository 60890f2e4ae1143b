//! The thread that keeps the log's files in order: it prepares the next segment, removes those that nobody wants,
//! and raises the alarm while the disk is nearly full.

use std::io;
use std::time::Duration;

use crate::broker::Broker;
use crate::compaction;
use crate::error::Error;
use crate::wal::{self, NEXT, Wal};

/// How often free space is looked at when nothing else happens.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often, while space is short.
const SHORT_INTERVAL: Duration = Duration::from_millis(100);
/// A file that is being prepared.
const TEMPORARY: &str = wal::TEMPORARY[0];
/// Zeros are written in pieces of this size.
const ZEROS_BYTES: usize = 64 << 10;

/// The body of the housekeeper's thread; ends with the broker.
pub(crate) fn run(broker: &Broker) {
    while !broker.shutdown.requested() {
        match keep(broker) {
            Ok(short) => broker.wal.wait_for_change(if short { SHORT_INTERVAL } else { INTERVAL }),
            Err(error) => {
                broker.fail(error);
                broker.wal.wake(true);
                return;
            }
        }
    }
}

/// One round; tells whether space is short.
pub(crate) fn keep(broker: &Broker) -> Result<bool, Error> {
    let wal = &broker.wal;
    let mut full = !prepare(wal)?;
    compaction::reclaim(broker)?;
    if full {
        // Segments that were just removed may have made room.
        full = !prepare(wal)?;
    }
    let free = wal.storage().free_bytes().map_err(Error::io("measure free disk space"))?;
    let minimum = broker.settings.disk_free_min_bytes;
    let short = full || free < minimum;
    if broker.alarm.set(short) {
        if short {
            log::error!("the disk is nearly full: {free} bytes are free, publishers wait for {minimum}");
        } else {
            log::info!("the disk has room again: {free} bytes are free, publishers go on");
        }
        for peer in broker.peers() {
            peer.throttle.set(short);
        }
    }
    Ok(short)
}

/// Sees to it that the next segment is ready: a file whose blocks exist, so that writing to it cannot fail for want of
/// space. False if there is no space for it.
pub(crate) fn prepare(wal: &Wal) -> Result<bool, Error> {
    if wal.is_prepared() {
        return Ok(true);
    }
    match try_prepare(wal) {
        Ok(()) => Ok(true),
        Err(error) if compaction::is_full(&error) => {
            // What was half prepared only takes up space.
            let _ = wal.storage().remove(TEMPORARY);
            Ok(false)
        }
        Err(error) => Err(Error::log("prepare the next segment")(error)),
    }
}

fn try_prepare(wal: &Wal) -> io::Result<()> {
    let storage = wal.storage();
    let file = storage.create(TEMPORARY)?;
    let zeros = vec![0; ZEROS_BYTES];
    for offset in (0..wal.segment_bytes()).step_by(ZEROS_BYTES) {
        let piece = zeros.len().min((wal.segment_bytes() - offset) as usize);
        file.write_at(&zeros[..piece], offset.into())?;
    }
    file.sync()?;
    storage.rename(TEMPORARY, NEXT)?;
    storage.sync_folder()?;
    wal.set_prepared(file);
    Ok(())
}
