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

    /// The bytes of a short string, at most 255.
    pub(crate) fn short_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::from(self.u8()?);
        self.take(length)
    }

    /// A short string, which must be UTF-8.
    pub(crate) fn short_string(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.short_bytes()?).map_err(|_| Malformed)
    }

    /// A long string: any bytes, counted by 32 bits.
    pub(crate) fn long_string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed)?;
        self.take(length)
    }
}

/// Appends primitive values; what [`Reader`] takes. The methods return their receiver, so that the fields of a method
/// or an entry can be written down in one go.
pub(crate) trait Put {
    /// Appends bytes as they are.
    fn put(&mut self, bytes: &[u8]) -> &mut Self;

    /// Appends what `fill` appends, with its length in 32 bits in front.
    fn put_counted(&mut self, fill: impl FnOnce(&mut Self)) -> &mut Self;

    fn put_bool(&mut self, value: bool) -> &mut Self {
        self.put(&[u8::from(value)])
    }

    fn put_u16(&mut self, value: u16) -> &mut Self {
        self.put(&value.to_be_bytes())
    }

    fn put_u32(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_be_bytes())
    }

    fn put_u64(&mut self, value: u64) -> &mut Self {
        self.put(&value.to_be_bytes())
    }

    /// Appends `text` as a short string. What does not fit into 255 bytes is cut at a character boundary: only texts
    /// of our own making can be that long, names that came over the wire cannot.
    fn put_short_string(&mut self, text: &str) -> &mut Self {
        let end = (0..=text.len().min(255)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        self.put_short_bytes(&text.as_bytes()[..end])
    }

    /// Appends `bytes`, at most 255 of them, as a short string.
    fn put_short_bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
        self.put(&[length]).put(&bytes[..usize::from(length)])
    }

    /// Appends `bytes` as a long string.
    fn put_long_string(&mut self, bytes: &[u8]) -> &mut Self {
        self.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX)).put(bytes)
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.extend_from_slice(bytes);
        self
    }

    fn put_counted(&mut self, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.len() + 4;
        self.put_u32(0);
        fill(self);
        let length = u32::try_from(self.len() - start).unwrap_or(u32::MAX);
        self[start - 4..start].copy_from_slice(&length.to_be_bytes());
        self
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
        out.put_short_string(&"é".repeat(200));
        assert_eq!(out.len(), 255);
        assert_eq!(Reader::new(&out).short_string().map(str::len), Ok(254));
    }
}
