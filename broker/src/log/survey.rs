//! What reading the log found, and what is to be done about it: plain data between [`crate::log::segment_reader`],
//! [`crate::log::recovery`] and those who report.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;

use crate::log::definitions::Queues;
use crate::log::record::Position;
use crate::log::segment_table::Segment;
use crate::log::stored_message::Run;

/// What the definitions say of the log.
pub(crate) struct Log {
    pub(crate) salt: u64,
    /// The log has a segment of this number or a higher one.
    pub(crate) segment: u32,
    /// Which durable queues exist.
    pub(crate) queues: Queues,
    /// Queues that the definitions lack count as existing.
    pub(crate) lenient: bool,
}

/// One queue's messages.
#[derive(Default)]
pub(crate) struct RecoveredQueue {
    pub(crate) runs: VecDeque<Run>,
    /// Every position that appears in the log is lower.
    pub(crate) next_position: u64,
    /// Messages up to this position may have been delivered.
    pub(crate) redelivered_through: u64,
    /// Something limits the life of a message.
    pub(crate) timed: bool,
    /// Bytes of the bodies.
    pub(crate) body_bytes: u64,
    /// How often messages came back, if the queue counts that; for some that are settled, too.
    pub(crate) returns: HashMap<u64, u32>,
    /// The lowest position seen in newer segments.
    pub(crate) lowest: Option<u64>,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// The rest of a write that was interrupted, and so was never confirmed.
    Unfinished,
    /// Something cannot be read; everything else can.
    Damage,
    /// The broker must not start on this: confirmed messages may be missing.
    Refusal,
}

/// Something that the reader of the log has to tell.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    pub(crate) file: String,
    pub(crate) text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.text)
    }
}

/// What is to be done with a file before the log goes on.
#[derive(Debug)]
pub(crate) enum Chore {
    /// It was read completely and holds nothing, or nothing that is not elsewhere.
    Remove(String),
    /// It cannot be read and is not needed.
    SetAside(String),
}

/// What the files of the log hold.
pub(crate) struct Survey {
    pub(crate) queues: HashMap<u32, RecoveredQueue>,
    pub(crate) segments: BTreeMap<u32, Segment>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) position: Position,
    pub(crate) chores: Vec<Chore>,
    /// There is a prepared segment that may be used.
    pub(crate) has_prepared: bool,
}
