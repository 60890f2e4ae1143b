//! Writing batches to segments, and beginning new ones.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Chunk, NEXT, Segment, SegmentTable, file_name};
use crate::error::Error;
use crate::log::record::{self, MAGIC};
use crate::log::storage::{self, StorageFile};
use crate::sync::{lock, wait};

/// While the disk is full, how often a segment that has to grow tries again.
const FULL_PAUSE: Duration = Duration::from_millis(200);

impl SegmentTable {
    /// Writes a batch at its places, and makes it durable if `sync` is set. A segment that the batch leaves behind is
    /// made durable in any case, before anything is written to the next one, and so is the start record of a new one
    /// before anything behind it: a segment without it never held anything that was confirmed.
    pub(crate) fn write(&self, bytes: &[u8], chunks: &[Chunk], sync: bool) -> Result<(), Error> {
        for (index, chunk) in chunks.iter().enumerate() {
            let next = chunks.get(index + 1);
            let end = next.map_or(bytes.len(), |next| next.start);
            // In words only if it fails: this is done for every batch.
            let failed = |what: &'static str| {
                move |error| Error::log(format!("{what} {}", file_name(chunk.segment)))(error)
            };
            let file = self.file_for_writing(chunk.segment)?;
            let (mut start, mut offset) = (chunk.start, chunk.offset);
            if offset == 0 && start < end {
                let record = bytes.get(start + MAGIC.len()..).and_then(record::claimed_total);
                let length = (MAGIC.len() + record.unwrap_or(0)).min(end - start);
                let begun = file.write_at(&bytes[start..start + length], 0).and_then(|()| file.sync());
                begun.map_err(failed("begin"))?;
                self.begun.store(chunk.segment, Ordering::Release);
                start += length;
                offset += u32::try_from(length).unwrap_or(u32::MAX);
            }
            self.make_room(chunk.segment, &*file, u64::from(offset) + (end - start) as u64)?;
            file.write_at(&bytes[start..end], offset.into()).map_err(failed("write"))?;
            if sync || next.is_some() {
                let started = Instant::now();
                file.sync().map_err(failed("sync"))?;
                self.sync_time.record(started.elapsed());
            }
        }
        Ok(())
    }

    /// Sees to it that the file of a segment has blocks up to `end`: a record that is larger than a segment makes it
    /// grow. Waits while the disk is full, since nothing that is in the log could be written then either.
    fn make_room(&self, number: u32, file: &dyn StorageFile, end: u64) -> Result<(), Error> {
        loop {
            let mut table = lock(&self.table);
            let size = table.segments.get(&number).map_or(0, |segment| segment.size);
            if end <= size {
                return Ok(());
            }
            drop(table);
            let grown = storage::write_zeros(file, size, end);
            table = lock(&self.table);
            match grown {
                Ok(()) => {
                    if let Some(segment) = table.segments.get_mut(&number) {
                        segment.size = end;
                    }
                }
                Err(error) if storage::is_full(&error) && !table.failed => {
                    let seen = table.changes;
                    drop(table);
                    self.wait_for_change(seen, FULL_PAUSE);
                }
                Err(error) => return Err(Error::log(format!("extend {}", file_name(number)))(error)),
            }
        }
    }

    /// Makes durable what was written to a segment.
    pub(crate) fn sync(&self, number: u32) -> Result<(), Error> {
        let synced = self.open(number).and_then(|open| open.map_or(Ok(()), |(_, file)| file.sync()));
        synced.map_err(Error::log(format!("sync {}", file_name(number))))
    }

    /// The file of the segment that is being written; the prepared one if the segment is new.
    fn file_for_writing(&self, number: u32) -> Result<Arc<dyn StorageFile>, Error> {
        let mut table = lock(&self.table);
        if let Some(file) = table.segments.get(&number).and_then(|segment| segment.file.clone()) {
            return Ok(file);
        }
        let file = loop {
            if let Some(file) = table.prepared.take() {
                break file;
            }
            if table.failed {
                let gone = io::Error::other("no segment can be prepared");
                return Err(Error::log(format!("begin {}", file_name(number)))(gone));
            }
            table = wait(&self.changed, table);
        };
        let name = file_name(number);
        let renamed = self.storage.rename(NEXT, &name).and_then(|()| self.storage.sync_folder());
        renamed.map_err(Error::log(format!("begin {name}")))?;
        let segment = Segment {
            number,
            file: Some(Arc::clone(&file)),
            pinned: false,
            end: 0,
            size: self.segment_bytes.into(),
            sealed: false,
            damaged: false,
            live: 0,
            live_bytes: 0,
        };
        table.segments.insert(number, segment);
        self.announce(&mut table);
        Ok(file)
    }
}
