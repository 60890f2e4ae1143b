//! The one error type of this crate: why a service cannot start or go on. What a client is told is in `answer.rs`.

use std::fmt;

/// Why a service cannot start, or cannot go on.
#[derive(Debug)]
pub enum Error {
    /// The description of a resource makes no sense.
    Description {
        /// The resource.
        name: &'static str,
        /// What is wrong.
        problem: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Description { name, problem } => write!(f, "the description of {name}: {problem}"),
        }
    }
}

impl std::error::Error for Error {}
