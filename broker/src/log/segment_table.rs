//! The write-ahead log as files: which segments exist, how much of each is still wanted, writing and reading.
//!
//! Segments are files of equal size whose blocks are written (with zeros) before the first record is, so that an
//! fdatasync of a record has no metadata to bring along. A file is used for one segment only: whatever is in it and is
//! not zero was written for that segment. [`crate::log::housekeeper`] prepares them and removes those that nobody wants;
//! [`crate::log::persister`] is the only writer.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use foundation::metrics::Histogram;

use crate::error::Error;
use crate::log::record::{self, MAGIC, Origin};
use crate::log::storage::{Storage, StorageFile};
use crate::log::stored_message::{Fetch, Settled};
use crate::sync::{lock, wait};

/// The prepared file that becomes the next segment.
pub(crate) const NEXT: &str = "next.log";
/// Files that are not complete yet: the next segment, and a merge.
pub(crate) const TEMPORARY: [&str; 2] = ["next.tmp", "merge.tmp"];
/// Bytes of a page that is read for consumers, unless one record is larger.
const PAGE_BYTES: usize = 32 << 10;

/// The file name of a segment.
pub(crate) fn file_name(number: u32) -> String {
    format!("{number:010}.log")
}

/// The number of the segment with this file name.
pub(crate) fn file_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 10).then(|| digits.parse().ok()).flatten()
}

/// One file of the log.
#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) number: u32,
    pub(crate) file: Arc<dyn StorageFile>,
    /// Where its records end, once it is sealed.
    pub(crate) end: u32,
    /// Bytes that the file takes.
    pub(crate) size: u64,
    pub(crate) sealed: bool,
    /// Not everything in it can be read: it is kept as it is, even when nobody wants anything in it.
    pub(crate) damaged: bool,
    /// Messages that queues still want; one that is in two queues counts twice.
    pub(crate) live: u64,
    pub(crate) live_bytes: u64,
}

/// The segments by slot. A slot is never used twice, so that a location from before a rearrangement cannot be
/// mistaken for one after it. The slot of a segment that was written in order is its number.
#[derive(Default)]
struct Table {
    segments: BTreeMap<u32, Segment>,
    /// How many slots of merged segments were given out.
    merged: u32,
    prepared: Option<Arc<dyn StorageFile>>,
    /// The housekeeper gave up; nobody may wait for it.
    failed: bool,
}

/// Slots of segments that were merged from others begin here.
pub(crate) const FIRST_MERGED_SLOT: u32 = 1 << 31;

/// Bytes that belong at one place of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    /// Where they begin in the batch.
    pub(crate) start: usize,
}

/// The log's files.
pub(crate) struct SegmentTable {
    /// How long the disk takes to make a batch durable.
    pub(crate) sync_time: Histogram,
    storage: Arc<dyn Storage>,
    salt: u64,
    segment_bytes: u32,
    /// The highest segment whose start record is durable.
    begun: AtomicU32,
    table: Mutex<Table>,
    /// A segment was prepared, or something became unwanted.
    changed: Condvar,
}

impl SegmentTable {
    /// Takes over the segments that recovery found, by number, and the prepared file if there was one.
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        salt: u64,
        segment_bytes: u32,
        segments: BTreeMap<u32, Segment>,
        prepared: Option<Arc<dyn StorageFile>>,
    ) -> Self {
        let table = Table { segments, prepared, ..Table::default() };
        Self {
            sync_time: Histogram::default(),
            storage,
            salt,
            segment_bytes,
            begun: AtomicU32::new(0),
            table: Mutex::new(table),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    pub(crate) fn segment_bytes(&self) -> u32 {
        self.segment_bytes
    }

    /// The highest segment that certainly is there after a crash; 0 before this life began one.
    pub(crate) fn begun(&self) -> u32 {
        self.begun.load(Ordering::Acquire)
    }

    /// What the records of a segment say of where they belong.
    pub(crate) fn origin(&self, segment: u32) -> Origin {
        Origin { salt: self.salt, segment }
    }

    /// Writes a batch at its places, and makes it durable if `sync` is set. A segment that the batch leaves behind is
    /// made durable in any case, before anything is written to the next one, and so is the start record of a new one
    /// before anything behind it: a segment without it never held anything that was confirmed.
    pub(crate) fn write(&self, bytes: &[u8], chunks: &[Chunk], sync: bool) -> Result<(), Error> {
        for (index, chunk) in chunks.iter().enumerate() {
            let next = chunks.get(index + 1);
            let end = next.map_or(bytes.len(), |next| next.start);
            let doing = |what: &str| format!("{what} {}", file_name(chunk.segment));
            let file = self.file_for_writing(chunk.segment)?;
            let (mut start, mut offset) = (chunk.start, chunk.offset);
            if offset == 0 && start < end {
                let record = bytes.get(start + MAGIC.len()..).and_then(record::claimed_total);
                let length = (MAGIC.len() + record.unwrap_or(0)).min(end - start);
                let begun = file.write_at(&bytes[start..start + length], 0).and_then(|()| file.sync());
                begun.map_err(Error::log(doing("begin")))?;
                self.begun.store(chunk.segment, Ordering::Release);
                start += length;
                offset += u32::try_from(length).unwrap_or(u32::MAX);
            }
            file.write_at(&bytes[start..end], offset.into()).map_err(Error::log(doing("write")))?;
            if sync || next.is_some() {
                let started = Instant::now();
                file.sync().map_err(Error::log(doing("sync")))?;
                self.sync_time.record(started.elapsed());
            }
        }
        Ok(())
    }

    /// Makes durable what was written to a segment.
    pub(crate) fn sync(&self, number: u32) -> Result<(), Error> {
        let file = lock(&self.table).segments.get(&number).map(|segment| Arc::clone(&segment.file));
        let synced = file.map_or(Ok(()), |file| file.sync());
        synced.map_err(Error::log(format!("sync {}", file_name(number))))
    }

    /// The file of the segment that is being written; the prepared one if the segment is new.
    fn file_for_writing(&self, number: u32) -> Result<Arc<dyn StorageFile>, Error> {
        let mut table = lock(&self.table);
        if let Some(segment) = table.segments.get(&number) {
            return Ok(Arc::clone(&segment.file));
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
            file: Arc::clone(&file),
            end: 0,
            size: self.segment_bytes.into(),
            sealed: false,
            damaged: false,
            live: 0,
            live_bytes: 0,
        };
        table.segments.insert(number, segment);
        self.changed.notify_all();
        Ok(file)
    }

    /// Marks segments that are complete, with the ends of their records. Everything in them has been counted by now.
    pub(crate) fn seal(&self, sealed: &[(u32, u32)]) {
        if sealed.is_empty() {
            return;
        }
        let mut table = lock(&self.table);
        for (number, end) in sealed {
            if let Some(segment) = table.segments.get_mut(number) {
                segment.sealed = true;
                segment.end = *end;
                segment.size = segment.size.max(u64::from(*end));
            }
        }
        self.changed.notify_all();
    }

    /// Counts messages that a queue took.
    pub(crate) fn add(&self, slot: u32, count: u64, bytes: u64) {
        if count > 0
            && let Some(segment) = lock(&self.table).segments.get_mut(&slot)
        {
            segment.live += count;
            segment.live_bytes += bytes;
        }
    }

    /// Counts messages that a queue settled. Called under the lock of that queue, so that a message is either held
    /// by its queue or not counted.
    pub(crate) fn subtract(&self, settled: &[Settled]) {
        let mut table = lock(&self.table);
        let mut emptied = false;
        for settled in settled {
            if let Some(segment) = table.segments.get_mut(&settled.slot) {
                segment.live -= u64::from(settled.count);
                segment.live_bytes -= settled.bytes;
                emptied |= segment.live == 0 && segment.sealed;
            }
        }
        if emptied {
            self.changed.notify_all();
        }
    }

    /// Reads a page of whole, checked records: at least the first, however large. Returns the number of the segment
    /// too, or None if the slot is gone because the log was rearranged.
    pub(crate) fn read(&self, fetch: Fetch) -> Result<Option<(u32, Vec<u8>)>, Error> {
        let segment = lock(&self.table).segments.get(&fetch.at.slot).cloned();
        let Some(Segment { number, file, .. }) = segment else { return Ok(None) };
        let doing = || format!("read {} at offset {}", file_name(number), fetch.at.offset);
        let available = fetch.end.saturating_sub(fetch.at.offset) as usize;
        let mut page = vec![0; available.min(PAGE_BYTES)];
        file.read_at(&mut page, fetch.at.offset.into()).map_err(Error::log(doing()))?;
        let first = record::claimed_total(&page).filter(|total| *total <= available);
        if let Some(first) = first
            && first > page.len()
        {
            page.resize(first, 0);
            file.read_at(&mut page, fetch.at.offset.into()).map_err(Error::log(doing()))?;
        }
        let whole =
            record::iterate(&page, self.origin(number)).last().map_or(0, |(at, record)| at + record.total);
        if whole == 0 {
            if !lock(&self.table).segments.contains_key(&fetch.at.slot) {
                // While it was read, others settled what was in it.
                return Ok(None);
            }
            let damaged = io::Error::new(io::ErrorKind::InvalidData, "the record is damaged");
            return Err(Error::log(doing())(damaged));
        }
        page.truncate(whole);
        Ok(Some((number, page)))
    }

    /// All segments as they are now with their slots, oldest first.
    pub(crate) fn segments(&self) -> Vec<(u32, Segment)> {
        let table = lock(&self.table);
        let mut segments: Vec<_> =
            table.segments.iter().map(|(slot, segment)| (*slot, segment.clone())).collect();
        segments.sort_unstable_by_key(|(_, segment)| segment.number);
        segments
    }

    /// Whether a file is ready to become the next segment.
    pub(crate) fn is_prepared(&self) -> bool {
        lock(&self.table).prepared.is_some()
    }

    /// Hands over the file that becomes the next segment. It is called [`NEXT`], durably.
    pub(crate) fn set_prepared(&self, file: Arc<dyn StorageFile>) {
        lock(&self.table).prepared = Some(file);
        self.changed.notify_all();
    }

    /// Adds a segment that was merged from others and returns its slot. Nothing in it counts as wanted yet.
    pub(crate) fn add_merged(&self, number: u32, file: Arc<dyn StorageFile>, end: u32) -> u32 {
        let mut table = lock(&self.table);
        let slot = FIRST_MERGED_SLOT + table.merged;
        table.merged += 1;
        let size = u64::from(end);
        let segment =
            Segment { number, file, end, size, sealed: true, damaged: false, live: 0, live_bytes: 0 };
        table.segments.insert(slot, segment);
        slot
    }

    /// Forgets segments that nothing refers to any more.
    pub(crate) fn forget(&self, slots: &[u32]) {
        let mut table = lock(&self.table);
        for slot in slots {
            table.segments.remove(slot);
        }
    }

    /// Waits for a change that concerns the housekeeper, or for `timeout`.
    pub(crate) fn wait_for_change(&self, timeout: std::time::Duration) {
        drop(self.changed.wait_timeout(lock(&self.table), timeout));
    }

    /// Wakes everyone who waits for the housekeeper; with `failed`, for good.
    pub(crate) fn wake(&self, failed: bool) {
        lock(&self.table).failed |= failed;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;
    use crate::log::stored_message::Location;
    use crate::tests::memory_storage::MemoryStorage;

    /// A file with nothing but zeros, whose segment is given up just before it is read.
    struct Recycled {
        given_up: bool,
        segment_table: Weak<SegmentTable>,
    }

    impl StorageFile for Recycled {
        fn read_at(&self, buffer: &mut [u8], _: u64) -> io::Result<()> {
            if self.given_up {
                self.segment_table.upgrade().unwrap().forget(&[1]);
            }
            buffer.fill(0);
            Ok(())
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            unreachable!("only reading is tested")
        }

        fn sync(&self) -> io::Result<()> {
            unreachable!("only reading is tested")
        }

        fn length(&self) -> io::Result<u64> {
            unreachable!("only reading is tested")
        }
    }

    fn read(given_up: bool) -> Result<Option<(u32, Vec<u8>)>, Error> {
        let segment_table = Arc::new_cyclic(|segment_table| {
            let file = Arc::new(Recycled { given_up, segment_table: Weak::clone(segment_table) });
            let (end, size, damaged) = (4096, 4096, false);
            let segment =
                Segment { number: 1, file, end, size, sealed: true, damaged, live: 0, live_bytes: 0 };
            SegmentTable::new(
                Arc::new(MemoryStorage::default()),
                1,
                4096,
                BTreeMap::from([(1, segment)]),
                None,
            )
        });
        segment_table.read(Fetch { at: Location { slot: 1, offset: 0 }, end: 4096 })
    }

    #[test]
    fn a_segment_that_is_given_up_while_it_is_read_is_no_damage() {
        assert_eq!(read(true).unwrap(), None);
        let error = read(false).unwrap_err().to_string();
        assert!(error.contains("the record is damaged"), "{error}");
    }
}
