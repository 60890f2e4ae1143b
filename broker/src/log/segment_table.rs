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
use std::time::Duration;

use foundation::metrics::Histogram;

use crate::error::Error;
use crate::log::record::{self, Origin};
use crate::log::storage::{Storage, StorageFile};
use crate::log::stored_message::{Fetch, Settled};
use crate::sync::lock;

mod index;
mod open_files;
mod writing;

pub(crate) use index::GAP_BYTES;
use index::Indexes;
use open_files::OpenFiles;

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
    /// Its file, while that is open: always until it is sealed.
    pub(crate) file: Option<Arc<dyn StorageFile>>,
    /// The file stays open: another one is about to take its name.
    pub(crate) pinned: bool,
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
    open: OpenFiles,
    /// How many slots of merged segments were given out.
    merged: u32,
    prepared: Option<Arc<dyn StorageFile>>,
    /// The housekeeper gave up; nobody may wait for it.
    failed: bool,
    /// Counts what [`SegmentTable::wait_for_change`] waits for, so that nothing that happens before the wait is missed.
    changes: u64,
}

impl Table {
    /// Notes that the file of a sealed segment is used, and closes the one that was not for the longest time.
    fn used(&mut self, slot: u32) {
        if self.segments.get(&slot).is_none_or(|segment| segment.pinned || segment.file.is_none()) {
            return;
        }
        if let Some(closed) = self.open.touch(slot)
            && let Some(segment) = self.segments.get_mut(&closed)
        {
            segment.file = None;
        }
    }
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
    indexes: Mutex<Indexes>,
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
            indexes: Mutex::default(),
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
                table.used(*number);
            }
        }
        self.announce(&mut table);
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
            self.announce(&mut table);
        }
    }

    /// Reads a page of whole, checked records: at least the first, however large. Returns the number of the segment
    /// too, or None if the slot is gone because the log was rearranged.
    pub(crate) fn read(&self, fetch: Fetch) -> Result<Option<(u32, Vec<u8>)>, Error> {
        let slot = fetch.at.slot;
        let open = self.open(slot).map_err(|error| Error::log(format!("open segment {slot}"))(error))?;
        let Some((number, file)) = open else { return Ok(None) };
        // In words only if it fails: this is done for every page.
        let failed =
            |error| Error::log(format!("read {} at offset {}", file_name(number), fetch.at.offset))(error);
        let available = fetch.end.saturating_sub(fetch.at.offset) as usize;
        let mut page = vec![0; available.min(PAGE_BYTES)];
        file.read_at(&mut page, fetch.at.offset.into()).map_err(failed)?;
        let first = record::claimed_total(&page).filter(|total| *total <= available);
        if let Some(first) = first
            && first > page.len()
        {
            page.resize(first, 0);
            file.read_at(&mut page, fetch.at.offset.into()).map_err(failed)?;
        }
        let whole =
            record::iterate(&page, self.origin(number)).last().map_or(0, |(at, record)| at + record.total);
        if whole == 0 {
            if !lock(&self.table).segments.contains_key(&slot) {
                // While it was read, others settled what was in it.
                return Ok(None);
            }
            let damaged = io::Error::new(io::ErrorKind::InvalidData, "the record is damaged");
            return Err(failed(damaged));
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
        // It is the housekeeper that prepares; only others wait for this.
        self.changed.notify_all();
    }

    /// Adds a segment that was merged from others and returns its slot. Nothing in it counts as wanted yet.
    pub(crate) fn add_merged(&self, number: u32, file: Arc<dyn StorageFile>, end: u32) -> u32 {
        let mut table = lock(&self.table);
        let slot = FIRST_MERGED_SLOT + table.merged;
        table.merged += 1;
        let size = u64::from(end);
        let segment = Segment {
            number,
            file: Some(file),
            pinned: false,
            end,
            size,
            sealed: true,
            damaged: false,
            live: 0,
            live_bytes: 0,
        };
        table.segments.insert(slot, segment);
        table.used(slot);
        slot
    }

    /// Forgets segments that nothing refers to any more.
    pub(crate) fn forget(&self, slots: &[u32]) {
        let mut table = lock(&self.table);
        for slot in slots {
            table.segments.remove(slot);
            table.open.forget(*slot);
        }
        drop(table);
        // While somebody reads for an index, it is forgotten when it was not used for long enough.
        if let Ok(mut indexes) = self.indexes.try_lock() {
            indexes.forget(slots);
        }
    }

    /// How many changes there were, for [`SegmentTable::wait_for_change`].
    pub(crate) fn changes(&self) -> u64 {
        lock(&self.table).changes
    }

    /// Waits until there were more changes than `seen` that concern the housekeeper, or for `timeout`.
    pub(crate) fn wait_for_change(&self, seen: u64, timeout: Duration) {
        let unchanged = |table: &mut Table| table.changes == seen && !table.failed;
        drop(self.changed.wait_timeout_while(lock(&self.table), timeout, unchanged));
    }

    /// Tells those who wait for a change of the table.
    fn announce(&self, table: &mut Table) {
        table.changes += 1;
        self.changed.notify_all();
    }

    /// Wakes everyone who waits for the housekeeper; with `failed`, for good.
    pub(crate) fn wake(&self, failed: bool) {
        let mut table = lock(&self.table);
        table.failed |= failed;
        self.announce(&mut table);
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
            let file: Arc<dyn StorageFile> =
                Arc::new(Recycled { given_up, segment_table: Weak::clone(segment_table) });
            let segment = Segment {
                number: 1,
                file: Some(file),
                pinned: false,
                end: 4096,
                size: 4096,
                sealed: true,
                damaged: false,
                live: 0,
                live_bytes: 0,
            };
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
