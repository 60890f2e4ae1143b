//! The records of the log: their bytes, and nothing about files.
//!
//! A record is a header of 32 bytes, a payload, and zeros up to the next multiple of 8. All integers are little-endian.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | length of the payload |
//! | 4 | 4 | CRC-32C of everything else: length, then offset 8 to the end of the padding |
//! | 8 | 8 | sequence number of the record in the log |
//! | 16 | 4 | number of the segment it is in |
//! | 20 | 1 | kind |
//! | 21 | 1 | flags |
//! | 22 | 2 | zero |
//! | 24 | 8 | the log's salt: a random number that no client can know |

mod returned;

pub(crate) use returned::{RETURNED_BYTES, Returned, put_returns, read_returns};

/// The first bytes of every segment: what the file is, and the version of its format as one digit.
pub(crate) const MAGIC: &[u8; 8] = b"AMQPLOG2";
/// Bytes in front of every payload.
pub(crate) const HEADER_BYTES: usize = 32;
/// Records begin at multiples of this.
pub(crate) const ALIGNMENT: usize = 8;
/// The largest payload that is believed when a log is read: the largest body, properties, names and many queues.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 64 << 20;
/// Everything before this record was durable when it was written. Damage in front of such a record is therefore no
/// torn write.
pub(crate) const FLAG_SYNCED: u8 = 1;
/// The message asked to survive a restart (`delivery_mode` 2).
pub(crate) const FLAG_PERSISTENT: u8 = 2;
/// The version of this format, in every start record.
pub(crate) const VERSION: u32 = 2;
/// Torn stretches of the segment before that a start record can name: it has to fit into one sector.
pub(crate) const MAX_TORN: usize = 16;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// The first record of a segment: see [`Start`].
    Start = 1,
    /// A message and its place in each of its queues.
    Message = 2,
    /// Ranges of queue positions that are settled.
    Acks = 3,
    /// The segment is complete; what follows in the file means nothing. Names the first segment that this one
    /// replaces once more, in case the start record is damaged.
    End = 4,
    /// The broker stopped in good order: how far each queue had delivered.
    Close = 5,
    /// How often messages came back to a queue that counts that: see [`Returned`].
    Returns = 6,
}

impl RecordKind {
    fn from_byte(byte: u8) -> Option<Self> {
        let all = [Self::Start, Self::Message, Self::Acks, Self::End, Self::Close, Self::Returns];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// A record whose checksum holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) sequence: u64,
    pub(crate) kind: RecordKind,
    pub(crate) flags: u8,
    pub(crate) payload: &'a [u8],
    /// Bytes from its start to the start of the next record.
    pub(crate) total: usize,
}

/// Header, payload and padding of a payload of `length` bytes.
pub(crate) fn total_bytes(length: usize) -> usize {
    (HEADER_BYTES + length).next_multiple_of(ALIGNMENT)
}

/// Where a record belongs: bytes with another origin are no record of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) salt: u64,
    pub(crate) segment: u32,
}

/// What distinguishes one record from another besides its payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) kind: RecordKind,
    pub(crate) flags: u8,
    pub(crate) origin: Origin,
    pub(crate) sequence: u64,
}

/// Appends a record whose payload `fill` appends.
pub(crate) fn put(out: &mut Vec<u8>, head: Head, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&head.sequence.to_le_bytes());
    out.extend_from_slice(&head.origin.segment.to_le_bytes());
    out.extend_from_slice(&[head.kind as u8, head.flags, 0, 0]);
    out.extend_from_slice(&head.origin.salt.to_le_bytes());
    fill(out);
    let length = u32::try_from(out.len() - start - HEADER_BYTES).unwrap_or(u32::MAX).to_le_bytes();
    out.resize(start + (out.len() - start).next_multiple_of(ALIGNMENT), 0);
    out[start..start + 4].copy_from_slice(&length);
    let crc = checksum(&length, &out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

fn checksum(length: &[u8], rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(length), rest)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

/// The whole length of the record that seems to begin at the front of `bytes`, checked against the bound alone.
pub(crate) fn claimed_total(bytes: &[u8]) -> Option<usize> {
    let length = u32_at(bytes, 0)? as usize;
    (length <= MAX_PAYLOAD_BYTES).then(|| total_bytes(length))
}

/// Reads the record at the front of `bytes`, if there is a valid one of this origin.
pub(crate) fn parse(bytes: &[u8], origin: Origin) -> Option<Record<'_>> {
    // The cheapest test first: a damaged file is searched for records at every multiple of 8.
    if u64_at(bytes, 24)? != origin.salt || u32_at(bytes, 16)? != origin.segment {
        return None;
    }
    let whole = bytes.get(..claimed_total(bytes)?)?;
    if checksum(&whole[..4], &whole[8..]) != u32_at(whole, 4)? {
        return None;
    }
    read_checked(whole)
}

/// Reads the record at the front of `bytes`, whose checksum was found right before.
fn read_checked(bytes: &[u8]) -> Option<Record<'_>> {
    let total = claimed_total(bytes)?;
    let payload = bytes.get(HEADER_BYTES..HEADER_BYTES + u32_at(bytes, 0)? as usize)?;
    let kind = RecordKind::from_byte(*bytes.get(20)?)?;
    Some(Record { sequence: u64_at(bytes, 8)?, kind, flags: bytes[21], payload, total })
}

/// The records at the front of `bytes`, up to the first that is not valid.
pub(crate) fn iterate(bytes: &[u8], origin: Origin) -> impl Iterator<Item = (usize, Record<'_>)> {
    walk(bytes, move |rest| parse(rest, origin))
}

/// The records of `bytes`, whose checksums were found right before.
pub(crate) fn iterate_checked(bytes: &[u8]) -> impl Iterator<Item = (usize, Record<'_>)> {
    walk(bytes, read_checked)
}

fn walk<'a>(
    bytes: &'a [u8],
    read: impl Fn(&'a [u8]) -> Option<Record<'a>>,
) -> impl Iterator<Item = (usize, Record<'a>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let record = read(bytes.get(at..)?)?;
        let found = (at, record);
        at += record.total;
        Some(found)
    })
}

/// The origin that the record at the front of `bytes` names, if it is a start record that is whole: tells what a file
/// is that does not belong where it was found.
pub(crate) fn claimed_origin(bytes: &[u8]) -> Option<Origin> {
    let origin = Origin { salt: u64_at(bytes, 24)?, segment: u32_at(bytes, 16)? };
    parse(bytes, origin).filter(|record| record.kind == RecordKind::Start).map(|_| origin)
}

/// Whether `bytes` begin as a segment of format 1 does, which had no text in front and shorter headers.
pub(crate) fn is_format_1(bytes: &[u8]) -> bool {
    let sound = || checksum(bytes.get(..4)?, bytes.get(8..32)?).eq(&u32_at(bytes, 4)?).then_some(());
    u32_at(bytes, 0) == Some(8) && u32_at(bytes, 24) == Some(1) && sound().is_some()
}

/// A message as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) exchange: &'a [u8],
    pub(crate) routing_key: &'a [u8],
    /// Property flags and property list, as they came over the wire.
    pub(crate) properties: &'a [u8],
    pub(crate) body: &'a [u8],
}

/// Bytes that a message's payload takes when it goes to `places` queues.
pub(crate) fn message_bytes(message: &Message<'_>, places: usize) -> usize {
    let texts = message.exchange.len() + message.routing_key.len() + message.properties.len();
    8 + places * PLACE_BYTES + texts + message.body.len()
}

/// Appends a message's payload. `places` are its queues with its position in each. `arrived` is when it came in, if
/// something limits its life: it is stored like a place, the last one, of the queue [`ARRIVAL`].
pub(crate) fn put_message(
    out: &mut Vec<u8>,
    message: &Message<'_>,
    arrived: Option<u64>,
    places: impl ExactSizeIterator<Item = (u32, u64)>,
) {
    let short = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    let count = places.len() + usize::from(arrived.is_some());
    out.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(&[short(message.exchange), short(message.routing_key)]);
    let properties = u32::try_from(message.properties.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&properties.to_le_bytes());
    for (queue, position) in places {
        put_place(out, queue, position);
    }
    if let Some(arrived) = arrived {
        put_place(out, ARRIVAL, arrived);
    }
    out.extend_from_slice(message.exchange);
    out.extend_from_slice(message.routing_key);
    out.extend_from_slice(message.properties);
    out.extend_from_slice(message.body);
}

const PLACE_BYTES: usize = 12;
/// The number that stands where a queue's would: what follows is no position, but the time when the message came in, in
/// milliseconds since 1970.
const ARRIVAL: u32 = u32::MAX;

fn put_place(out: &mut Vec<u8>, queue: u32, position: u64) {
    out.extend_from_slice(&queue.to_le_bytes());
    out.extend_from_slice(&position.to_le_bytes());
}

/// Queues with the message's position in each.
fn read_places(bytes: &[u8]) -> impl Iterator<Item = (u32, u64)> + Clone + '_ {
    bytes.chunks_exact(PLACE_BYTES).filter_map(|place| Some((u32_at(place, 0)?, u64_at(place, 4)?)))
}

/// The queues of a stored message, with its position in each.
pub(crate) fn message_places(payload: &[u8]) -> impl Iterator<Item = (u32, u64)> + Clone + '_ {
    read_places(all_places(payload)).filter(|(queue, _)| *queue != ARRIVAL)
}

fn all_places(payload: &[u8]) -> &[u8] {
    let count = payload.first_chunk().map_or(0, |chunk| usize::from(u16::from_le_bytes(*chunk)));
    payload.get(8..8 + count * PLACE_BYTES).unwrap_or_default()
}

/// When a stored message came in, in milliseconds since 1970, if something limits its life.
pub(crate) fn arrival(payload: &[u8]) -> Option<u64> {
    let last = all_places(payload).last_chunk::<PLACE_BYTES>()?;
    (u32_at(last, 0) == Some(ARRIVAL)).then(|| u64_at(last, 4)).flatten()
}

/// Bytes of a stored message's body.
pub(crate) fn body_length(payload: &[u8]) -> u64 {
    read_message(payload).map_or(0, |message| message.body.len() as u64)
}

/// Reads a message's payload.
pub(crate) fn read_message(payload: &[u8]) -> Option<Message<'_>> {
    let (count, rest) = payload.split_first_chunk::<2>()?;
    let (names, rest) = rest.split_first_chunk::<2>()?;
    let (properties, rest) = rest.split_first_chunk::<4>()?;
    let rest = rest.get(usize::from(u16::from_le_bytes(*count)) * PLACE_BYTES..)?;
    let (exchange, rest) = rest.split_at_checked(usize::from(names[0]))?;
    let (routing_key, rest) = rest.split_at_checked(usize::from(names[1]))?;
    let (properties, body) = rest.split_at_checked(u32::from_le_bytes(*properties) as usize)?;
    Some(Message { exchange, routing_key, properties, body })
}

/// Positions `from..=to` of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Range {
    pub(crate) queue: u32,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// Sorts ranges and joins those that touch.
pub(crate) fn join(ranges: &mut Vec<Range>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, last| {
        let joins = next.queue == last.queue && next.from <= last.to.saturating_add(1);
        if joins {
            last.to = last.to.max(next.to);
        }
        joins
    });
}

/// Appends the payload of an acks record.
pub(crate) fn put_acks(out: &mut Vec<u8>, ranges: &[Range]) {
    for range in ranges {
        put_place(out, range.queue, range.from);
        out.extend_from_slice(&range.to.to_le_bytes());
    }
}

/// Reads the payload of an acks record.
pub(crate) fn read_acks(payload: &[u8]) -> impl Iterator<Item = Range> + '_ {
    payload.chunks_exact(PLACE_BYTES + 8).filter_map(|bytes| {
        Some(Range { queue: u32_at(bytes, 0)?, from: u64_at(bytes, 4)?, to: u64_at(bytes, 12)? })
    })
}

/// How far the segment before was read when this one was begun, unless an end record says it there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Previous {
    /// Where its last record ended.
    pub(crate) end: u32,
    /// Stretches before that which an interrupted write had left: they are no damage. At most [`MAX_TORN`].
    pub(crate) torn: Vec<(u32, u32)>,
}

/// Where the log goes on after recovery.
#[derive(Clone, Debug)]
pub(crate) struct Position {
    pub(crate) segment: u32,
    pub(crate) sequence: u64,
    pub(crate) salt: u64,
    /// How far the segment before was read.
    pub(crate) previous: Previous,
}

/// The payload of a start record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) version: u32,
    /// The first of the segments whose contents this one took over; its own number if it replaces none.
    pub(crate) replaces: u32,
    /// The length that the file had from the beginning.
    pub(crate) size: u32,
    pub(crate) previous: Previous,
}

/// Appends the payload of a start record.
pub(crate) fn put_start(out: &mut Vec<u8>, replaces: u32, size: u32, previous: &Previous) {
    for number in [VERSION, replaces, size, previous.end] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    for (from, to) in previous.torn.iter().take(MAX_TORN) {
        out.extend_from_slice(&from.to_le_bytes());
        out.extend_from_slice(&to.to_le_bytes());
    }
}

/// Reads the payload of a start record.
pub(crate) fn read_start(payload: &[u8]) -> Option<Start> {
    let torn = payload.get(16..)?.chunks_exact(8);
    let torn = torn.filter_map(|pair| Some((u32_at(pair, 0)?, u32_at(pair, 4)?))).collect();
    Some(Start {
        version: u32_at(payload, 0)?,
        replaces: u32_at(payload, 4)?,
        size: u32_at(payload, 8)?,
        previous: Previous { end: u32_at(payload, 12)?, torn },
    })
}

/// Bytes of the payload of an end record.
pub(crate) const END_PAYLOAD_BYTES: usize = 4;

/// Appends the payload of an end record: the first of the segments that this one replaces.
pub(crate) fn put_end(out: &mut Vec<u8>, replaces: u32) {
    out.extend_from_slice(&replaces.to_le_bytes());
}

/// Reads the payload of an end record.
pub(crate) fn read_end(payload: &[u8]) -> Option<u32> {
    u32_at(payload, 0)
}

/// Appends the payload of a close record: how far each queue had delivered.
pub(crate) fn put_close(out: &mut Vec<u8>, delivered: &[(u32, u64)]) {
    for &(queue, position) in delivered {
        put_place(out, queue, position);
    }
}

/// Reads the payload of a close record.
pub(crate) fn read_close(payload: &[u8]) -> impl Iterator<Item = (u32, u64)> + '_ {
    read_places(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Origin = Origin { salt: 99, segment: 3 };

    fn sample() -> Vec<u8> {
        let mut bytes = Vec::new();
        let head = Head { kind: RecordKind::Message, flags: FLAG_PERSISTENT, origin: HERE, sequence: 41 };
        let message =
            Message { exchange: b"ex", routing_key: b"key", properties: b"\x10\0\x02", body: b"hello" };
        put(&mut bytes, head, |out| put_message(out, &message, Some(77), [(7, 100), (9, 2)].into_iter()));
        bytes
    }

    #[test]
    fn a_message_survives_a_round_trip() {
        let bytes = sample();
        let record = parse(&bytes, HERE).unwrap();
        assert_eq!((record.sequence, record.kind, record.flags), (41, RecordKind::Message, FLAG_PERSISTENT));
        assert_eq!(record.total, bytes.len());
        assert_eq!(message_places(record.payload).collect::<Vec<_>>(), [(7, 100), (9, 2)]);
        assert_eq!(arrival(record.payload), Some(77));
        let message = read_message(record.payload).unwrap();
        assert_eq!((message.exchange, message.routing_key), (&b"ex"[..], &b"key"[..]));
        assert_eq!((message.properties, message.body), (&b"\x10\0\x02"[..], &b"hello"[..]));
        assert_eq!(record.payload.len(), message_bytes(&message, 3), "two places and the arrival");
    }

    #[test]
    fn no_flipped_bit_and_no_cut_passes() {
        let bytes = sample();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert_eq!(parse(&flipped, HERE), None, "byte {at} bit {bit}");
            }
            assert_eq!(parse(&bytes[..at], HERE), None, "cut at {at}");
        }
        assert_eq!(parse(&bytes, Origin { segment: 4, ..HERE }), None, "another segment");
        assert_eq!(parse(&bytes, Origin { salt: 98, ..HERE }), None, "another log");
    }

    #[test]
    fn ranges_start_and_close_survive_a_round_trip() {
        let range = |queue, from, to| Range { queue, from, to };
        let mut joined = vec![range(1, 7, 9), range(2, 3, 3), range(1, 2, 4), range(1, 5, 5), range(1, 3, 4)];
        join(&mut joined);
        assert_eq!(joined, [range(1, 2, 5), range(1, 7, 9), range(2, 3, 3)]);
        let ranges = [Range { queue: 1, from: 2, to: 3 }, Range { queue: 4, from: 5, to: u64::MAX }];
        let mut bytes = Vec::new();
        put_acks(&mut bytes, &ranges);
        assert_eq!(read_acks(&bytes).collect::<Vec<_>>(), ranges);
        bytes.clear();
        let previous = Previous { end: 800, torn: vec![(96, 128), (200, 320)] };
        put_start(&mut bytes, 12, 4096, &previous);
        assert_eq!(read_start(&bytes), Some(Start { version: VERSION, replaces: 12, size: 4096, previous }));
        bytes.clear();
        put_close(&mut bytes, &[(1, 10), (2, 20)]);
        assert_eq!(read_close(&bytes).collect::<Vec<_>>(), [(1, 10), (2, 20)]);
    }
}
