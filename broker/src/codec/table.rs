//! Field tables (AMQP 0-9-1 §4.2.5.5) with the value types that RabbitMQ and its clients use.

use super::wire::{Malformed, Reader, put_long_string, put_short_string};

/// Tables and arrays nested deeper than this are refused, so that decoding cannot exhaust the stack.
const MAX_DEPTH: u8 = 16;

/// A value of a field table. Floating-point numbers are kept as their bits: the broker never computes with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Bool(bool),
    /// Any of the integer types, with their value.
    Integer(i128),
    Float(u32),
    Double(u64),
    Decimal(u8, u32),
    Text(Vec<u8>),
    Bytes(Vec<u8>),
    Timestamp(u64),
    Array(Vec<Value>),
    Table(Table),
    Void,
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
        if depth > MAX_DEPTH {
            return Err(Malformed);
        }
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

    /// Appends the table with its 32-bit length in front.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        for (name, value) in &self.0 {
            put_short_string(out, name);
            value.write(out);
        }
        patch_length(out, start);
    }
}

/// Writes the number of bytes that follow the 32-bit field at `start` into that field.
fn patch_length(out: &mut [u8], start: usize) {
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

impl Value {
    fn read(reader: &mut Reader<'_>, depth: u8) -> Result<Self, Malformed> {
        Ok(match reader.u8()? {
            b't' => Self::Bool(reader.u8()? != 0),
            b'b' => Self::Integer(reader.u8()?.cast_signed().into()),
            b'B' => Self::Integer(reader.u8()?.into()),
            b's' => Self::Integer(reader.u16()?.cast_signed().into()),
            b'u' => Self::Integer(reader.u16()?.into()),
            b'I' => Self::Integer(reader.u32()?.cast_signed().into()),
            b'i' => Self::Integer(reader.u32()?.into()),
            b'l' => Self::Integer(reader.u64()?.cast_signed().into()),
            b'f' => Self::Float(reader.u32()?),
            b'd' => Self::Double(reader.u64()?),
            b'D' => Self::Decimal(reader.u8()?, reader.u32()?),
            b'S' => Self::Text(reader.long_string()?.to_vec()),
            b'x' => Self::Bytes(reader.long_string()?.to_vec()),
            b'T' => Self::Timestamp(reader.u64()?),
            b'F' => Self::Table(Table::read_nested(reader, depth + 1)?),
            b'V' => Self::Void,
            b'A' => Self::Array(Self::read_array(reader, depth + 1)?),
            _ => return Err(Malformed),
        })
    }

    fn read_array(reader: &mut Reader<'_>, depth: u8) -> Result<Vec<Self>, Malformed> {
        if depth > MAX_DEPTH {
            return Err(Malformed);
        }
        let mut members = Reader::new(reader.long_string()?);
        let mut array = Vec::new();
        while !members.is_empty() {
            array.push(Self::read(&mut members, depth)?);
        }
        Ok(array)
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bool(value) => out.extend_from_slice(&[b't', u8::from(*value)]),
            Self::Integer(value) => {
                out.push(b'l');
                let value = i64::try_from(*value).unwrap_or(i64::MAX);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Self::Float(bits) => {
                out.push(b'f');
                out.extend_from_slice(&bits.to_be_bytes());
            }
            Self::Double(bits) => {
                out.push(b'd');
                out.extend_from_slice(&bits.to_be_bytes());
            }
            Self::Decimal(scale, value) => {
                out.extend_from_slice(&[b'D', *scale]);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Self::Text(text) => {
                out.push(b'S');
                put_long_string(out, text);
            }
            Self::Bytes(bytes) => {
                out.push(b'x');
                put_long_string(out, bytes);
            }
            Self::Timestamp(seconds) => {
                out.push(b'T');
                out.extend_from_slice(&seconds.to_be_bytes());
            }
            Self::Array(members) => {
                out.push(b'A');
                let start = out.len();
                out.extend_from_slice(&[0; 4]);
                for member in members {
                    member.write(out);
                }
                patch_length(out, start);
            }
            Self::Table(table) => {
                out.push(b'F');
                table.write(out);
            }
            Self::Void => out.push(b'V'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_survives_a_round_trip() {
        let nested = Table(vec![("deep".to_owned(), Value::Array(vec![Value::Void, Value::Bool(false)]))]);
        let table = Table(vec![
            ("bool".to_owned(), Value::Bool(true)),
            ("integer".to_owned(), Value::Integer(-5)),
            ("float".to_owned(), Value::Float(1)),
            ("double".to_owned(), Value::Double(2)),
            ("decimal".to_owned(), Value::Decimal(2, 12_345)),
            ("text".to_owned(), Value::Text(b"hello".to_vec())),
            ("bytes".to_owned(), Value::Bytes(vec![0, 255])),
            ("time".to_owned(), Value::Timestamp(3)),
            ("table".to_owned(), Value::Table(nested)),
        ]);
        let mut bytes = Vec::new();
        table.write(&mut bytes);
        assert_eq!(Table::read(&mut Reader::new(&bytes)), Ok(table.clone()));
        assert!(table.is_true("bool") && !table.is_true("integer") && !table.is_true("absent"));
    }

    #[test]
    fn integers_of_every_width_keep_their_sign() {
        let bytes = b"\0\0\0\x19\x01ab\xff\x01bB\xff\x01cs\xff\xfe\x01du\xff\xfe\x01ei\xff\xff\xff\xff";
        let table = Table::read(&mut Reader::new(bytes)).unwrap();
        let values: Vec<_> = table.0.into_iter().map(|(_, value)| value).collect();
        let expected = [-1, 255, -2, 65_534, 4_294_967_295].map(Value::Integer);
        assert_eq!(values, expected);
    }

    #[test]
    fn bottomless_nesting_is_refused() {
        let mut bytes = vec![0, 0, 0, 0];
        for _ in 0..100 {
            let mut outer = vec![0, 0, 0, 0, 1, b'k', b'F'];
            outer.extend_from_slice(&bytes);
            patch_length(&mut outer, 0);
            bytes = outer;
        }
        assert_eq!(Table::read(&mut Reader::new(&bytes)), Err(Malformed));
    }
}
