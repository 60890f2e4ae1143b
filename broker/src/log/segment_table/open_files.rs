//! Which files of sealed segments stay open. A backlog has many segments, and reads few of them at a time.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Segment, SegmentTable, file_name};
use crate::descriptors;
use crate::log::storage::StorageFile;
use crate::sync::lock;

/// Sealed segments that may stay open.
const MOST: usize = 16;
/// How long the log waits to open a file while the process has too many open, and how often it tries.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
const OPEN_PAUSE: Duration = Duration::from_millis(20);

/// Slots of sealed segments whose files are open, the least recently used first.
#[derive(Default)]
pub(super) struct OpenFiles(VecDeque<u32>);

impl OpenFiles {
    /// Notes that the file of `slot` is used. Returns the slot whose file has to be closed instead, if there is one.
    pub(super) fn touch(&mut self, slot: u32) -> Option<u32> {
        if self.0.back() == Some(&slot) {
            return None;
        }
        self.forget(slot);
        self.0.push_back(slot);
        if self.0.len() > MOST { self.0.pop_front() } else { None }
    }

    /// The file of `slot` is closed, or somebody else keeps it open.
    pub(super) fn forget(&mut self, slot: u32) {
        self.0.retain(|known| *known != slot);
    }
}

impl SegmentTable {
    /// The number and the open file of a segment; None if it is gone because the log was rearranged. Waits while too
    /// many files are open.
    pub(super) fn open(&self, slot: u32) -> io::Result<Option<(u32, Arc<dyn StorageFile>)>> {
        let mut table = lock(&self.table);
        let Some(Segment { number, file, sealed, .. }) = table.segments.get(&slot).cloned() else {
            return Ok(None);
        };
        if let Some(file) = file {
            if sealed {
                table.used(slot);
            }
            return Ok(Some((number, file)));
        }
        drop(table);
        let opened = self.open_patiently(&file_name(number));
        let mut table = lock(&self.table);
        // Others may have been faster: they settled what was in it, or opened it for a merge, and then a file of the
        // same name may be another one.
        let Some(segment) = table.segments.get_mut(&slot) else { return Ok(None) };
        let file = match &segment.file {
            Some(file) => Arc::clone(file),
            None => Arc::clone(segment.file.insert(opened?)),
        };
        table.used(slot);
        Ok(Some((number, file)))
    }

    fn open_patiently(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let deadline = Instant::now() + OPEN_TIMEOUT;
        loop {
            match self.storage.open(name) {
                Err(error) if descriptors::are_short(&error) && Instant::now() < deadline => {
                    std::thread::sleep(OPEN_PAUSE);
                }
                opened => return opened,
            }
        }
    }

    /// Opens the file of a segment and keeps it open until the segment is forgotten or [`SegmentTable::unpin`], so that
    /// readers find what is in it even when its name belongs to another file.
    pub(crate) fn pin(&self, slot: u32) -> io::Result<Arc<dyn StorageFile>> {
        let Some((number, file)) = self.open(slot)? else {
            return Err(io::Error::other("the segment is gone"));
        };
        let mut table = lock(&self.table);
        table.open.forget(slot);
        match table.segments.get_mut(&slot) {
            Some(segment) => {
                segment.pinned = true;
                segment.file = Some(Arc::clone(&file));
                Ok(file)
            }
            None => Err(io::Error::other(format!("{} is gone", file_name(number)))),
        }
    }

    /// Lets files be closed again that [`SegmentTable::pin`] keeps open.
    pub(crate) fn unpin(&self, slots: &[u32]) {
        let mut table = lock(&self.table);
        for slot in slots {
            if let Some(segment) = table.segments.get_mut(slot) {
                segment.pinned = false;
                table.used(*slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_is_closed() {
        let mut open = OpenFiles::default();
        for slot in 0..16 {
            assert_eq!(open.touch(slot), None);
        }
        assert_eq!(open.touch(0), None);
        assert_eq!(open.touch(16), Some(1));
        open.forget(2);
        assert_eq!(open.touch(17), None);
        assert_eq!(open.touch(18), Some(3));
    }
}
