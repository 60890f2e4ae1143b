//! The last hour in steps of five seconds and the last day in minutes, for the console's charts. It is kept in memory
//! only, about 190 KB when full, and begins when the gateway starts.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use foundation::Shutdown;
use foundation::metrics::RequestTotals;
use serde_json::{Map, Value, json};

use crate::error::{Error, Problem};
use crate::failures;
use crate::metrics::Metrics;
use crate::upstream::UpstreamService;
use crate::watch::{Sight, Watch};

/// The steps of the two series, in seconds, and how many steps each keeps: an hour and a day.
const STEP_S: u32 = 5;
const LONG_STEP_S: u32 = 60;
const STEPS: usize = 720;
const LONG_STEPS: usize = 1_440;
/// Stands for what nobody could tell.
const UNKNOWN: u32 = u32::MAX;
/// The parts whose outages are noted, in the order of the bits in [`Point::down`].
const PARTS: [&str; 5] = ["inventory", "postgresql", "broker", "billing", "billing_db"];
/// The outages of so many further services are noted, which have the next bits.
const SERVICES_MAX: usize = u64::BITS as usize - PARTS.len();

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Point {
    /// When it ended, in seconds since 1970.
    end_s: u32,
    /// Orders that the broker confirmed, and orders that billing stored.
    confirmed: u32,
    stored: u32,
    /// The most that were seen in the queue, unacknowledged, in the dead-letter queue and in the outbox; or [`UNKNOWN`].
    waiting: u32,
    unacknowledged: u32,
    dead: u32,
    outbox: u32,
    /// For how many seconds the oldest order had waited; or [`UNKNOWN`].
    oldest_s: u32,
    requests: u32,
    /// Requests that were passed on to inventory.
    movies: u32,
    /// How long requests took, in microseconds; or [`UNKNOWN`] if there were none.
    p50_us: u32,
    p99_us: u32,
    /// How many were answered with each of these statuses.
    failures: [u32; failures::STATUSES.len()],
    /// The same by cause: positions in [`History::causes`], and how many; only those with any.
    causes: Box<[(u16, u32)]>,
    /// A bit for each of [`PARTS`] that was seen in another state than `ok` and `unknown`, then those of the services.
    down: u64,
}

impl Point {
    /// A step in which nothing was seen yet.
    fn nothing() -> Self {
        let (waiting, unacknowledged, dead, outbox, oldest_s) = (UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN);
        Self { waiting, unacknowledged, dead, outbox, oldest_s, ..Self::default() }
    }
}

/// Steps of one length.
struct Series {
    step_s: u32,
    max: usize,
    points: VecDeque<Point>,
    /// The step that is not over yet, and the totals when it began.
    current: Point,
    begun_s: u32,
    totals: Totals,
}

/// Numbers that only grow.
#[derive(Clone, Debug, Default)]
struct Totals {
    confirmed: u64,
    stored: u64,
    movies: u64,
    requests: RequestTotals,
    /// Failed requests, in the order of [`History::causes`].
    causes: Box<[u64]>,
}

impl Totals {
    /// The numbers now; `stored` is known from billing's reports.
    fn of(metrics: &Metrics, stored: u64) -> Self {
        Self {
            confirmed: metrics.orders_confirmed.get(),
            stored,
            movies: metrics.answered_for(0),
            requests: metrics.http.totals(),
            causes: metrics.failures.totals(),
        }
    }
}

/// Both series.
pub(crate) struct History {
    started_s: u32,
    /// The further services whose outages are noted.
    services: Box<[&'static str]>,
    /// What requests fail by: a part and how it failed.
    causes: Box<[(&'static str, &'static str)]>,
    state: Mutex<State>,
}

struct State {
    short: Series,
    long: Series,
}

impl History {
    /// Begins to note down how everything is, until the shutdown. `services` are inventory, then the further ones.
    pub(crate) fn start(
        services: &[&'static UpstreamService],
        watch: Arc<Watch>,
        metrics: Arc<Metrics>,
        shutdown: Shutdown,
    ) -> Result<Arc<Self>, Error> {
        let mut history = Self::new(now_s(), &Totals::of(&metrics, 0));
        history.services = services.iter().skip(1).take(SERVICES_MAX).map(|service| service.name()).collect();
        history.causes = metrics.failures.names().collect();
        let history = Arc::new(history);
        let writer = history.clone();
        let body = move || {
            while !shutdown.wait_timeout(Duration::from_secs(STEP_S.into())) {
                let sight = watch.glance();
                let totals = Totals::of(&metrics, sight.reported.heard);
                writer.note(now_s(), &sight, &totals);
            }
        };
        let thread = thread::Builder::new().name("history".to_owned()).spawn(body);
        thread.map_err(|source| Error::Io { action: "start the history", source })?;
        Ok(history)
    }

    fn new(started_s: u32, totals: &Totals) -> Self {
        let series = |step_s, max| Series {
            step_s,
            max,
            points: VecDeque::new(),
            current: Point::nothing(),
            begun_s: started_s,
            totals: totals.clone(),
        };
        let (short, long) = (series(STEP_S, STEPS), series(LONG_STEP_S, LONG_STEPS));
        let state = Mutex::new(State { short, long });
        Self { started_s, services: Box::default(), causes: Box::default(), state }
    }

    /// GET /api/status/history: the answer for a query.
    pub(crate) fn answer(&self, query: &[u8]) -> Result<String, Problem> {
        let (is_long, count) = match query {
            b"" | b"minutes=15" => (false, STEPS / 4),
            b"minutes=60" => (false, STEPS),
            b"minutes=1440" => (true, LONG_STEPS),
            _ => return Err(Problem::bad_request("minutes must be 15, 60 or 1440, once")),
        };
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let series = if is_long { &state.long } else { &state.short };
        let points: Vec<_> = series.points.iter().rev().take(count).rev().cloned().collect();
        let step_s = series.step_s;
        drop(state);
        let mut answer = columns(&points);
        answer.insert("failure_causes".to_owned(), self.causes(&points));
        let services = self.services.iter().enumerate();
        let down: Map<_, _> = services
            .map(|(index, name)| ((*name).to_owned(), is_down(&points, PARTS.len() + index)))
            .collect();
        answer.insert("services_down".to_owned(), down.into());
        answer.insert("begun_s".to_owned(), self.started_s.into());
        answer.insert("step_s".to_owned(), step_s.into());
        Ok(Value::Object(answer).to_string())
    }

    /// How many requests failed in each step, for each cause that there was.
    fn causes(&self, points: &[Point]) -> Value {
        let mut found: BTreeMap<u16, Vec<u32>> = BTreeMap::new();
        for (step, point) in points.iter().enumerate() {
            for (cause, count) in &point.causes {
                found.entry(*cause).or_insert_with(|| vec![0; points.len()])[step] = *count;
            }
        }
        let named = found.into_iter().filter_map(|(cause, counts)| {
            let (part, kind) = self.causes.get(usize::from(cause))?;
            Some(json!({ "part": part, "kind": kind, "counts": counts }))
        });
        named.collect()
    }

    fn note(&self, now_s: u32, sight: &Sight, totals: &Totals) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = Point { oldest_s: self.oldest_s(&state, now_s, sight, totals), ..seen(sight) };
        state.short.note(now_s, &seen, totals);
        state.long.note(now_s, &seen, totals);
    }

    /// For how long the oldest order has waited: in the outbox, as that knows, or in the queue. The broker does not tell, but
    /// passes orders on in their order, so the oldest of N is as old as the N-th last confirmed one.
    fn oldest_s(&self, state: &State, now_s: u32, sight: &Sight, totals: &Totals) -> u32 {
        let Some(waiting) = sight.waiting else { return UNKNOWN };
        let outbox = sight.outbox.as_ref().map_or(0, |outbox| outbox.oldest.as_secs());
        let outbox = u32::try_from(outbox).unwrap_or(UNKNOWN - 1);
        let mut left = u64::from(waiting) + sight.reported.held;
        if left == 0 {
            return outbox;
        }
        left = left.saturating_sub(totals.confirmed.saturating_sub(state.short.totals.confirmed));
        let oldest_short = state.short.points.front().map_or(self.started_s, |point| point.end_s);
        let long = state.long.points.iter().rev().skip_while(|point| point.end_s > oldest_short);
        let mut confirmed_s = now_s;
        for point in state.short.points.iter().rev().chain(long) {
            if left == 0 {
                break;
            }
            confirmed_s = point.end_s;
            left = left.saturating_sub(point.confirmed.into());
        }
        if left > 0 {
            confirmed_s = self.started_s;
        }
        now_s.saturating_sub(confirmed_s).max(outbox)
    }
}

impl Series {
    fn note(&mut self, now_s: u32, seen: &Point, totals: &Totals) {
        let current = &mut self.current;
        let most = |so_far: u32, now: u32| match (so_far, now) {
            (UNKNOWN, known) | (known, UNKNOWN) => known,
            (one, other) => one.max(other),
        };
        current.waiting = most(current.waiting, seen.waiting);
        current.unacknowledged = most(current.unacknowledged, seen.unacknowledged);
        current.dead = most(current.dead, seen.dead);
        current.outbox = most(current.outbox, seen.outbox);
        current.oldest_s = most(current.oldest_s, seen.oldest_s);
        current.down |= seen.down;
        if now_s < self.begun_s.saturating_add(self.step_s) && now_s >= self.begun_s {
            return;
        }
        let requests = totals.requests.since(&self.totals.requests);
        let less = |now: u64, before: u64| u32::try_from(now.saturating_sub(before)).unwrap_or(UNKNOWN - 1);
        let quantile = |share| {
            requests
                .quantile(share)
                .map_or(UNKNOWN, |took| u32::try_from(took.as_micros()).unwrap_or(UNKNOWN - 1))
        };
        let point = Point {
            end_s: now_s,
            confirmed: less(totals.confirmed, self.totals.confirmed),
            stored: less(totals.stored, self.totals.stored),
            requests: less(requests.count(), 0),
            movies: less(totals.movies, self.totals.movies),
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            failures: failures::STATUSES.map(|status| less(requests.answered(status), 0)),
            causes: new_causes(&totals.causes, &self.totals.causes),
            ..std::mem::replace(&mut self.current, Point::nothing())
        };
        if self.points.len() == self.max {
            self.points.pop_front();
        }
        self.points.push_back(point);
        self.begun_s = now_s;
        self.totals = totals.clone();
    }
}

/// What a look at the parts says, without what follows from totals.
fn seen(sight: &Sight) -> Point {
    let parts = [&sight.services[0], &sight.movies_db, &sight.broker, &sight.billing, &sight.billing_db];
    let states: Vec<_> = parts.into_iter().chain(sight.services.iter().skip(1).take(SERVICES_MAX)).collect();
    let down = states.iter().enumerate().filter(|(_, state)| !matches!(state.name, "ok" | "unknown"));
    let count = |number: u64| u32::try_from(number).unwrap_or(UNKNOWN - 1);
    Point {
        waiting: sight.waiting.unwrap_or(UNKNOWN),
        unacknowledged: if sight.reported.instances > 0 { count(sight.reported.held) } else { UNKNOWN },
        dead: sight.dead.unwrap_or(UNKNOWN),
        outbox: sight.outbox.as_ref().map_or(0, |outbox| count(outbox.orders)),
        down: down.fold(0, |bits, (part, _)| bits | 1_u64 << part),
        ..Point::default()
    }
}

/// What requests failed by since an earlier moment, without what did not occur.
fn new_causes(now: &[u64], before: &[u64]) -> Box<[(u16, u32)]> {
    let new = now.iter().zip(before).map(|(now, before)| now.saturating_sub(*before));
    let new = new.zip(0..).filter(|(count, _)| *count > 0);
    new.map(|(count, cause)| (cause, u32::try_from(count).unwrap_or(UNKNOWN - 1))).collect()
}

/// 1 for each step in which the bit at this position of [`Point::down`] is set.
fn is_down(points: &[Point], position: usize) -> Value {
    points.iter().map(|point| u8::from(point.down >> position & 1 != 0)).collect()
}

/// The points as one list for each figure, which is a third of the size of one object for each point.
fn columns(points: &[Point]) -> Map<String, Value> {
    let column = |get: fn(&Point) -> u32| -> Value {
        points.iter().map(|point| (get(point) != UNKNOWN).then(|| get(point))).collect()
    };
    let mut failures = Map::new();
    for (position, status) in failures::STATUSES.iter().enumerate() {
        let counts = points.iter().map(|point| point.failures[position]).collect();
        failures.insert(status.to_string(), counts);
    }
    let mut down = Map::new();
    for (position, part) in PARTS.iter().enumerate() {
        down.insert((*part).to_owned(), is_down(points, position));
    }
    let columns = json!({
        "end_s": column(|point| point.end_s),
        "confirmed": column(|point| point.confirmed),
        "stored": column(|point| point.stored),
        "waiting": column(|point| point.waiting),
        "unacknowledged": column(|point| point.unacknowledged),
        "dead": column(|point| point.dead),
        "outbox": column(|point| point.outbox),
        "oldest_s": column(|point| point.oldest_s),
        "requests": column(|point| point.requests),
        "movies": column(|point| point.movies),
        "p50_us": column(|point| point.p50_us),
        "p99_us": column(|point| point.p99_us),
        "failures": failures,
        "down": down,
    });
    match columns {
        Value::Object(columns) => columns,
        _ => Map::new(),
    }
}

fn now_s() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    u32::try_from(since).unwrap_or(UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::billing_activity::BillingTotals;
    use crate::watch::PartState;

    const START_S: u32 = 1_000_000;

    fn sight(waiting: u32, held: u64, heard: u64) -> Sight {
        let ok = PartState::named("ok");
        Sight {
            services: vec![ok.clone()].into(),
            details: Box::default(),
            movies_db: ok.clone(),
            broker: ok.clone(),
            broker_program: None,
            billing: ok.clone(),
            billing_db: ok,
            waiting: Some(waiting),
            dead: Some(0),
            consumers: None,
            orders_stored: None,
            reported: BillingTotals { instances: 1, held, heard, ..BillingTotals::default() },
            outbox: None,
        }
    }

    /// Notes a look `after_s` seconds after the start; `confirmed` and `heard` are totals.
    fn note(history: &History, after_s: u32, sight: &Sight, confirmed: u64) {
        let totals = Totals { confirmed, stored: sight.reported.heard, ..Totals::default() };
        history.note(START_S + after_s, sight, &totals);
    }

    fn answer(history: &History, query: &str) -> Value {
        serde_json::from_str(&history.answer(query.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn a_step_has_what_happened_in_it_and_the_most_that_was_seen() {
        let history = History::new(START_S, &Totals::default());
        note(&history, 5, &sight(2, 0, 1), 3);
        note(&history, 10, &sight(0, 1, 3), 4);
        let mut away = sight(0, 0, 3);
        away.broker = PartState::named("unreachable");
        (away.waiting, away.reported.instances) = (None, 0);
        note(&history, 15, &away, 4);
        let short = answer(&history, "minutes=15");
        assert_eq!(short["end_s"], json!([START_S + 5, START_S + 10, START_S + 15]));
        assert_eq!((&short["confirmed"], &short["stored"]), (&json!([3, 1, 0]), &json!([1, 2, 0])));
        assert_eq!(short["waiting"], json!([2, 0, null]));
        assert_eq!(short["unacknowledged"], json!([0, 1, null]));
        assert_eq!(short["down"]["broker"], json!([0, 0, 1]));
        assert_eq!((&short["p99_us"], &short["begun_s"]), (&json!([null, null, null]), &json!(START_S)));
        assert_eq!(answer(&history, "minutes=1440")["end_s"], json!([]));
        note(&history, 60, &sight(1, 0, 9), 4);
        let long = answer(&history, "minutes=1440");
        assert_eq!(
            (&long["waiting"], &long["stored"], &long["step_s"]),
            (&json!([2]), &json!([9]), &json!(60))
        );
    }

    #[test]
    fn the_oldest_order_is_as_old_as_the_confirms_that_are_not_stored() {
        let history = History::new(START_S, &Totals::default());
        note(&history, 5, &sight(4, 0, 0), 4);
        note(&history, 10, &sight(6, 0, 0), 6);
        // Five of the seven wait: two of the first four are stored.
        note(&history, 15, &sight(4, 1, 2), 7);
        // Only the latest one waits.
        note(&history, 20, &sight(1, 0, 6), 7);
        note(&history, 25, &sight(0, 0, 7), 7);
        // More than were ever confirmed here: they are older than this gateway.
        note(&history, 30, &sight(100, 0, 7), 7);
        assert_eq!(answer(&history, "minutes=60")["oldest_s"], json!([0, 5, 10, 5, 0, 30]));
    }

    #[test]
    fn failures_are_told_by_cause_and_outages_of_further_services_by_name() {
        let mut history = History::new(START_S, &Totals { causes: [0, 7, 0].into(), ..Totals::default() });
        history.services = ["todo"].into();
        history.causes = [("inventory", "own"), ("todo", "timeout"), ("broker", "unavailable")].into();
        for (after_s, state, causes) in
            [(5, "ok", [0, 7, 0]), (10, "not ready", [0, 9, 1]), (15, "ok", [0, 9, 4])]
        {
            let mut sight = sight(0, 0, 0);
            sight.services = [PartState::named("ok"), PartState::named(state)].into();
            let totals = Totals { causes: causes.into(), ..Totals::default() };
            history.note(START_S + after_s, &sight, &totals);
        }
        let short = answer(&history, "");
        assert_eq!(short["services_down"], json!({ "todo": [0, 1, 0] }));
        assert_eq!(short["down"]["inventory"], json!([0, 0, 0]));
        let todo = json!({ "part": "todo", "kind": "timeout", "counts": [0, 2, 0] });
        let broker = json!({ "part": "broker", "kind": "unavailable", "counts": [0, 1, 3] });
        assert_eq!(short["failure_causes"], json!([todo, broker]));
    }

    #[test]
    fn each_series_keeps_its_time_and_no_more() {
        let history = History::new(START_S, &Totals::default());
        for step in 1..=20_000 {
            note(&history, step * STEP_S, &sight(0, 0, 0), 0);
        }
        let count = |query: &str| answer(&history, query)["end_s"].as_array().unwrap().len();
        assert_eq!([count(""), count("minutes=60"), count("minutes=1440")], [180, 720, 1_440]);
        for query in ["minutes=30", "minutes=15&minutes=15", "x=1"] {
            assert!(history.answer(query.as_bytes()).is_err(), "{query}");
        }
        assert!(size_of::<Point>() * (STEPS + LONG_STEPS) < 200_000);
    }
}
