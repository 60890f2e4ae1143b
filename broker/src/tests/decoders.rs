//! Arbitrary and mutated bytes against every decoder: none may panic, read past its end or keep what it refused.

use proptest::prelude::*;

use crate::protocol::codec::frame::{self, FrameKind, ParsedFrame};
use crate::protocol::codec::method;
use crate::protocol::codec::properties::Properties;
use crate::protocol::codec::raw_table::RawTable;
use crate::protocol::codec::table::Table;
use crate::protocol::codec::wire::Reader;

/// Well-formed method payloads, from which mutation makes nearly well-formed ones.
const SEEDS: [&[u8]; 6] = [
    b"\0\x0a\0\x0b\0\0\0\x04\x01kt\x01\x05PLAIN\0\0\0\x04\0a\0b\x05en_US",
    b"\0\x32\0\x0a\0\0\x01q\x02\0\0\0\x0f\x05x-maxl\0\0\0\0\0\0\0\x09",
    b"\0\x3c\0\x14\0\0\x01q\x03tag\x02\0\0\0\0",
    b"\0\x3c\0\x28\0\0\x02ex\x03key\x01",
    b"\0\x28\0\x0a\0\0\x02ex\x05topic\x02\0\0\0\0",
    b"\0\x0a\0\x1f\x07\xff\0\x02\0\0\0\x3c",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn arbitrary_bytes_never_break_a_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = method::decode(&bytes);
        let _ = Properties::read(&bytes);
        let _ = Table::read(&mut Reader::new(&bytes));
        let _ = RawTable::read(&mut Reader::new(&bytes)).map(|table| table.fields().count());
        if let ParsedFrame::Whole(frame, taken) = frame::scan(&bytes, 4096) {
            prop_assert!(taken <= bytes.len() && frame.payload.len() + frame::OVERHEAD_BYTES == taken);
        }
    }

    #[test]
    fn mutated_methods_never_break_the_decoder(
        seed in 0..SEEDS.len(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut bytes = SEEDS[seed].to_vec();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = method::decode(&bytes);
        let _ = method::decode(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn a_frame_that_was_put_is_scanned_back(channel in any::<u16>(), payload in proptest::collection::vec(any::<u8>(), 0..4088)) {
        let mut bytes = Vec::new();
        frame::put(&mut bytes, FrameKind::Header, channel, |out| out.extend_from_slice(&payload));
        let expected = frame::Frame { kind: FrameKind::Header, channel, payload: &payload };
        prop_assert_eq!(frame::scan(&bytes, 4096), ParsedFrame::Whole(expected, bytes.len()));
    }
}

#[test]
fn the_seeds_are_well_formed() {
    for seed in SEEDS {
        assert!(method::decode(seed).is_ok(), "{seed:?}");
    }
}
