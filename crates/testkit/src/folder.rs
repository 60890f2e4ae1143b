//! Temporary folders.

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::guardian;

/// The longest path at which a unix socket can be created below a folder, with room for the socket's name.
const SOCKET_FOLDER_MAX_BYTES: usize = 80;

/// A folder that only its owner can read, removed with its content when dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Creates a folder whose name starts with `crud-` and `name`, below the system's folder for temporary files.
    pub fn new(name: &str) -> Self {
        let path = base().join(format!("crud-{name}-{}", crate::hex(6)));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .unwrap_or_else(|e| panic!("create {}: {e}", path.display()));
        guardian::watch_folder(&path);
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed now, the guardian removes later.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// TMPDIR, unless a unix socket below it would have too long a name or other users could not reach it, which
/// PostgreSQL needs when root runs the tests.
fn base() -> PathBuf {
    let configured = std::env::temp_dir();
    let reachable = configured
        .ancestors()
        .all(|folder| std::fs::metadata(folder).is_ok_and(|found| found.mode() & 0o001 != 0));
    if reachable && configured.as_os_str().len() <= SOCKET_FOLDER_MAX_BYTES {
        configured
    } else {
        PathBuf::from("/tmp")
    }
}
