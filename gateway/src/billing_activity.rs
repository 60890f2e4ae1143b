//! Recent billing reports and per-minute totals of orders, for the console. All of it is bounded and kept in memory
//! only.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use order::report::{MessageOutcome, Report};

/// How many minutes are remembered.
pub(crate) const MINUTES: usize = 30;
/// Most settled messages that are remembered.
const SETTLED_MAX: usize = 1_000;
/// A billing process that has sent no report for this long counts as gone. It reports every second.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Most billing processes that are tracked.
const INSTANCES_MAX: usize = 64;

/// The orders of one minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Minute {
    /// When it began, in minutes since 1970.
    index: u64,
    /// Orders that the broker confirmed to this gateway.
    pub(crate) confirmed: u64,
    /// Orders that billing stored, from any gateway.
    pub(crate) stored: u64,
}

/// The sum of the latest reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BillingTotals {
    /// Billing processes that report.
    pub(crate) instances: usize,
    /// Orders stored since those processes started.
    pub(crate) stored: u64,
    /// Orders that any processes stored since this gateway started, as far as it heard.
    pub(crate) heard: u64,
    /// Messages that they recognised as repetitions.
    pub(crate) repeated: u64,
    /// Messages that they put into the dead-letter queue.
    pub(crate) dead: u64,
    /// Messages that they have taken and not acknowledged yet.
    pub(crate) held: u64,
    /// The database did not serve the last attempt of one of them.
    pub(crate) database_is_away: bool,
    /// Memory that they hold, in bytes; `None` if none of them knows.
    pub(crate) memory_bytes: Option<u64>,
}

/// What the latest reports say of the program that sends them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BillingProgram {
    /// Its version, if it is known; several, separated by commas, while processes differ.
    pub(crate) version: Option<String>,
    /// When the process that has been running longest was started, in seconds since 1970.
    pub(crate) started_s: Option<u64>,
    /// The version of its PostgreSQL, if one of them knows.
    pub(crate) database_version: Option<String>,
}

/// Recent billing reports and per-minute totals.
#[derive(Debug, Default)]
pub(crate) struct BillingActivity {
    state: Mutex<State>,
    progress: AtomicU32,
}

#[derive(Debug, Default)]
struct State {
    instances: HashMap<String, (Report, Instant)>,
    /// Message ids and their outcomes, newest last.
    settled: VecDeque<(String, MessageOutcome)>,
    minutes: VecDeque<Minute>,
    /// The total of orders that were reported as stored.
    stored: u64,
    /// The total of confirmed orders at the last sample.
    confirmed: u64,
}

impl BillingActivity {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the total of orders confirmed so far. Called a few times a second, so that confirming an order takes no
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

    /// Changes whenever billing may have settled a message: it says so, or reports may have been missed.
    pub(crate) fn progress(&self) -> u32 {
        self.progress.load(Ordering::Acquire)
    }

    /// Notes that reports may have been missed.
    pub(crate) fn note_gap(&self) {
        self.progress.fetch_add(1, Ordering::AcqRel);
    }

    /// Records a report.
    pub(crate) fn record(&self, report: Report) {
        self.record_at(report, Instant::now(), now_minute());
    }

    fn record_at(&self, mut report: Report, now: Instant, minute: u64) {
        let mut state = self.state();
        let settled = |report: &Report| (report.stored, report.repeated, report.dead);
        let known = state.instances.get(&report.instance).map(|(last, _)| settled(last)).unwrap_or_default();
        if known != settled(&report) {
            self.note_gap();
        }
        let listed =
            report.settled.iter().filter(|settled| settled.outcome == MessageOutcome::Stored).count() as u64;
        for settled in report.settled.drain(..) {
            if state.settled.len() == SETTLED_MAX {
                state.settled.pop_front();
            }
            state.settled.push_back((settled.message_id, settled.outcome));
        }
        // On first contact, count only the orders this report lists; nobody knows when the earlier ones were stored.
        let unseen = report.stored.saturating_sub(listed);
        let before = state.instances.get(&report.instance).map_or(unseen, |(last, _)| last.stored);
        let new = report.stored.saturating_sub(before);
        if new > 0 {
            state.minute(minute).stored += new;
            state.stored += new;
        }
        state.instances.retain(|_, (_, heard)| now.duration_since(*heard) < SILENCE_MAX);
        if state.instances.len() < INSTANCES_MAX || state.instances.contains_key(&report.instance) {
            state.instances.insert(report.instance.clone(), (report, now));
        }
    }

    /// The sum over all billing processes that have reported recently.
    pub(crate) fn billing(&self) -> BillingTotals {
        self.billing_at(Instant::now())
    }

    fn billing_at(&self, now: Instant) -> BillingTotals {
        let state = self.state();
        let mut sum = BillingTotals { heard: state.stored, ..BillingTotals::default() };
        for (report, heard) in state.instances.values() {
            if now.duration_since(*heard) < SILENCE_MAX {
                sum.instances += 1;
                sum.stored += report.stored;
                sum.repeated += report.repeated;
                sum.dead += report.dead;
                sum.held += report.held;
                sum.database_is_away |= report.database_is_away;
                sum.memory_bytes = match (sum.memory_bytes, report.memory_bytes) {
                    (None, known) => known,
                    (sum, more) => sum.map(|sum| sum + more.unwrap_or_default()),
                };
            }
        }
        sum
    }

    /// What the processes that have reported recently say of themselves; `None` if there are none.
    pub(crate) fn program(&self) -> Option<BillingProgram> {
        let (state, now) = (self.state(), Instant::now());
        let heard = state.instances.values();
        let heard: Vec<_> = heard.filter(|(_, heard)| now.duration_since(*heard) < SILENCE_MAX).collect();
        let versions: BTreeSet<_> = heard.iter().map(|(report, _)| report.version.as_str()).collect();
        let versions: Vec<_> = versions.into_iter().filter(|version| !version.is_empty()).collect();
        let started_s = heard.iter().map(|(report, _)| report.started_s).filter(|started| *started > 0).min();
        let version = (!versions.is_empty()).then(|| versions.join(", "));
        let database_version = heard.iter().find_map(|(report, _)| report.database_version.clone());
        (!heard.is_empty()).then_some(BillingProgram { version, started_s, database_version })
    }

    /// The outcome of a message, if it was reported recently.
    pub(crate) fn outcome(&self, message_id: &str) -> Option<MessageOutcome> {
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
    /// The entry for the minute `index`, which must be the latest.
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
        let (billing_activity, now) = (BillingActivity::default(), Instant::now());
        billing_activity.sample_at(2, 100);
        billing_activity.sample_at(7, 101);
        // What was stored before the first report does not count.
        billing_activity.record_at(report("a", 1_000), now, 100);
        billing_activity.record_at(report("a", 1_003), now, 101);
        let settled = vec![Settled { message_id: "m".to_owned(), outcome: MessageOutcome::Stored }];
        billing_activity.record_at(Report { settled, ..report("b", 5) }, now, 101);
        let minutes = billing_activity.minutes_at(102);
        assert_eq!(minutes.len(), MINUTES);
        let tail: Vec<_> = minutes.iter().rev().take(3).rev().map(|m| (m.confirmed, m.stored)).collect();
        assert_eq!(tail, [(2, 0), (5, 4), (0, 0)]);
        for minute in 102..300 {
            billing_activity.sample_at(minute, minute);
        }
        assert_eq!(billing_activity.state().minutes.len(), MINUTES);
    }

    #[test]
    fn processes_tell_their_versions_and_the_first_start() {
        let billing_activity = BillingActivity::default();
        assert_eq!(billing_activity.program(), None);
        // One that does not tell its version yet.
        billing_activity.record(report("old", 1));
        assert_eq!(billing_activity.program(), Some(BillingProgram::default()));
        for (instance, version, started_s) in [("a", "0.2.0", 9), ("b", "0.1.0", 7), ("c", "0.2.0", 8)] {
            let database_version = (instance == "b").then(|| "17.2".to_owned());
            let version = version.to_owned();
            billing_activity.record(Report { version, started_s, database_version, ..report(instance, 1) });
        }
        let program = billing_activity.program().unwrap();
        assert_eq!((program.version.as_deref(), program.started_s), (Some("0.1.0, 0.2.0"), Some(7)));
        assert_eq!(program.database_version.as_deref(), Some("17.2"));
    }

    #[test]
    fn progress_is_what_billing_may_have_settled_and_nothing_else() {
        let (billing_activity, now) = (BillingActivity::default(), Instant::now());
        let progress = |stored: u64| {
            let before = billing_activity.progress();
            billing_activity.record_at(report("a", stored), now, 0);
            billing_activity.progress() != before
        };
        assert_eq!([0, 0, 3, 3, 4].map(progress), [false, false, true, false, true]);
    }

    #[test]
    fn a_process_that_falls_silent_is_left_out() {
        let (billing_activity, now) = (BillingActivity::default(), Instant::now());
        billing_activity.record_at(report("a", 1), now, 0);
        billing_activity.record_at(report("b", 2), now + Duration::from_secs(3), 0);
        assert_eq!(billing_activity.billing_at(now + Duration::from_secs(4)).stored, 3);
        let later = billing_activity.billing_at(now + Duration::from_secs(6));
        assert_eq!((later.instances, later.stored), (1, 2));
    }

    #[test]
    fn the_latest_word_on_a_message_counts_and_old_ones_are_forgotten() {
        let billing_activity = BillingActivity::default();
        let settle = |id: &str, outcome| {
            let settled = vec![Settled { message_id: id.to_owned(), outcome }];
            billing_activity.record(Report { settled, ..report("a", 0) });
        };
        settle("x", MessageOutcome::Dead);
        settle("x", MessageOutcome::Stored);
        assert_eq!(billing_activity.outcome("x"), Some(MessageOutcome::Stored));
        assert_eq!(billing_activity.outcome("y"), None);
        for number in 0..SETTLED_MAX {
            settle(&number.to_string(), MessageOutcome::Stored);
        }
        assert_eq!(billing_activity.outcome("x"), None);
        assert_eq!(billing_activity.state().settled.len(), SETTLED_MAX);
    }
}
