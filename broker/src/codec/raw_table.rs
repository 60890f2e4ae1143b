//! Field tables whose bytes are kept as they came: arguments that are stored and compared, headers that go on unchanged
//! but for one field. Every byte is checked when a table is read, so what is looked up later cannot be malformed.

use std::fmt;

use super::table::Value;
use super::wire::{Malformed, Put, Reader};

/// The fields of a table, without its length. The default is an empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawTable<'a>(&'a [u8]);

/// A value with the octet of its type in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawValue<'a>(&'a [u8]);

impl<'a> RawTable<'a> {
    /// Reads a table with its 32-bit length in front.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Self::new(reader.long_string()?)
    }

    /// The table with these fields.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            read_field(&mut reader)?;
        }
        Ok(Self(bytes))
    }

    /// The fields, without the table's length.
    pub(crate) fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Names and values in their order.
    pub(crate) fn fields(self) -> impl Iterator<Item = (&'a str, RawValue<'a>)> {
        let mut reader = Reader::new(self.0);
        std::iter::from_fn(move || read_field(&mut reader).ok())
    }

    /// The first value called `name`.
    pub(crate) fn get(self, name: &str) -> Option<RawValue<'a>> {
        self.fields().find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

fn read_field<'a>(reader: &mut Reader<'a>) -> Result<(&'a str, RawValue<'a>), Malformed> {
    Ok((reader.short_string()?, RawValue::read(reader)?))
}

impl<'a> RawValue<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let bytes = reader.rest();
        Value::read(reader, 0)?;
        Ok(Self(&bytes[..bytes.len() - reader.rest().len()]))
    }

    fn split(self) -> (u8, &'a [u8]) {
        self.0.split_first().map_or((b'V', &[]), |(kind, bytes)| (*kind, bytes))
    }

    /// The value with its type in front.
    pub(crate) fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// A whole number of any width.
    pub(crate) fn integer(self) -> Option<i64> {
        let (kind, bytes) = self.split();
        let mut reader = Reader::new(bytes);
        match kind {
            b'b' => reader.u8().map(|value| i64::from(value.cast_signed())).ok(),
            b'B' => reader.u8().map(i64::from).ok(),
            b's' => reader.u16().map(|value| i64::from(value.cast_signed())).ok(),
            b'u' => reader.u16().map(i64::from).ok(),
            b'I' => reader.u32().map(|value| i64::from(value.cast_signed())).ok(),
            b'i' => reader.u32().map(i64::from).ok(),
            // Some clients write long numbers with a capital; RabbitMQ takes both for signed ones.
            b'l' | b'L' => reader.u64().map(u64::cast_signed).ok(),
            _ => None,
        }
    }

    /// The bytes of a long string.
    pub(crate) fn text(self) -> Option<&'a [u8]> {
        let (kind, bytes) = self.split();
        if kind == b'S' { Reader::new(bytes).long_string().ok() } else { None }
    }

    pub(crate) fn boolean(self) -> Option<bool> {
        match self.split() {
            (b't', [value]) => Some(*value != 0),
            _ => None,
        }
    }

    pub(crate) fn table(self) -> Option<RawTable<'a>> {
        let (kind, bytes) = self.split();
        if kind == b'F' { Reader::new(bytes).long_string().ok().map(RawTable) } else { None }
    }

    /// The members of an array.
    pub(crate) fn members(self) -> Option<Vec<RawValue<'a>>> {
        let (kind, bytes) = self.split();
        if kind != b'A' {
            return None;
        }
        let mut reader = Reader::new(Reader::new(bytes).long_string().ok()?);
        let mut members = Vec::new();
        while !reader.is_empty() {
            members.push(Self::read(&mut reader).ok()?);
        }
        Some(members)
    }

    /// What RabbitMQ calls the type in its messages.
    pub(crate) fn type_name(self) -> &'static str {
        match self.split().0 {
            b't' => "bool",
            b'b' => "byte",
            b'B' => "unsignedbyte",
            b's' => "short",
            b'u' => "unsignedshort",
            b'I' => "signedint",
            b'i' => "unsignedint",
            b'l' | b'L' => "long",
            b'f' => "float",
            b'd' => "double",
            b'D' => "decimal",
            b'S' => "longstr",
            b'A' => "array",
            b'F' => "table",
            b'T' => "timestamp",
            b'x' => "binary",
            _ => "void",
        }
    }

    /// Whether both say the same. Whole numbers of different widths do, if they are equal.
    pub(crate) fn is_equivalent(self, other: Self) -> bool {
        match (self.integer(), other.integer()) {
            (Some(one), Some(two)) => one == two,
            _ => self == other,
        }
    }
}

/// As RabbitMQ shows values in its messages.
impl fmt::Display for RawValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(number) = self.integer() {
            return write!(f, "{number}");
        }
        if let Some(value) = self.boolean() {
            return write!(f, "{value}");
        }
        match self.text() {
            Some(text) => f.write_str(&String::from_utf8_lossy(text)),
            None => f.write_str(self.type_name()),
        }
    }
}

/// Appends fields of tables and members of arrays.
pub(crate) trait PutField: Put {
    /// Appends the name of a field; its value has to follow.
    fn put_name(&mut self, name: &str) -> &mut Self {
        self.put_short_string(name)
    }

    fn put_text_value(&mut self, text: &[u8]) -> &mut Self {
        self.put(b"S").put_long_string(text)
    }

    /// A signed number of 64 bits.
    fn put_long_value(&mut self, value: i64) -> &mut Self {
        self.put(b"l").put_u64(value.cast_unsigned())
    }

    /// Seconds since 1970.
    fn put_timestamp_value(&mut self, seconds: u64) -> &mut Self {
        self.put(b"T").put_u64(seconds)
    }

    /// An array of the members that `fill` appends.
    fn put_array_value(&mut self, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.put(b"A").put_counted(fill)
    }

    /// A table of the fields that `fill` appends.
    fn put_table_value(&mut self, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.put(b"F").put_counted(fill)
    }
}

impl PutField for Vec<u8> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_name("n").put_long_value(-3).put_name("s").put_text_value(b"hi");
        bytes.put_name("a").put_array_value(|out| _ = out.put_text_value(b"x").put_text_value(b"y"));
        bytes.put_name("f").put_table_value(|out| _ = out.put_name("t").put(b"t\x01"));
        bytes
    }

    #[test]
    fn values_are_found_and_what_was_put_is_read_back() {
        let bytes = sample();
        let table = RawTable::new(&bytes).unwrap();
        assert_eq!(table.get("n").and_then(RawValue::integer), Some(-3));
        assert_eq!(table.get("s").and_then(RawValue::text), Some(&b"hi"[..]));
        let members = table.get("a").and_then(RawValue::members).unwrap();
        assert_eq!(members.iter().map(|value| value.text().unwrap()).collect::<Vec<_>>(), [b"x", b"y"]);
        let inner = table.get("f").and_then(RawValue::table).unwrap();
        assert_eq!(inner.get("t").and_then(RawValue::boolean), Some(true));
        assert_eq!(table.get("x"), None);
        for end in 1..bytes.len() {
            let cut = RawTable::new(&bytes[..end]);
            assert!(cut.is_err() || cut.unwrap().fields().count() < 4, "cut at {end}");
        }
    }

    #[test]
    fn whole_numbers_are_compared_by_value_and_shown_as_the_field_does() {
        let values: [&[u8]; 5] = [b"b\x05", b"B\x05", b"u\0\x05", b"I\0\0\0\x05", b"i\0\0\0\x05"];
        for value in values {
            let long = RawValue(b"l\0\0\0\0\0\0\0\x05");
            assert!(RawValue(value).is_equivalent(long) && long.is_equivalent(RawValue(value)));
            assert_eq!(RawValue(value).to_string(), "5");
        }
        assert_eq!(RawValue(b"s\xff\xff").integer(), Some(-1));
        assert_eq!(RawValue(b"L\xff\xff\xff\xff\xff\xff\xff\xfe").integer(), Some(-2));
        assert!(!RawValue(b"t\x01").is_equivalent(RawValue(b"B\x01")));
        assert_eq!(
            (RawValue(b"t\x01").to_string(), RawValue(b"V").to_string()),
            ("true".into(), "void".into())
        );
    }
}
