//! How the parts of the platform are, since when, and what waits where. The parts are asked at most every quarter of a
//! second, however many want to know.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use amqp::BrokerProgram;
use order::question::{Answer, Question};

use crate::billing_activity::{BillingActivity, BillingTotals};
use crate::broker_state::BrokerState;
use crate::outbox::{Outbox, OutboxFigures};
use crate::publisher::Publisher;
use crate::upstream::{self, Readiness, ServiceDetails, UpstreamService};

/// How long an answer is reused.
const FRESH: Duration = Duration::from_millis(250);
/// After this long without an answer from billing about its database, a database that was away may be back.
const ANSWER_HOLDS: Duration = Duration::from_secs(15);
/// How long billing may take to tell the number of orders.
const SUMMARY_TIMEOUT: Duration = Duration::from_millis(500);
/// Why the database of billing is unreachable. The cause itself is in billing's log.
const NO_BILLING_DB: &str = "billing cannot use it";

/// How something is, since when it has been seen so, and why.
#[derive(Clone, Debug)]
pub(crate) struct PartState {
    /// `ok`, `not ready`, `unreachable`, `blocked`, `silent` or `unknown`.
    pub(crate) name: &'static str,
    /// Why it is not well, without addresses; `None` if it is, or nobody knows.
    pub(crate) cause: Option<String>,
    since: SystemTime,
    /// While the state is unknown: the last one that was known, and when that began.
    before: Option<(&'static str, SystemTime)>,
}

impl PartState {
    /// A state that begins now.
    pub(crate) fn named(name: &'static str) -> Self {
        Self { name, cause: None, since: SystemTime::now(), before: None }
    }

    /// What is seen now. A state that is seen again after nobody could tell has lasted since it was seen first.
    fn is_now(&mut self, name: &'static str, cause: Option<String>) {
        self.cause = cause;
        if self.name == name {
            return;
        }
        let last = if self.name == "unknown" { self.before } else { Some((self.name, self.since)) };
        let same = last.filter(|(before, _)| *before == name);
        self.since = same.map_or_else(SystemTime::now, |(_, since)| since);
        self.before = last.filter(|_| name == "unknown");
        self.name = name;
    }

    /// In seconds since 1970.
    pub(crate) fn since_s(&self) -> u64 {
        self.since.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |age| age.as_secs())
    }
}

/// What was seen at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    /// Inventory, then the further services.
    pub(crate) services: Box<[PartState]>,
    /// What they said of themselves last, in the same order; how much memory one holds only while it is ready.
    pub(crate) details: Box<[ServiceDetails]>,
    /// The database of inventory, as inventory sees it.
    pub(crate) movies_db: PartState,
    pub(crate) broker: PartState,
    /// The program that was connected last.
    pub(crate) broker_program: Option<BrokerProgram>,
    pub(crate) billing: PartState,
    /// The database of billing, as billing sees it.
    pub(crate) billing_db: PartState,
    /// Messages that wait in the queue and in its dead-letter queue; `None` if nobody can tell.
    pub(crate) waiting: Option<u32>,
    pub(crate) dead: Option<u32>,
    /// Consumers of the queue; `None` if nobody can tell.
    pub(crate) consumers: Option<u32>,
    /// Orders in billing's table; `None` if nobody can tell.
    pub(crate) orders_stored: Option<u64>,
    /// What the billing processes report.
    pub(crate) reported: BillingTotals,
    /// `None` if there is no outbox.
    pub(crate) outbox: Option<OutboxFigures>,
}

/// Looks at the parts.
pub(crate) struct Watch {
    services: Box<[&'static UpstreamService]>,
    publisher: Arc<Publisher>,
    billing_activity: Arc<BillingActivity>,
    outbox: Option<Arc<Outbox>>,
    last: Mutex<Last>,
}

struct Last {
    sight: Arc<Sight>,
    /// When the parts were looked at, and when billing was asked about its database, too.
    looked: Option<Instant>,
    asked: Option<Instant>,
}

impl Watch {
    /// `services` are inventory, then the further ones.
    pub(crate) fn new(
        services: Box<[&'static UpstreamService]>,
        publisher: Arc<Publisher>,
        billing_activity: Arc<BillingActivity>,
        outbox: Option<Arc<Outbox>>,
    ) -> Self {
        let unknown = PartState::named("unknown");
        let nothing = Sight {
            services: vec![unknown.clone(); services.len()].into(),
            details: vec![ServiceDetails::default(); services.len()].into(),
            movies_db: unknown.clone(),
            broker: unknown.clone(),
            broker_program: None,
            billing: unknown.clone(),
            billing_db: unknown,
            waiting: None,
            dead: None,
            consumers: None,
            orders_stored: None,
            reported: BillingTotals::default(),
            outbox: None,
        };
        let last = Mutex::new(Last { sight: Arc::new(nothing), looked: None, asked: None });
        Self { services, publisher, billing_activity, outbox, last }
    }

    /// What was seen last while that is fresh, else what is seen now. Concurrent callers wait for the same look.
    pub(crate) fn sight(&self) -> Arc<Sight> {
        let mut last = self.last();
        if last.asked.is_none_or(|asked| asked.elapsed() >= FRESH) {
            let mut sight = Sight::clone(&last.sight);
            self.look(&mut sight);
            self.ask_billing(&mut sight);
            let now = Some(Instant::now());
            *last = Last { sight: Arc::new(sight), looked: now, asked: now };
        }
        last.sight.clone()
    }

    /// The same without a question to billing, which closes its connection to the database while nobody asks: after the
    /// first time, what is known of that is what billing reports by itself.
    pub(crate) fn glance(&self) -> Arc<Sight> {
        let mut last = self.last();
        if last.looked.is_none_or(|looked| looked.elapsed() >= FRESH) {
            let mut sight = Sight::clone(&last.sight);
            self.look(&mut sight);
            if last.asked.is_none() && sight.reported.instances > 0 {
                self.ask_billing(&mut sight);
                last.asked = Some(Instant::now());
            }
            let was_away = sight.billing_db.name == "unreachable";
            if sight.reported.database_is_away {
                sight.billing_db.is_now("unreachable", Some(NO_BILLING_DB.to_owned()));
            } else if was_away && last.asked.is_none_or(|asked| asked.elapsed() >= ANSWER_HOLDS) {
                sight.billing_db.is_now("unknown", None);
            }
            last.sight = Arc::new(sight);
            last.looked = Some(Instant::now());
        }
        last.sight.clone()
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, sight: &mut Sight) {
        let found = upstream::readiness(&self.services);
        let known = sight.services.iter_mut().zip(&mut sight.details);
        for ((state, details), readiness) in known.zip(&found) {
            let name = match readiness {
                Readiness::Ready(told) => {
                    details.clone_from(told);
                    "ok"
                }
                Readiness::NotReady(_) => "not ready",
                Readiness::Unreachable(_) => "unreachable",
            };
            if name != "ok" {
                details.memory_bytes = None;
            }
            state.is_now(name, readiness.public().map(str::to_owned));
        }
        let movies_db = found.first().map(|found| (found, found.public().map(str::to_owned)));
        match movies_db {
            Some((Readiness::Ready(_), _)) => sight.movies_db.is_now("ok", None),
            Some((Readiness::NotReady(_), cause)) => sight.movies_db.is_now("unreachable", cause),
            Some((Readiness::Unreachable(_), _)) | None => sight.movies_db.is_now("unknown", None),
        }
        self.look_at_broker(sight);
        sight.reported = self.billing_activity.billing();
        if sight.reported.instances > 0 {
            sight.billing.is_now("ok", None);
        } else {
            sight.billing.is_now("silent", Some(why_silent(sight.consumers).to_owned()));
        }
        sight.outbox = self.outbox.as_ref().map(|outbox| outbox.figures());
    }

    fn look_at_broker(&self, sight: &mut Sight) {
        let queues = self.publisher.inspect_queues();
        let (state, cause) = match (self.publisher.broker(), self.publisher.trouble()) {
            // A broker that is connected but does not answer counts as unreachable.
            (BrokerState::Ready, _) if queues.is_none() => {
                (BrokerState::Unreachable, Some("it is connected and does not answer in time".to_owned()))
            }
            (BrokerState::Ready, _) => (BrokerState::Ready, None),
            trouble => trouble,
        };
        sight.broker.is_now(state.name(), cause);
        sight.broker_program = self.publisher.broker_program();
        let queues = queues.unwrap_or_default();
        sight.waiting = queues.orders.map(|queue| queue.messages);
        sight.consumers = queues.orders.map(|queue| queue.consumers);
        sight.dead = queues.dead_letters.map(|queue| queue.messages);
    }

    /// Asks billing about its database.
    fn ask_billing(&self, sight: &mut Sight) {
        let summary = self.publisher.ask(&Question::Summary, SUMMARY_TIMEOUT);
        match &summary {
            Ok(Answer::Summary { .. }) => sight.billing_db.is_now("ok", None),
            Ok(Answer::DatabaseUnreachable) => {
                sight.billing_db.is_now("unreachable", Some(NO_BILLING_DB.to_owned()));
            }
            _ => sight.billing_db.is_now("unknown", None),
        }
        sight.orders_stored = match summary {
            Ok(Answer::Summary { orders }) => orders,
            _ => None,
        };
    }
}

/// Why billing does not report, as far as the consumers of its queue show.
fn why_silent(consumers: Option<u32>) -> &'static str {
    match consumers {
        Some(0) => "nobody consumes from its queue: it is stopped, or cannot reach the broker",
        Some(_) => {
            "it consumes from its queue and reports nothing: it is stuck, or may not use the exchange of its reports"
        }
        None => "its reports come through the broker, which is away",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state that began at a time.
    fn since(name: &'static str, since_s: u64) -> PartState {
        let mut state = PartState::named(name);
        state.since = SystemTime::UNIX_EPOCH + Duration::from_secs(since_s);
        state
    }

    #[test]
    fn a_state_begins_when_it_is_first_seen() {
        let mut state = since("unknown", 7);
        state.is_now("unknown", None);
        assert_eq!((state.name, state.since_s()), ("unknown", 7));
        state.is_now("ok", None);
        assert!(state.name == "ok" && state.since_s() > 7);
    }

    #[test]
    fn a_state_lasts_while_nobody_can_tell_if_it_is_the_same_afterwards() {
        let mut state = since("ok", 7);
        for name in ["unknown", "unknown", "ok"] {
            state.is_now(name, None);
        }
        assert_eq!((state.name, state.since_s()), ("ok", 7));
        for name in ["unknown", "unreachable"] {
            state.is_now(name, None);
            assert!(state.since_s() > 7, "{name}");
        }
        // It is another one since.
        state.is_now("ok", None);
        assert!(state.since_s() > 7);
    }

    #[test]
    fn the_cause_is_that_of_now() {
        let mut state = since("unreachable", 7);
        for cause in [Some("it is stuck"), Some("it is stopped"), None] {
            state.is_now("unreachable", cause.map(str::to_owned));
            assert_eq!((state.cause.as_deref(), state.since_s()), (cause, 7));
        }
    }
}
