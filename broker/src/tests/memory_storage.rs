//! A data folder in memory that can lose what was not synced and fail at the Nth call.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io::Errno;

use crate::log::storage::{Storage, StorageFile};

/// What a file holds: what is durable, and what was written since.
#[derive(Clone, Default)]
struct Contents {
    durable: Vec<u8>,
    current: Vec<u8>,
}

#[derive(Default)]
struct Names {
    current: HashMap<String, Arc<MemoryFile>>,
    durable: HashMap<String, Arc<MemoryFile>>,
}

/// Counts down writes and syncs; the call that reaches zero fails, and all after it.
#[derive(Clone, Default)]
pub(crate) struct Fuse(Arc<FuseState>);

#[derive(Default)]
struct FuseState {
    panics: AtomicBool,
    armed: Mutex<Option<io::ErrorKind>>,
    left: AtomicI64,
    /// Syncs wait while somebody holds it.
    gate: Mutex<()>,
}

impl Fuse {
    /// The `nth` write or sync from now on fails with `kind`, and so do all after it.
    pub(crate) fn arm(&self, nth: i64, kind: io::ErrorKind) {
        self.0.left.store(nth, Ordering::SeqCst);
        *self.0.armed.lock().unwrap() = Some(kind);
    }

    /// The `nth` write or sync from now on panics.
    pub(crate) fn arm_panic(&self, nth: i64) {
        self.0.panics.store(true, Ordering::SeqCst);
        self.arm(nth, io::ErrorKind::Other);
    }

    /// Syncs wait until what is returned is dropped.
    pub(crate) fn hold_syncs(&self) -> MutexGuard<'_, ()> {
        self.0.gate.lock().unwrap()
    }

    /// Whether a call has failed since it was armed.
    pub(crate) fn has_burnt(&self) -> bool {
        self.0.left.load(Ordering::SeqCst) <= 0
    }

    pub(crate) fn disarm(&self) {
        *self.0.armed.lock().unwrap() = None;
    }

    fn burn(&self) -> io::Result<()> {
        match *self.0.armed.lock().unwrap() {
            Some(kind) if self.0.left.fetch_sub(1, Ordering::SeqCst) <= 1 => {
                assert!(!self.0.panics.load(Ordering::SeqCst), "the fuse");
                Err(kind.into())
            }
            _ => Ok(()),
        }
    }
}

#[derive(Default)]
pub(crate) struct MemoryStorage {
    names: Mutex<Names>,
    pub(crate) fuse: Fuse,
    /// No file can be created.
    pub(crate) is_full: Arc<AtomicBool>,
    /// How many of the next attempts to open, create or list files fail because too many are open.
    pub(crate) shortage: Arc<AtomicU32>,
    /// What is left of the disk, for the alarm.
    pub(crate) free: Arc<Mutex<Option<u64>>>,
}

impl MemoryStorage {
    /// The folder as it is after a power failure: of what was not synced, each file keeps the writes for which
    /// `keep` says so.
    pub(crate) fn after_power_failure(&self, mut keep: impl FnMut() -> bool) -> Self {
        let names = self.names.lock().unwrap();
        let files = names.durable.iter().map(|(name, file)| {
            let mut contents = file.contents.lock().unwrap().clone();
            let sectors = contents.current.len().max(contents.durable.len()).div_ceil(SECTOR_BYTES);
            contents.durable.resize(contents.current.len().max(contents.durable.len()), 0);
            contents.current.resize(contents.durable.len(), 0);
            for sector in 0..sectors {
                let range = sector * SECTOR_BYTES..((sector + 1) * SECTOR_BYTES).min(contents.durable.len());
                if contents.durable[range.clone()] != contents.current[range.clone()] && keep() {
                    let written = contents.current[range.clone()].to_vec();
                    contents.durable[range].copy_from_slice(&written);
                }
            }
            (name.clone(), MemoryFile::holding(contents.durable))
        });
        Self::holding(files.collect())
    }

    /// The folder as it is after kill -9: the operating system still has everything that was written.
    pub(crate) fn after_kill(&self) -> Self {
        let names = self.names.lock().unwrap();
        let files = names.current.iter().map(|(name, file)| {
            (name.clone(), MemoryFile::holding(file.contents.lock().unwrap().current.clone()))
        });
        Self::holding(files.collect())
    }

    fn holding(files: HashMap<String, MemoryFile>) -> Self {
        let storage = Self::default();
        for (name, mut file) in files {
            file.fuse = storage.fuse.clone();
            let file = Arc::new(file);
            let mut names = storage.names.lock().unwrap();
            names.current.insert(name.clone(), Arc::clone(&file));
            names.durable.insert(name, file);
        }
        storage
    }

    /// The same folder once more: what one changes, the other sees.
    pub(crate) fn share(&self) -> Self {
        let names = self.names.lock().unwrap();
        let names = Names { current: names.current.clone(), durable: names.durable.clone() };
        Self {
            names: Mutex::new(names),
            fuse: self.fuse.clone(),
            is_full: Arc::clone(&self.is_full),
            shortage: Arc::clone(&self.shortage),
            free: Arc::clone(&self.free),
        }
    }

    /// Takes a descriptor.
    fn descriptor(&self) -> io::Result<()> {
        let fewer = |left: u32| left.checked_sub(1);
        match self.shortage.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer) {
            Ok(_) => Err(Errno::MFILE.into()),
            Err(_) => Ok(()),
        }
    }

    /// Creates or replaces a file, durably.
    pub(crate) fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut file = MemoryFile::holding(bytes);
        file.fuse = self.fuse.clone();
        let (mut names, file) = (self.names.lock().unwrap(), Arc::new(file));
        names.current.insert(name.to_owned(), Arc::clone(&file));
        names.durable.insert(name.to_owned(), file);
    }

    /// All bytes of a file.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        self.names.lock().unwrap().current[name].contents.lock().unwrap().current.clone()
    }

    /// Replaces all bytes of a file, durably.
    pub(crate) fn set_bytes(&self, name: &str, bytes: Vec<u8>) {
        let names = self.names.lock().unwrap();
        *names.current[name].contents.lock().unwrap() = Contents { durable: bytes.clone(), current: bytes };
    }
}

/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

impl Storage for MemoryStorage {
    fn list(&self) -> io::Result<Vec<String>> {
        self.descriptor()?;
        Ok(self.names.lock().unwrap().current.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.descriptor()?;
        let names = self.names.lock().unwrap();
        names.current.get(name).map(|file| Arc::clone(file) as _).ok_or(io::ErrorKind::NotFound.into())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        if self.is_full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.descriptor()?;
        self.fuse.burn()?;
        let file = Arc::new(MemoryFile { contents: Mutex::default(), fuse: self.fuse.clone() });
        self.names.lock().unwrap().current.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.fuse.burn()?;
        let mut names = self.names.lock().unwrap();
        let file = names.current.remove(from).ok_or(io::ErrorKind::NotFound)?;
        names.current.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.fuse.burn()?;
        let removed = self.names.lock().unwrap().current.remove(name);
        removed.map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.fuse.burn()?;
        let mut names = self.names.lock().unwrap();
        names.durable = names.current.clone();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.free.lock().unwrap().unwrap_or(u64::MAX))
    }
}

struct MemoryFile {
    contents: Mutex<Contents>,
    fuse: Fuse,
}

impl MemoryFile {
    fn holding(bytes: Vec<u8>) -> Self {
        let contents = Contents { durable: bytes.clone(), current: bytes };
        Self { contents: Mutex::new(contents), fuse: Fuse::default() }
    }
}

impl StorageFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let contents = self.contents.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        let bytes = contents.current.get(start..start + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.fuse.burn()?;
        let mut contents = self.contents.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        let end = start + bytes.len();
        if contents.current.len() < end {
            contents.current.resize(end, 0);
        }
        contents.current[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        drop(self.fuse.hold_syncs());
        self.fuse.burn()?;
        let mut contents = self.contents.lock().unwrap();
        contents.durable = contents.current.clone();
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.contents.lock().unwrap().current.len() as u64)
    }
}
