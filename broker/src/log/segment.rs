//! What the bytes of one segment are: records, damage in between, an unfinished tail, or nothing that can be read. No
//! I/O, and no decision what becomes of the file.

use crate::log::record::{self, MAGIC, Origin, Record, RecordKind, Start};

/// What the bytes of a segment are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentContents {
    /// Stretches of valid records, ascending. Empty if nothing could be read.
    pub(crate) stretches: Vec<(usize, usize)>,
    /// Stretches in front of or between them that cannot be read.
    pub(crate) gaps: Vec<(usize, usize)>,
    /// Where the last valid record ends.
    pub(crate) end: usize,
    /// The last valid record is an end record.
    pub(crate) ended: bool,
    /// Bytes other than zero follow the last record, and there is no end record.
    pub(crate) has_tail: bool,
    /// The last record that says that everything before it was durable.
    proof: Option<usize>,
    /// The sequence number of the last record.
    pub(crate) last_sequence: u64,
    /// The sequence number of the first record.
    pub(crate) first_sequence: u64,
}

impl SegmentContents {
    /// Finds the valid records. In the order of the file their sequence numbers ascend; all are below `ceiling`,
    /// where the next segment begins. What lies inside of a record is never taken for one.
    pub(crate) fn of(bytes: &[u8], origin: Origin, ceiling: u64) -> Self {
        let mut scan = Self::default();
        let mut at = if bytes.starts_with(MAGIC) { MAGIC.len() } else { 0 };
        if at == 0 {
            // Either the text in front is damaged, or everything is.
            let Some(found) = scan.find(bytes, origin, ceiling, 0) else { return scan };
            scan.gaps.push((0, found));
            at = found;
        }
        let mut start = at;
        loop {
            while let Some(record) = scan.parse(bytes, origin, ceiling, at) {
                scan.take(at, &record);
                at += record.total;
                if scan.ended {
                    break;
                }
            }
            if at > start {
                scan.stretches.push((start, at));
                scan.end = at;
            }
            if scan.ended || is_zero(bytes.get(at..).unwrap_or_default()) {
                return scan;
            }
            let Some(found) = scan.find(bytes, origin, ceiling, at) else {
                scan.has_tail = true;
                return scan;
            };
            scan.gaps.push((at, found));
            (start, at) = (found, found);
        }
    }

    fn take(&mut self, at: usize, record: &Record<'_>) {
        if self.last_sequence == 0 {
            self.first_sequence = record.sequence;
        }
        self.last_sequence = record.sequence;
        self.ended = record.kind == RecordKind::End;
        if record.flags & record::FLAG_SYNCED != 0 {
            self.proof = Some(at);
        }
    }

    /// The valid record at `at`, if it can follow those that were found.
    fn parse<'a>(&self, bytes: &'a [u8], origin: Origin, ceiling: u64, at: usize) -> Option<Record<'a>> {
        let record = record::parse(bytes.get(at..)?, origin)?;
        // A merge gathers many records' acks and counts behind its messages, and has no numbers for them.
        let may_repeat = matches!(record.kind, RecordKind::Acks | RecordKind::Returns | RecordKind::End);
        let ascends = record.sequence > self.last_sequence
            || (may_repeat && record.sequence == self.last_sequence && self.last_sequence > 0);
        (ascends && record.sequence < ceiling).then_some(record)
    }

    /// The first valid record at or after `from`.
    fn find(&self, bytes: &[u8], origin: Origin, ceiling: u64, from: usize) -> Option<usize> {
        let mut places = (from..bytes.len()).step_by(record::ALIGNMENT);
        places.find(|at| self.parse(bytes, origin, ceiling, *at).is_some())
    }

    /// Whether what follows `offset` proves that everything before it was durable once.
    pub(crate) fn is_proven(&self, offset: usize) -> bool {
        self.proof.is_some_and(|proof| proof >= offset)
    }

    /// Where the stretch of valid records that `offset` is in begins.
    pub(crate) fn start_of_stretch(&self, offset: usize) -> usize {
        let behind = self.stretches.partition_point(|(from, _)| *from <= offset);
        behind.checked_sub(1).map_or(0, |index| self.stretches[index].0)
    }

    /// The valid records with their offsets.
    pub(crate) fn records<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = (usize, Record<'a>)> {
        self.stretches.iter().flat_map(move |&(from, to)| {
            record::iterate_checked(&bytes[from..to]).map(move |(at, record)| (from + at, record))
        })
    }

    /// The start record, unless it is damaged.
    pub(crate) fn start(&self, bytes: &[u8]) -> Option<Start> {
        let (_, first) = self.records(bytes).next()?;
        (first.kind == RecordKind::Start).then(|| record::read_start(first.payload)).flatten()
    }

    /// The first of the segments that this one replaces, from the start record or else the end record.
    pub(crate) fn replaces(&self, bytes: &[u8]) -> Option<u32> {
        let by_end = || {
            let (_, last) = self.records(bytes).last()?;
            (last.kind == RecordKind::End).then(|| record::read_end(last.payload)).flatten()
        };
        self.start(bytes).map(|start| start.replaces).or_else(by_end)
    }
}

/// Whether there is nothing but zeros.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|chunk| chunk == &ZEROS[..chunk.len()])
}

/// Why a whole segment cannot be read, in words for whoever has to mend it.
pub(crate) fn describe_unreadable(bytes: &[u8], origin: Origin) -> String {
    if record::is_format_1(bytes) {
        return format!(
            "its format is 1, this program knows {}: drain the queues with the version that wrote it, then give this \
             version an empty folder",
            record::VERSION
        );
    }
    let claimed = bytes.get(MAGIC.len()..).and_then(record::claimed_origin);
    let digit = bytes.get(MAGIC.len() - 1).copied().unwrap_or_default();
    match claimed {
        Some(found) if found.salt != origin.salt => "it is part of another log".to_owned(),
        Some(found) => format!("it holds segment {} of this log", found.segment),
        None if bytes.is_empty() => "it is empty".to_owned(),
        None if is_zero(bytes) => "it holds nothing but zeros".to_owned(),
        None if bytes.starts_with(&MAGIC[..7]) && digit != MAGIC[7] && digit.is_ascii_graphic() => {
            format!("its format is {}, this program knows {}", char::from(digit), record::VERSION)
        }
        None => "no record in it is valid".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::record::Head;

    const HERE: Origin = Origin { salt: 7, segment: 1 };

    fn put(bytes: &mut Vec<u8>, flags: u8, sequence: u64, payload: &[u8]) {
        let head = Head { kind: RecordKind::Message, flags, origin: HERE, sequence };
        record::put(bytes, head, |out| out.extend_from_slice(payload));
    }

    /// Records of 64 bytes each, after the text in front.
    fn bytes_of(flags: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (sequence, &flags) in (1..).zip(flags) {
            put(&mut bytes, flags, sequence, &[1; 32]);
        }
        bytes
    }

    #[test]
    fn a_gap_is_proven_by_a_record_behind_it_that_was_written_after_a_sync() {
        for (flags, proven) in [([1, 0, 0, 0], false), ([1, 0, 1, 0], true)] {
            let mut bytes = bytes_of(&flags);
            bytes[80] ^= 1;
            bytes.extend_from_slice(&[0; 64]);
            let scan = SegmentContents::of(&bytes, HERE, u64::MAX);
            assert_eq!(scan.stretches, [(8, 72), (136, 264)]);
            assert_eq!((&scan.gaps[..], scan.end, scan.has_tail), (&[(72, 136)][..], 264, false));
            assert_eq!(scan.is_proven(136), proven);
        }
    }

    #[test]
    fn a_damaged_last_record_is_a_tail_and_a_damaged_front_a_gap() {
        let mut bytes = bytes_of(&[1, 0]);
        bytes[100] ^= 1;
        let scan = SegmentContents::of(&bytes, HERE, u64::MAX);
        assert_eq!((scan.stretches.len(), scan.end, scan.has_tail), (1, 72, true));
        let mut bytes = bytes_of(&[1, 0]);
        bytes[3] ^= 1;
        let scan = SegmentContents::of(&bytes, HERE, u64::MAX);
        assert_eq!((&scan.stretches[..], &scan.gaps[..]), (&[(8, 136)][..], &[(0, 8)][..]));
        bytes[9..].fill(3);
        assert_eq!(SegmentContents::of(&bytes, HERE, u64::MAX), SegmentContents::default());
    }

    #[test]
    fn records_in_a_body_are_never_found_by_another_salt_or_an_older_sequence() {
        let mut older = Vec::new();
        put(&mut older, 0, 1, &[9; 8]);
        let mut foreign = Vec::new();
        let head =
            Head { kind: RecordKind::Acks, flags: 0, origin: Origin { salt: 8, ..HERE }, sequence: 50 };
        record::put(&mut foreign, head, |out| out.extend_from_slice(&[9; 20]));
        for body in [older, foreign] {
            let mut bytes = bytes_of(&[0, 0]);
            put(&mut bytes, 0, 3, &body);
            put(&mut bytes, 0, 4, b"behind");
            let last = bytes.len() - 40;
            bytes[140] ^= 1;
            let scan = SegmentContents::of(&bytes, HERE, u64::MAX);
            assert_eq!(scan.gaps, [(136, last)]);
            assert_eq!(
                scan.records(&bytes).map(|(_, record)| record.sequence).collect::<Vec<_>>(),
                [1, 2, 4]
            );
        }
        let bytes = bytes_of(&[0, 0, 0]);
        assert_eq!(
            SegmentContents::of(&bytes, HERE, 3).end,
            136,
            "what is not below the next segment does not count"
        );
    }
}
