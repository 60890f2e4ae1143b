//! The queues and exchanges that exist, and the rules for declaring and deleting queues. Those for exchanges and
//! bindings are in [`crate::queues::bindings`].

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use crate::codec::raw_table::RawTable;
use crate::error::Error;
use crate::log::definitions::{self, Definition, Header};
use crate::log::storage::Storage;
use crate::log::stored_message::FIRST_TRANSIENT_ID;
use crate::queues::exchange::{Destination, Exchange, ExchangeType, Target};
use crate::queues::fault::{
    Fault, INTERNAL_ERROR, NOT_FOUND, Outcome, PRECONDITION_FAILED, RESOURCE_ERROR, RESOURCE_LOCKED,
};
use crate::queues::queue::Queue;
pub(crate) use crate::queues::shared_queue::{QueueAttributes, SharedQueue};
use crate::queues::shared_queue::{QueueGuard, locked_text};
use crate::queues::subscriber::SharedSubscriber;
use crate::queues::timers::Timers;
use crate::sync::lock;

/// The queues that a message goes to.
pub(crate) type Routes = crate::log::write_batch::Routes<SharedQueue>;

/// What exists. Cloning shares the queues themselves.
#[derive(Clone, Default)]
pub(super) struct Registry {
    pub(super) queues: HashMap<String, Arc<SharedQueue>>,
    pub(super) exchanges: HashMap<String, Exchange>,
    next_id: u32,
    next_transient_id: u32,
    timers: Arc<Timers<SharedQueue>>,
    /// At least what the bindings take; see [`Registry::reserve_binding`].
    pub(super) binding_bytes: usize,
}

/// The queues, exchanges and bindings of the one vhost.
pub(crate) struct Topology {
    storage: Arc<dyn Storage>,
    /// Shared, so that a long lookup, such as that of a message with many routing keys, needs no lock.
    registry: RwLock<Arc<Registry>>,
    /// What the files on disk say besides the definitions. Locked after the registry, while they are replaced.
    header: Mutex<Header>,
    /// The last attempt to replace the files failed: nobody knows which definitions are there.
    unsaved: AtomicBool,
    /// Changes whenever a route may have changed, so that channels can keep routes they looked up.
    version: AtomicU64,
    /// The most queues, and the most exchanges.
    pub(super) max_queues: usize,
    /// When queues have to be looked after.
    timers: Arc<Timers<SharedQueue>>,
}

impl Topology {
    /// The topology that the definitions describe, besides the exchanges that always exist.
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        header: Header,
        definitions: Vec<Definition<'_>>,
        max_queues: usize,
    ) -> Outcome<Self> {
        let mut registry =
            Registry { next_id: 1, next_transient_id: FIRST_TRANSIENT_ID, ..Registry::default() };
        let timers = Arc::clone(&registry.timers);
        for kind in ExchangeType::ALL {
            let exchange = Exchange::new(kind, true, false, false);
            registry.exchanges.insert(format!("amq.{}", kind.name()), exchange);
        }
        // The other name of amq.headers (AMQP 0-9-1 §3.1.3.4).
        let also_headers = Exchange::new(ExchangeType::Headers, true, false, false);
        registry.exchanges.insert("amq.match".to_owned(), also_headers);
        for definition in definitions {
            registry.restore(definition)?;
        }
        registry.binding_bytes = registry.count_binding_bytes();
        let (registry, header) = (RwLock::new(Arc::new(registry)), Mutex::new(header));
        let (unsaved, version) = (AtomicBool::new(false), AtomicU64::new(1));
        Ok(Self { storage, registry, header, unsaved, version, max_queues, timers })
    }

    pub(crate) fn timers(&self) -> &Timers<SharedQueue> {
        &self.timers
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Arc<Registry>> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the registry; what `change` says is durable is on disk before anybody sees it.
    pub(super) fn change<T>(&self, durable: bool, change: impl FnOnce(&mut Registry) -> T) -> Outcome<T> {
        let mut registry = self.registry.write().unwrap_or_else(PoisonError::into_inner);
        let result = if durable {
            let mut next = Registry::clone(&registry);
            let result = change(&mut next);
            let mut header = lock(&self.header);
            if let Err(error) = self.save(&next, &mut header) {
                log::error!("{error}");
                // The files may say what does not hold. If this fails, too, the housekeeper tries again, and gives up if
                // that is not for want of space.
                let _ = self.save(&registry, &mut header);
                return Fault::connection(INTERNAL_ERROR, "the definition could not be stored");
            }
            drop(header);
            *registry = Arc::new(next);
            result
        } else {
            change(Arc::make_mut(&mut registry))
        };
        self.version.fetch_add(1, Ordering::Release);
        Ok(result)
    }

    fn save(&self, registry: &Registry, header: &mut Header) -> Result<(), Error> {
        header.generation += 1;
        let saved = definitions::save(&*self.storage, *header, &registry.definitions());
        self.unsaved.store(saved.is_err(), Ordering::Relaxed);
        saved
    }

    /// Writes the files of a new folder.
    pub(crate) fn save_first(&self) -> Result<(), Error> {
        self.save(&self.read(), &mut lock(&self.header))
    }

    /// Notes, durably, that the log has a segment of this number, and saves again what could not be saved. Those who
    /// only look things up need not wait.
    pub(crate) fn note_segment(&self, number: u32) -> Result<(), Error> {
        let registry = self.read();
        let mut header = lock(&self.header);
        if number <= header.segment && !self.unsaved.load(Ordering::Relaxed) {
            return Ok(());
        }
        let highest = header.segment.max(number);
        let known = std::mem::replace(&mut header.segment, highest);
        let saved = self.save(&registry, &mut header);
        if saved.is_err() {
            header.segment = known;
        }
        saved
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// All queues.
    pub(crate) fn queues(&self) -> Vec<Arc<SharedQueue>> {
        self.read().queues.values().cloned().collect()
    }

    /// All exchanges but the default one, with their names, as they are at this moment.
    pub(crate) fn exchanges(&self) -> Vec<(String, Exchange)> {
        self.read().exchanges.iter().map(|(name, exchange)| (name.clone(), exchange.clone())).collect()
    }

    pub(crate) fn find_queue(&self, name: &str) -> Option<Arc<SharedQueue>> {
        self.read().queues.get(name).cloned()
    }

    /// The queue called `name`, for a client of `connection`.
    pub(crate) fn queue(&self, name: &str, connection: u64) -> Outcome<Arc<SharedQueue>> {
        let Some(queue) = self.find_queue(name) else {
            return Fault::channel(NOT_FOUND, format!("no queue '{name}' in vhost '/'"));
        };
        queue.check_access(connection)?;
        Ok(queue)
    }

    /// Creates a queue, or checks that the one that exists has these attributes.
    pub(crate) fn declare_queue(
        &self,
        name: &str,
        attributes: QueueAttributes<'_>,
        connection: u64,
    ) -> Outcome<Arc<SharedQueue>> {
        loop {
            let known = self.find_queue(name);
            if let Some(queue) = &known {
                check_declared(queue, &attributes, connection)?;
                queue.touch();
            } else if let Some(created) = self.create_queue(name, attributes)? {
                return Ok(created);
            }
            // It may have expired before it was touched, or another connection may have been faster to create it.
            if let Some(queue) = self.find_queue(name)
                && known.is_some_and(|known| Arc::ptr_eq(&known, &queue))
            {
                return Ok(queue);
            }
        }
    }

    /// Creates a queue; None if there is one of this name.
    fn create_queue(&self, name: &str, attributes: QueueAttributes<'_>) -> Outcome<Option<Arc<SharedQueue>>> {
        let arguments = attributes.parse(name)?;
        let limit = self.max_queues;
        self.change(attributes.survive(), |registry| {
            if registry.queues.contains_key(name) {
                return Ok(None);
            }
            if registry.queues.len() >= limit {
                return Fault::channel(RESOURCE_ERROR, format!("there are {limit} queues, the most allowed"));
            }
            let survives = attributes.survive();
            let counter = if survives { &mut registry.next_id } else { &mut registry.next_transient_id };
            let id = *counter;
            *counter += 1;
            let queue = SharedQueue::new(id, name, attributes, arguments, &registry.timers);
            registry.queues.insert(name.to_owned(), Arc::clone(&queue));
            Ok(Some(queue))
        })?
    }

    /// Forgets a queue and its bindings, if `may_go` says so. Returns the queue locked, as it was when that was asked;
    /// None if it stays, or was gone already.
    pub(crate) fn remove_queue<'a>(
        &self,
        queue: &'a Arc<SharedQueue>,
        may_go: impl Fn(&Queue<SharedSubscriber>) -> Outcome<bool>,
    ) -> Outcome<Option<QueueGuard<'a>>> {
        if !may_go(&queue.lock())? {
            return Ok(None);
        }
        // A durable exchange may go with the last binding of a queue that is not durable.
        let gone = Destination::Queue(Arc::clone(queue));
        let durable = queue.durable || self.read().loses_durable_exchange(gone.clone());
        self.change(durable, |registry| {
            if registry.queues.get(&queue.name).is_none_or(|known| known.id != queue.id) {
                return Ok(None);
            }
            let state = queue.lock();
            if !may_go(&state)? {
                return Ok(None);
            }
            registry.queues.remove(&queue.name);
            registry.remove_bindings_to(&gone);
            Ok(Some(state))
        })?
    }
}

/// Fails if a client of `connection` may not use the queue, or asks for another one.
fn check_declared(queue: &SharedQueue, wanted: &QueueAttributes<'_>, connection: u64) -> Outcome {
    queue.check_access(connection)?;
    let what = format!("queue '{}'", queue.name);
    check_equivalent("durable", &what, wanted.durable, queue.declared_durable)?;
    if wanted.owner.is_some() != queue.owner.is_some() {
        // What RabbitMQ answers when only the exclusivity differs.
        return Fault::channel(RESOURCE_LOCKED, locked_text(&queue.name));
    }
    check_equivalent("auto_delete", &what, wanted.auto_delete, queue.auto_delete)?;
    queue.check_arguments(wanted.arguments)
}

pub(super) fn check_equivalent<T: Copy + Display + PartialEq>(
    argument: &str,
    what: &str,
    received: T,
    current: T,
) -> Outcome {
    if received == current {
        return Ok(());
    }
    let text = format!(
        "inequivalent arg '{argument}' for {what} in vhost '/': received '{received}' but current is '{current}'"
    );
    Fault::channel(PRECONDITION_FAILED, text)
}

impl Registry {
    fn restore(&mut self, definition: Definition<'_>) -> Outcome {
        match definition {
            Definition::NextQueue(id) => self.next_id = self.next_id.max(id),
            Definition::Queue { id, name, auto_delete, arguments } => {
                self.next_id = self.next_id.max(id + 1);
                let attributes = QueueAttributes { durable: true, auto_delete, owner: None, arguments };
                let arguments = attributes.parse(name)?;
                let queue = SharedQueue::new(id, name, attributes, arguments, &self.timers);
                self.queues.insert(name.to_owned(), queue);
            }
            Definition::Exchange { name, kind, auto_delete, internal } => {
                if let Some(kind) = ExchangeType::parse(kind) {
                    let exchange = Exchange::new(kind, true, auto_delete, internal);
                    self.exchanges.insert(name.to_owned(), exchange);
                }
            }
            Definition::Binding { exchange, routing_key, queue } => {
                self.restore_binding(exchange, routing_key, false, queue, RawTable::default());
            }
            Definition::BindingWith { exchange, routing_key, to_exchange, destination, arguments } => {
                self.restore_binding(exchange, routing_key, to_exchange, destination, arguments);
            }
            Definition::Alternate { exchange, alternate } => {
                if let Some(exchange) = self.exchanges.get_mut(exchange) {
                    exchange.alternate = Some(alternate.to_owned());
                }
            }
        }
        Ok(())
    }

    /// Its source and its destination are there already.
    fn restore_binding(
        &mut self,
        source: &str,
        key: &str,
        to_exchange: bool,
        name: &str,
        arguments: RawTable<'_>,
    ) {
        let destination = if to_exchange {
            self.exchanges.get_key_value(name).map(|(name, _)| Destination::Exchange(name.as_str().into()))
        } else {
            self.queues.get(name).cloned().map(Destination::Queue)
        };
        if let (Some(source), Some(destination)) = (self.exchanges.get_mut(source), destination) {
            source.bind(key, Target { destination, arguments: arguments.bytes().into() });
        }
    }

    /// Everything that survives a restart, in an order that [`Registry::restore`] can follow.
    fn definitions(&self) -> Vec<Definition<'_>> {
        let mut definitions = vec![Definition::NextQueue(self.next_id)];
        let queues = self.queues.values().filter(|queue| queue.durable);
        definitions.extend(queues.map(|queue| {
            let SharedQueue { id, name, auto_delete, .. } = &**queue;
            Definition::Queue { id: *id, name, auto_delete: *auto_delete, arguments: queue.argument_table() }
        }));
        let durable = || self.exchanges.iter().filter(|(_, exchange)| exchange.durable);
        for (name, exchange) in durable().filter(|(name, _)| !name.starts_with("amq.")) {
            let Exchange { auto_delete, internal, .. } = *exchange;
            let kind = exchange.kind.name();
            definitions.push(Definition::Exchange { name, kind, auto_delete, internal });
            if let Some(alternate) = &exchange.alternate {
                definitions.push(Definition::Alternate { exchange: name, alternate });
            }
        }
        for (exchange, found) in durable() {
            for (routing_key, target) in found.bindings() {
                let arguments = target.arguments();
                let (to_exchange, destination) = match &target.destination {
                    Destination::Queue(queue) if queue.durable && arguments == RawTable::default() => {
                        definitions.push(Definition::Binding { exchange, routing_key, queue: &queue.name });
                        continue;
                    }
                    Destination::Queue(queue) if queue.durable => (false, &*queue.name),
                    Destination::Exchange(name) if self.exchange(name).is_ok_and(|found| found.durable) => {
                        (true, &**name)
                    }
                    _ => continue,
                };
                definitions.push(Definition::BindingWith {
                    exchange,
                    routing_key,
                    to_exchange,
                    destination,
                    arguments,
                });
            }
        }
        definitions
    }
}
