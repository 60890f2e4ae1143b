//! The durable queues, exchanges and bindings on disk: one small file that is replaced as a whole, so it is never
//! half written.
//!
//! It begins with the magic text and is followed by entries: length (4 bytes, little-endian), CRC-32C of the rest (4
//! bytes), and the rest: one byte that says what it is, then its fields as AMQP short strings and octets. An entry
//! that is damaged is reported and stepped over; the others come up.

use crate::codec::wire::{Malformed, Put, Reader};
use crate::error::Error;
use crate::storage::{self, Storage};

/// The file's name in the data folder.
pub(crate) const FILE: &str = "definitions";
const TEMPORARY: &str = "definitions.tmp";
const MAGIC: &[u8; 8] = b"AMQPDEF1";

/// One durable thing. `NextQueue` is the number that the next durable queue gets; numbers are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Definition<'a> {
    NextQueue(u32),
    Queue { id: u32, name: &'a str, auto_delete: bool },
    Exchange { name: &'a str, kind: &'a str, auto_delete: bool, internal: bool },
    Binding { exchange: &'a str, routing_key: &'a str, queue: &'a str },
}

impl<'a> Definition<'a> {
    fn put(&self, out: &mut Vec<u8>) {
        match *self {
            Self::NextQueue(id) => out.put(&[1]).put_u32(id),
            Self::Queue { id, name, auto_delete } => {
                out.put(&[2]).put_u32(id).put_short_string(name).put_bool(auto_delete)
            }
            Self::Exchange { name, kind, auto_delete, internal } => {
                let out = out.put(&[3]).put_short_string(name).put_short_string(kind);
                out.put_bool(auto_delete).put_bool(internal)
            }
            Self::Binding { exchange, routing_key, queue } => {
                let out = out.put(&[4]).put_short_string(exchange);
                out.put_short_string(routing_key).put_short_string(queue)
            }
        };
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(match reader.u8()? {
            1 => Self::NextQueue(reader.u32()?),
            2 => {
                let (id, name) = (reader.u32()?, reader.short_string()?);
                Self::Queue { id, name, auto_delete: reader.u8()? != 0 }
            }
            3 => {
                let (name, kind) = (reader.short_string()?, reader.short_string()?);
                Self::Exchange { name, kind, auto_delete: reader.u8()? != 0, internal: reader.u8()? != 0 }
            }
            4 => {
                let (exchange, routing_key) = (reader.short_string()?, reader.short_string()?);
                Self::Binding { exchange, routing_key, queue: reader.short_string()? }
            }
            _ => return Err(Malformed),
        })
    }
}

/// Replaces the file, durably.
pub(crate) fn save(storage: &dyn Storage, definitions: &[Definition<'_>]) -> Result<(), Error> {
    let mut bytes = MAGIC.to_vec();
    let mut entry = Vec::new();
    for definition in definitions {
        entry.clear();
        definition.put(&mut entry);
        bytes.extend_from_slice(&u32::try_from(entry.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&entry).to_le_bytes());
        bytes.extend_from_slice(&entry);
    }
    let replaced = storage::replace(storage, TEMPORARY, FILE, &bytes);
    replaced.map(drop).map_err(Error::io(format!("replace {FILE}")))
}

/// Reads the file; it is empty before the first durable thing.
pub(crate) fn load(storage: &dyn Storage) -> Result<Vec<u8>, Error> {
    let names = storage.list().map_err(Error::io("list the data folder"))?;
    if !names.iter().any(|name| name == FILE) {
        return Ok(MAGIC.to_vec());
    }
    let bytes = storage.open(FILE).and_then(|file| storage::read_whole(&*file));
    bytes.map_err(Error::io(format!("read {FILE}")))
}

/// What the bytes of the file define, and what is damaged in them.
pub(crate) fn parse(bytes: &[u8]) -> Result<(Vec<Definition<'_>>, Vec<String>), Error> {
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
        let problem = "it does not begin like a definitions file of this version".to_owned();
        return Err(Error::Format { file: FILE.to_owned(), problem });
    };
    let (mut definitions, mut damage) = (Vec::new(), Vec::new());
    while !rest.is_empty() {
        let offset = bytes.len() - rest.len();
        let Some((entry, crc, left)) = split_entry(rest) else {
            damage.push(format!("from offset {offset} to its end"));
            break;
        };
        let valid = crc32c::crc32c(entry) == crc;
        match Definition::read(&mut Reader::new(entry)) {
            Ok(definition) if valid => definitions.push(definition),
            _ => damage.push(format!("at offset {offset}")),
        }
        rest = left;
    }
    for place in &damage {
        log::error!("{FILE} is damaged {place}: what was defined there is lost");
    }
    Ok((definitions, damage))
}

fn split_entry(bytes: &[u8]) -> Option<(&[u8], u32, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let (entry, left) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((entry, u32::from_le_bytes(*crc), left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::memory_storage::MemoryStorage;

    fn sample() -> Vec<Definition<'static>> {
        vec![
            Definition::NextQueue(9),
            Definition::Queue { id: 1, name: "orders", auto_delete: false },
            Definition::Exchange { name: "events", kind: "topic", auto_delete: true, internal: false },
            Definition::Binding { exchange: "events", routing_key: "a.#", queue: "orders" },
        ]
    }

    #[test]
    fn definitions_survive_a_round_trip() {
        let storage = MemoryStorage::default();
        assert_eq!(parse(&load(&storage).unwrap()).unwrap(), (vec![], vec![]));
        save(&storage, &sample()).unwrap();
        assert_eq!(parse(&load(&storage).unwrap()).unwrap(), (sample(), vec![]));
    }

    #[test]
    fn damage_costs_one_definition_and_is_told() {
        let storage = MemoryStorage::default();
        save(&storage, &sample()).unwrap();
        let mut bytes = load(&storage).unwrap();
        for at in MAGIC.len()..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            let (found, damage) = parse(&flipped).unwrap();
            assert!(!damage.is_empty(), "{at}");
            assert!(found.iter().all(|definition| sample().contains(definition)), "{at}");
        }
        bytes[0] ^= 1;
        assert!(parse(&bytes).is_err());
    }
}
