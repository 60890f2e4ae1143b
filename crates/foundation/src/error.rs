//! The one error type of this crate.

use std::fmt;

/// What can go wrong in the parts that the services share.
#[derive(Debug)]
pub enum Error {
    /// A setting is missing or malformed; the message names the variable, never its value.
    Setting {
        /// The environment variable.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A line of a settings file cannot be read; the message names the variable, never its value.
    SettingsLine {
        /// The file and the number of the line.
        place: String,
        /// The variable, and what is wrong with its line.
        problem: String,
    },
    /// The operating system refused something.
    Io {
        /// What was being done.
        action: String,
        /// The operating system's own report.
        source: std::io::Error,
    },
}

impl Error {
    /// A complaint about the setting `name`.
    pub fn setting(name: &str, problem: impl Into<String>) -> Self {
        Self::Setting { name: name.to_owned(), problem: problem.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting { name, problem } => write!(f, "setting {name}: {problem}"),
            Self::SettingsLine { place, problem } => write!(f, "{place}: {problem}"),
            Self::Io { action, source } => write!(f, "{action}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Setting { .. } | Self::SettingsLine { .. } => None,
        }
    }
}
