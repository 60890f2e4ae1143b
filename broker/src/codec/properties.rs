//! Basic properties (AMQP 0-9-1 §4.2.6.1). The broker carries their bytes through untouched; it only checks that
//! they can be decoded, and looks at the few it acts on.

use super::raw_table::RawTable;
use super::wire::{Malformed, Put, Reader};

/// What the broker needs to know of a message's properties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Properties<'a> {
    /// `delivery_mode` is 2.
    pub(crate) persistent: bool,
    /// The user who claims to have sent the message.
    pub(crate) user_id: Option<&'a str>,
    /// Where answers are to go.
    pub(crate) reply_to: Option<&'a [u8]>,
    /// How long it may live, as the publisher wrote it: a number of milliseconds.
    pub(crate) expiration: Option<&'a str>,
    pub(crate) headers: RawTable<'a>,
}

/// The flags in the order of the properties, and how each is encoded.
const FIELDS: [(u16, Encoding); 14] = [
    (1 << 15, Encoding::ShortString), // content_type
    (1 << 14, Encoding::ShortString), // content_encoding
    (1 << 13, Encoding::Table),       // headers
    (1 << 12, Encoding::Octet),       // delivery_mode
    (1 << 11, Encoding::Octet),       // priority
    (1 << 10, Encoding::ShortString), // correlation_id
    (1 << 9, Encoding::ShortString),  // reply_to
    (1 << 8, Encoding::ShortString),  // expiration
    (1 << 7, Encoding::ShortString),  // message_id
    (1 << 6, Encoding::Timestamp),    // timestamp
    (1 << 5, Encoding::ShortString),  // type
    (1 << 4, Encoding::ShortString),  // user_id
    (1 << 3, Encoding::ShortString),  // app_id
    (1 << 2, Encoding::ShortString),  // cluster_id
];
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const REPLY_TO: u16 = 1 << 9;
const EXPIRATION: u16 = 1 << 8;
const USER_ID: u16 = 1 << 4;

#[derive(Clone, Copy)]
enum Encoding {
    ShortString,
    Table,
    Octet,
    Timestamp,
}

impl<'a> Properties<'a> {
    /// Walks the property flags and the property list that make up `bytes`.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let flags = reader.u16()?;
        if flags & 0b11 != 0 {
            // Bit 0 would announce a second word of flags, and no class has that many properties.
            return Err(Malformed);
        }
        let mut properties = Self::default();
        for (flag, encoding) in FIELDS {
            if flags & flag == 0 {
                continue;
            }
            match encoding {
                Encoding::ShortString if flag == USER_ID => {
                    properties.user_id = Some(reader.short_string()?);
                }
                Encoding::ShortString if flag == REPLY_TO => {
                    properties.reply_to = Some(reader.short_bytes()?);
                }
                Encoding::ShortString if flag == EXPIRATION => {
                    properties.expiration = Some(reader.short_string()?);
                }
                Encoding::ShortString => _ = reader.short_bytes()?,
                Encoding::Table => properties.headers = RawTable::read(&mut reader)?,
                Encoding::Octet if flag == DELIVERY_MODE => properties.persistent = reader.u8()? == 2,
                Encoding::Octet => _ = reader.u8()?,
                Encoding::Timestamp => _ = reader.u64()?,
            }
        }
        if reader.is_empty() { Ok(properties) } else { Err(Malformed) }
    }
}

/// Whether the publisher gave the message with these properties a life of its own.
pub(crate) fn has_expiration(bytes: &[u8]) -> bool {
    bytes.first_chunk().is_some_and(|flags| u16::from_be_bytes(*flags) & EXPIRATION != 0)
}

/// The same properties with other headers: the fields of a table. The expiration is left out unless `keep_expiration`
/// is set.
pub(crate) fn with_headers(
    bytes: &[u8],
    headers: &[u8],
    keep_expiration: bool,
) -> Result<Vec<u8>, Malformed> {
    let mut reader = Reader::new(bytes);
    let flags = reader.u16()?;
    let dropped = if keep_expiration { 0 } else { EXPIRATION };
    let mut out = Vec::with_capacity(bytes.len() + headers.len() + 4);
    out.put_u16((flags | HEADERS) & !dropped);
    for (flag, encoding) in FIELDS {
        let before = reader.rest();
        if flags & flag != 0 {
            match encoding {
                Encoding::ShortString => _ = reader.short_bytes()?,
                Encoding::Table => _ = reader.long_string()?,
                Encoding::Octet => _ = reader.u8()?,
                Encoding::Timestamp => _ = reader.u64()?,
            }
        }
        if flag == HEADERS {
            out.put_long_string(headers);
        } else if flag & dropped == 0 {
            out.put(&before[..before.len() - reader.rest().len()]);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delivery_mode_and_user_are_found_among_the_others() {
        // content_type, headers, delivery_mode, user_id
        let bytes = b"\xb0\x10\x04text\0\0\0\x05\x01kt\x01\x01\x02\x05guest";
        let mut wrong = bytes.to_vec();
        assert_eq!(Properties::read(bytes), Err(Malformed), "the table is longer than it says");
        wrong[10] = 4;
        let read = Properties::read(&wrong).unwrap_err();
        assert_eq!(read, Malformed);
        let bytes = b"\xb0\x10\x04text\0\0\0\x04\x01kt\x01\x02\x05guest";
        let read = Properties::read(bytes).unwrap();
        let headers = RawTable::new(b"\x01kt\x01").unwrap();
        let wanted =
            Properties { persistent: true, user_id: Some("guest"), headers, ..Properties::default() };
        assert_eq!(read, wanted);
        assert_eq!(Properties::read(b"\0\0"), Ok(Properties::default()));
    }

    #[test]
    fn headers_are_replaced_and_everything_else_stays() {
        // content_type, headers, delivery_mode, expiration, message_id
        let bytes = b"\xb1\x80\x04text\0\0\0\x04\x01kt\x01\x02\x0210\x02id";
        assert_eq!(Properties::read(bytes).unwrap().expiration, Some("10"));
        assert!(has_expiration(bytes) && !has_expiration(b"\x10\0\x02"));
        let other = b"\x01xt\0";
        let kept = with_headers(bytes, other, true).unwrap();
        assert_eq!(kept, b"\xb1\x80\x04text\0\0\0\x04\x01xt\0\x02\x0210\x02id");
        let dropped = with_headers(bytes, other, false).unwrap();
        assert_eq!(dropped, b"\xb0\x80\x04text\0\0\0\x04\x01xt\0\x02\x02id");
        let added = with_headers(b"\x10\0\x02", other, false).unwrap();
        assert_eq!(added, b"\x30\0\0\0\0\x04\x01xt\0\x02");
    }

    #[test]
    fn leftover_or_missing_bytes_and_unknown_flags_are_refused() {
        for bytes in [&b"\0\0x"[..], b"\x80\0", b"\x80\0\x05abc", b"\0\x01", b"\0"] {
            assert_eq!(Properties::read(bytes), Err(Malformed), "{bytes:?}");
        }
    }
}
