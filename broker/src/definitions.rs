//! The durable queues, exchanges and bindings on disk: one small file that is replaced as a whole, so it is never
//! half written.
//!
//! It begins with the magic text and is followed by entries: length (4 bytes, little-endian), CRC-32C of the rest (4
//! bytes), and the rest: one byte that says what it is, then its fields as AMQP short strings and octets. An entry
//! that is damaged is reported and stepped over; the others come up.

use crate::codec::wire::{Malformed, Reader, put_short_string};
use crate::error::Error;
use crate::storage::Storage;

/// The file's name in the data folder.
pub(crate) const FILE: &str = "definitions";
const TEMPORARY: &str = "definitions.tmp";
const MAGIC: &[u8; 8] = b"AMQPDEF1";

/// One durable thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Definition {
    /// The number that the next durable queue gets; numbers are never used twice.
    NextQueue(u32),
    Queue {
        id: u32,
        name: String,
        auto_delete: bool,
    },
    Exchange {
        name: String,
        kind: String,
        auto_delete: bool,
        internal: bool,
    },
    Binding {
        exchange: String,
        routing_key: String,
        queue: String,
    },
}

impl Definition {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::NextQueue(id) => {
                out.push(1);
                out.extend_from_slice(&id.to_be_bytes());
            }
            Self::Queue { id, name, auto_delete } => {
                out.push(2);
                out.extend_from_slice(&id.to_be_bytes());
                put_short_string(out, name);
                out.push(u8::from(*auto_delete));
            }
            Self::Exchange { name, kind, auto_delete, internal } => {
                out.push(3);
                put_short_string(out, name);
                put_short_string(out, kind);
                out.extend_from_slice(&[u8::from(*auto_delete), u8::from(*internal)]);
            }
            Self::Binding { exchange, routing_key, queue } => {
                out.push(4);
                for text in [exchange, routing_key, queue] {
                    put_short_string(out, text);
                }
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let text = |reader: &mut Reader<'_>| reader.short_string().map(str::to_owned);
        Ok(match reader.u8()? {
            1 => Self::NextQueue(reader.u32()?),
            2 => Self::Queue { id: reader.u32()?, name: text(reader)?, auto_delete: reader.u8()? != 0 },
            3 => Self::Exchange {
                name: text(reader)?,
                kind: text(reader)?,
                auto_delete: reader.u8()? != 0,
                internal: reader.u8()? != 0,
            },
            4 => Self::Binding { exchange: text(reader)?, routing_key: text(reader)?, queue: text(reader)? },
            _ => return Err(Malformed),
        })
    }
}

/// Replaces the file, durably.
pub(crate) fn save(storage: &dyn Storage, definitions: &[Definition]) -> Result<(), Error> {
    let mut bytes = MAGIC.to_vec();
    let mut entry = Vec::new();
    for definition in definitions {
        entry.clear();
        definition.put(&mut entry);
        bytes.extend_from_slice(&u32::try_from(entry.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&entry).to_le_bytes());
        bytes.extend_from_slice(&entry);
    }
    let file = storage.create(TEMPORARY).map_err(Error::io(format!("create {TEMPORARY}")))?;
    file.write_at(&bytes, 0).and_then(|()| file.sync()).map_err(Error::io(format!("write {TEMPORARY}")))?;
    storage
        .rename(TEMPORARY, FILE)
        .and_then(|()| storage.sync_folder())
        .map_err(Error::io(format!("replace {FILE}")))
}

/// Reads the file, and tells what is damaged in it; there is nothing before the first durable thing.
pub(crate) fn load(storage: &dyn Storage) -> Result<(Vec<Definition>, Vec<String>), Error> {
    let names = storage.list().map_err(Error::io("list the data folder"))?;
    if !names.iter().any(|name| name == FILE) {
        return Ok((Vec::new(), Vec::new()));
    }
    let file = storage.open(FILE).map_err(Error::io(format!("open {FILE}")))?;
    let length = file.length().map_err(Error::io(format!("measure {FILE}")))?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_at(&mut bytes, 0).map_err(Error::io(format!("read {FILE}")))?;
    let (definitions, damage) = parse(&bytes)?;
    for text in &damage {
        log::error!("{text}");
    }
    Ok((definitions, damage))
}

fn parse(bytes: &[u8]) -> Result<(Vec<Definition>, Vec<String>), Error> {
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
        let problem = "it does not begin like a definitions file of this version".to_owned();
        return Err(Error::Format { file: FILE.to_owned(), problem });
    };
    let (mut definitions, mut damage) = (Vec::new(), Vec::new());
    while !rest.is_empty() {
        let offset = bytes.len() - rest.len();
        let Some((entry, crc, left)) = split_entry(rest) else {
            damage.push(format!(
                "{FILE} is damaged from offset {offset} to its end: what was defined there is lost"
            ));
            break;
        };
        let valid = crc32c::crc32c(entry) == crc;
        match Definition::read(&mut Reader::new(entry)) {
            Ok(definition) if valid => definitions.push(definition),
            _ => damage.push(format!("{FILE} is damaged at offset {offset}: what was defined there is lost")),
        }
        rest = left;
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

    fn sample() -> Vec<Definition> {
        vec![
            Definition::NextQueue(9),
            Definition::Queue { id: 1, name: "orders".to_owned(), auto_delete: false },
            Definition::Exchange {
                name: "events".to_owned(),
                kind: "topic".to_owned(),
                auto_delete: true,
                internal: false,
            },
            Definition::Binding {
                exchange: "events".to_owned(),
                routing_key: "a.#".to_owned(),
                queue: "orders".to_owned(),
            },
        ]
    }

    #[test]
    fn definitions_survive_a_round_trip() {
        let storage = MemoryStorage::default();
        assert_eq!(load(&storage).unwrap(), (vec![], vec![]));
        save(&storage, &sample()).unwrap();
        assert_eq!(load(&storage).unwrap(), (sample(), vec![]));
    }

    #[test]
    fn damage_costs_one_definition_and_is_told() {
        let storage = MemoryStorage::default();
        save(&storage, &sample()).unwrap();
        let file = storage.open(FILE).unwrap();
        let mut bytes = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
        file.read_at(&mut bytes, 0).unwrap();
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
