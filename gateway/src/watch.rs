//! How the parts of the platform are, since when, and what waits where. The parts are asked at most every quarter of a
//! second, however many want to know.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use order::question::{Answer, Question};

use crate::billing_activity::{BillingActivity, BillingTotals};
use crate::outbox::{Outbox, OutboxFigures};
use crate::publisher::{BrokerState, Publisher};
use crate::upstream::{self, Readiness, UpstreamService};

/// How long an answer is reused.
const FRESH: Duration = Duration::from_millis(250);
/// After this long without an answer from billing about its database, a database that was away may be back.
const ANSWER_HOLDS: Duration = Duration::from_secs(15);
/// How long billing may take to tell the number of orders.
const SUMMARY_TIMEOUT: Duration = Duration::from_millis(500);

/// How something is, and since when it has been seen so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartState {
    /// `ok`, `not ready`, `unreachable`, `blocked`, `silent` or `unknown`.
    pub(crate) name: &'static str,
    since: SystemTime,
}

impl PartState {
    /// A state that begins now.
    pub(crate) fn named(name: &'static str) -> Self {
        Self { name, since: SystemTime::now() }
    }

    fn is_now(&mut self, name: &'static str) {
        if self.name != name {
            *self = Self::named(name);
        }
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
    /// The database of inventory, as inventory sees it.
    pub(crate) movies_db: PartState,
    pub(crate) broker: PartState,
    pub(crate) billing: PartState,
    /// The database of billing, as billing sees it.
    pub(crate) billing_db: PartState,
    /// Messages that wait in the queue and in its dead-letter queue; `None` if nobody can tell.
    pub(crate) waiting: Option<u32>,
    pub(crate) dead: Option<u32>,
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
            services: vec![unknown; services.len()].into(),
            movies_db: unknown,
            broker: unknown,
            billing: unknown,
            billing_db: unknown,
            waiting: None,
            dead: None,
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
                sight.billing_db.is_now("unreachable");
            } else if was_away && last.asked.is_none_or(|asked| asked.elapsed() >= ANSWER_HOLDS) {
                sight.billing_db.is_now("unknown");
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
        for (state, readiness) in sight.services.iter_mut().zip(&found) {
            state.is_now(match readiness {
                Readiness::Ready => "ok",
                Readiness::NotReady(_) => "not ready",
                Readiness::Unreachable(_) => "unreachable",
            });
        }
        sight.movies_db.is_now(match found.first() {
            Some(Readiness::Ready) => "ok",
            Some(Readiness::NotReady(_)) => "unreachable",
            Some(Readiness::Unreachable(_)) | None => "unknown",
        });
        let queues = self.publisher.count_messages();
        // A broker that is connected but does not answer counts as unreachable.
        let broker = match self.publisher.broker() {
            BrokerState::Ready if queues.is_none() => BrokerState::Unreachable,
            state => state,
        };
        sight.broker.is_now(broker.name());
        (sight.waiting, sight.dead) = queues.unwrap_or_default();
        sight.reported = self.billing_activity.billing();
        sight.billing.is_now(if sight.reported.instances > 0 { "ok" } else { "silent" });
        sight.outbox = self.outbox.as_ref().map(|outbox| outbox.figures());
    }

    /// Asks billing about its database.
    fn ask_billing(&self, sight: &mut Sight) {
        let summary = self.publisher.ask(&Question::Summary, SUMMARY_TIMEOUT);
        sight.billing_db.is_now(match &summary {
            Ok(Answer::Summary { .. }) => "ok",
            Ok(Answer::DatabaseUnreachable) => "unreachable",
            _ => "unknown",
        });
        sight.orders_stored = match summary {
            Ok(Answer::Summary { orders }) => orders,
            _ => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_begins_when_it_is_first_seen() {
        let mut state = PartState::named("unknown");
        state.since = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
        state.is_now("unknown");
        assert_eq!((state.name, state.since_s()), ("unknown", 7));
        state.is_now("ok");
        assert!(state.name == "ok" && state.since_s() > 7);
    }
}
