//! A queue with its name and attributes, as connections and the log share it.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use crate::codec::raw_table::RawTable;
use crate::log::owner::wants;
use crate::queues::arguments::{self, Arguments};
use crate::queues::fault::{Fault, Outcome, PRECONDITION_FAILED, RESOURCE_LOCKED};
use crate::queues::lifetimes::NEVER;
use crate::queues::queue::Queue;
use crate::queues::subscriber::SharedSubscriber;
use crate::queues::timers::Timers;
use crate::sync::lock;

/// The attributes in a declaration of a queue.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct QueueAttributes<'a> {
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    /// The connection, if the queue shall be exclusive to it.
    pub(crate) owner: Option<u64>,
    pub(crate) arguments: RawTable<'a>,
}

impl QueueAttributes<'_> {
    /// Whether such a queue is there again after a restart.
    pub(super) fn survive(&self) -> bool {
        self.durable && self.owner.is_none()
    }

    /// What the arguments ask of the queue called `name`; None if there are none. Fails with 406 or 540 if they are not
    /// allowed, or not together with the other attributes.
    pub(super) fn parse(&self, name: &str) -> Outcome<Option<Arc<Arguments>>> {
        if self.arguments.bytes().is_empty() {
            return Ok(None);
        }
        let arguments = Arguments::parse(self.arguments, name)?;
        let problem = match () {
            () if !arguments.is_quorum => None,
            () if !self.durable => Some("non-durable"),
            () if self.owner.is_some() => Some("exclusive-owner"),
            () if self.auto_delete => Some("auto-delete"),
            () => None,
        };
        match problem {
            None => Ok(Some(Arc::new(arguments))),
            Some(problem) => {
                let text = format!("invalid property '{problem}' for queue '{name}' in vhost '/'");
                Fault::channel(PRECONDITION_FAILED, text)
            }
        }
    }
}

/// A queue with its name and attributes.
pub(crate) struct SharedQueue {
    pub(crate) id: u32,
    pub(crate) name: String,
    /// As declared.
    pub(crate) declared_durable: bool,
    pub(crate) auto_delete: bool,
    /// What it wants of messages, as in [`mod@wants`].
    pub(super) wants: u8,
    /// The connection that owns it exclusively.
    pub(crate) owner: Option<u64>,
    /// It survives a restart: declared durable, and not exclusive.
    pub(crate) durable: bool,
    arguments: Option<Arc<Arguments>>,
    next_position: AtomicU64,
    state: Mutex<Queue<SharedSubscriber>>,
    this: Weak<Self>,
    timers: Arc<Timers<Self>>,
}

impl SharedQueue {
    /// A queue without messages. `arguments` are those of `attributes`, as [`QueueAttributes::parse`] returns them.
    pub(super) fn new(
        id: u32,
        name: &str,
        attributes: QueueAttributes<'_>,
        arguments: Option<Arc<Arguments>>,
        timers: &Arc<Timers<Self>>,
    ) -> Arc<Self> {
        let durable = attributes.survive();
        let mut state = Queue::new(id, durable);
        let mut wants = 0;
        if let Some(arguments) = &arguments {
            state.set_arguments(Arc::clone(arguments));
            wants |= if arguments.message_ttl.is_some() { wants::ARRIVAL } else { 0 };
            wants |= if arguments.rejects_publishes() { wants::VERDICT } else { 0 };
            wants |= if arguments.is_quorum { wants::DURABILITY } else { 0 };
        }
        Arc::new_cyclic(|this| Self {
            id,
            name: name.to_owned(),
            declared_durable: attributes.durable,
            auto_delete: attributes.auto_delete,
            wants,
            owner: attributes.owner,
            durable,
            arguments,
            next_position: AtomicU64::new(1),
            state: Mutex::new(state),
            this: Weak::clone(this),
            timers: Arc::clone(timers),
        })
    }

    pub(crate) fn lock(&self) -> QueueGuard<'_> {
        QueueGuard { queue: self, state: lock(&self.state) }
    }

    /// What its arguments ask of it; None if it was declared without any.
    pub(crate) fn arguments(&self) -> Option<&Arguments> {
        self.arguments.as_deref()
    }

    /// Its arguments as they were declared.
    pub(crate) fn argument_table(&self) -> RawTable<'_> {
        self.arguments().map(Arguments::table).unwrap_or_default()
    }

    /// Fails with 406 if a declaration with these arguments asks for another queue.
    pub(super) fn check_arguments(&self, received: RawTable<'_>) -> Outcome {
        arguments::check_equivalent(self.argument_table(), received, &self.name)
    }

    /// The shared queue itself; None while it is dropped.
    pub(crate) fn shared(&self) -> Option<Arc<Self>> {
        self.this.upgrade()
    }

    /// The position of the next message. Only called under the lock of the log's batch, so positions ascend in the
    /// order of the log.
    pub(crate) fn next_position(&self) -> u64 {
        self.next_position.fetch_add(1, Ordering::Relaxed)
    }

    /// Continues after a restart.
    pub(crate) fn set_next_position(&self, position: u64) {
        self.next_position.store(position.max(1), Ordering::Relaxed);
    }

    /// Somebody uses the queue: if it ends when it is unused, its time begins anew.
    pub(crate) fn touch(&self) {
        if self.arguments().is_some_and(|arguments| arguments.expires.is_some()) {
            self.lock().touch();
        }
    }

    /// Refuses other connections than the owner's (error 405).
    pub(crate) fn check_access(&self, connection: u64) -> Outcome {
        match self.owner {
            Some(owner) if owner != connection => Fault::channel(RESOURCE_LOCKED, locked_text(&self.name)),
            _ => Ok(()),
        }
    }
}

pub(super) fn locked_text(name: &str) -> String {
    format!(
        "cannot obtain exclusive access to locked queue '{name}' in vhost '/'. It could be originally declared on \
         another connection or the exclusive property value does not match that of the original declaration."
    )
}

/// A queue while it is locked. Whoever changes it need not think of timers: the guard sets them when it is dropped.
pub(crate) struct QueueGuard<'a> {
    queue: &'a SharedQueue,
    state: MutexGuard<'a, Queue<SharedSubscriber>>,
}

impl QueueGuard<'_> {
    /// Somebody looks after the queue from now on, so nothing is scheduled until [`QueueGuard::end_upkeep`].
    pub(crate) fn begin_upkeep(&mut self) {
        self.reschedule(0);
    }

    pub(crate) fn end_upkeep(&mut self) {
        self.reschedule(NEVER);
    }

    fn reschedule(&mut self, due: u64) {
        let before = self.state.set_scheduled(due);
        if before != NEVER {
            self.queue.timers.cancel(self.queue.id, before);
        }
    }
}

impl Deref for QueueGuard<'_> {
    type Target = Queue<SharedSubscriber>;

    fn deref(&self) -> &Self::Target {
        &self.state
    }
}

impl DerefMut for QueueGuard<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.state
    }
}

impl Drop for QueueGuard<'_> {
    fn drop(&mut self) {
        if !self.state.is_watched() {
            return;
        }
        let SharedQueue { id, this, timers, .. } = self.queue;
        if let Some((before, due)) = self.state.reschedule() {
            timers.schedule(*id, this, before, due);
        } else if let Some(due) = self.state.unschedule_deleted() {
            timers.cancel(*id, due);
        }
    }
}
