//! Warnings that strangers can cause, as often as they like: the first few are written, the others are counted and
//! summed up, so that nobody can fill the disk with them.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long the others are counted before they are summed up.
const WINDOW: Duration = Duration::from_secs(10);
/// How many warnings are written within one window.
const WRITTEN_MAX: u32 = 10;

/// Warnings of one kind; a static.
#[derive(Debug)]
pub struct Warnings {
    /// What they are about, such as `requests that failed`.
    about: &'static str,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    /// When it began; `None` before the first warning.
    since: Option<Instant>,
    written: u32,
    /// How many were counted instead of written.
    counted: u64,
}

/// What to do with a warning.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Write,
    Count,
    /// Count it, and sum up when the window ends.
    CountFirst,
}

impl Warnings {
    /// No warnings yet.
    pub const fn new(about: &'static str) -> Self {
        Self { about, window: Mutex::new(Window { since: None, written: 0, counted: 0 }) }
    }

    /// Writes a warning, or counts it.
    pub fn warn(&'static self, text: fmt::Arguments<'_>) {
        let now = Instant::now();
        if let Some(counted) = self.lock().end(now) {
            self.sum_up(counted);
        }
        let decision = self.lock().decide(now);
        match decision {
            Decision::Write => log::warn!("{text}"),
            Decision::Count => {}
            Decision::CountFirst => {
                // If there is no thread, the first warning after the window sums up.
                let _ = thread::Builder::new().name("warnings".to_owned()).spawn(|| {
                    thread::sleep(WINDOW);
                    if let Some(counted) = self.lock().end(Instant::now()) {
                        self.sum_up(counted);
                    }
                });
            }
        }
    }

    fn sum_up(&self, counted: u64) {
        log::warn!("{counted} more warnings about {} within {WINDOW:?} were not written", self.about);
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    /// Begins a new window if this one is over; returns how many warnings it has counted, if any.
    fn end(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) < WINDOW) {
            return None;
        }
        let counted = self.counted;
        *self = Self { since: None, written: 0, counted: 0 };
        (counted > 0).then_some(counted)
    }

    fn decide(&mut self, now: Instant) -> Decision {
        self.since.get_or_insert(now);
        if self.written < WRITTEN_MAX {
            self.written += 1;
            return Decision::Write;
        }
        self.counted += 1;
        if self.counted == 1 { Decision::CountFirst } else { Decision::Count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_written_and_the_others_summed_up() {
        let mut window = Window { since: None, written: 0, counted: 0 };
        let start = Instant::now();
        assert_eq!(window.end(start), None);
        assert!((0..WRITTEN_MAX).all(|_| window.decide(start) == Decision::Write));
        assert_eq!(window.decide(start), Decision::CountFirst);
        assert!((0..1000).all(|_| window.decide(start) == Decision::Count));
        assert_eq!(window.end(start + WINDOW / 2), None);
        assert_eq!(window.end(start + WINDOW), Some(1001));
        assert_eq!(window.decide(start + WINDOW), Decision::Write);
        // Nothing to sum up.
        assert_eq!(window.end(start + 2 * WINDOW), None);
        assert_eq!(window.written, 0);
    }
}
