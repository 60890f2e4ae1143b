//! Field tables (AMQP 0-9-1 §4.2.5.5) as bytes: for arguments and headers that are stored, compared or passed on, of
//! which the broker needs no value. Nothing is copied.

use super::wire::{Malformed, Reader};

/// Tables and arrays nested deeper than this are refused, so that checking them cannot exhaust the stack.
const MAX_DEPTH: u8 = 16;

/// The fields of a table, each a name and a value with its type in front. Ends at the first malformed one.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a>(Reader<'a>);

impl<'a> Fields<'a> {
    /// The fields in `inside`, a table without its length.
    pub(crate) fn new(inside: &'a [u8]) -> Self {
        Self(Reader::new(inside))
    }

    fn read_next(&mut self) -> Result<(&'a [u8], &'a [u8]), Malformed> {
        let name = self.0.short_bytes()?;
        let rest = self.0.rest();
        skip_value(&mut self.0, 0)?;
        Ok((name, &rest[..rest.len() - self.0.rest().len()]))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() { None } else { self.read_next().ok() }
    }
}

/// The inside of the table at the front of `reader`, after every field of it was checked.
pub(crate) fn read_table<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let inside = reader.long_string()?;
    let mut fields = Fields::new(inside);
    while !fields.0.is_empty() {
        let (name, _) = fields.read_next()?;
        std::str::from_utf8(name).map_err(|_| Malformed)?;
    }
    Ok(inside)
}

/// The members of an array; `value` is the array with its type and its length. None if it is no array.
pub(crate) fn array_members(value: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let mut members = match value.split_first() {
        Some((b'A', rest)) => Reader::new(Reader::new(rest).long_string().ok()?),
        _ => return None,
    };
    Some(std::iter::from_fn(move || {
        let rest = members.rest();
        skip_value(&mut members, 1).ok()?;
        Some(&rest[..rest.len() - members.rest().len()])
    }))
}

/// The bytes of a long string; `value` is that with its type and its length. None if it is none.
pub(crate) fn text(value: &[u8]) -> Option<&[u8]> {
    match value.split_first() {
        Some((b'S', rest)) => Reader::new(rest).long_string().ok(),
        _ => None,
    }
}

fn skip_value(reader: &mut Reader<'_>, depth: u8) -> Result<(), Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed);
    }
    let length = match reader.u8()? {
        b'V' => 0,
        b't' | b'b' | b'B' => 1,
        b's' | b'u' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'l' | b'd' | b'T' => 8,
        b'S' | b'x' => reader.u32()? as usize,
        b'A' => {
            let mut members = Reader::new(reader.long_string()?);
            while !members.is_empty() {
                skip_value(&mut members, depth + 1)?;
            }
            0
        }
        b'F' => {
            let mut fields = Reader::new(reader.long_string()?);
            while !fields.is_empty() {
                fields.short_bytes()?;
                skip_value(&mut fields, depth + 1)?;
            }
            0
        }
        _ => return Err(Malformed),
    };
    reader.take(length).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::wire::Put;

    fn table(inside: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_counted(|out| out.extend_from_slice(inside));
        bytes
    }

    #[test]
    fn fields_come_with_their_values_as_they_are() {
        let bytes = table(b"\x01at\x01\x01bS\0\0\0\x02hi\x01cV\x01dA\0\0\0\x08S\0\0\0\x01xt\0");
        let inside = read_table(&mut Reader::new(&bytes)).unwrap();
        let fields: Vec<_> = Fields::new(inside).collect();
        assert_eq!(fields[0], (&b"a"[..], &b"t\x01"[..]));
        assert_eq!(text(fields[1].1), Some(&b"hi"[..]));
        assert_eq!((fields[2].1, text(fields[2].1)), (&b"V"[..], None));
        let members: Vec<_> = array_members(fields[3].1).unwrap().collect();
        assert_eq!(members, [&b"S\0\0\0\x01x"[..], b"t\0"]);
        assert!(array_members(fields[1].1).is_none());
    }

    #[test]
    fn each_type_has_its_length_and_what_is_cut_short_is_refused() {
        for (kind, length) in b"tbBsuIilfdDTV".iter().zip([1, 1, 1, 2, 2, 4, 4, 8, 4, 8, 5, 8, 0]) {
            let mut inside = vec![1, b'k', *kind];
            inside.resize(3 + length, 0xff);
            inside.extend_from_slice(b"\x01zt\x01");
            let bytes = table(&inside);
            let read = read_table(&mut Reader::new(&bytes)).unwrap();
            assert_eq!(Fields::new(read).last(), Some((&b"z"[..], &b"t\x01"[..])), "{}", char::from(*kind));
            inside.truncate(2 + length);
            assert_eq!(read_table(&mut Reader::new(&table(&inside))), Err(Malformed));
        }
        for wrong in [&b"\x01k"[..], b"\x05k", b"\x01k?", b"\x01\xfft\x01", b"\x01kS\0\0\0\x09"] {
            assert_eq!(read_table(&mut Reader::new(&table(wrong))), Err(Malformed), "{wrong:?}");
        }
    }

    #[test]
    fn bottomless_nesting_is_refused() {
        let mut value = b"V".to_vec();
        for _ in 0..100 {
            let mut outer = b"A".to_vec();
            outer.put_counted(|out| out.extend_from_slice(&value));
            value = outer;
        }
        let inside = [b"\x01k", &value[..]].concat();
        assert_eq!(read_table(&mut Reader::new(&table(&inside))), Err(Malformed));
    }
}
