//! The part of a queue that its arguments and the lives of messages add: what is dropped or becomes a dead letter, and when
//! somebody has to look at the queue for that. No I/O.

use std::sync::Arc;

use crate::clock;
use crate::log::stored_message::{Fetch, Settled, StoredMessage, payload_at};
use crate::queues::arguments::{Arguments, Overflow};
use crate::queues::death::{Dead, Reason};
use crate::queues::lifetimes::{self, NEVER};
use crate::queues::queue::{DYING, Queue};
use crate::queues::rules::Rules;
use crate::queues::subscriber::{Effects, Subscriber};

/// Pages are kept while the next message expires within this many milliseconds, or somebody consumes.
const SOON_MS: u64 = 1000;

impl<S: Subscriber + Clone> Queue<S> {
    /// Sets what is asked of the queue. Once, before anything is in it.
    pub(crate) fn set_arguments(&mut self, arguments: Arc<Arguments>) {
        self.rules = Some(Box::new(Rules::new(arguments, clock::now_ms())));
    }

    fn ttl(&self) -> Option<u64> {
        self.rules.as_ref().and_then(|rules| rules.arguments.message_ttl)
    }

    /// How often the message at `position` came back.
    pub(crate) fn delivery_count(&self, position: u64) -> u32 {
        self.rules.as_ref().map_or(0, |rules| rules.count(position))
    }

    /// How often the message at `position` came back, if clients are told.
    pub(super) fn shown_count(&self, position: u64) -> Option<u32> {
        let rules = self.rules.as_ref().filter(|rules| rules.arguments.is_quorum)?;
        Some(rules.count(position))
    }

    /// Somebody uses the queue: the time after which it is deleted begins anew.
    pub(crate) fn touch(&mut self) {
        if let Some(rules) = self.rules.as_mut().filter(|rules| rules.arguments.expires.is_some()) {
            rules.used = clock::now_ms();
        }
    }

    /// Whether the queue was unused for so long that it has to be deleted.
    pub(crate) fn has_ended(&self) -> bool {
        self.end() <= clock::now_ms() && !self.deleted
    }

    /// When the queue is to be deleted if nobody uses it.
    fn end(&self) -> u64 {
        let Some(rules) = self.rules.as_ref().filter(|_| self.consumers.is_empty()) else { return NEVER };
        rules.arguments.expires.map_or(NEVER, |expires| rules.used.saturating_add(expires))
    }

    /// Drops a delivered message for good; it becomes a dead letter if the queue has a place for these.
    pub(crate) fn reject(&mut self, position: u64, effects: &mut Effects<S>) {
        let Some((entry, consumer)) = self.unsettled.remove(&position) else { return };
        self.counts.acknowledged += u64::from(consumer != DYING);
        self.release(consumer);
        let dead = self.bury(Dead { entry, page: None, reason: Reason::Rejected }, &mut effects.settled);
        effects.dead.extend(dead);
    }

    /// A message that is not in the backlog any more has no future here. Without a place for dead letters it is settled;
    /// else it is returned, and stays until somebody settles it.
    pub(super) fn bury(&mut self, dead: Dead, settled: &mut Vec<Settled>) -> Option<Dead> {
        let keeps = self.rules.as_ref().is_some_and(|rules| rules.arguments.dead_letters.is_some());
        if !keeps {
            settled.push(self.settled(&dead.entry));
            self.forget(dead.entry.position);
            return None;
        }
        self.unsettled.insert(dead.entry.position, (dead.entry, DYING));
        self.dying += 1;
        Some(dead)
    }

    /// Drops the message at the head, whose page was read.
    pub(super) fn drop_head(&mut self, dead: Dead, effects: &mut Effects<S>) {
        if let Some(payload) = dead.page.as_ref().and_then(|(page, start)| payload_at(page, *start)) {
            self.pop(payload);
        }
        let dead = self.bury(dead, &mut effects.settled);
        effects.dead.extend(dead);
    }

    /// Where the message at `position` is that is becoming a dead letter; None if it is gone.
    pub(crate) fn dying_entry(&self, position: u64) -> Option<StoredMessage> {
        self.unsettled.get(&position).filter(|(_, consumer)| *consumer == DYING).map(|(entry, _)| *entry)
    }

    /// A message was refused because the queue is full.
    pub(super) fn refuse(&mut self, entry: StoredMessage, effects: &mut Effects<S>) {
        effects.refused = true;
        let overflow = self.rules.as_ref().map(|rules| rules.arguments.overflow);
        if overflow == Some(Overflow::RejectPublishDeadLetter) {
            let dead = self.bury(Dead { entry, page: None, reason: Reason::MaxLength }, &mut effects.settled);
            if let Some(rules) = &mut self.rules {
                rules.pending.extend(dead);
            }
        } else {
            effects.settled.push(self.settled(&entry));
        }
    }

    /// The dead letters that nobody took along so far.
    pub(crate) fn take_pending(&mut self) -> Vec<Dead> {
        self.rules.as_mut().map(|rules| std::mem::take(&mut rules.pending)).unwrap_or_default()
    }

    /// Whether more waits than may.
    pub(super) fn is_over(&self) -> bool {
        !self.backlog.is_empty() && self.rules.as_ref().is_some_and(|rules| rules.is_over(self.backlog.len()))
    }

    /// Drops messages from the head while more wait than may, those of one page at most. Returns the page that is needed
    /// to go on, if one is.
    pub(crate) fn trim(&mut self, effects: &mut Effects<S>) -> Option<Fetch> {
        while self.is_over() {
            let Some((entry, page)) = self.backlog.head() else { return self.backlog.next_fetch() };
            self.drop_head(Dead { entry, page: Some(page), reason: Reason::MaxLength }, effects);
        }
        None
    }

    /// Notes when a message expires that waits from now on, the last one.
    pub(super) fn note_lifetime(&mut self, entry: &StoredMessage, payload: &[u8]) {
        let expiry = lifetimes::expiry(payload, self.ttl());
        let is_first = self.backlog.is_empty();
        self.lifetimes.added(
            entry.position,
            expiry,
            payload,
            is_first,
            is_first && self.unsettled.is_empty(),
        );
    }

    /// Whether a message's life is over.
    pub(super) fn has_expired(
        &self,
        entry: &StoredMessage,
        payload: &[u8],
        effects: &mut Effects<S>,
    ) -> bool {
        entry.timed && lifetimes::expiry(payload, self.ttl()) <= effects.now_ms()
    }

    /// Drops messages from the head whose lives are over, those of one page at most. Returns the page that is needed to
    /// go on, if one is.
    pub(crate) fn expire(&mut self, effects: &mut Effects<S>) -> Option<Fetch> {
        while self.lifetimes.next(self.backlog.first_position()) <= effects.now_ms() {
            let Some((entry, (page, start))) = self.backlog.head() else { return self.backlog.next_fetch() };
            let payload = payload_at(&page, start)?;
            if !self.has_expired(&entry, payload, effects) {
                let expiry = self.learn(&entry, payload);
                if self.consumers.is_empty() && expiry.saturating_sub(effects.now_ms()) > SOON_MS {
                    self.backlog.forget_pages();
                }
                break;
            }
            self.drop_head(
                Dead { entry, page: Some((page.clone(), start)), reason: Reason::Expired },
                effects,
            );
        }
        None
    }

    /// Notes when the message at the head expires, and returns that.
    fn learn(&mut self, entry: &StoredMessage, payload: &[u8]) -> u64 {
        let expiry = if entry.timed { lifetimes::expiry(payload, self.ttl()) } else { NEVER };
        self.lifetimes.learned(entry.position, expiry);
        expiry
    }

    /// If nobody knows when the message at the head expires, and its page was read, nobody has to be called for that.
    fn learn_head(&mut self) {
        if self.lifetimes.next(self.backlog.first_position()) == 0
            && let Some((entry, (page, start))) = self.backlog.head()
            && let Some(payload) = payload_at(&page, start)
        {
            self.learn(&entry, payload);
        }
    }

    /// Whether anything can make it necessary to look at the queue at some time.
    pub(crate) fn is_watched(&self) -> bool {
        self.rules.is_some() || self.lifetimes.any
    }

    /// When somebody has to look at the queue, in milliseconds since 1970; 0 for at once.
    fn due(&self) -> u64 {
        if self.deleted {
            return NEVER;
        }
        let is_pending = self.rules.as_ref().is_some_and(|rules| !rules.pending.is_empty());
        if is_pending || self.is_over() {
            return 0;
        }
        self.end().min(self.lifetimes.next(self.backlog.first_position()))
    }

    /// Notes when the queue is due. Returns that, and when it was before, if it is earlier now.
    pub(crate) fn reschedule(&mut self) -> Option<(u64, u64)> {
        self.learn_head();
        let due = self.due();
        self.lifetimes.schedule(due).map(|before| (before, due))
    }

    /// Sets when the queue is scheduled to be looked at, and returns when it was before. 0 keeps others from scheduling it.
    pub(crate) fn set_scheduled(&mut self, due: u64) -> u64 {
        std::mem::replace(&mut self.lifetimes.scheduled, due)
    }

    /// When a queue that is deleted was due, if it was.
    pub(crate) fn unschedule_deleted(&mut self) -> Option<u64> {
        if !self.deleted {
            return None;
        }
        Some(self.set_scheduled(NEVER)).filter(|scheduled| *scheduled != NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queues::arguments::DeadLetterTarget;
    use crate::queues::queue::tests::Fixture;

    fn target() -> DeadLetterTarget {
        DeadLetterTarget { exchange: "x".to_owned(), routing_key: None }
    }

    fn now() -> u64 {
        clock::now_ms()
    }

    /// Properties with an expiration.
    fn living(milliseconds: &str) -> Vec<u8> {
        let mut bytes = vec![1, 0, u8::try_from(milliseconds.len()).unwrap()];
        bytes.extend_from_slice(milliseconds.as_bytes());
        bytes
    }

    const HOUR: u64 = 3_600_000;

    #[test]
    fn what_expired_is_dropped_from_the_head_and_never_delivered() {
        let mut fixture = Fixture::ruled(Arguments { message_ttl: Some(HOUR), ..Arguments::default() });
        fixture.publish_message(2, Some(now() - HOUR), b"\0\0", b"old");
        fixture.publish_message(1, Some(now()), b"\0\0", b"young");
        fixture.publish_message(1, Some(now() - HOUR), b"\0\0", b"old, and behind");
        assert!(fixture.queue.due() <= now(), "the first one has expired");
        fixture.look_after();
        assert_eq!((&fixture.settled[..], fixture.queue.waiting()), (&[1, 2][..], 2));
        assert!(fixture.queue.due() > now(), "the head lives on");
        assert_eq!(fixture.get(), Some((3, false)));
        assert_eq!(fixture.get(), None, "the last one has expired, too");
        assert_eq!(fixture.settled, [1, 2, 4]);
        assert_eq!(fixture.queue.due(), NEVER);
    }

    #[test]
    fn a_message_may_have_a_shorter_life_of_its_own() {
        let mut fixture = Fixture::new();
        fixture.publish(1);
        assert!(!fixture.queue.is_watched(), "an ordinary queue needs nobody");
        fixture.publish_message(1, Some(now() - 10), &living("5"), b"");
        fixture.publish_message(1, Some(now() - 10), &living("3600000"), b"");
        fixture.look_after();
        assert_eq!((fixture.queue.waiting(), fixture.queue.due()), (3, NEVER), "the head never expires");
        assert_eq!(fixture.get(), Some((1, false)));
        assert_eq!(fixture.queue.due(), 0, "nobody knows the new head");
        fixture.look_after();
        assert_eq!((&fixture.settled[..], fixture.queue.waiting()), (&[2][..], 1));
        assert!(fixture.queue.due() > now() && fixture.queue.due() < NEVER);
        fixture.requeue(1);
        fixture.look_after();
        assert_eq!(fixture.queue.due(), NEVER, "the first one is back");
    }

    #[test]
    fn a_shorter_life_that_comes_back_is_noticed() {
        let mut fixture = Fixture::ruled(Arguments { message_ttl: Some(HOUR), ..Arguments::default() });
        fixture.publish_message(1, Some(now()), b"\0\0", b"");
        fixture.publish_message(1, Some(now()), &living("60000"), b"");
        assert_eq!((fixture.get(), fixture.get()), (Some((1, false)), Some((2, false))));
        // Nothing waits when this one comes.
        fixture.publish_message(1, Some(now()), b"\0\0", b"");
        fixture.requeue(1);
        fixture.requeue(2);
        fixture.look_after();
        assert!(fixture.queue.due() > now() + 60_000, "the first one lives for an hour");
        assert_eq!(fixture.get(), Some((1, true)));
        assert!(fixture.queue.due() <= now() + 60_000, "the second one does not");
    }

    #[test]
    fn a_consumer_gets_nothing_that_has_no_room_however_much_there_was() {
        let mut fixture = Fixture::ruled(Arguments { max_length: Some(2), ..Arguments::default() });
        fixture.publish(1_000);
        let consumer = fixture.consumer(1, 0, true);
        fixture.dispatch();
        assert_eq!(consumer.positions(), [999, 1_000]);
    }

    #[test]
    fn nobody_is_called_for_a_head_whose_page_was_read() {
        let mut fixture = Fixture::new();
        fixture.publish_message(3, Some(now()), &living("3600000"), b"");
        fixture.look_after();
        assert_eq!(fixture.get(), Some((1, false)));
        let (_, due) = fixture.queue.reschedule().unwrap();
        assert!(due > now(), "its life is known, and the page stays for whoever takes it");
        assert!(fixture.queue.backlog.head().is_some());
    }

    #[test]
    fn the_oldest_messages_make_room_and_become_dead_letters() {
        let arguments =
            Arguments { max_length: Some(2), dead_letters: Some(target()), ..Arguments::default() };
        let mut fixture = Fixture::ruled(arguments);
        fixture.publish(4);
        assert_eq!(fixture.queue.due(), 0);
        fixture.look_after();
        assert_eq!(fixture.dead, [(1, Reason::MaxLength), (2, Reason::MaxLength)]);
        assert_eq!((fixture.queue.waiting(), fixture.queue.unsettled()), (2, 0));
        assert!(
            fixture.settled.is_empty() && fixture.queue.holds(1, 1),
            "they are kept until somebody settles them"
        );
        assert!(fixture.queue.settle(1).is_some() && !fixture.queue.holds(1, 1));
        // A consumer that comes first gets no more than may wait.
        fixture.publish(1);
        let consumer = fixture.consumer(1, 0, true);
        fixture.dispatch();
        assert_eq!(consumer.positions(), [4, 5]);
        assert_eq!(fixture.dead.len(), 3);
    }

    #[test]
    fn bytes_are_those_of_bodies_that_wait() {
        let mut fixture = Fixture::ruled(Arguments { max_bytes: Some(10), ..Arguments::default() });
        fixture.publish_message(2, None, b"\0\0", b"four");
        assert_eq!(fixture.get(), Some((1, false)));
        fixture.publish_message(1, None, b"\0\0", b"sixsix");
        fixture.look_after();
        assert_eq!((fixture.queue.waiting(), fixture.settled.len()), (2, 0), "ten bytes wait");
        fixture.requeue(1);
        fixture.look_after();
        assert_eq!((fixture.queue.waiting(), &fixture.settled[..]), (2, &[1][..]));
        assert_eq!(fixture.queue.purge().len(), 2);
        fixture.publish_message(1, None, b"\0\0", b"0123456789");
        fixture.look_after();
        assert_eq!(fixture.queue.waiting(), 1, "nothing else counts any more");
    }

    #[test]
    fn what_came_back_too_often_takes_no_room() {
        let arguments = Arguments {
            is_quorum: true,
            delivery_limit: Some(0),
            max_bytes: Some(8),
            ..Arguments::default()
        };
        let mut fixture = Fixture::ruled(arguments);
        fixture.publish(2);
        assert_eq!(fixture.get(), Some((1, false)));
        fixture.requeue(1);
        assert_eq!((&fixture.settled[..], fixture.queue.waiting()), (&[1][..], 1));
        fixture.publish(1);
        fixture.look_after();
        assert_eq!((fixture.queue.waiting(), fixture.settled.len()), (2, 1), "eight bytes wait");
    }

    #[test]
    fn a_full_queue_refuses_and_says_so() {
        for (overflow, dead) in [(Overflow::RejectPublish, 0), (Overflow::RejectPublishDeadLetter, 1)] {
            let arguments = Arguments {
                max_length: Some(1),
                overflow,
                dead_letters: Some(target()),
                ..Arguments::default()
            };
            let mut fixture = Fixture::ruled(arguments);
            fixture.publish(2);
            assert_eq!((&fixture.refused[..], fixture.queue.waiting()), (&[2][..], 1));
            assert_eq!(fixture.queue.due() == 0, dead == 1, "somebody has to fetch the dead letter");
            assert_eq!(fixture.queue.take_pending().len(), dead);
            assert_eq!(fixture.settled.len(), 1 - dead);
            assert_eq!(fixture.get(), Some((1, false)));
            fixture.publish(1);
            assert_eq!(fixture.refused.len(), 1);
        }
    }

    #[test]
    fn returns_are_counted_up_to_the_limit() {
        let arguments = Arguments {
            is_quorum: true,
            delivery_limit: Some(2),
            dead_letters: Some(target()),
            ..Arguments::default()
        };
        let mut fixture = Fixture::ruled(arguments);
        fixture.publish(1);
        for returns in 0..3 {
            assert_eq!(fixture.queue.delivery_count(1), returns);
            assert_eq!(fixture.get(), Some((1, returns > 0)));
            fixture.requeue(1);
        }
        assert_eq!((fixture.get(), &fixture.dead[..]), (None, &[(1, Reason::DeliveryLimit)][..]));
        assert!(fixture.queue.settle(1).is_some());
        assert_eq!(fixture.queue.delivery_count(1), 0, "nothing of it is left");
    }

    #[test]
    fn a_single_active_consumer_has_no_help() {
        let mut fixture = Fixture::ruled(Arguments { single_active_consumer: true, ..Arguments::default() });
        let (first, second) = (fixture.consumer(1, 2, false), fixture.consumer(2, 0, false));
        fixture.publish(3);
        assert_eq!((first.positions(), second.positions()), (vec![1, 2], vec![]));
        assert!(fixture.queue.remove_consumer(1).is_some());
        fixture.dispatch();
        assert_eq!(second.positions(), [3]);
    }

    #[test]
    fn a_queue_that_nobody_uses_ends() {
        let mut fixture = Fixture::ruled(Arguments { expires: Some(HOUR), ..Arguments::default() });
        assert!(!fixture.queue.has_ended() && fixture.queue.due() <= now() + HOUR);
        fixture.queue.rules.as_mut().unwrap().used -= HOUR;
        assert!(fixture.queue.has_ended());
        fixture.consumer(1, 0, true);
        assert!(!fixture.queue.has_ended() && fixture.queue.due() == NEVER);
        assert!(fixture.queue.remove_consumer(1).is_some());
        assert!(!fixture.queue.has_ended(), "from now on it is unused");
    }
}
