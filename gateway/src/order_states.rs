//! What has become of an order. Billing is asked, since its database knows best; this gateway's own memory tells where
//! orders are that billing has not seen.

use std::sync::Arc;
use std::time::Duration;

use order::question::{Answer, OrderRecord, Question};
use order::report::MessageOutcome;

use crate::billing_activity::BillingActivity;
use crate::publisher::Publisher;
use crate::questions::Unanswered;
use crate::recent_orders::{Place, RecentOrders};

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
}

impl OrderState {
    fn new(name: &'static str) -> Self {
        Self { name, reason: None }
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
        // That is final, so nobody needs to be asked.
        if reported == Some(MessageOutcome::Stored) {
            return self.noting_contest(message_id, OrderState::new("stored"));
        }
        match self.ask(message_id) {
            Ok(Answer::Order(record)) => self.state(message_id, &record),
            _ if reported == Some(MessageOutcome::Dead) => OrderState::new("dead"),
            _ => {
                let name = match self.recent.place(message_id) {
                    Some(Place::Outbox) => "outbox",
                    Some(Place::Queue) if self.recent.must_be_waiting(message_id) => "waiting",
                    _ => "unknown",
                };
                self.noting_contest(message_id, OrderState::new(name))
            }
        }
    }

    /// What billing knows of an order.
    pub(crate) fn ask(&self, message_id: &str) -> Result<Answer, Unanswered> {
        self.publisher.ask(&Question::Order { message_id: message_id.to_owned() }, TIMEOUT)
    }

    /// The state of an order of which billing knows `record`.
    pub(crate) fn state(&self, message_id: &str, record: &OrderRecord) -> OrderState {
        let name = match self.recent.place(message_id) {
            _ if record.stored_at.is_some() => "stored",
            _ if record.dead.is_some() => "dead",
            Some(Place::Outbox) => "outbox",
            Some(Place::Queue) => "waiting",
            _ if record.requeued => "waiting",
            Some(Place::Underway) | None => "unknown",
        };
        self.noting_contest(message_id, OrderState { name, reason: record.dead.clone() })
    }

    /// The state, and that another order was refused under its id, unless there is another reason.
    fn noting_contest(&self, message_id: &str, mut state: OrderState) -> OrderState {
        if state.reason.is_none() && self.recent.is_contested(message_id) {
            state.reason = Some(CONTESTED.to_owned());
        }
        state
    }
}
