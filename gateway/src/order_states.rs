//! What has become of an order. Billing is asked, since its database knows best; this gateway's own memory tells where
//! orders are that billing has not seen.

use std::sync::Arc;
use std::time::Duration;

use order::question::{Answer, OrderRecord, Question, StoredOrder};
use order::report::MessageOutcome;

use crate::billing_activity::BillingActivity;
use crate::order_stages::{self, End, Stage};
use crate::publisher::Publisher;
use crate::questions::Unanswered;
use crate::recent_orders::{Place, RecentOrder, RecentOrders};

/// How long billing may take to answer.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The reason that is shown while this gateway remembers that it has refused another order.
const CONTESTED: &str = "another order under this message_id was refused";

/// What has become of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OrderState {
    /// `stored`, `dead`, `waiting`, `outbox` or `unknown`.
    pub(crate) name: &'static str,
    /// Why a message is dead. If the state is another one, this was another order under the same id.
    pub(crate) reason: Option<String>,
    /// The stages that it has reached, the first one first.
    pub(crate) stages: Vec<Stage>,
}

impl OrderState {
    /// The state of an order of which this gateway remembers `recent`, with the `reason` that billing knows.
    fn new(name: &'static str, recent: Option<&RecentOrder>, end: &End, reason: Option<String>) -> Self {
        let is_contested = name != "dead" && recent.is_some_and(|recent| recent.is_contested);
        let reason = reason.or_else(|| is_contested.then(|| CONTESTED.to_owned()));
        Self { name, reason, stages: order_stages::stages(recent, end) }
    }

    /// Whether anybody knows the order.
    pub(crate) fn is_known(&self) -> bool {
        self.name != "unknown"
    }
}

/// Finds out about orders.
pub(crate) struct OrderStates {
    publisher: Arc<Publisher>,
    recent: Arc<RecentOrders>,
    billing_activity: Arc<BillingActivity>,
}

impl OrderStates {
    pub(crate) fn new(
        publisher: Arc<Publisher>,
        recent: Arc<RecentOrders>,
        billing_activity: Arc<BillingActivity>,
    ) -> Self {
        Self { publisher, recent, billing_activity }
    }

    /// The state of an order. It is `unknown` only if neither billing nor this gateway knows the id, or if billing
    /// cannot be asked and may have settled the order meanwhile.
    pub(crate) fn find(&self, message_id: &str) -> OrderState {
        let reported = self.billing_activity.outcome(message_id);
        if let Ok(Answer::Order(record)) = self.ask(message_id) {
            return self.state(message_id, &record);
        }
        let recent = self.recent.find(message_id);
        let place = recent.as_ref().map(|recent| (recent.place, recent.must_be_waiting));
        let (name, end) = match (reported, place) {
            (Some(MessageOutcome::Stored), _) => ("stored", End::Stored(None)),
            (Some(MessageOutcome::Dead), _) => ("dead", End::Dead(None)),
            (None, Some((Place::Outbox, _))) => ("outbox", End::Open),
            (None, Some((Place::Queue, true))) => ("waiting", End::Waiting),
            (None, _) => ("unknown", End::Open),
        };
        OrderState::new(name, recent.as_ref(), &end, None)
    }

    /// What billing knows of an order.
    pub(crate) fn ask(&self, message_id: &str) -> Result<Answer, Unanswered> {
        self.publisher.ask(&Question::Order { message_id: message_id.to_owned() }, TIMEOUT)
    }

    /// The state of an order of which billing knows `record`.
    pub(crate) fn state(&self, message_id: &str, record: &OrderRecord) -> OrderState {
        let recent = self.recent.find(message_id);
        let (name, end) = match recent.as_ref().map(|recent| recent.place) {
            _ if record.stored_at.is_some() => ("stored", End::Stored(record.stored_at.clone())),
            _ if record.dead.is_some() => ("dead", End::Dead(record.dead_at.clone())),
            Some(Place::Outbox) => ("outbox", End::Open),
            Some(Place::Queue) => ("waiting", End::Waiting),
            _ if record.requeued => ("waiting", End::Waiting),
            Some(Place::Underway) | None => ("unknown", End::Open),
        };
        OrderState::new(name, recent.as_ref(), &end, record.dead.clone())
    }

    /// The stages of an order that is in billing's table.
    pub(crate) fn stages(&self, order: &StoredOrder) -> Vec<Stage> {
        let recent = order.message_id.as_deref().and_then(|id| self.recent.find(id));
        order_stages::stages(recent.as_ref(), &End::Stored(order.stored_at.clone()))
    }
}
