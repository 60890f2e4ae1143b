//! What the operating system knows of this process.

use rustix::process::{Resource, getrlimit};

use crate::descriptors;

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
        Self {
            memory_bytes: foundation::metrics::resident_bytes().unwrap_or_default(),
            open_files: descriptors::open().unwrap_or_default(),
            max_open_files: getrlimit(Resource::Nofile).current.unwrap_or_default(),
            threads: std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count),
        }
    }
}
