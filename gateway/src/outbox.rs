//! Keeps orders that the broker does not take in a folder of the gateway's own, and passes them on when it does.
//!
//! An order in the outbox may also have reached the broker: its confirm was only late, or lost. Billing recognises it by
//! its message id. Orders are passed on oldest first, while new ones go to the broker at once and may overtake them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use broker::{PublishError, Spool, SpoolOptions, SpooledMessage};
use foundation::metrics::{Counter, Exposition};
use foundation::{Backoff, Shutdown};

use crate::broker_state::BrokerState;
use crate::error::Error;
use crate::publisher::{Publisher, QueuedOrder};
use crate::recent_orders::RecentOrders;
use crate::settings::OutboxSettings;

/// Most orders that are passed on together. After a failure it is one, until the broker has confirmed that.
const BATCH: usize = 256;
/// How often an idle outbox looks whether there is something to do.
const TICK: Duration = Duration::from_millis(100);
/// The first and the longest delay after the broker has confirmed nothing.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// How long storing an order may take.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a stop waits for orders that are being passed on.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// How many stored orders are remembered after a start.
const REMEMBERED: usize = 8_192;

/// How the outbox is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutboxFigures {
    /// Orders that wait in it.
    pub(crate) orders: u64,
    /// For how long the oldest of them has waited.
    pub(crate) oldest: Duration,
    /// It takes orders.
    pub(crate) is_open: bool,
    /// Why it takes none now, be it closed or full.
    pub(crate) refusal: Option<String>,
}

/// Why an order is not in the outbox, as far as that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotKept {
    /// For the log.
    pub(crate) cause: String,
    /// It may be there nevertheless.
    pub(crate) may_be_kept: bool,
}

/// Stores orders and passes them on.
pub(crate) struct Outbox {
    spool: Spool,
    publisher: Arc<Publisher>,
    recent: Arc<RecentOrders>,
    /// The broker has left an order unconfirmed and has confirmed none since: orders come here at once.
    broker_is_late: AtomicBool,
    /// When the oldest order that is being passed on was stored.
    underway_since: Mutex<Option<SystemTime>>,
    stop: Shutdown,
    /// Disconnected once the thread has ended.
    end: Mutex<Receiver<()>>,
    stored: Counter,
    passed_on: Counter,
    refused: Counter,
}

impl Outbox {
    /// Opens the folder and starts to pass on what is in it. Fails if a part of it cannot be read, or another process
    /// uses it.
    pub(crate) fn start(
        settings: &OutboxSettings,
        publisher: Arc<Publisher>,
        recent: Arc<RecentOrders>,
    ) -> Result<Arc<Self>, Error> {
        let options = SpoolOptions {
            max_messages: settings.max_orders,
            max_bytes: settings.max_bytes,
            disk_free_min_bytes: settings.disk_free_min_bytes,
            ..SpoolOptions::default()
        };
        let spool = Spool::open(&settings.folder, options).map_err(Error::Outbox)?;
        remember(&spool, &recent).map_err(Error::Outbox)?;
        if spool.count() > 0 {
            log::info!("{} orders wait in the outbox {}", spool.count(), settings.folder.display());
        }
        let (ended, end) = channel();
        let outbox = Arc::new(Self {
            spool,
            publisher,
            recent,
            broker_is_late: AtomicBool::new(false),
            underway_since: Mutex::default(),
            stop: Shutdown::new(),
            end: Mutex::new(end),
            stored: Counter::default(),
            passed_on: Counter::default(),
            refused: Counter::default(),
        });
        let worker = outbox.clone();
        let body = move || {
            worker.run();
            drop(ended);
        };
        let thread = thread::Builder::new().name("outbox".to_owned()).spawn(body);
        thread.map_err(|source| Error::Io { action: "start the outbox", source })?;
        Ok(outbox)
    }

    /// Whether orders shall come here without waiting for the broker.
    pub(crate) fn goes_first(&self) -> bool {
        self.broker_is_late.load(Ordering::Acquire)
    }

    /// The broker has not confirmed an order in time.
    pub(crate) fn note_late_broker(&self) {
        if !self.broker_is_late.swap(true, Ordering::AcqRel) {
            log::warn!("the broker confirms nothing: orders go to the outbox");
        }
    }

    /// Stores an order, durably.
    pub(crate) fn keep(&self, order: &QueuedOrder) -> Result<(), NotKept> {
        let deadline = Instant::now() + STORE_TIMEOUT;
        match self.spool.publish(&order.message_id, &order.body, deadline) {
            Ok(()) => {
                self.stored.increment();
                self.recent.note_kept(&order.message_id, &order.body, SystemTime::now());
                Ok(())
            }
            Err(error) => {
                self.refused.increment();
                let may_be_kept = error == PublishError::Unknown;
                Err(NotKept { cause: error.to_string(), may_be_kept })
            }
        }
    }

    /// Why it would take no order now.
    pub(crate) fn refusal(&self) -> Option<PublishError> {
        self.spool.refusal()
    }

    /// Whether it takes no orders any more, because its log failed.
    pub(crate) fn is_closed(&self) -> bool {
        self.spool.closed().is_some()
    }

    /// How it is doing. Reads the oldest order from disk.
    pub(crate) fn figures(&self) -> OutboxFigures {
        let waiting = self.spool.oldest().ok().flatten();
        let underway = *self.underway_since.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = underway.into_iter().chain(waiting).min();
        OutboxFigures {
            orders: self.spool.count(),
            oldest: oldest.and_then(|oldest| oldest.elapsed().ok()).unwrap_or_default(),
            is_open: !self.is_closed(),
            refusal: self.refusal().map(|refusal| match refusal {
                PublishError::Full { reason } => format!("it is full: {reason}"),
                PublishError::Closed { reason } => format!("it failed: {reason}"),
                other => other.to_string(),
            }),
        }
    }

    /// Adds its metrics to a text for Prometheus.
    pub(crate) fn write(&self, text: &mut Exposition) {
        let figures = self.figures();
        text.single("outbox_orders", "gauge", "Orders that wait in the outbox.", figures.orders);
        let help = "For how long the oldest order in the outbox has waited.";
        text.single("outbox_oldest_seconds", "gauge", help, figures.oldest.as_secs());
        let help = "Whether the outbox takes orders.";
        text.single("outbox_open", "gauge", help, u8::from(figures.is_open));
        for (name, help, counter) in [
            ("outbox_stored_total", "Orders that were stored in the outbox.", &self.stored),
            (
                "outbox_passed_on_total",
                "Orders from the outbox that the broker has confirmed.",
                &self.passed_on,
            ),
            ("outbox_refused_total", "Orders for which the outbox had no room.", &self.refused),
        ] {
            text.single(name, "counter", help, counter.get());
        }
    }

    /// Stops passing on, and closes the folder.
    pub(crate) fn stop(&self) {
        self.stop.request();
        // It may be waiting for a confirm. If that still comes, the order is passed on once more after the next start.
        let _ = self.end.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(STOP_TIMEOUT);
        if let Err(error) = self.spool.close() {
            log::error!("the outbox: {error}");
        }
    }

    /// Passes orders on until the gateway stops.
    fn run(&self) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
        let mut most = 1;
        while !self.stop.requested() {
            if self.publisher.broker() != BrokerState::Ready {
                most = 1;
                self.stop.wait_timeout(TICK);
                continue;
            }
            if self.spool.count() == 0 {
                // There is nothing by which to find out; the next order will.
                self.trust_broker();
                self.stop.wait_timeout(TICK);
                continue;
            }
            match self.pass_on(most) {
                Ok(()) => {
                    self.trust_broker();
                    backoff.reset();
                    most = BATCH;
                }
                Err(cause) => {
                    log::debug!("orders stay in the outbox: {cause}");
                    most = 1;
                    self.stop.wait_timeout(backoff.next_delay());
                }
            }
        }
    }

    fn trust_broker(&self) {
        if self.broker_is_late.swap(false, Ordering::AcqRel) {
            log::info!("orders go to the broker again");
        }
    }

    /// Passes on up to `most` orders, oldest first. Fails if the broker has confirmed none of them.
    fn pass_on(&self, most: usize) -> Result<(), String> {
        let orders = self.spool.take(most).map_err(|error| error.to_string())?;
        let Some(oldest) = orders.first() else { return Ok(()) };
        self.set_underway(Some(oldest.stored_at));
        let results = self.publisher.pass_on(&orders);
        let (mut confirmed, mut left) = (Vec::new(), Vec::new());
        let mut cause = "the broker is not connected".to_owned();
        for (order, result) in orders.into_iter().zip(results) {
            match result {
                Ok(()) => confirmed.push(order),
                Err(error) => {
                    cause = error.to_string();
                    left.push(order);
                }
            }
        }
        self.finish(&confirmed, &left);
        if confirmed.is_empty() { Err(cause) } else { Ok(()) }
    }

    fn finish(&self, confirmed: &[SpooledMessage], left: &[SpooledMessage]) {
        self.spool.acknowledge(confirmed);
        self.spool.give_back(left);
        self.set_underway(None);
        self.passed_on.add(confirmed.len() as u64);
        for order in confirmed {
            self.recent.note_confirmed(&order.id, &order.body, Some(order.stored_at));
        }
    }

    fn set_underway(&self, since: Option<SystemTime>) {
        *self.underway_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

/// Notes the oldest orders as being in the outbox. No more than a batch of them is in memory at a time.
fn remember(spool: &Spool, recent: &RecentOrders) -> Result<(), broker::Error> {
    let mut seen: Vec<SpooledMessage> = Vec::new();
    while seen.len() < REMEMBERED {
        let mut batch = spool.take(BATCH)?;
        if batch.is_empty() {
            break;
        }
        for order in &mut batch {
            recent.note_kept(&order.id, &order.body, order.stored_at);
            order.body = Vec::new();
        }
        seen.append(&mut batch);
    }
    spool.give_back(&seen);
    Ok(())
}
