//! A queue as a pure state machine: which messages wait, which are out with whom, and who is next. It does no I/O:
//! it asks for a page of the log when it needs bodies, and offers deliveries to [`Subscriber`]s.
//!
//! A waiting message is in one of two places. `ready` holds single entries at the head: those whose page was read,
//! and those that came back. `runs` describe everything behind them as stretches of the log, so that a backlog of any
//! length costs a few dozen bytes per segment. Positions in `ready` are all lower than those in `runs`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::log::record::{self, Range, RecordKind};
use crate::log::stored_message::{Fetch, Location, Run, Settled, StoredMessage, payload_at};
use crate::queues::counts::QueueCounts;
use crate::queues::subscriber::{Delivery, Effects, Subscriber};

/// A message at the head, with its record if its page was read.
#[derive(Debug)]
struct Ready {
    entry: StoredMessage,
    page: Option<(Arc<Vec<u8>>, usize)>,
}

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

/// The messages and consumers of one queue.
pub(crate) struct Queue<S> {
    id: u32,
    durable: bool,
    ready: VecDeque<Ready>,
    runs: VecDeque<Run>,
    /// Messages that were delivered and are not settled, with the consumer that has them (0 for basic.get).
    unsettled: BTreeMap<u64, (StoredMessage, u64)>,
    consumers: Vec<Consumer<S>>,
    /// The consumer that is asked first next time.
    turn: usize,
    /// Messages in `ready` and `runs`.
    waiting: u64,
    /// The highest position that was ever delivered: what a stop in good order writes down.
    delivered_through: u64,
    /// Messages up to this position may have been delivered before the last start.
    redelivered_through: u64,
    deleted: bool,
    /// What happened since the start.
    pub(crate) counts: QueueCounts,
}

impl<S: Subscriber + Clone> Queue<S> {
    pub(crate) fn new(id: u32, durable: bool) -> Self {
        Self {
            id,
            durable,
            ready: VecDeque::new(),
            runs: VecDeque::new(),
            unsettled: BTreeMap::new(),
            consumers: Vec::new(),
            turn: 0,
            waiting: 0,
            delivered_through: 0,
            redelivered_through: 0,
            deleted: false,
            counts: QueueCounts::default(),
        }
    }

    /// Takes over what recovery found. Messages up to `redelivered_through` are marked when they go out.
    pub(crate) fn restore(&mut self, runs: VecDeque<Run>, redelivered_through: u64) {
        self.waiting = runs.iter().map(|run| u64::from(run.count)).sum();
        self.runs = runs;
        self.redelivered_through = redelivered_through;
        self.delivered_through = redelivered_through;
    }

    /// Messages that wait for a consumer.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Messages that are out with a consumer and not settled.
    pub(crate) fn unsettled(&self) -> usize {
        self.unsettled.len()
    }

    pub(crate) fn consumers(&self) -> &[Consumer<S>] {
        &self.consumers
    }

    pub(crate) fn delivered_through(&self) -> u64 {
        self.delivered_through
    }

    fn settled(&self, entry: &StoredMessage) -> Settled {
        let range = Range { queue: self.id, from: entry.position, to: entry.position };
        let logged = self.durable && entry.persistent;
        Settled { range, slot: entry.at.slot, count: 1, bytes: u64::from(entry.length), logged }
    }

    /// A new message at the tail: delivered at once if nothing waits before it and somebody has room. Returns false if the queue is deleted and keeps nothing.
    pub(crate) fn push(&mut self, entry: StoredMessage, payload: &[u8], effects: &mut Effects<S>) -> bool {
        if self.deleted {
            return false;
        }
        self.counts.published += 1;
        if self.waiting == 0 && self.offer(&entry, payload, effects) {
            return true;
        }
        self.waiting += 1;
        if !self.runs.back_mut().is_some_and(|run| run.extend(&entry)) {
            self.runs.push_back(Run::of(&entry));
        }
        true
    }

    /// Offers a message to the consumers in turn.
    fn offer(&mut self, entry: &StoredMessage, payload: &[u8], effects: &mut Effects<S>) -> bool {
        let count = self.consumers.len();
        for step in 0..count {
            let index = (self.turn + step) % count;
            let consumer = &mut self.consumers[index];
            if !consumer.has_room() {
                continue;
            }
            let (id, no_ack) = (consumer.id, consumer.no_ack);
            let delivery = Delivery { entry: *entry, consumer: id, no_ack, payload };
            let Some(wake) = consumer.subscriber.offer(&delivery) else { continue };
            if wake {
                effects.wake.push(consumer.subscriber.clone());
            }
            consumer.unsettled += u32::from(!no_ack);
            self.turn = index + 1;
            self.hand_out(entry, id, no_ack, effects);
            return true;
        }
        false
    }

    /// Notes that a message went to a consumer, 0 for basic.get.
    fn hand_out(&mut self, entry: &StoredMessage, consumer: u64, no_ack: bool, effects: &mut Effects<S>) {
        self.delivered_through = self.delivered_through.max(entry.position);
        self.counts.went_out(consumer != 0, no_ack, entry.redelivered);
        if no_ack {
            effects.settled.push(self.settled(entry));
        } else {
            self.unsettled.insert(entry.position, (*entry, consumer));
        }
    }

    /// The message at the head, if its page was read: with that, and where its record begins there.
    fn head(&self) -> Option<(StoredMessage, Arc<Vec<u8>>, usize)> {
        let front = self.ready.front()?;
        front.page.as_ref().map(|(page, start)| (front.entry, Arc::clone(page), *start))
    }

    /// Delivers as much as consumers have room for. Returns the page that is needed to go on, if one is.
    pub(crate) fn dispatch(&mut self, effects: &mut Effects<S>) -> Option<Fetch> {
        while self.waiting > 0 && self.consumers.iter().any(Consumer::has_room) {
            let Some((entry, page, start)) = self.head() else { return self.next_fetch() };
            let payload = payload_at(&page, start)?;
            if !self.offer(&entry, payload, effects) {
                return None;
            }
            self.ready.pop_front();
            self.waiting -= 1;
        }
        None
    }

    /// Takes the message at the head for basic.get, whatever consumers there are.
    pub(crate) fn take(&mut self, no_ack: bool, effects: &mut Effects<S>) -> Taken {
        let Some((entry, page, start)) = self.head() else {
            let fetch = self.next_fetch();
            self.counts.get_empty += u64::from(fetch.is_none());
            return fetch.map_or(Taken::Empty, Taken::Fetch);
        };
        self.ready.pop_front();
        self.waiting -= 1;
        self.hand_out(&entry, 0, no_ack, effects);
        Taken::Message(entry, page, start)
    }

    /// The part of the log that holds the messages at the head.
    fn next_fetch(&self) -> Option<Fetch> {
        let Some(front) = self.ready.front() else {
            let run = self.runs.front()?;
            return Some(Fetch { at: Location { slot: run.slot, offset: run.offset }, end: run.end });
        };
        // Messages that came back together usually lie together, so one page serves many of them.
        let mut end = front.entry.at.offset;
        for Ready { entry, page } in &self.ready {
            if page.is_some() || entry.at.slot != front.entry.at.slot || entry.at.offset < end {
                break;
            }
            end = entry.at.offset + entry.length;
        }
        Some(Fetch { at: front.entry.at, end })
    }

    /// Takes a page that [`Queue::dispatch`] or [`Queue::take`] asked for: whole records of segment `number`. A page
    /// that no longer fits, because another thread was faster or the log was rearranged, changes nothing.
    pub(crate) fn install(&mut self, fetch: Fetch, number: u32, page: &Arc<Vec<u8>>) {
        if self.next_fetch().is_none_or(|wanted| wanted.at != fetch.at) {
            return;
        }
        if self.ready.is_empty() {
            self.read_run(number, page);
            return;
        }
        for Ready { entry, page: slot } in &mut self.ready {
            let start = entry.at.offset.wrapping_sub(fetch.at.offset) as usize;
            let inside = entry.at.slot == fetch.at.slot
                && entry.at.offset >= fetch.at.offset
                && start + entry.length as usize <= page.len();
            if slot.is_some() || !inside {
                break;
            }
            *slot = Some((Arc::clone(page), start));
        }
    }

    /// Turns the front of the first run into entries.
    fn read_run(&mut self, number: u32, page: &Arc<Vec<u8>>) {
        let Some(run) = self.runs.front_mut() else { return };
        let start = run.offset;
        for (at, found) in record::iterate_checked(page) {
            if run.count == 0 {
                break;
            }
            let total = u32::try_from(found.total).unwrap_or(u32::MAX);
            let offset = start + u32::try_from(at).unwrap_or(u32::MAX);
            run.offset = offset + total;
            let mine = found.kind == RecordKind::Message
                && record::message_places(found.payload).any(|place| place == (self.id, run.first));
            if mine {
                let entry = StoredMessage {
                    position: run.first,
                    at: Location { slot: run.slot, offset },
                    length: total,
                    persistent: found.flags & record::FLAG_PERSISTENT != 0,
                    redelivered: run.first <= self.redelivered_through,
                };
                self.ready.push_back(Ready { entry, page: Some((Arc::clone(page), at)) });
                run.first += 1;
                run.count -= 1;
                run.bytes -= u64::from(total);
            }
        }
        if run.count == 0 {
            self.runs.pop_front();
        } else if run.offset >= run.end {
            // Cannot be: the run promised more messages than its bytes hold. Reading on would never end.
            log::error!("queue {}: {} messages are missing from segment {number}", self.id, run.count);
            self.waiting -= u64::from(run.count);
            self.runs.pop_front();
        }
    }

    /// Settles a delivered message. None if it is not out.
    pub(crate) fn settle(&mut self, position: u64) -> Option<Settled> {
        let (entry, consumer) = self.unsettled.remove(&position)?;
        self.counts.acknowledged += 1;
        self.release(consumer);
        Some(self.settled(&entry))
    }

    /// Puts a delivered message back at its position.
    pub(crate) fn requeue(&mut self, position: u64) {
        let Some((mut entry, consumer)) = self.unsettled.remove(&position) else { return };
        self.release(consumer);
        entry.redelivered = true;
        let at = self.ready.partition_point(|ready| ready.entry.position < position);
        self.ready.insert(at, Ready { entry, page: None });
        self.waiting += 1;
    }

    fn release(&mut self, consumer: u64) {
        if let Some(consumer) = self.consumers.iter_mut().find(|known| known.id == consumer) {
            consumer.unsettled -= 1;
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
        Some(self.consumers.remove(index))
    }

    /// Drops every waiting message and tells what was dropped.
    pub(crate) fn purge(&mut self) -> Vec<Settled> {
        let mut settled: Vec<Settled> = self.ready.iter().map(|ready| self.settled(&ready.entry)).collect();
        settled.extend(self.runs.iter().map(|run| Settled {
            range: run.range(self.id),
            slot: run.slot,
            count: run.count,
            bytes: run.bytes,
            logged: self.durable,
        }));
        self.ready = VecDeque::new();
        self.runs = VecDeque::new();
        self.waiting = 0;
        settled
    }

    /// Drops everything, delivered messages too, and keeps nothing from now on. Returns what was dropped and the
    /// consumers, who have to be told.
    pub(crate) fn delete(&mut self) -> (Vec<Settled>, Vec<Consumer<S>>) {
        self.deleted = true;
        let mut settled = self.purge();
        let unsettled = std::mem::take(&mut self.unsettled);
        settled.extend(unsettled.values().map(|(entry, _)| self.settled(entry)));
        (settled, std::mem::take(&mut self.consumers))
    }

    /// Whether the message at `position` is still wanted, and kept in segment `slot`.
    pub(crate) fn holds(&self, position: u64, slot: u32) -> bool {
        if let Some((entry, _)) = self.unsettled.get(&position) {
            return entry.at.slot == slot;
        }
        if let Ok(index) = self.ready.binary_search_by_key(&position, |ready| ready.entry.position) {
            return self.ready[index].entry.at.slot == slot;
        }
        let behind = self.runs.partition_point(|run| run.first <= position);
        let run = behind.checked_sub(1).and_then(|index| self.runs.get(index));
        run.is_some_and(|run| run.slot == slot && position - run.first < u64::from(run.count))
    }

    /// The log was rearranged: messages that were in `slots` are now where `moved` (ascending by position) says.
    /// Returns the count and bytes of those that the queue still holds.
    pub(crate) fn relocate(&mut self, slots: &[u32], moved: &[StoredMessage]) -> (u32, u64) {
        let find = |position: u64| moved.binary_search_by_key(&position, |entry| entry.position).ok();
        let (mut count, mut bytes) = (0, 0);
        let ready = self.ready.iter_mut().map(|ready| &mut ready.entry);
        for entry in ready.chain(self.unsettled.values_mut().map(|(entry, _)| entry)) {
            if slots.contains(&entry.at.slot)
                && let Some(index) = find(entry.position)
            {
                entry.at = moved[index].at;
                entry.length = moved[index].length;
                count += 1;
                bytes += u64::from(entry.length);
            }
        }
        for run in &mut self.runs {
            let last = run.first + u64::from(run.count) - 1;
            if slots.contains(&run.slot)
                && let (Some(first), Some(last)) = (find(run.first), find(last))
            {
                let moved = &moved[first..=last];
                run.slot = moved[0].at.slot;
                run.offset = moved[0].at.offset;
                run.end = moved[moved.len() - 1].at.offset + moved[moved.len() - 1].length;
                run.bytes = moved.iter().map(|entry| u64::from(entry.length)).sum();
                count += run.count;
                bytes += run.bytes;
            }
        }
        (count, bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::log::record::{Head, Message, Origin};

    const SEGMENT: u32 = 1;
    const QUEUE: u32 = 7;

    /// A consumer's side that takes a limited number of deliveries and remembers them.
    #[derive(Clone, Default)]
    struct FakeSubscriber(Rc<RefCell<FakeState>>);

    #[derive(Default)]
    struct FakeState {
        room: usize,
        /// Positions, and whether they came redelivered.
        taken: Vec<(u64, bool)>,
    }

    impl FakeSubscriber {
        fn with_room(room: usize) -> Self {
            Self(Rc::new(RefCell::new(FakeState { room, taken: Vec::new() })))
        }

        /// What came since this was last asked.
        fn taken(&self) -> Vec<(u64, bool)> {
            std::mem::take(&mut self.0.borrow_mut().taken)
        }

        fn positions(&self) -> Vec<u64> {
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
    struct Fixture {
        queue: Queue<FakeSubscriber>,
        log: Vec<u8>,
        next: u64,
        settled: Vec<u64>,
    }

    impl Fixture {
        fn new() -> Self {
            Self { queue: Queue::new(QUEUE, true), log: Vec::new(), next: 1, settled: Vec::new() }
        }

        fn publish(&mut self, count: u64) {
            for position in self.next..self.next + count {
                let start = self.log.len();
                let head = Head {
                    kind: RecordKind::Message,
                    flags: record::FLAG_PERSISTENT,
                    origin: Origin { salt: 1, segment: SEGMENT },
                    sequence: position,
                };
                let message =
                    Message { exchange: b"", routing_key: b"q", properties: b"\0\0", body: b"body" };
                record::put(&mut self.log, head, |out| {
                    record::put_message(out, &message, [(QUEUE, position)].into_iter());
                });
                let entry = StoredMessage {
                    position,
                    at: Location { slot: SEGMENT, offset: u32::try_from(start).unwrap() },
                    length: u32::try_from(self.log.len() - start).unwrap(),
                    persistent: true,
                    redelivered: false,
                };
                let mut effects = Effects::default();
                assert!(self.queue.push(entry, payload_at(&self.log, start).unwrap(), &mut effects));
                self.note(&effects);
            }
            self.next += count;
        }

        fn note(&mut self, effects: &Effects<FakeSubscriber>) {
            self.settled.extend(effects.settled.iter().map(|settled| settled.range.from));
        }

        fn install(&mut self, fetch: Fetch) {
            let page = &self.log[fetch.at.offset as usize..fetch.end as usize];
            self.queue.install(fetch, SEGMENT, &Arc::new(page.to_vec()));
        }

        fn dispatch(&mut self) {
            loop {
                let mut effects = Effects::default();
                let fetch = self.queue.dispatch(&mut effects);
                self.note(&effects);
                let Some(fetch) = fetch else { return };
                self.install(fetch);
            }
        }

        /// basic.get with an ack to come.
        fn get(&mut self) -> Option<(u64, bool)> {
            loop {
                match self.queue.take(false, &mut Effects::default()) {
                    Taken::Empty => return None,
                    Taken::Fetch(fetch) => self.install(fetch),
                    Taken::Message(entry, ..) => return Some((entry.position, entry.redelivered)),
                }
            }
        }

        fn consumer(&mut self, id: u64, prefetch: u32, no_ack: bool) -> FakeSubscriber {
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
            fixture.queue.requeue(position);
        }
        assert!(fixture.queue.settle(2).is_some());
        assert_eq!(fixture.queue.waiting(), 4);
        let subscriber = fixture.consumer(1, 0, false);
        fixture.dispatch();
        assert_eq!(subscriber.taken(), [(1, true), (3, true), (4, true), (6, false)]);
        // What comes back twice is in order, too, also behind a message that is still out.
        fixture.queue.requeue(5);
        fixture.queue.requeue(1);
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
            fixture.queue.requeue(position);
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
