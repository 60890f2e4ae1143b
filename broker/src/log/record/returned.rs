//! How often messages came back: the payload of a returns record.

use super::{PLACE_BYTES, put_place, u32_at, u64_at};

/// How often a message came back to a queue that counts that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Returned {
    pub(crate) queue: u32,
    pub(crate) position: u64,
    pub(crate) times: u32,
}

/// Bytes of one of them.
pub(crate) const RETURNED_BYTES: usize = PLACE_BYTES + 4;

/// Appends the payload of a returns record.
pub(crate) fn put_returns(out: &mut Vec<u8>, returned: &[Returned]) {
    for one in returned {
        put_place(out, one.queue, one.position);
        out.extend_from_slice(&one.times.to_le_bytes());
    }
}

/// Reads the payload of a returns record.
pub(crate) fn read_returns(payload: &[u8]) -> impl Iterator<Item = Returned> + '_ {
    payload.chunks_exact(RETURNED_BYTES).filter_map(|bytes| {
        Some(Returned { queue: u32_at(bytes, 0)?, position: u64_at(bytes, 4)?, times: u32_at(bytes, 12)? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_survive_a_round_trip() {
        let returned =
            [Returned { queue: 3, position: 4, times: 5 }, Returned { queue: 6, position: 7, times: 8 }];
        let mut bytes = Vec::new();
        put_returns(&mut bytes, &returned);
        assert_eq!(bytes.len(), 2 * RETURNED_BYTES);
        assert_eq!(read_returns(&bytes).collect::<Vec<_>>(), returned);
    }
}
