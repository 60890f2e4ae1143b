//! Frames (AMQP 0-9-1 §4.2.3): a seven-byte header, the payload, and one closing octet.

use super::wire::{Put, Reader};

/// The eight bytes with which a client begins, and which answer a client that began with others.
pub(crate) const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\0\0\x09\x01";
/// Bytes of a frame that are not payload.
pub(crate) const OVERHEAD_BYTES: usize = 8;
/// The smallest `frame_max` that a peer may ask for (AMQP 0-9-1 §4.2.3 and constant frame-min-size).
pub(crate) const MIN_FRAME_MAX: u32 = 4096;

const HEADER_BYTES: usize = 7;
const FRAME_END: u8 = 0xce;
/// Bodies from this size on get exactly the room that they need.
const LARGE_BYTES: usize = 64 << 10;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Method = 1,
    Header = 2,
    Body = 3,
    Heartbeat = 8,
}

/// One whole frame, borrowed from the connection's input buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: FrameKind,
    pub(crate) channel: u16,
    pub(crate) payload: &'a [u8],
}

/// The outcome of looking for a frame at the front of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParsedFrame<'a> {
    /// A frame, and the number of input bytes that it took.
    Whole(Frame<'a>, usize),
    /// The frame is not complete; this many bytes are needed altogether.
    Partial(usize),
    /// The input cannot be a frame (error 501).
    Bad(&'static str),
}

/// Looks for a frame at the front of `input`. The length is checked before anything is kept for it.
pub(crate) fn scan(input: &[u8], frame_max: u32) -> ParsedFrame<'_> {
    let mut reader = Reader::new(input);
    let (Ok(kind), Ok(channel), Ok(length)) = (reader.u8(), reader.u16(), reader.u32()) else {
        return ParsedFrame::Partial(HEADER_BYTES + 1);
    };
    let kinds = [FrameKind::Method, FrameKind::Header, FrameKind::Body, FrameKind::Heartbeat];
    let Some(kind) = kinds.into_iter().find(|known| *known as u8 == kind) else {
        return ParsedFrame::Bad("unknown frame type");
    };
    let length = length as usize;
    if length + OVERHEAD_BYTES > frame_max as usize {
        return ParsedFrame::Bad("frame larger than the negotiated frame_max");
    }
    let whole = length + OVERHEAD_BYTES;
    match (input.get(HEADER_BYTES..HEADER_BYTES + length), input.get(whole - 1)) {
        (Some(payload), Some(&FRAME_END)) => ParsedFrame::Whole(Frame { kind, channel, payload }, whole),
        (Some(_), Some(_)) => ParsedFrame::Bad("frame does not end with 206"),
        _ => ParsedFrame::Partial(whole),
    }
}

/// Appends one frame whose payload `fill` appends.
pub(crate) fn put(out: &mut Vec<u8>, kind: FrameKind, channel: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    out.put(&[kind as u8]).put_u16(channel).put_counted(fill).put(&[FRAME_END]);
}

/// Appends a message's content: its header frame and as many body frames as `frame_max` makes necessary.
pub(crate) fn put_content(out: &mut Vec<u8>, channel: u16, properties: &[u8], body: &[u8], frame_max: u32) {
    put(out, FrameKind::Header, channel, |out| {
        out.put(&[0, 60, 0, 0]).put_u64(body.len() as u64).put(properties);
    });
    if body.len() >= LARGE_BYTES {
        // Growing by doubling could take twice what is needed.
        out.reserve_exact(body.len() + (body.len() / MIN_FRAME_MAX as usize + 1) * OVERHEAD_BYTES);
    }
    for piece in body.chunks(frame_max as usize - OVERHEAD_BYTES) {
        put(out, FrameKind::Body, channel, |out| out.extend_from_slice(piece));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_found_only_when_it_is_whole() {
        let mut bytes = Vec::new();
        put(&mut bytes, FrameKind::Body, 7, |out| out.extend_from_slice(b"payload"));
        assert_eq!(bytes, b"\x03\0\x07\0\0\0\x07payload\xce");
        for end in 0..bytes.len() {
            assert!(matches!(scan(&bytes[..end], 4096), ParsedFrame::Partial(_)), "{end}");
        }
        let frame = Frame { kind: FrameKind::Body, channel: 7, payload: b"payload" };
        bytes.push(1);
        assert_eq!(scan(&bytes, 4096), ParsedFrame::Whole(frame, 15));
    }

    #[test]
    fn frames_that_break_the_rules_are_refused() {
        assert!(matches!(scan(b"\x05\0\0\0\0\0\0\xce", 4096), ParsedFrame::Bad(_)));
        assert!(matches!(scan(b"\x01\0\0\0\0\0\0\xcd", 4096), ParsedFrame::Bad(_)));
        assert!(matches!(scan(b"\x01\0\0\0\0\x0f\xf9", 4096), ParsedFrame::Bad(_)), "4089 + 8 > 4096");
        assert!(matches!(scan(b"\x01\0\0\0\0\x0f\xf8", 4096), ParsedFrame::Partial(4096)));
    }

    #[test]
    fn a_body_is_split_at_frame_max_and_an_empty_one_has_no_frame() {
        let mut bytes = Vec::new();
        put_content(&mut bytes, 1, b"\0\0", &[7; 5000], 4096);
        assert_eq!(bytes.len(), (8 + 14) + 4096 + (8 + 5000 - 4088));
        let mut empty = Vec::new();
        put_content(&mut empty, 1, b"\0\0", b"", 4096);
        assert_eq!(empty.len(), 8 + 14);
    }
}
