//! Basic properties (AMQP 0-9-1 §4.2.6.1). The broker carries their bytes through untouched; it only checks that
//! they can be decoded, and looks at the two it acts on.

use super::table::Table;
use super::wire::{Malformed, Reader};

/// What the broker needs to know of a message's properties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Properties<'a> {
    /// `delivery_mode` is 2.
    pub(crate) persistent: bool,
    /// The user who claims to have sent the message.
    pub(crate) user_id: Option<&'a str>,
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
const DELIVERY_MODE: u16 = 1 << 12;
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
                Encoding::ShortString => _ = reader.short_bytes()?,
                Encoding::Table => _ = Table::read(&mut reader)?,
                Encoding::Octet if flag == DELIVERY_MODE => properties.persistent = reader.u8()? == 2,
                Encoding::Octet => _ = reader.u8()?,
                Encoding::Timestamp => _ = reader.u64()?,
            }
        }
        if reader.is_empty() { Ok(properties) } else { Err(Malformed) }
    }
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
        assert_eq!(read, Properties { persistent: true, user_id: Some("guest") });
        assert_eq!(Properties::read(b"\0\0"), Ok(Properties::default()));
    }

    #[test]
    fn leftover_or_missing_bytes_and_unknown_flags_are_refused() {
        for bytes in [&b"\0\0x"[..], b"\x80\0", b"\x80\0\x05abc", b"\0\x01", b"\0"] {
            assert_eq!(Properties::read(bytes), Err(Malformed), "{bytes:?}");
        }
    }
}
