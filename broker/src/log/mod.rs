//! The write-ahead log: its records, its files, and how they are written, read back after a start and kept small.
//! `docs/broker.md` describes the bytes. Nothing here knows what queues or the protocol are; see [`owner`].

pub(crate) mod alarm;
pub(crate) mod check;
pub(crate) mod compaction;
pub(crate) mod definitions;
pub(crate) mod folder_lock;
pub(crate) mod housekeeper;
pub(crate) mod intervals;
pub(crate) mod owner;
pub(crate) mod persister;
pub(crate) mod prepare;
pub(crate) mod record;
pub(crate) mod recovery;
pub(crate) mod salvage;
pub(crate) mod segment;
pub(crate) mod segment_reader;
pub(crate) mod segment_table;
pub(crate) mod storage;
pub(crate) mod stored_message;
pub(crate) mod survey;
pub(crate) mod write_batch;
