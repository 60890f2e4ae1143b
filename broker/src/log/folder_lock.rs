//! The lock on a data folder. It goes with the process, however that ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::Error;

/// The file that is locked.
const FILE: &str = "lock";

/// Takes the folder; a second broker on it is refused.
pub(crate) fn take(folder: &Path) -> Result<File, Error> {
    // Never emptied: if something else has got its name, that stays as it is.
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    let path = folder.join(FILE);
    lock(&path, options.open(&path).map_err(Error::io(format!("create {}", path.display())))?)
}

/// The same without changing the folder: None if no broker was ever there.
pub(crate) fn take_existing(folder: &Path) -> Result<Option<File>, Error> {
    let path = folder.join(FILE);
    match File::open(&path) {
        Ok(file) => lock(&path, file).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(format!("open {}", path.display()))(error)),
    }
}

fn lock(path: &Path, file: File) -> Result<File, Error> {
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(Error::Locked { path: path.to_owned() }),
        Err(error) => Err(Error::io(format!("lock {}", path.display()))(error.into())),
    }
}
