//! Primitive types of the wire (AMQP 0-9-1 §4.2.5): big-endian integers and counted strings.

/// The bytes do not follow the protocol's grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Takes primitive values from the front of a byte slice; never reads past its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// A short string: at most 255 bytes of UTF-8.
    pub(crate) fn short_string(&mut self) -> Result<&'a str, Malformed> {
        let length = usize::from(self.u8()?);
        std::str::from_utf8(self.take(length)?).map_err(|_| Malformed)
    }

    /// A long string: any bytes, counted by 32 bits.
    pub(crate) fn long_string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed)?;
        self.take(length)
    }
}

/// Appends `text` as a short string. What does not fit into 255 bytes is cut at a character boundary: only texts of
/// our own making can be that long, names that came over the wire cannot.
pub(crate) fn put_short_string(out: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary_255()];
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(text.as_bytes());
}

/// Appends `bytes`, at most 255 of them, as a short string.
pub(crate) fn put_short_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    out.push(length);
    out.extend_from_slice(&bytes[..usize::from(length)]);
}

/// Appends `bytes` as a long string.
pub(crate) fn put_long_string(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

trait ShortBoundary {
    fn floor_char_boundary_255(&self) -> usize;
}

impl ShortBoundary for str {
    fn floor_char_boundary_255(&self) -> usize {
        let mut end = self.len().min(255);
        while !self.is_char_boundary(end) {
            end -= 1;
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_in_order_and_never_past_the_end() {
        let mut reader = Reader::new(&[1, 0, 2, 0, 0, 0, 3, 2, b'o', b'k', 0, 0, 0, 1, 0xff, 9]);
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.u16(), Ok(2));
        assert_eq!(reader.u32(), Ok(3));
        assert_eq!(reader.short_string(), Ok("ok"));
        assert_eq!(reader.long_string(), Ok(&[0xff][..]));
        assert_eq!(reader.u64(), Err(Malformed));
        assert_eq!(reader.rest(), [9]);
        assert_eq!(Reader::new(&[1, 0xff]).short_string(), Err(Malformed));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff]).long_string(), Err(Malformed));
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        let mut out = Vec::new();
        put_short_string(&mut out, &"é".repeat(200));
        assert_eq!(out.len(), 255);
        assert_eq!(Reader::new(&out).short_string().map(str::len), Ok(254));
    }
}
