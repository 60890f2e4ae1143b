//! The queues and exchanges that exist, and the rules for declaring, binding and deleting them.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use crate::error::Error;
use crate::log::definitions::{self, Definition, Header};
use crate::log::storage::Storage;
use crate::log::stored_message::FIRST_TRANSIENT_ID;
use crate::queues::exchange::{Exchange, ExchangeType};
use crate::queues::fault::{
    Fault, INTERNAL_ERROR, NOT_FOUND, Outcome, PRECONDITION_FAILED, RESOURCE_ERROR, RESOURCE_LOCKED,
};
use crate::queues::queue::Queue;
use crate::queues::subscriber::SharedSubscriber;
use crate::sync::lock;

/// A queue with its name and attributes.
pub(crate) struct SharedQueue {
    pub(crate) id: u32,
    pub(crate) name: String,
    /// As declared.
    pub(crate) declared_durable: bool,
    pub(crate) auto_delete: bool,
    /// The connection that owns it exclusively.
    pub(crate) owner: Option<u64>,
    /// It survives a restart: declared durable, and not exclusive.
    pub(crate) durable: bool,
    next_position: AtomicU64,
    state: Mutex<Queue<SharedSubscriber>>,
}

impl SharedQueue {
    fn new(id: u32, name: &str, attributes: QueueAttributes) -> Self {
        let QueueAttributes { durable, auto_delete, owner } = attributes;
        let survives = attributes.survive();
        Self {
            id,
            name: name.to_owned(),
            declared_durable: durable,
            auto_delete,
            owner,
            durable: survives,
            next_position: AtomicU64::new(1),
            state: Mutex::new(Queue::new(id, survives)),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Queue<SharedSubscriber>> {
        lock(&self.state)
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

    /// Refuses other connections than the owner's (error 405).
    pub(crate) fn check_access(&self, connection: u64) -> Outcome {
        match self.owner {
            Some(owner) if owner != connection => Fault::channel(RESOURCE_LOCKED, locked_text(&self.name)),
            _ => Ok(()),
        }
    }
}

/// The queues that a message goes to.
pub(crate) type Routes = crate::log::write_batch::Routes<SharedQueue>;

/// What exists. Cloning shares the queues themselves.
#[derive(Clone, Default)]
struct Registry {
    queues: HashMap<String, Arc<SharedQueue>>,
    exchanges: HashMap<String, Exchange>,
    next_id: u32,
    next_transient_id: u32,
}

/// The queues, exchanges and bindings of the one vhost.
pub(crate) struct Topology {
    storage: Arc<dyn Storage>,
    registry: RwLock<Registry>,
    /// What the files on disk say besides the definitions. Locked after the registry, while they are replaced.
    header: Mutex<Header>,
    /// Changes whenever a route may have changed, so that channels can keep routes they looked up.
    version: AtomicU64,
    max_queues: usize,
}

/// The attributes in a declaration of a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueAttributes {
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    /// The connection, if the queue shall be exclusive to it.
    pub(crate) owner: Option<u64>,
}

impl QueueAttributes {
    /// Whether such a queue is there again after a restart.
    fn survive(self) -> bool {
        self.durable && self.owner.is_none()
    }
}

impl Topology {
    /// The topology that the definitions describe, besides the exchanges that always exist.
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        header: Header,
        definitions: Vec<Definition<'_>>,
        max_queues: usize,
    ) -> Self {
        let mut registry =
            Registry { next_id: 1, next_transient_id: FIRST_TRANSIENT_ID, ..Registry::default() };
        for kind in ExchangeType::ALL {
            let exchange = Exchange::new(kind, true, false, false);
            registry.exchanges.insert(format!("amq.{}", kind.name()), exchange);
        }
        for definition in definitions {
            registry.restore(definition);
        }
        let (registry, header) = (RwLock::new(registry), Mutex::new(header));
        Self { storage, registry, header, version: AtomicU64::new(1), max_queues }
    }

    fn read(&self) -> RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the registry; what `change` says is durable is on disk before anybody sees it.
    fn change<T>(&self, durable: bool, change: impl FnOnce(&mut Registry) -> T) -> Outcome<T> {
        let mut registry = self.registry.write().unwrap_or_else(PoisonError::into_inner);
        let result = if durable {
            let mut next = registry.clone();
            let result = change(&mut next);
            if let Err(error) = self.save(&next, &mut lock(&self.header)) {
                log::error!("{error}");
                return Fault::connection(INTERNAL_ERROR, "the definition could not be stored");
            }
            *registry = next;
            result
        } else {
            change(&mut registry)
        };
        self.version.fetch_add(1, Ordering::Release);
        Ok(result)
    }

    fn save(&self, registry: &Registry, header: &mut Header) -> Result<(), Error> {
        header.generation += 1;
        definitions::save(&*self.storage, *header, &registry.definitions())
    }

    /// Writes the files of a new folder.
    pub(crate) fn save_first(&self) -> Result<(), Error> {
        self.save(&self.read(), &mut lock(&self.header))
    }

    /// Notes, durably, that the log has a segment of this number. Those who only look things up need not wait.
    pub(crate) fn note_segment(&self, number: u32) -> Result<(), Error> {
        let registry = self.read();
        let mut header = lock(&self.header);
        if number <= header.segment {
            return Ok(());
        }
        let known = std::mem::replace(&mut header.segment, number);
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
        attributes: QueueAttributes,
        connection: u64,
    ) -> Outcome<Arc<SharedQueue>> {
        let QueueAttributes { durable, auto_delete, owner } = attributes;
        if let Some(queue) = self.find_queue(name) {
            queue.check_access(connection)?;
            let what = format!("queue '{name}'");
            check_equivalent("durable", &what, durable, queue.declared_durable)?;
            if owner.is_some() != queue.owner.is_some() {
                // What RabbitMQ answers when only the exclusivity differs.
                return Fault::channel(RESOURCE_LOCKED, locked_text(name));
            }
            check_equivalent("auto_delete", &what, auto_delete, queue.auto_delete)?;
            return Ok(queue);
        }
        let limit = self.max_queues;
        self.change(attributes.survive(), |registry| {
            if let Some(queue) = registry.queues.get(name) {
                return Ok(Arc::clone(queue)); // Another connection was faster.
            }
            if registry.queues.len() >= limit {
                return Fault::channel(RESOURCE_ERROR, format!("there are {limit} queues, the most allowed"));
            }
            let survives = attributes.survive();
            let counter = if survives { &mut registry.next_id } else { &mut registry.next_transient_id };
            let id = *counter;
            *counter += 1;
            let queue = Arc::new(SharedQueue::new(id, name, attributes));
            registry.queues.insert(name.to_owned(), Arc::clone(&queue));
            Ok(queue)
        })?
    }

    /// Forgets a queue and its bindings. False if it was gone already.
    pub(crate) fn remove_queue(&self, queue: &SharedQueue) -> Outcome<bool> {
        // A durable exchange may go with the last binding of a queue that is not durable.
        let durable = queue.durable || self.read().exchanges.values().any(|known| known.may_go_with(queue));
        self.change(durable, |registry| {
            if registry.queues.get(&queue.name).is_none_or(|known| known.id != queue.id) {
                return false;
            }
            registry.queues.remove(&queue.name);
            registry.exchanges.retain(|_, exchange| !exchange.unbind(None, queue.id));
            true
        })
    }

    /// Creates an exchange, or checks that the one that exists is the same.
    pub(crate) fn declare_exchange(&self, name: &str, wanted: Exchange) -> Outcome {
        if let Some(current) = self.read().exchanges.get(name) {
            let what = format!("exchange '{name}'");
            check_equivalent("type", &what, wanted.kind.name(), current.kind.name())?;
            check_equivalent("durable", &what, wanted.durable, current.durable)?;
            check_equivalent("auto_delete", &what, wanted.auto_delete, current.auto_delete)?;
            return check_equivalent("internal", &what, wanted.internal, current.internal);
        }
        self.change(wanted.durable, |registry| {
            registry.exchanges.entry(name.to_owned()).or_insert(wanted);
        })
    }

    /// Fails with 404 if there is no exchange called `name`; tells whether it is internal.
    pub(crate) fn exchange_is_internal(&self, name: &str) -> Outcome<bool> {
        if name.is_empty() { Ok(false) } else { self.read().exchange(name).map(|found| found.internal) }
    }

    /// Deletes an exchange; one that is not there counts as deleted.
    pub(crate) fn delete_exchange(&self, name: &str, if_unused: bool) -> Outcome {
        let durable = match self.read().exchanges.get(name) {
            None => return Ok(()),
            Some(exchange) if if_unused && !exchange.is_unbound() => {
                return Fault::channel(PRECONDITION_FAILED, format!("exchange '{name}' in vhost '/' in use"));
            }
            Some(exchange) => exchange.durable,
        };
        self.change(durable, |registry| {
            registry.exchanges.remove(name);
        })
    }

    /// Binds a queue, or removes the binding; one that is there already, or is not, stays as it is.
    pub(crate) fn set_binding(
        &self,
        exchange: &str,
        routing_key: &str,
        queue: &Arc<SharedQueue>,
        bound: bool,
    ) -> Outcome {
        let registry = self.read();
        let found = registry.exchange(exchange)?;
        if found.is_bound(routing_key, queue.id) == bound {
            return Ok(());
        }
        let durable = found.durable && (queue.durable || found.auto_delete);
        drop(registry);
        self.change(durable, |registry| {
            let Some(found) = registry.exchanges.get_mut(exchange) else { return };
            if bound {
                found.bind(routing_key, queue);
            } else if found.unbind(Some(routing_key), queue.id) {
                registry.exchanges.remove(exchange);
            }
        })
    }

    /// Where a message goes, until [`Topology::version`] changes. Fails with 404 if the exchange does not exist.
    pub(crate) fn route(&self, exchange: &str, routing_key: &str) -> Outcome<Routes> {
        let registry = self.read();
        if exchange.is_empty() {
            return Ok(registry.queues.get(routing_key).cloned().into_iter().collect());
        }
        Ok(registry.exchange(exchange)?.route(routing_key).into())
    }
}

fn locked_text(name: &str) -> String {
    format!(
        "cannot obtain exclusive access to locked queue '{name}' in vhost '/'. It could be originally declared on \
         another connection or the exclusive property value does not match that of the original declaration."
    )
}

fn check_equivalent<T: Copy + Display + PartialEq>(
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
    fn exchange(&self, name: &str) -> Outcome<&Exchange> {
        let missing = || Fault::Channel(NOT_FOUND, format!("no exchange '{name}' in vhost '/'"));
        self.exchanges.get(name).ok_or_else(missing)
    }

    fn restore(&mut self, definition: Definition<'_>) {
        match definition {
            Definition::NextQueue(id) => self.next_id = self.next_id.max(id),
            Definition::Queue { id, name, auto_delete } => {
                self.next_id = self.next_id.max(id + 1);
                let queue = Arc::new(SharedQueue::new(
                    id,
                    name,
                    QueueAttributes { durable: true, auto_delete, owner: None },
                ));
                self.queues.insert(name.to_owned(), queue);
            }
            Definition::Exchange { name, kind, auto_delete, internal } => {
                if let Some(kind) = ExchangeType::parse(kind) {
                    let exchange = Exchange::new(kind, true, auto_delete, internal);
                    self.exchanges.insert(name.to_owned(), exchange);
                }
            }
            Definition::Binding { exchange, routing_key, queue } => {
                // Both are in front of it.
                if let (Some(exchange), Some(queue)) =
                    (self.exchanges.get_mut(exchange), self.queues.get(queue))
                {
                    exchange.bind(routing_key, queue);
                }
            }
        }
    }

    /// Everything that survives a restart, in an order that [`Registry::restore`] can follow.
    fn definitions(&self) -> Vec<Definition<'_>> {
        let mut definitions = vec![Definition::NextQueue(self.next_id)];
        let queues = self.queues.values().filter(|queue| queue.durable);
        definitions.extend(queues.map(|queue| {
            let SharedQueue { id, name, auto_delete, .. } = &**queue;
            Definition::Queue { id: *id, name, auto_delete: *auto_delete }
        }));
        for (name, exchange) in self.exchanges.iter().filter(|(_, exchange)| exchange.durable) {
            if !name.starts_with("amq.") {
                let Exchange { auto_delete, internal, .. } = *exchange;
                let kind = exchange.kind.name();
                definitions.push(Definition::Exchange { name, kind, auto_delete, internal });
            }
            let bindings = exchange.bindings().filter(|(_, queue)| queue.durable);
            definitions.extend(bindings.map(|(routing_key, queue)| Definition::Binding {
                exchange: name,
                routing_key,
                queue: &queue.name,
            }));
        }
        definitions
    }
}
