//! Field tables (AMQP 0-9-1 §4.2.5.5) with the value types that RabbitMQ and its clients use. The broker looks at few
//! of them; the others are checked and stepped over.

use super::wire::{Malformed, Reader};

/// Tables and arrays nested deeper than this are refused, so that decoding cannot exhaust the stack.
const MAX_DEPTH: u8 = 16;

/// A value of a field table, as far as the broker looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Bool(bool),
    Text(Vec<u8>),
    Table(Table),
    /// A number, a timestamp, bytes, an array or nothing.
    Other,
}

/// A field table in its order of arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table(pub(crate) Vec<(String, Value)>);

impl Table {
    /// Reads a table with its 32-bit length in front.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Self::read_nested(reader, 0)
    }

    fn read_nested(reader: &mut Reader<'_>, depth: u8) -> Result<Self, Malformed> {
        let mut fields = Reader::new(reader.long_string()?);
        let mut table = Self::default();
        while !fields.is_empty() {
            let name = fields.short_string()?.to_owned();
            table.0.push((name, Value::read(&mut fields, depth)?));
        }
        Ok(table)
    }

    /// The first value called `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Whether the table holds the boolean `name` and it is true.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.get(name) == Some(&Value::Bool(true))
    }
}

impl Value {
    pub(super) fn read(reader: &mut Reader<'_>, depth: u8) -> Result<Self, Malformed> {
        if depth > MAX_DEPTH {
            return Err(Malformed);
        }
        let length = match reader.u8()? {
            b't' => return Ok(Self::Bool(reader.u8()? != 0)),
            b'S' => return Ok(Self::Text(reader.long_string()?.to_vec())),
            b'F' => return Ok(Self::Table(Table::read_nested(reader, depth + 1)?)),
            b'A' => {
                let mut members = Reader::new(reader.long_string()?);
                while !members.is_empty() {
                    Self::read(&mut members, depth + 1)?;
                }
                0
            }
            b'x' => reader.u32()?,
            b'V' => 0,
            b'b' | b'B' => 1,
            b's' | b'u' => 2,
            b'I' | b'i' | b'f' => 4,
            b'D' => 5,
            b'l' | b'L' | b'd' | b'T' => 8,
            _ => return Err(Malformed),
        };
        reader.take(length as usize)?;
        Ok(Self::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::wire::Put;

    #[test]
    fn what_the_broker_looks_at_is_read() {
        let bytes = b"\0\0\0\x22\x03yest\x01\x02not\0\x04textS\0\0\0\x02hi\x05tableF\0\0\0\x00";
        let table = Table::read(&mut Reader::new(bytes)).unwrap();
        assert!(table.is_true("yes") && !table.is_true("no") && !table.is_true("absent"));
        assert_eq!(table.get("text"), Some(&Value::Text(b"hi".to_vec())));
        assert_eq!(table.get("table"), Some(&Value::Table(Table::default())));
    }

    #[test]
    fn every_other_type_is_stepped_over_exactly() {
        for (kind, length) in [
            (b'b', 1),
            (b'B', 1),
            (b's', 2),
            (b'u', 2),
            (b'I', 4),
            (b'i', 4),
            (b'l', 8),
            (b'L', 8),
            (b'f', 4),
            (b'd', 8),
            (b'D', 5),
            (b'T', 8),
            (b'V', 0),
        ] {
            let mut fields = vec![1, b'k', kind];
            fields.extend_from_slice(&vec![0xff; length]);
            fields.extend_from_slice(b"\x01zt\x01");
            let table = |fields: &[u8]| {
                let mut bytes = Vec::new();
                bytes.put_long_string(fields);
                Table::read(&mut Reader::new(&bytes))
            };
            let read = table(&fields).unwrap();
            assert_eq!((read.get("k"), read.is_true("z")), (Some(&Value::Other), true), "{kind}");
            assert_eq!(table(&fields[..2 + length]), Err(Malformed), "{kind} is cut short");
        }
        let counted = b"\0\0\0\x14\x01kx\0\0\0\x02\0\xff\x01aA\0\0\0\x04Vt\x01V";
        let read = Table::read(&mut Reader::new(counted)).unwrap();
        assert_eq!((read.get("k"), read.get("a")), (Some(&Value::Other), Some(&Value::Other)));
    }

    #[test]
    fn bottomless_nesting_is_refused() {
        let mut bytes = vec![0, 0, 0, 0];
        for _ in 0..100 {
            let mut outer = Vec::new();
            outer.put_counted(|outer| _ = outer.put(&[1, b'k', b'F']).put(&bytes));
            bytes = outer;
        }
        assert_eq!(Table::read(&mut Reader::new(&bytes)), Err(Malformed));
    }
}
