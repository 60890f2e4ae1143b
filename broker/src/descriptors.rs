//! How many files and sockets the process may have open, and what of that is left for connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are kept free for the log, the private listener and the standard streams.
const RESERVED: u64 = 56;
/// With fewer connections than this there is no point in serving.
const FEWEST_CONNECTIONS: u64 = 8;

/// Raises the soft limit of open files to the hard one and returns it; `u64::MAX` if there is none.
pub(crate) fn raise_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        log::warn!("the limit of open files cannot be raised: {error}");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many connections the process can have with `limit` open files, at most `wanted`. Each takes one.
pub(crate) fn connections(limit: u64, wanted: usize) -> usize {
    let possible = limit.saturating_sub(RESERVED).max(FEWEST_CONNECTIONS);
    let connections = usize::try_from(possible).unwrap_or(usize::MAX).min(wanted);
    if connections < wanted {
        log::warn!(
            "at most {connections} connections instead of {wanted}, for only {limit} files may be open"
        );
    }
    connections
}

/// Files and sockets that are open now, if the system tells.
pub(crate) fn open() -> Option<usize> {
    std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count)
}

/// Whether a failure means that too many files are open: it goes away by itself, and says nothing about the file.
pub(crate) fn are_short(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error();
    code == Some(Errno::MFILE.raw_os_error()) || code == Some(Errno::NFILE.raw_os_error())
}
