//! The time by which messages and queues live. It is the wall clock's when the process starts, and goes on without
//! jumps: whoever sets the wall clock ends nobody's life by that.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

static START: LazyLock<(Instant, u64)> = LazyLock::new(|| {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (Instant::now(), u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
});

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let (instant, at) = &*START;
    at.saturating_add(u64::try_from(instant.elapsed().as_millis()).unwrap_or(u64::MAX))
}
