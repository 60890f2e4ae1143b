//! Publishes orders. A supervisor thread keeps one connection to the broker open. Requests share its channel, so many
//! of them can wait for their confirms at the same time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use amqp::{BrokerError, BrokerProgram, Connection, Deliveries, Delivery, Properties, PublishError};
use broker::SpooledMessage;
use foundation::{Backoff, Shutdown};
use order::question::{Answer, Question};
use order::{APP_ID, report};

use crate::billing_activity::BillingActivity;
use crate::broker_state::{BrokerState, KnownBroker, OrderQueues};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::questions::{Questions, Unanswered};
use crate::settings::QueueSettings;

/// The first and the longest delay before reconnecting.
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
const RECONNECT_MAX: Duration = Duration::from_secs(5);
/// Interval for redeclaring the queue and probing the broker: recreates the queue if it was deleted, and detects
/// half-open connections and a broker that silently blocks publishers.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// A connection is given up when the broker has not answered a probe for the confirm timeout and this long: a broker
/// that stands still gets no new orders after two seconds, and those that it has keep their whole deadline.
const PROBE_GRACE: Duration = Duration::from_secs(3);
/// A connection on which the broker confirms nothing for this long is given up, even if it still sends heartbeats: it may
/// be the connection that is at fault, and then another one helps.
const STALL_MAX: Duration = Duration::from_secs(15);
/// How long closing the connection may take when the gateway stops.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);

/// How often the supervisor checks the connection.
const TICK: Duration = Duration::from_millis(100);
/// Most reports that are received at once.
const REPORTS_MAX: usize = 100;

/// A valid order on its way to the queue.
pub(crate) struct QueuedOrder {
    /// The id by which billing recognises a repetition.
    pub(crate) message_id: String,
    /// The order as compact JSON.
    pub(crate) body: Vec<u8>,
}

/// Proof that the broker has stored an order; only [`Publisher::publish`] creates it.
#[derive(Debug)]
pub(crate) struct Confirmed(());

/// Why the broker has not confirmed an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unconfirmed {
    /// For the log.
    pub(crate) cause: String,
    /// The broker may have stored it nevertheless.
    pub(crate) may_be_stored: bool,
    /// There was no answer in time.
    pub(crate) timed_out: bool,
}

/// Publishes orders, while the broker is connected.
pub(crate) struct Publisher {
    settings: QueueSettings,
    metrics: Arc<Metrics>,
    billing_activity: Arc<BillingActivity>,
    current: Mutex<Option<Arc<Connection>>>,
    /// What is known of the broker beside the connection.
    known: Mutex<KnownBroker>,
    questions: Questions,
    /// Raised when the gateway stops publishing.
    stop: Shutdown,
}

impl Publisher {
    /// Starts to connect in the background.
    pub(crate) fn start(
        settings: QueueSettings,
        metrics: Arc<Metrics>,
        billing_activity: Arc<BillingActivity>,
    ) -> Result<Arc<Self>, Error> {
        let publisher = Arc::new(Self {
            settings,
            metrics,
            billing_activity,
            current: Mutex::default(),
            known: Mutex::default(),
            questions: Questions::default(),
            stop: Shutdown::new(),
        });
        let supervisor = publisher.clone();
        thread::Builder::new()
            .name("publisher".to_owned())
            .spawn(move || supervisor.supervise())
            .map_err(|source| Error::Io { action: "start the publisher", source })?;
        Ok(publisher)
    }

    /// Whether there is a connection to the broker.
    pub(crate) fn is_connected(&self) -> bool {
        self.current().is_some()
    }

    /// Whether orders can be published right now.
    pub(crate) fn broker(&self) -> BrokerState {
        match self.current() {
            None => BrokerState::Unreachable,
            Some(connection) if connection.blocked().is_some() => BrokerState::Blocked,
            Some(_) => BrokerState::Ready,
        }
    }

    /// Why orders cannot be published, without addresses; `None` if they can, or nobody has found out yet.
    pub(crate) fn trouble(&self) -> Option<String> {
        match self.current() {
            None => self.known().trouble.as_ref().map(|cause| format!("no connection to it: {cause}")),
            Some(connection) => connection.blocked(),
        }
    }

    /// Which program the broker is, or was when it was connected last.
    pub(crate) fn broker_program(&self) -> Option<BrokerProgram> {
        self.known().program.clone()
    }

    fn known(&self) -> MutexGuard<'_, KnownBroker> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the queues. `None` if the broker is unreachable or blocked; a blocked one may not even read the request.
    pub(crate) fn inspect_queues(&self) -> Option<OrderQueues> {
        let connection = self.current().filter(|connection| connection.blocked().is_none())?;
        let orders = connection.inspect_queue(&self.settings.queue).ok()?;
        let dead_letters = connection.inspect_queue(&format!("{}.dead", self.settings.queue)).ok()?;
        Some(OrderQueues { orders, dead_letters })
    }

    /// How long the broker may take to confirm an order that has nowhere else to go.
    pub(crate) fn confirm_timeout(&self) -> Duration {
        self.settings.confirm_timeout
    }

    /// Publishes one order and waits for the broker's confirm. Fails at once if the broker is not connected or blocked,
    /// otherwise within `timeout`.
    pub(crate) fn publish(&self, order: &QueuedOrder, timeout: Duration) -> Result<Confirmed, Unconfirmed> {
        let Some(connection) = self.current() else {
            self.metrics.count_disconnected();
            let cause = "the broker is not connected".to_owned();
            return Err(Unconfirmed { cause, may_be_stored: false, timed_out: false });
        };
        let queue = &self.settings.queue;
        match connection.publish(queue, properties(&order.message_id), order.body.clone(), timeout) {
            Ok(()) => {
                self.metrics.orders_confirmed.increment();
                Ok(Confirmed(()))
            }
            Err(error) => {
                self.metrics.count_unpublished(&error);
                if matches!(error, PublishError::Returned(_)) {
                    self.declare_again(&connection);
                }
                let timed_out = error == PublishError::TimedOut;
                let may_be_stored = timed_out || matches!(error, PublishError::Closed(_));
                Err(Unconfirmed { cause: error.to_string(), may_be_stored, timed_out })
            }
        }
    }

    /// Publishes orders of the outbox in this order and waits for their confirms. Returns each order's own result, or
    /// none if the broker is not connected.
    pub(crate) fn pass_on(&self, orders: &[SpooledMessage]) -> Vec<Result<(), PublishError>> {
        let Some(connection) = self.current() else {
            return vec![Err(PublishError::Closed("there is none".to_owned())); orders.len()];
        };
        let messages = orders.iter().map(|order| (properties(&order.id), order.body.clone())).collect();
        let results = connection.publish_all(&self.settings.queue, messages, self.settings.confirm_timeout);
        let confirmed = results.iter().filter(|result| result.is_ok()).count();
        self.metrics.orders_confirmed.add(confirmed as u64);
        if results.iter().any(|result| matches!(result, Err(PublishError::Returned(_)))) {
            self.declare_again(&connection);
        }
        results
    }

    /// The queue was deleted: recreates it for the next order.
    fn declare_again(&self, connection: &Connection) {
        let queue = &self.settings.queue;
        if let Err(e) = connection.declare_queue(queue) {
            log::warn!("cannot declare {queue} again: {e}");
        }
    }

    /// Asks billing and waits for its answer. Fails at once if nobody is there to answer, otherwise within `timeout`.
    pub(crate) fn ask(&self, question: &Question, timeout: Duration) -> Result<Answer, Unanswered> {
        let unreachable = || Unanswered::NotAsked("the broker is not connected".to_owned());
        let connection = self.current().ok_or_else(unreachable)?;
        self.questions.ask(&connection, &self.settings.queue, question, timeout)
    }

    /// Closes the connection. Orders that are still being published fail.
    pub(crate) fn stop(&self) {
        self.stop.request();
        let connection = self.current.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(connection) = connection.and_then(Arc::into_inner) {
            connection.close(CLOSE_TIMEOUT);
        }
    }

    fn current(&self) -> Option<Arc<Connection>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connects, waits for the connection to end, and starts over, until the gateway stops.
    fn supervise(&self) {
        // Not reset by connecting: a broker may accept connections and then end them.
        let mut backoff = Backoff::new(RECONNECT_FIRST, RECONNECT_MAX);
        let mut reported = String::new();
        while !self.stop.requested() {
            match connect(&self.settings) {
                Ok(connection) => {
                    log::info!("connected to the broker");
                    reported.clear();
                    *self.known() = KnownBroker { program: Some(connection.server().clone()), trouble: None };
                    if self.attend(Arc::new(connection)) {
                        backoff.reset();
                    }
                }
                Err(error) => {
                    self.known().trouble = Some(error.reason().to_owned());
                    let cause = error.to_string();
                    // Log each reason once, not each attempt.
                    if cause != reported {
                        log::warn!("cannot reach the broker: {cause}; trying again");
                        reported = cause;
                    }
                }
            }
            self.stop.wait_timeout(backoff.next_delay());
        }
    }

    /// Lets requests publish on `connection` until it ends, and receives billing's reports meanwhile. Returns
    /// whether the connection was of use: an order was confirmed, or it lasted until the queue was declared again.
    fn attend(&self, connection: Arc<Connection>) -> bool {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
        // If the broker refuses this, there are no reports and answers for now, but orders are still published.
        let mut refused_hearing = String::new();
        let mut reports = self.listen(&connection, &mut refused_hearing);
        let weak = Arc::downgrade(&connection);
        drop(connection);
        let mut probed = Instant::now();
        let mut unanswered: Option<Instant> = None;
        let mut refusal = None;
        let (confirmed, mut lasted) = (self.metrics.orders_confirmed.get(), false);
        // The connection is held only while it is checked, so that `stop` can take and close it.
        let reason = loop {
            let Some(connection) = weak.upgrade() else { return true };
            let pause = if reports.is_some() { Duration::ZERO } else { TICK };
            if let Some(reason) = connection.wait_closed(pause) {
                break reason;
            }
            if self.stop.requested() {
                return true;
            }
            if connection.stalled_for() >= STALL_MAX {
                break format!("it has confirmed nothing for {} s", STALL_MAX.as_secs());
            }
            let blocked = connection.blocked();
            let is_due = probed.elapsed() >= PROBE_INTERVAL && blocked.is_none();
            if is_due || unanswered.is_some() {
                let asked = Instant::now();
                match connection.declare_queue(&self.settings.queue) {
                    Ok(_) => {
                        unanswered = None;
                        lasted = true;
                        connection.probe();
                        if reports.is_none() {
                            reports = self.listen(&connection, &mut refused_hearing);
                        }
                        probed = Instant::now();
                    }
                    Err(e) => {
                        let since = *unanswered.get_or_insert(asked);
                        if since.elapsed() >= self.settings.confirm_timeout + PROBE_GRACE {
                            break e.to_string();
                        }
                    }
                }
            }
            drop(connection);
            report_change(&mut refusal, blocked);
            self.billing_activity.sample(self.metrics.orders_confirmed.get());
            match reports.as_mut().map(|reports| reports.next_batch(REPORTS_MAX, TICK)) {
                Some(Ok(batch)) => batch.into_iter().for_each(|message| self.hear(message)),
                Some(Err(e)) => {
                    log::warn!("billing is not heard any more: {e}");
                    reports = None;
                    self.questions.set_reply_to(None);
                }
                None => {}
            }
        };
        self.questions.set_reply_to(None);
        self.current.lock().unwrap_or_else(PoisonError::into_inner).take();
        log::warn!("lost the broker: {reason}; connecting again");
        self.known().trouble = Some(reason);
        lasted || self.metrics.orders_confirmed.get() > confirmed
    }

    /// Listens to billing's reports, in a queue where its answers arrive, too. Logs each reason for a refusal once.
    fn listen(&self, connection: &Connection, refused: &mut String) -> Option<Deliveries> {
        let listening = connection.listen(&report::exchange(&self.settings.queue));
        self.billing_activity.note_gap();
        match listening {
            Ok(reports) => {
                self.questions.set_reply_to(Some(reports.queue().to_owned()));
                if !std::mem::take(refused).is_empty() {
                    log::info!("billing can be heard");
                }
                Some(reports)
            }
            Err(e) => {
                let cause = e.to_string();
                if cause != *refused {
                    log::warn!("billing cannot be heard: {cause}; trying again");
                    *refused = cause;
                }
                None
            }
        }
    }

    fn hear(&self, message: Delivery) {
        if let Some(id) = message.properties.correlation_id() {
            self.questions.settle(id, message.body);
            return;
        }
        match serde_json::from_slice(&message.body) {
            Ok(report) => self.billing_activity.record(report),
            Err(e) => log::debug!("a report that cannot be read: {e}"),
        }
    }
}

/// The properties of an order's message.
fn properties(message_id: &str) -> Properties {
    Properties::persistent_json(APP_ID, message_id).with_header("schema", order::SCHEMA)
}

/// Logs that the broker has begun or ceased to accept orders, with the reason, which clients are not told.
fn report_change(known: &mut Option<String>, now: Option<String>) {
    match (&known, &now) {
        (None, Some(cause)) => log::warn!("the broker takes no orders for now: {cause}"),
        (Some(_), None) => log::info!("the broker takes orders again"),
        _ => return,
    }
    *known = now;
}

/// Opens a connection, declares the queue, and finds out whether the broker accepts messages.
fn connect(settings: &QueueSettings) -> Result<Connection, BrokerError> {
    let connection = Connection::open(&settings.amqp, APP_ID)?;
    connection.declare_queue(&settings.queue)?;
    connection.probe();
    Ok(connection)
}

/// Whether the broker can be used, for `--check`.
pub(crate) fn check(settings: &QueueSettings) -> Result<(), String> {
    let connection = connect(settings).map_err(|error| error.to_string())?;
    let blocked = connection.blocked();
    connection.close(CLOSE_TIMEOUT);
    blocked.map_or(Ok(()), |cause| Err(format!("it takes no orders for now: {cause}")))
}
