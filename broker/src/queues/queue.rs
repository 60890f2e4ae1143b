//! A queue as a pure state machine: which messages wait, which are out with whom, and who is next. It does no I/O:
//! it asks for a page of the log when it needs bodies, and offers deliveries to [`Subscriber`]s. What its arguments ask
//! of it is in [`crate::queues::limits`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::log::record::Returned;
use crate::log::stored_message::{Fetch, Location, Run, Settled, StoredMessage, payload_at};
use crate::queues::backlog::Backlog;
use crate::queues::counts::QueueCounts;
use crate::queues::death::{Dead, Reason};
use crate::queues::lifetimes::Lifetimes;
use crate::queues::rules::Rules;
use crate::queues::subscriber::{Delivery, Effects, Subscriber};

/// A consumer of the queue.
pub(crate) struct Consumer<S> {
    pub(crate) id: u64,
    pub(crate) subscriber: S,
    pub(crate) no_ack: bool,
    pub(crate) exclusive: bool,
    /// How many deliveries it may have unsettled; 0 for any number.
    pub(crate) prefetch: u32,
    pub(crate) unsettled: u32,
}

impl<S: Subscriber> Consumer<S> {
    fn has_room(&self) -> bool {
        (self.no_ack || self.prefetch == 0 || self.unsettled < self.prefetch) && self.subscriber.is_open()
    }
}

/// What basic.get found.
#[derive(Debug)]
pub(crate) enum Taken {
    Empty,
    /// A page has to be read first.
    Fetch(Fetch),
    Message(StoredMessage, Arc<Vec<u8>>, usize),
}

/// Stands for a consumer where a message is becoming a dead letter. It is settled when that is safe.
pub(super) const DYING: u64 = u64::MAX;

/// The messages and consumers of one queue.
pub(crate) struct Queue<S> {
    id: u32,
    durable: bool,
    pub(super) backlog: Backlog,
    /// Messages that were delivered and are not settled, with the consumer that has them (0 for basic.get).
    pub(super) unsettled: BTreeMap<u64, (StoredMessage, u64)>,
    /// How many of them are becoming dead letters.
    pub(super) dying: usize,
    pub(super) consumers: Vec<Consumer<S>>,
    /// The consumer that is asked first next time.
    turn: usize,
    /// The highest position that was ever delivered: what a stop in good order writes down.
    delivered_through: u64,
    /// What its arguments ask of it; None for most queues.
    pub(super) rules: Option<Box<Rules>>,
    pub(super) lifetimes: Lifetimes,
    pub(super) deleted: bool,
    /// What happened since the start.
    pub(crate) counts: QueueCounts,
}

impl<S: Subscriber + Clone> Queue<S> {
    pub(crate) fn new(id: u32, durable: bool) -> Self {
        Self {
            id,
            durable,
            backlog: Backlog::new(id),
            unsettled: BTreeMap::new(),
            dying: 0,
            consumers: Vec::new(),
            turn: 0,
            delivered_through: 0,
            rules: None,
            lifetimes: Lifetimes::default(),
            deleted: false,
            counts: QueueCounts::default(),
        }
    }

    /// Takes over what recovery found. Messages up to `redelivered_through` are marked when they go out.
    pub(crate) fn restore(&mut self, runs: VecDeque<Run>, redelivered_through: u64) {
        self.backlog.restore(runs, redelivered_through);
        self.delivered_through = redelivered_through;
    }

    /// Takes over what recovery found besides the messages: whether something limits their lives, the bytes of their
    /// bodies, and how often they came back.
    pub(crate) fn restore_rules(&mut self, timed: bool, body_bytes: u64, mut counts: HashMap<u64, u32>) {
        if timed {
            self.lifetimes.restore();
        }
        if let Some(rules) = &mut self.rules {
            counts.retain(|position, _| self.backlog.slot_of(*position).is_some());
            rules.restore(body_bytes, counts);
        }
    }

    /// Messages that wait for a consumer.
    pub(crate) fn waiting(&self) -> u64 {
        self.backlog.len()
    }

    /// Messages that are out with a consumer and not settled.
    pub(crate) fn unsettled(&self) -> usize {
        self.unsettled.len() - self.dying
    }

    pub(crate) fn consumers(&self) -> &[Consumer<S>] {
        &self.consumers
    }

    pub(crate) fn delivered_through(&self) -> u64 {
        self.delivered_through
    }

    pub(super) fn settled(&self, entry: &StoredMessage) -> Settled {
        entry.settled(self.id, self.durable)
    }

    /// A new message at the tail: delivered at once if nothing waits before it and somebody has room. Returns false if
    /// the queue is deleted and keeps nothing. One that is refused because the queue is full counts as kept and settled.
    pub(crate) fn push(&mut self, entry: StoredMessage, payload: &[u8], effects: &mut Effects<S>) -> bool {
        if self.deleted {
            return false;
        }
        self.counts.published += 1;
        if self.rules.as_ref().is_some_and(|rules| rules.refuses(self.backlog.len(), payload)) {
            self.refuse(entry, effects);
            return true;
        }
        if self.backlog.is_empty() && self.offer(&entry, payload, effects) {
            return true;
        }
        if entry.timed {
            self.note_lifetime(&entry, payload);
        }
        if let Some(rules) = &mut self.rules {
            rules.added(payload);
        }
        self.backlog.push(&entry);
        true
    }

    /// The consumers that may get messages: all of them, or only the one that came first.
    fn candidates(&self) -> &[Consumer<S>] {
        let single = self.rules.as_ref().is_some_and(|rules| rules.arguments.single_active_consumer);
        if single { &self.consumers[..self.consumers.len().min(1)] } else { &self.consumers }
    }

    /// Offers a message to the consumers in turn.
    fn offer(&mut self, entry: &StoredMessage, payload: &[u8], effects: &mut Effects<S>) -> bool {
        let count = self.candidates().len();
        let returns = self.shown_count(entry.position);
        for step in 0..count {
            let index = (self.turn + step) % count;
            let consumer = &mut self.consumers[index];
            if !consumer.has_room() {
                continue;
            }
            let (id, no_ack) = (consumer.id, consumer.no_ack);
            let delivery = Delivery { entry: *entry, consumer: id, no_ack, returns, payload };
            let Some(wake) = consumer.subscriber.offer(&delivery) else { continue };
            if wake {
                effects.wake.push(consumer.subscriber.clone());
            }
            consumer.unsettled += u32::from(!no_ack);
            self.turn = index + 1;
            self.hand_out(entry, payload, id, no_ack, effects);
            return true;
        }
        false
    }

    /// Notes that a message went to a consumer, 0 for basic.get.
    fn hand_out(
        &mut self,
        entry: &StoredMessage,
        payload: &[u8],
        consumer: u64,
        no_ack: bool,
        effects: &mut Effects<S>,
    ) {
        self.delivered_through = self.delivered_through.max(entry.position);
        self.counts.went_out(consumer != 0, no_ack, entry.redelivered);
        if no_ack {
            effects.settled.push(self.settled(entry));
            self.forget(entry.position);
            return;
        }
        self.unsettled.insert(entry.position, (*entry, consumer));
        if let Some(rules) = &mut self.rules {
            rules.went_out(entry.position, payload);
        }
    }

    /// Removes the message at the head, whose page was read.
    pub(super) fn pop(&mut self, payload: &[u8]) {
        self.backlog.pop();
        if let Some(rules) = &mut self.rules {
            rules.removed(payload, self.backlog.is_empty());
        }
    }

    /// Delivers as much as consumers have room for. Returns the page that is needed to go on, if one is.
    pub(crate) fn dispatch(&mut self, effects: &mut Effects<S>) -> Option<Fetch> {
        if self.is_over() {
            let fetch = self.trim(effects);
            if fetch.is_some() {
                return fetch;
            }
        }
        while !self.backlog.is_empty() && self.candidates().iter().any(Consumer::has_room) {
            let Some((entry, (page, start))) = self.backlog.head() else { return self.backlog.next_fetch() };
            let payload = payload_at(&page, start)?;
            if self.has_expired(&entry, payload, effects) {
                self.drop_head(
                    Dead { entry, page: Some((page.clone(), start)), reason: Reason::Expired },
                    effects,
                );
                continue;
            }
            if !self.offer(&entry, payload, effects) {
                return None;
            }
            self.pop(payload);
        }
        None
    }

    /// Takes the message at the head for basic.get, whatever consumers there are.
    pub(crate) fn take(&mut self, no_ack: bool, effects: &mut Effects<S>) -> Taken {
        if self.is_over()
            && let Some(fetch) = self.trim(effects)
        {
            return Taken::Fetch(fetch);
        }
        loop {
            let Some((entry, (page, start))) = self.backlog.head() else {
                let fetch = self.backlog.next_fetch();
                self.counts.get_empty += u64::from(fetch.is_none());
                return fetch.map_or(Taken::Empty, Taken::Fetch);
            };
            let payload = payload_at(&page, start).unwrap_or_default();
            if self.has_expired(&entry, payload, effects) {
                self.drop_head(
                    Dead { entry, page: Some((page.clone(), start)), reason: Reason::Expired },
                    effects,
                );
                continue;
            }
            self.pop(payload);
            self.hand_out(&entry, payload, 0, no_ack, effects);
            return Taken::Message(entry, page, start);
        }
    }

    /// Whether what has to be read next is mostly of other queues.
    pub(crate) fn is_sparse(&self) -> bool {
        self.backlog.is_sparse()
    }

    /// Nothing of this queue is before `found` in what `fetch` would read.
    pub(crate) fn skip(&mut self, fetch: Fetch, found: Location) {
        self.backlog.skip(fetch, found);
    }

    /// Takes a page that [`Queue::dispatch`] or [`Queue::take`] asked for: whole records of segment `number`. A page
    /// that no longer fits, because another thread was faster or the log was rearranged, changes nothing.
    pub(crate) fn install(&mut self, fetch: Fetch, number: u32, page: &Arc<Vec<u8>>) {
        self.backlog.install(fetch, number, page);
    }

    /// Settles a delivered message. None if it is not out.
    pub(crate) fn settle(&mut self, position: u64) -> Option<Settled> {
        let (entry, consumer) = self.unsettled.remove(&position)?;
        // What died was counted when it was rejected, or was no delivery.
        self.counts.acknowledged += u64::from(consumer != DYING);
        self.release(consumer);
        self.forget(position);
        Some(self.settled(&entry))
    }

    /// Puts a delivered message back at its position, unless that happened too often.
    pub(crate) fn requeue(&mut self, position: u64, effects: &mut Effects<S>) {
        let Some((mut entry, consumer)) = self.unsettled.remove(&position) else { return };
        self.release(consumer);
        entry.redelivered = true;
        if let Some(count) = self.rules.as_mut().and_then(|rules| rules.came_back(position)) {
            if self.rules.as_ref().is_some_and(|rules| rules.is_too_often(count)) {
                let dead = Dead { entry, page: None, reason: Reason::DeliveryLimit };
                let dead = self.bury(dead, &mut effects.settled);
                effects.dead.extend(dead);
                return;
            }
            if self.durable && entry.persistent {
                effects.returned.push(Returned { queue: self.id, position, times: count });
            }
        }
        if let Some(rules) = &mut self.rules {
            rules.waits_again(position);
        }
        if entry.timed {
            self.lifetimes.came_back();
        }
        self.backlog.put_back(entry);
    }

    pub(super) fn release(&mut self, consumer: u64) {
        if consumer == DYING {
            self.dying -= 1;
        } else if let Some(consumer) = self.consumers.iter_mut().find(|known| known.id == consumer) {
            consumer.unsettled -= 1;
        }
    }

    /// What is known of a message besides its entry goes with it.
    pub(super) fn forget(&mut self, position: u64) {
        if let Some(rules) = &mut self.rules {
            rules.forget(position);
        }
    }

    pub(crate) fn add_consumer(&mut self, consumer: Consumer<S>) {
        self.consumers.push(consumer);
    }

    /// Removes a consumer; what it has unsettled stays out.
    pub(crate) fn remove_consumer(&mut self, id: u64) -> Option<Consumer<S>> {
        let index = self.consumers.iter().position(|consumer| consumer.id == id)?;
        if self.turn > index {
            self.turn -= 1;
        }
        self.touch();
        Some(self.consumers.remove(index))
    }

    /// Drops every waiting message and tells what was dropped.
    pub(crate) fn purge(&mut self) -> Vec<Settled> {
        let settled = self.backlog.drain(self.durable);
        if let Some(rules) = &mut self.rules {
            rules.purged(|position| self.unsettled.contains_key(&position));
        }
        settled
    }

    /// Drops everything, delivered messages too, and keeps nothing from now on. Returns what was dropped and the
    /// consumers, who have to be told.
    pub(crate) fn delete(&mut self) -> (Vec<Settled>, Vec<Consumer<S>>) {
        self.deleted = true;
        let mut settled = self.purge();
        let unsettled = std::mem::take(&mut self.unsettled);
        self.dying = 0;
        settled.extend(unsettled.values().map(|(entry, _)| self.settled(entry)));
        (settled, std::mem::take(&mut self.consumers))
    }

    /// Whether the message at `position` is still wanted, and kept in segment `slot`.
    pub(crate) fn holds(&self, position: u64, slot: u32) -> bool {
        let out = self.unsettled.get(&position).map(|(entry, _)| entry.at.slot);
        out.or_else(|| self.backlog.slot_of(position)) == Some(slot)
    }

    /// The log was rearranged: messages that were in `slots` are now where `moved` (ascending by position) says.
    /// Returns the count and bytes of those that the queue still holds.
    pub(crate) fn relocate(&mut self, slots: &[u32], moved: &[StoredMessage]) -> (u32, u64) {
        let (mut count, mut bytes) = self.backlog.relocate_runs(slots, moved);
        let out = self.unsettled.values_mut().map(|(entry, _)| entry);
        for entry in self.backlog.entries_mut().chain(out) {
            if slots.contains(&entry.at.slot)
                && let Ok(index) = moved.binary_search_by_key(&entry.position, |entry| entry.position)
            {
                entry.at = moved[index].at;
                entry.length = moved[index].length;
                count += 1;
                bytes += u64::from(entry.length);
            }
        }
        (count, bytes)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::log::record::{self, Head, Message, Origin, RecordKind};
    use crate::log::stored_message::Location;
    use crate::queues::arguments::Arguments;

    const SEGMENT: u32 = 1;
    const QUEUE: u32 = 7;

    /// A consumer's side that takes a limited number of deliveries and remembers them.
    #[derive(Clone, Default)]
    pub(in crate::queues) struct FakeSubscriber(Rc<RefCell<FakeState>>);

    #[derive(Default)]
    pub(in crate::queues) struct FakeState {
        room: usize,
        /// Positions, and whether they came redelivered.
        taken: Vec<(u64, bool)>,
    }

    impl FakeSubscriber {
        fn with_room(room: usize) -> Self {
            Self(Rc::new(RefCell::new(FakeState { room, taken: Vec::new() })))
        }

        /// What came since this was last asked.
        pub(in crate::queues) fn taken(&self) -> Vec<(u64, bool)> {
            std::mem::take(&mut self.0.borrow_mut().taken)
        }

        pub(in crate::queues) fn positions(&self) -> Vec<u64> {
            self.taken().into_iter().map(|(position, _)| position).collect()
        }
    }

    impl Subscriber for FakeSubscriber {
        fn is_open(&self) -> bool {
            self.0.borrow().room > 0
        }

        fn offer(&self, delivery: &Delivery<'_>) -> Option<bool> {
            let mut state = self.0.borrow_mut();
            state.room = state.room.checked_sub(1)?;
            state.taken.push((delivery.entry.position, delivery.entry.redelivered));
            Some(false)
        }

        fn wake(&self) {}

        fn cancel(&self) {}
    }

    /// A queue on a log of one segment.
    pub(in crate::queues) struct Fixture {
        pub(in crate::queues) queue: Queue<FakeSubscriber>,
        log: Vec<u8>,
        next: u64,
        pub(in crate::queues) settled: Vec<u64>,
        /// What became dead letters, and why.
        pub(in crate::queues) dead: Vec<(u64, Reason)>,
        /// What was refused.
        pub(in crate::queues) refused: Vec<u64>,
    }

    impl Fixture {
        pub(in crate::queues) fn new() -> Self {
            Self::with(Queue::new(QUEUE, true))
        }

        pub(in crate::queues) fn with(queue: Queue<FakeSubscriber>) -> Self {
            let (settled, dead, refused) = (Vec::new(), Vec::new(), Vec::new());
            Self { queue, log: Vec::new(), next: 1, settled, dead, refused }
        }

        /// A queue with arguments.
        pub(in crate::queues) fn ruled(arguments: Arguments) -> Self {
            let mut queue = Queue::new(QUEUE, true);
            queue.set_arguments(Arc::new(arguments));
            Self::with(queue)
        }

        pub(in crate::queues) fn publish(&mut self, count: u64) {
            self.publish_message(count, None, b"\0\0", b"body");
        }

        pub(in crate::queues) fn publish_message(
            &mut self,
            count: u64,
            arrived: Option<u64>,
            properties: &[u8],
            body: &[u8],
        ) {
            for position in self.next..self.next + count {
                let start = self.log.len();
                let head = Head {
                    kind: RecordKind::Message,
                    flags: record::FLAG_PERSISTENT,
                    origin: Origin { salt: 1, segment: SEGMENT },
                    sequence: position,
                };
                let message = Message { exchange: b"", routing_key: b"q", properties, body };
                record::put(&mut self.log, head, |out| {
                    record::put_message(out, &message, arrived, [(QUEUE, position)].into_iter());
                });
                let entry = StoredMessage {
                    position,
                    at: Location { slot: SEGMENT, offset: u32::try_from(start).unwrap() },
                    length: u32::try_from(self.log.len() - start).unwrap(),
                    persistent: true,
                    redelivered: false,
                    timed: arrived.is_some(),
                };
                let mut effects = Effects::default();
                assert!(self.queue.push(entry, payload_at(&self.log, start).unwrap(), &mut effects));
                if effects.refused {
                    self.refused.push(position);
                }
                self.note(&effects);
            }
            self.next += count;
        }

        fn note(&mut self, effects: &Effects<FakeSubscriber>) {
            self.settled.extend(effects.settled.iter().map(|settled| settled.range.from));
            self.dead.extend(effects.dead.iter().map(|dead| (dead.entry.position, dead.reason)));
        }

        fn install(&mut self, fetch: Fetch) {
            let page = &self.log[fetch.at.offset as usize..fetch.end as usize];
            self.queue.install(fetch, SEGMENT, &Arc::new(page.to_vec()));
        }

        pub(in crate::queues) fn dispatch(&mut self) {
            loop {
                let mut effects = Effects::default();
                let fetch = self.queue.dispatch(&mut effects);
                self.note(&effects);
                let Some(fetch) = fetch else { return };
                self.install(fetch);
            }
        }

        /// What somebody does who looks after the queue.
        pub(in crate::queues) fn look_after(&mut self) {
            loop {
                let mut effects = Effects::default();
                let fetch = self.queue.trim(&mut effects).or_else(|| self.queue.expire(&mut effects));
                self.note(&effects);
                let Some(fetch) = fetch else { return };
                self.install(fetch);
            }
        }

        /// Gives a delivery back.
        pub(in crate::queues) fn requeue(&mut self, position: u64) {
            let mut effects = Effects::default();
            self.queue.requeue(position, &mut effects);
            self.note(&effects);
        }

        /// basic.get with an ack to come.
        pub(in crate::queues) fn get(&mut self) -> Option<(u64, bool)> {
            loop {
                let mut effects = Effects::default();
                let taken = self.queue.take(false, &mut effects);
                self.note(&effects);
                match taken {
                    Taken::Empty => return None,
                    Taken::Fetch(fetch) => self.install(fetch),
                    Taken::Message(entry, ..) => return Some((entry.position, entry.redelivered)),
                }
            }
        }

        pub(in crate::queues) fn consumer(&mut self, id: u64, prefetch: u32, no_ack: bool) -> FakeSubscriber {
            let subscriber = FakeSubscriber::with_room(usize::MAX);
            let consumer = Consumer {
                id,
                subscriber: subscriber.clone(),
                no_ack,
                exclusive: false,
                prefetch,
                unsettled: 0,
            };
            self.queue.add_consumer(consumer);
            subscriber
        }
    }

    #[test]
    fn what_is_requeued_returns_to_its_place() {
        let mut fixture = Fixture::new();
        fixture.publish(6);
        for position in 1..=5 {
            assert_eq!(fixture.get(), Some((position, false)));
        }
        for position in [4, 1, 3] {
            fixture.requeue(position);
        }
        assert!(fixture.queue.settle(2).is_some());
        assert_eq!(fixture.queue.waiting(), 4);
        let subscriber = fixture.consumer(1, 0, false);
        fixture.dispatch();
        assert_eq!(subscriber.taken(), [(1, true), (3, true), (4, true), (6, false)]);
        // What comes back twice is in order, too, also behind a message that is still out.
        fixture.requeue(5);
        fixture.requeue(1);
        fixture.publish(1);
        fixture.dispatch();
        assert_eq!(subscriber.taken(), [(1, true), (5, true), (7, false)]);
    }

    #[test]
    fn consumers_take_turns_as_far_as_their_prefetch_goes() {
        let mut fixture = Fixture::new();
        let (a, b) = (fixture.consumer(1, 2, false), fixture.consumer(2, 1, false));
        let c = fixture.consumer(3, 0, false);
        fixture.publish(6);
        assert_eq!((a.positions(), b.positions(), c.positions()), (vec![1, 4], vec![2], vec![3, 5, 6]));
        // It is the first one's turn again, but it is full until it settles something.
        fixture.publish(1);
        assert_eq!((a.positions(), c.positions()), (vec![], vec![7]));
        assert!(fixture.queue.settle(1).is_some() && fixture.queue.settle(2).is_some());
        fixture.publish(3);
        assert_eq!((a.positions(), b.positions(), c.positions()), (vec![8], vec![9], vec![10]));
        // From disk it is the same as from the batch.
        c.0.borrow_mut().room = 0;
        fixture.publish(4);
        assert_eq!(fixture.queue.waiting(), 4);
        for position in [4, 8, 9] {
            assert!(fixture.queue.settle(position).is_some());
        }
        fixture.dispatch();
        assert_eq!((a.positions(), b.positions(), c.positions()), (vec![11, 13], vec![12], vec![]));
        c.0.borrow_mut().room = 1;
        fixture.dispatch();
        assert_eq!((c.positions(), fixture.queue.waiting()), (vec![14], 0));
    }

    #[test]
    fn a_consumer_that_leaves_costs_nobody_a_turn_and_keeps_what_it_has() {
        let mut fixture = Fixture::new();
        let (a, b) = (fixture.consumer(1, 0, false), fixture.consumer(2, 0, false));
        let c = fixture.consumer(3, 0, false);
        fixture.publish(1);
        assert!(fixture.queue.remove_consumer(1).is_some());
        fixture.publish(3);
        assert_eq!((a.positions(), b.positions(), c.positions()), (vec![1], vec![2, 4], vec![3]));
        assert!(fixture.queue.settle(1).is_some(), "what it had can still be acked");
        assert!(fixture.queue.settle(1).is_none(), "once");
    }

    #[test]
    fn what_the_only_consumer_had_comes_again_in_order_when_its_channel_closes() {
        let mut fixture = Fixture::new();
        let only = fixture.consumer(1, 3, false);
        fixture.publish(5);
        assert_eq!(only.positions(), [1, 2, 3]);
        assert!(fixture.queue.settle(2).is_some());
        assert!(fixture.queue.remove_consumer(1).is_some());
        assert_eq!(fixture.queue.waiting(), 2, "cancelling gives nothing back");
        for position in [1, 3] {
            fixture.requeue(position);
        }
        let next = fixture.consumer(2, 0, false);
        fixture.dispatch();
        assert_eq!(next.taken(), [(1, true), (3, true), (4, false), (5, false)]);
    }

    #[test]
    fn deliveries_that_need_no_ack_are_settled_and_count_for_no_prefetch() {
        let mut fixture = Fixture::new();
        let subscriber = fixture.consumer(1, 1, true);
        fixture.publish(3);
        assert_eq!(subscriber.positions(), [1, 2, 3]);
        assert_eq!(fixture.settled, [1, 2, 3]);
        assert!(fixture.queue.settle(1).is_none());
    }
}
