//! The value of the `Date` field (RFC 9110 §5.6.7 and §6.6.1).

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

thread_local! {
    /// The second that was formatted last, and its text.
    static LAST: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// Calls `use_date` with the time now, such as `Sun, 06 Nov 1994 08:49:37 GMT`. Each thread formats it once a second.
pub(crate) fn with_now(use_date: impl FnOnce(&[u8])) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    LAST.with_borrow_mut(|(second, text)| {
        if *second != now {
            *text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now));
            *second = now;
        }
        use_date(text.as_bytes());
    });
}
