//! What the operating system knows of this process.

use rustix::process::{Resource, getrlimit};

/// This process at one moment. What cannot be found out is 0.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProcessFigures {
    pub(super) memory_bytes: u64,
    pub(super) open_files: usize,
    pub(super) max_open_files: u64,
    pub(super) threads: usize,
}

impl ProcessFigures {
    pub(super) fn now() -> Self {
        let entries = |folder: &str| std::fs::read_dir(folder).map_or(0, Iterator::count);
        Self {
            memory_bytes: foundation::metrics::resident_bytes().unwrap_or_default(),
            // The folder itself is open while it is counted.
            open_files: entries("/proc/self/fd").saturating_sub(1),
            max_open_files: getrlimit(Resource::Nofile).current.unwrap_or_default(),
            threads: entries("/proc/self/task"),
        }
    }
}
