//! The durable queues, exchanges and bindings on disk, and which log they belong to: two files with the same contents,
//! each replaced as a whole, so that one of them is readable whatever happens to the other.
//!
//! A copy is the magic text, the length of the rest and its CRC-32C (4 bytes each, little-endian), then the rest:
//! generation (8 bytes), salt of the log (8), the highest segment that certainly exists (4), and the definitions, each
//! with one byte that says what it is, then its fields as AMQP short strings and octets. A copy is valid as a whole or
//! not at all, and the one with the higher generation counts.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};

use crate::codec::raw_table::RawTable;
use crate::codec::wire::{Malformed, Put, Reader};
use crate::error::Error;
use crate::log::storage::{self, Storage};

/// The names of the two copies in the data folder.
pub(crate) const FILES: [&str; 2] = ["definitions-1", "definitions-2"];
/// What they are called while they are written.
pub(crate) const TEMPORARY: [&str; 2] = ["definitions-1.tmp", "definitions-2.tmp"];
/// What format 1 called its only copy.
const FORMAT_1_FILE: &str = "definitions";
/// How all these names begin.
pub(crate) const PREFIX: &str = "definitions";
/// The problem of a copy that is not there.
pub(crate) const MISSING: &str = "it is missing";
const MAGIC: &[u8; 8] = b"AMQPDEF2";

/// One durable thing. `NextQueue` is the number that the next durable queue gets; numbers are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Definition<'a> {
    NextQueue(u32),
    Queue {
        id: u32,
        name: &'a str,
        auto_delete: bool,
        arguments: RawTable<'a>,
    },
    Exchange {
        name: &'a str,
        kind: &'a str,
        auto_delete: bool,
        internal: bool,
    },
    Binding {
        exchange: &'a str,
        routing_key: &'a str,
        queue: &'a str,
    },
    /// The alternate exchange of an exchange.
    Alternate {
        exchange: &'a str,
        alternate: &'a str,
    },
    /// A binding that leads to an exchange or has arguments.
    BindingWith {
        exchange: &'a str,
        routing_key: &'a str,
        to_exchange: bool,
        destination: &'a str,
        arguments: RawTable<'a>,
    },
}

const QUEUE: u8 = 2;
const QUEUE_WITH_ARGUMENTS: u8 = 10;

impl<'a> Definition<'a> {
    fn put(&self, out: &mut Vec<u8>) {
        match *self {
            Self::NextQueue(id) => out.put(&[1]).put_u32(id),
            Self::Queue { id, name, auto_delete, arguments } => {
                // Without arguments it is written as it was before there were any.
                let kind = if arguments.bytes().is_empty() { QUEUE } else { QUEUE_WITH_ARGUMENTS };
                out.put(&[kind]).put_u32(id).put_short_string(name).put_bool(auto_delete);
                if kind == QUEUE_WITH_ARGUMENTS {
                    out.put_long_string(arguments.bytes());
                }
                out
            }
            Self::Exchange { name, kind, auto_delete, internal } => {
                let out = out.put(&[3]).put_short_string(name).put_short_string(kind);
                out.put_bool(auto_delete).put_bool(internal)
            }
            Self::Binding { exchange, routing_key, queue } => {
                let out = out.put(&[4]).put_short_string(exchange);
                out.put_short_string(routing_key).put_short_string(queue)
            }
            Self::Alternate { exchange, alternate } => {
                out.put(&[16]).put_short_string(exchange).put_short_string(alternate)
            }
            Self::BindingWith { exchange, routing_key, to_exchange, destination, arguments } => {
                let out = out.put(&[17]).put_short_string(exchange).put_short_string(routing_key);
                out.put_bool(to_exchange).put_short_string(destination).put_long_string(arguments.bytes())
            }
        };
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(match reader.u8()? {
            1 => Self::NextQueue(reader.u32()?),
            kind @ (QUEUE | QUEUE_WITH_ARGUMENTS) => {
                let (id, name, auto_delete) = (reader.u32()?, reader.short_string()?, reader.u8()? != 0);
                let mut arguments = RawTable::default();
                if kind == QUEUE_WITH_ARGUMENTS {
                    arguments = RawTable::read(reader)?;
                }
                Self::Queue { id, name, auto_delete, arguments }
            }
            3 => {
                let (name, kind) = (reader.short_string()?, reader.short_string()?);
                Self::Exchange { name, kind, auto_delete: reader.u8()? != 0, internal: reader.u8()? != 0 }
            }
            4 => {
                let (exchange, routing_key) = (reader.short_string()?, reader.short_string()?);
                Self::Binding { exchange, routing_key, queue: reader.short_string()? }
            }
            16 => Self::Alternate { exchange: reader.short_string()?, alternate: reader.short_string()? },
            17 => Self::BindingWith {
                exchange: reader.short_string()?,
                routing_key: reader.short_string()?,
                to_exchange: reader.u8()? != 0,
                destination: reader.short_string()?,
                arguments: RawTable::read(reader)?,
            },
            _ => return Err(Malformed),
        })
    }
}

/// What a copy says besides its definitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    /// Counts how often they were saved.
    pub(crate) generation: u64,
    /// In every record of the log that belongs to them.
    pub(crate) salt: u64,
    /// The log has a segment of this number or a higher one.
    pub(crate) segment: u32,
}

impl Header {
    /// That of a new log. Its salt is a number that no client can guess: the standard library seeds its hash tables
    /// from the operating system's random numbers.
    pub(crate) fn new() -> Self {
        Self { salt: RandomState::new().build_hasher().finish(), ..Self::default() }
    }
}

/// What the data folder says.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// None in a new folder.
    pub(crate) header: Option<Header>,
    entries: Vec<u8>,
    /// Copies that are missing or cannot be read, with why.
    pub(crate) damaged: Vec<(&'static str, String)>,
}

impl Stored {
    pub(crate) fn definitions(&self) -> Result<Vec<Definition<'_>>, Error> {
        parse_all(&self.entries)
            .map_err(|Malformed| Error::format(FILES[0], "it holds an unknown definition"))
    }

    /// The number that the next durable queue gets, and the numbers of those that exist.
    pub(crate) fn queues(&self) -> Result<Queues, Error> {
        let mut queues = Queues { next: 1, ids: HashSet::new() };
        for definition in self.definitions()? {
            match definition {
                Definition::NextQueue(next) => queues.next = queues.next.max(next),
                Definition::Queue { id, .. } => {
                    queues.ids.insert(id);
                }
                Definition::Exchange { .. }
                | Definition::Binding { .. }
                | Definition::Alternate { .. }
                | Definition::BindingWith { .. } => {}
            }
        }
        Ok(queues)
    }
}

/// Which durable queues exist. Numbers are given in order and never twice, so one below `next` that is not in `ids` is
/// that of a queue that was deleted.
#[derive(Clone, Debug)]
pub(crate) struct Queues {
    pub(crate) next: u32,
    pub(crate) ids: HashSet<u32>,
}

/// The bytes of a copy.
pub(crate) fn encode(header: Header, definitions: &[Definition<'_>]) -> Vec<u8> {
    let mut rest = Vec::new();
    rest.extend_from_slice(&header.generation.to_le_bytes());
    rest.extend_from_slice(&header.salt.to_le_bytes());
    rest.extend_from_slice(&header.segment.to_le_bytes());
    for definition in definitions {
        definition.put(&mut rest);
    }
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&u32::try_from(rest.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&rest).to_le_bytes());
    bytes.append(&mut rest);
    bytes
}

/// Replaces both copies, durably. At any moment each is either the old one or the new one.
pub(crate) fn save(
    storage: &dyn Storage,
    header: Header,
    definitions: &[Definition<'_>],
) -> Result<(), Error> {
    let bytes = encode(header, definitions);
    let replaced = TEMPORARY.iter().try_for_each(|name| storage::write_new(storage, name, &bytes).map(drop));
    let replaced = replaced.and_then(|()| {
        TEMPORARY.iter().zip(FILES).try_for_each(|(from, to)| storage.rename(from, to))?;
        storage.sync_folder()
    });
    replaced.map_err(Error::io("replace the definitions"))
}

/// Reads the better copy. Fails if neither can be read, unless there is none and the folder is new.
pub(crate) fn load(storage: &dyn Storage, is_new: bool) -> Result<Stored, Error> {
    let names = storage.list().map_err(Error::io("list the data folder"))?;
    if names.iter().any(|name| name == FORMAT_1_FILE) {
        let problem = "its format is 1, this program knows 2: drain the queues with the version that wrote it, then \
                       give this version an empty folder";
        return Err(Error::format(FORMAT_1_FILE, problem));
    }
    let mut stored = Stored::default();
    for name in FILES {
        if !names.iter().any(|known| known == name) {
            stored.damaged.push((name, MISSING.to_owned()));
            continue;
        }
        let bytes = storage.open(name).and_then(|file| storage::read_whole(&*file));
        match decode(&bytes.map_err(Error::io(format!("read {name}")))?) {
            Ok((header, _)) if stored.header.is_some_and(|known| known.generation >= header.generation) => {}
            Ok((header, entries)) => (stored.header, stored.entries) = (Some(header), entries),
            Err(problem) => stored.damaged.push((name, problem)),
        }
    }
    if stored.header.is_some() {
        return Ok(stored);
    }
    let missing = FILES.iter().all(|name| !names.iter().any(|known| known == name));
    if missing && is_new {
        return Ok(Stored::default());
    }
    let problem = stored.damaged.iter().map(|(name, why)| format!("{name}: {why}")).collect::<Vec<_>>();
    Err(Error::format("definitions", format!("neither copy can be read ({})", problem.join("; "))))
}

/// Header and definitions of a copy, or what is wrong with it.
fn decode(bytes: &[u8]) -> Result<(Header, Vec<u8>), String> {
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        return Err(match bytes.first_chunk::<8>() {
            Some(magic) if magic.starts_with(&MAGIC[..7]) && magic[7].is_ascii_graphic() => {
                format!("its format is {}, this program knows 2", char::from(magic[7]))
            }
            _ => "it does not begin as definitions do".to_owned(),
        });
    };
    let whole = || {
        let (length, rest) = rest.split_first_chunk()?;
        let (crc, rest) = rest.split_first_chunk()?;
        let sound = u32::from_le_bytes(*length) as usize == rest.len()
            && u32::from_le_bytes(*crc) == crc32c::crc32c(rest);
        let (generation, rest) = rest.split_first_chunk()?;
        let (salt, rest) = rest.split_first_chunk()?;
        let (segment, entries) = rest.split_first_chunk()?;
        let header = Header {
            generation: u64::from_le_bytes(*generation),
            salt: u64::from_le_bytes(*salt),
            segment: u32::from_le_bytes(*segment),
        };
        (sound && parse_all(entries).is_ok()).then(|| (header, entries.to_vec()))
    };
    whole().ok_or_else(|| "its checksum does not hold".to_owned())
}

fn parse_all(entries: &[u8]) -> Result<Vec<Definition<'_>>, Malformed> {
    let mut reader = Reader::new(entries);
    let mut definitions = Vec::new();
    while !reader.is_empty() {
        definitions.push(Definition::read(&mut reader)?);
    }
    Ok(definitions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::memory_storage::MemoryStorage;

    const HEADER: Header = Header { generation: 4, salt: 77, segment: 3 };

    fn sample() -> Vec<Definition<'static>> {
        vec![
            Definition::NextQueue(9),
            Definition::Queue { id: 1, name: "orders", auto_delete: false, arguments: RawTable::default() },
            Definition::Queue {
                id: 2,
                name: "dead",
                auto_delete: true,
                arguments: RawTable::new(b"\x01kt\x01").unwrap(),
            },
            Definition::Exchange { name: "events", kind: "topic", auto_delete: true, internal: false },
            Definition::Binding { exchange: "events", routing_key: "a.#", queue: "orders" },
            Definition::Alternate { exchange: "events", alternate: "rest" },
            Definition::BindingWith {
                exchange: "events",
                routing_key: "",
                to_exchange: true,
                destination: "rest",
                arguments: RawTable::new(b"\x01at\x01").unwrap(),
            },
        ]
    }

    #[test]
    fn definitions_survive_a_round_trip() {
        let storage = MemoryStorage::default();
        assert_eq!(load(&storage, true).unwrap().header, None);
        assert!(load(&storage, false).is_err(), "a log without definitions");
        save(&storage, HEADER, &sample()).unwrap();
        let stored = load(&storage, false).unwrap();
        assert_eq!((stored.header, stored.damaged.len()), (Some(HEADER), 0));
        assert_eq!(stored.definitions().unwrap(), sample());
        let queues = stored.queues().unwrap();
        assert_eq!((queues.next, queues.ids), (9, HashSet::from([1, 2])));
    }

    #[test]
    fn one_copy_is_enough_and_the_newer_one_counts() {
        let storage = MemoryStorage::default();
        save(&storage, HEADER, &sample()).unwrap();
        let bytes = storage.bytes(FILES[0]);
        for at in 0..bytes.len() {
            for name in FILES {
                let storage = storage.after_kill();
                let mut flipped = bytes.clone();
                flipped[at] ^= 0x10;
                storage.set_bytes(name, flipped.clone());
                let stored = load(&storage, false).unwrap();
                assert_eq!(stored.damaged.iter().map(|(name, _)| *name).collect::<Vec<_>>(), [name]);
                assert_eq!(stored.definitions().unwrap(), sample());
                storage.set_bytes(FILES[0], flipped.clone());
                storage.set_bytes(FILES[1], flipped);
                assert!(load(&storage, true).is_err(), "{at}");
            }
        }
        let newer = Header { generation: 5, ..HEADER };
        storage.set_bytes(FILES[1], encode(newer, &sample()[..2]));
        assert_eq!(load(&storage, false).unwrap().header, Some(newer));
        assert_eq!(load(&storage, false).unwrap().definitions().unwrap().len(), 2);
    }

    #[test]
    fn another_format_is_named() {
        let storage = MemoryStorage::default();
        storage.create(FORMAT_1_FILE).unwrap();
        assert!(load(&storage, true).unwrap_err().to_string().contains("its format is 1"));
        assert_eq!(decode(b"AMQPDEF3....").unwrap_err(), "its format is 3, this program knows 2");
    }
}
