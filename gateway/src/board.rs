//! What the gateway remembers of the last minutes: billing's reports, and how many orders each minute saw. All of it
//! is bounded, and none of it survives a restart.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use order::report::{Outcome, Report};

/// How many minutes are remembered.
pub(crate) const MINUTES: usize = 30;
/// How many settled messages are remembered.
const SETTLED_MAX: usize = 1_000;
/// A billing process that has been silent for this long counts as gone. It reports every second.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How many billing processes are told apart.
const INSTANCES_MAX: usize = 64;

/// The orders of one minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Minute {
    /// When it began, in minutes since 1970.
    index: u64,
    /// Orders that this gateway got confirmed.
    pub(crate) confirmed: u64,
    /// Orders that billing stored, whoever sent them.
    pub(crate) stored: u64,
}

/// What the reports come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Billing {
    /// Billing processes that report.
    pub(crate) instances: usize,
    /// Orders that these have stored since they started.
    pub(crate) stored: u64,
    /// Messages that they recognised as repeated.
    pub(crate) repeated: u64,
    /// Messages that they put into the dead-letter queue.
    pub(crate) dead: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    instances: HashMap<String, (Report, Instant)>,
    /// Message ids and what became of them, the latest last.
    settled: VecDeque<(String, Outcome)>,
    minutes: VecDeque<Minute>,
    /// All orders that were confirmed up to the last sample.
    confirmed: u64,
}

impl Board {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over the number of orders confirmed so far. Called a few times a second, so that an order itself costs no
    /// lock.
    pub(crate) fn sample(&self, confirmed: u64) {
        self.sample_at(confirmed, now_minute());
    }

    fn sample_at(&self, confirmed: u64, minute: u64) {
        let mut state = self.state();
        let new = confirmed.saturating_sub(state.confirmed);
        state.confirmed = confirmed;
        if new > 0 {
            state.minute(minute).confirmed += new;
        }
    }

    /// Takes over a report.
    pub(crate) fn note(&self, report: Report) {
        self.note_at(report, Instant::now(), now_minute());
    }

    fn note_at(&self, mut report: Report, now: Instant, minute: u64) {
        let mut state = self.state();
        let listed =
            report.settled.iter().filter(|settled| settled.outcome == Outcome::Stored).count() as u64;
        for settled in report.settled.drain(..) {
            if state.settled.len() == SETTLED_MAX {
                state.settled.pop_front();
            }
            state.settled.push_back((settled.message_id, settled.outcome));
        }
        // What a process stored before its first report here, but for what that lists, belongs to no minute that is
        // known.
        let unseen = report.stored.saturating_sub(listed);
        let before = state.instances.get(&report.instance).map_or(unseen, |(last, _)| last.stored);
        let new = report.stored.saturating_sub(before);
        if new > 0 {
            state.minute(minute).stored += new;
        }
        state.instances.retain(|_, (_, heard)| now.duration_since(*heard) < SILENCE_MAX);
        if state.instances.len() < INSTANCES_MAX || state.instances.contains_key(&report.instance) {
            state.instances.insert(report.instance.clone(), (report, now));
        }
    }

    /// The sum of what all billing processes report that can be heard.
    pub(crate) fn billing(&self) -> Billing {
        self.billing_at(Instant::now())
    }

    fn billing_at(&self, now: Instant) -> Billing {
        let mut sum = Billing::default();
        for (report, heard) in self.state().instances.values() {
            if now.duration_since(*heard) < SILENCE_MAX {
                sum.instances += 1;
                sum.stored += report.stored;
                sum.repeated += report.repeated;
                sum.dead += report.dead;
            }
        }
        sum
    }

    /// What became of a message, if that was reported lately.
    pub(crate) fn outcome(&self, message_id: &str) -> Option<Outcome> {
        let state = self.state();
        state.settled.iter().rev().find(|(id, _)| id == message_id).map(|(_, outcome)| *outcome)
    }

    /// The last [`MINUTES`] minutes, the current one last.
    pub(crate) fn minutes(&self) -> Vec<Minute> {
        self.minutes_at(now_minute())
    }

    fn minutes_at(&self, now: u64) -> Vec<Minute> {
        let state = self.state();
        let first = (now + 1).saturating_sub(MINUTES as u64);
        (first..=now)
            .map(|index| {
                let known = state.minutes.iter().find(|minute| minute.index == index);
                known.copied().unwrap_or(Minute { index, ..Minute::default() })
            })
            .collect()
    }
}

impl Minute {
    /// When it began, in seconds since 1970.
    pub(crate) fn start_s(&self) -> u64 {
        self.index * 60
    }
}

impl State {
    /// The minute `index`, which is the latest.
    fn minute(&mut self, index: u64) -> &mut Minute {
        if self.minutes.back().is_none_or(|last| last.index != index) {
            if self.minutes.len() == MINUTES {
                self.minutes.pop_front();
            }
            self.minutes.push_back(Minute { index, ..Minute::default() });
        }
        let last = self.minutes.len() - 1;
        &mut self.minutes[last]
    }
}

fn now_minute() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 60
}

#[cfg(test)]
mod tests {
    use order::report::Settled;

    use super::*;

    fn report(instance: &str, stored: u64) -> Report {
        Report { instance: instance.to_owned(), stored, ..Report::default() }
    }

    #[test]
    fn orders_are_counted_in_the_minute_they_were_seen_in() {
        let (board, now) = (Board::default(), Instant::now());
        board.sample_at(2, 100);
        board.sample_at(7, 101);
        // What was stored before the first report does not count.
        board.note_at(report("a", 1_000), now, 100);
        board.note_at(report("a", 1_003), now, 101);
        let settled = vec![Settled { message_id: "m".to_owned(), outcome: Outcome::Stored }];
        board.note_at(Report { settled, ..report("b", 5) }, now, 101);
        let minutes = board.minutes_at(102);
        assert_eq!(minutes.len(), MINUTES);
        let tail: Vec<_> = minutes.iter().rev().take(3).rev().map(|m| (m.confirmed, m.stored)).collect();
        assert_eq!(tail, [(2, 0), (5, 4), (0, 0)]);
        for minute in 102..300 {
            board.sample_at(minute, minute);
        }
        assert_eq!(board.state().minutes.len(), MINUTES);
    }

    #[test]
    fn a_process_that_falls_silent_is_left_out() {
        let (board, now) = (Board::default(), Instant::now());
        board.note_at(report("a", 1), now, 0);
        board.note_at(report("b", 2), now + Duration::from_secs(3), 0);
        assert_eq!(board.billing_at(now + Duration::from_secs(4)).stored, 3);
        let later = board.billing_at(now + Duration::from_secs(6));
        assert_eq!((later.instances, later.stored), (1, 2));
    }

    #[test]
    fn the_latest_word_on_a_message_counts_and_old_ones_are_forgotten() {
        let board = Board::default();
        let settle = |id: &str, outcome| {
            let settled = vec![Settled { message_id: id.to_owned(), outcome }];
            board.note(Report { settled, ..report("a", 0) });
        };
        settle("x", Outcome::Dead);
        settle("x", Outcome::Stored);
        assert_eq!(board.outcome("x"), Some(Outcome::Stored));
        assert_eq!(board.outcome("y"), None);
        for number in 0..SETTLED_MAX {
            settle(&number.to_string(), Outcome::Stored);
        }
        assert_eq!(board.outcome("x"), None);
        assert_eq!(board.state().settled.len(), SETTLED_MAX);
    }
}
