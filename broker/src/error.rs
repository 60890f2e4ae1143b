//! The one error type of this crate. What a client is told is in [`crate::queues::fault`]; this is what ends the process.

use std::fmt;
use std::path::PathBuf;

/// What can keep the broker from starting or from going on.
#[derive(Debug)]
pub enum Error {
    /// A setting is missing or malformed, or a signal handler could not be installed.
    Foundation(foundation::Error),
    /// Another instance holds the data folder.
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The operating system refused something.
    Io {
        /// What was being done.
        action: String,
        /// The operating system's own report.
        source: std::io::Error,
    },
    /// Not everything in the data folder can be read: what `--check-log` found.
    Damaged {
        /// The whole report.
        report: String,
    },
    /// A file of the data folder cannot be understood.
    Format {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Error {
    /// An error of the operating system while doing `action`.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    /// A file that cannot be understood.
    pub(crate) fn format(file: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Format { file: file.into(), problem: problem.into() }
    }

    /// The log could not be written, synced or read back while doing `action`. Nothing is confirmed after it.
    pub(crate) fn log(action: impl fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::io(format!("the log failed, nothing was confirmed after this: {action}"))(source)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foundation(error) => error.fmt(f),
            Self::Locked { path } => {
                write!(f, "another broker uses this data folder: {} is locked", path.display())
            }
            Self::Io { action, source } => write!(f, "{action}: {source}"),
            Self::Damaged { report } => f.write_str(report),
            Self::Format { file, problem } => write!(f, "{file}: {problem}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Foundation(error) => Some(error),
            Self::Io { source, .. } => Some(source),
            Self::Locked { .. } | Self::Damaged { .. } | Self::Format { .. } => None,
        }
    }
}

impl From<foundation::Error> for Error {
    fn from(error: foundation::Error) -> Self {
        Self::Foundation(error)
    }
}
