//! Request ids: the client's own if it is valid, else one that is unique across processes and restarts.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::head::Head;

/// The longest client id that is accepted, in bytes.
const MAX_BYTES: usize = 128;

/// Makes request ids: a random prefix per process, and a counter.
#[derive(Debug)]
pub(crate) struct Generator {
    prefix: u64,
    next: AtomicU64,
}

impl Generator {
    pub(crate) fn new() -> Self {
        // The keys of the standard library's hasher are random.
        Self { prefix: RandomState::new().hash_one(0u8) >> 16, next: AtomicU64::new(1) }
    }

    /// A new id.
    pub(crate) fn next(&self) -> String {
        format!("{:012x}-{:x}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// The id that the client chose, or a new one.
    pub(crate) fn of<'h>(&self, head: &'h Head) -> Cow<'h, str> {
        match head.field("x-request-id").and_then(sane) {
            Some(id) => Cow::Borrowed(id),
            None => Cow::Owned(self.next()),
        }
    }
}

/// The id if it is safe to put into a header field and a log line.
fn sane(id: &[u8]) -> Option<&str> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(byte);
    let valid = (1..=MAX_BYTES).contains(&id.len()) && id.iter().all(plain);
    if valid { std::str::from_utf8(id).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sane_ids_are_taken_over() {
        assert_eq!(sane(b"a-B_9.:+/=@"), Some("a-B_9.:+/=@"));
        assert_eq!(sane(&[b'a'; 128]).map(str::len), Some(128));
        for bad in [&b""[..], b"a b", b"a\"b", b"a;b", b"\xc3\xa9", &[b'a'; 129]] {
            assert_eq!(sane(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn generated_ids_are_sane_and_differ() {
        let generator = Generator::new();
        let (first, second) = (generator.next(), generator.next());
        assert_ne!(first, second);
        assert!(sane(first.as_bytes()).is_some());
    }
}
