//! The files of the data folder behind a small trait, so that tests can make its Nth call fail or lose what was not
//! synced. Everything above this module does its file I/O through it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::descriptors;

/// A folder of files. Names are plain file names.
pub(crate) trait Storage: Send + Sync {
    /// The names of all files, in no particular order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>>;
    /// Creates a file, or empties the one that is there.
    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>>;
    /// Renames a file, replacing what had the new name. Durable only after [`Storage::sync_folder`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable. Opens nothing, so it works while too many files are open.
    fn sync_folder(&self) -> io::Result<()>;
    /// Bytes that may still be written to this file system.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file. Positions are explicit, so threads can share it.
pub(crate) trait StorageFile: Send + Sync {
    /// Fills `buffer` from `offset`; an end of file before that is an error.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes what was written durable, and the length if it changed (fdatasync).
    fn sync(&self) -> io::Result<()>;
    /// The length in bytes.
    fn length(&self) -> io::Result<u64>;
}

/// All bytes of a file.
pub(crate) fn read_whole(file: &dyn StorageFile) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.length()?).unwrap_or(usize::MAX)];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Whether a failure means that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether what failed may succeed later: there is no room, or too many files are open.
pub(crate) fn may_succeed_later(error: &io::Error) -> bool {
    is_full(error) || descriptors::are_short(error)
}

/// Writes zeros from one offset to another.
pub(crate) fn write_zeros(file: &dyn StorageFile, from: u64, to: u64) -> io::Result<()> {
    let zeros = [0; 16 << 10];
    let mut offset = from;
    while offset < to {
        let piece = usize::try_from(to - offset).map_or(zeros.len(), |left| left.min(zeros.len()));
        file.write_at(&zeros[..piece], offset)?;
        offset += piece as u64;
    }
    Ok(())
}

/// Writes a file under a name that means nothing yet, durably but for the name.
pub(crate) fn write_new(storage: &dyn Storage, name: &str, bytes: &[u8]) -> io::Result<Arc<dyn StorageFile>> {
    let file = storage.create(name)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    Ok(file)
}

/// Gives a file new contents, durably: whatever happens, either the old ones or all of `bytes` are there. They are
/// written to the file `temporary` first.
pub(crate) fn replace(
    storage: &dyn Storage,
    temporary: &str,
    name: &str,
    bytes: &[u8],
) -> io::Result<Arc<dyn StorageFile>> {
    let file = write_new(storage, temporary, bytes)?;
    storage.rename(temporary, name)?;
    storage.sync_folder()?;
    Ok(file)
}

/// Renames a file so that nothing reads it any more and nothing replaces it. Returns the new name. Durable only after
/// [`Storage::sync_folder`].
pub(crate) fn set_aside(storage: &dyn Storage, name: &str) -> io::Result<String> {
    let aside = name_aside(storage, name)?;
    storage.rename(name, &aside)?;
    Ok(aside)
}

/// A name for a file that is set aside. No file has it.
pub(crate) fn name_aside(storage: &dyn Storage, name: &str) -> io::Result<String> {
    let names = storage.list()?;
    let mut free = (0..=names.len()).map(|copy| match copy {
        0 => format!("{ASIDE}{name}"),
        _ => format!("{ASIDE}{copy}-{name}"),
    });
    free.find(|free| !names.contains(free)).ok_or(io::ErrorKind::AlreadyExists.into())
}

/// How the names of files begin that were set aside because of damage.
pub(crate) const ASIDE: &str = "damaged-";

/// A folder of the file system.
pub(crate) struct DiskStorage {
    folder: PathBuf,
    /// The folder, kept open to be synced.
    handle: File,
    writable: bool,
}

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

impl DiskStorage {
    /// Creates the folder if it is missing, durably. It and its files become readable by their owner alone.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        create_folder(folder, &mut |above| File::open(above)?.sync_all())?;
        restrict(folder, FOLDER_MODE)?;
        let storage = Self { folder: folder.to_owned(), handle: File::open(folder)?, writable: true };
        for name in storage.list()? {
            restrict(&folder.join(name), FILE_MODE)?;
        }
        Ok(storage)
    }

    /// Opens a folder that exists, and changes nothing in it.
    pub(crate) fn open_for_reading(folder: &Path) -> io::Result<Self> {
        fs::read_dir(folder)?;
        Ok(Self { folder: folder.to_owned(), handle: File::open(folder)?, writable: false })
    }
}

/// Creates a folder and those above it, each durable in the one above, which `sync` makes it, before anything is created
/// in it.
fn create_folder(folder: &Path, sync: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty());
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = above {
        create_folder(above, sync)?;
    }
    match fs::DirBuilder::new().mode(FOLDER_MODE).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !folder.is_dir() => Err(error),
        _ => sync(above.unwrap_or(Path::new("."))),
    }
}

/// Sets permissions, if they are different.
fn restrict(path: &Path, mode: u32) -> io::Result<()> {
    let found = fs::metadata(path)?.permissions().mode();
    if found & 0o7777 == mode { Ok(()) } else { fs::set_permissions(path, fs::Permissions::from_mode(mode)) }
}

impl Storage for DiskStorage {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // A name that is not UTF-8 is none of ours.
            if let (true, Ok(name)) = (entry.file_type()?.is_file(), entry.file_name().into_string()) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let file = OpenOptions::new().read(true).write(self.writable).open(self.folder.join(name))?;
        Ok(Arc::new(DiskFile(file)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let path = self.folder.join(name);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true).mode(FILE_MODE);
        let file = options.open(path)?;
        Ok(Arc::new(DiskFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.folder.join(name))
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let status = rustix::fs::statvfs(&self.folder)?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }
}

struct DiskFile(File);

impl StorageFile for DiskFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_and_its_files_are_their_owners_alone_whatever_was_there() {
        let above = std::env::temp_dir().join(format!("broker-storage-{}", std::process::id()));
        let folder = above.join("new").join("data");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let storage = DiskStorage::open(&folder).unwrap();
        storage.create("a").unwrap();
        assert_eq!((mode(&folder), mode(&folder.join("a"))), (0o700, 0o600));
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(folder.join("a"), fs::Permissions::from_mode(0o644)).unwrap();
        DiskStorage::open(&folder).unwrap();
        assert_eq!((mode(&folder), mode(&folder.join("a"))), (0o700, 0o600));
        fs::remove_dir_all(above).unwrap();
    }

    #[test]
    fn a_new_folder_is_durable_in_the_one_above_before_anything_is_created_in_it() {
        let top = std::env::temp_dir().join(format!("broker-storage-nested-{}", std::process::id()));
        fs::create_dir(&top).unwrap();
        let folders = ["a", "a/b", "a/b/c"].map(|name| top.join(name));
        let mut synced = Vec::new();
        let mut note = |above: &Path| {
            let there = folders.iter().filter(|folder| folder.is_dir()).count();
            synced.push((above.to_owned(), there));
            Ok(())
        };
        create_folder(&folders[2], &mut note).unwrap();
        // A folder that was there is not synced again.
        create_folder(&folders[2], &mut note).unwrap();
        let expected = [(top.clone(), 1), (folders[0].clone(), 2), (folders[1].clone(), 3)];
        assert_eq!(synced, expected);
        let other = top.join("other");
        let failed = create_folder(&other.join("data"), &mut |_| Err(io::ErrorKind::Other.into()));
        assert!(failed.is_err() && other.is_dir() && !other.join("data").exists());
        fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn what_is_set_aside_replaces_nothing() {
        let storage = crate::tests::memory_storage::MemoryStorage::default();
        for expected in ["damaged-x", "damaged-1-x", "damaged-2-x"] {
            storage.create("x").unwrap();
            assert_eq!(set_aside(&storage, "x").unwrap(), expected);
        }
    }
}
