//! The messages of a queue that wait, in their order, and where in the log they are. No I/O: it asks for pages.
//!
//! A waiting message is in one of two places. `ready` holds single entries at the head: those whose page was read,
//! and those that came back. `runs` describe everything behind them as stretches of the log, so that a backlog of any
//! length costs a few dozen bytes per segment. Positions in `ready` are all lower than those in `runs`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::log::record::{self, RecordKind};
use crate::log::segment_table::GAP_BYTES;
use crate::log::stored_message::{Fetch, Location, Run, Settled, StoredMessage};

/// A stretch of the log is read as it is if it is not longer than this,
const SPARSE_BYTES: u64 = 64 << 10;
/// or if at least one of this many bytes is the queue's,
const SPARSE_SHARE: u64 = 4;
/// or if there is a message of the queue in this many bytes: they would be read together anyway.
const SPARSE_DISTANCE: u64 = GAP_BYTES as u64;

/// A page of the log, and where a message's record begins in it.
pub(crate) type Paged = (Arc<Vec<u8>>, usize);

/// A message at the head, with its record if its page was read.
#[derive(Debug)]
struct Ready {
    entry: StoredMessage,
    page: Option<Paged>,
}

/// The messages of one queue that wait.
pub(super) struct Backlog {
    /// The queue's number.
    id: u32,
    /// By position: thousands may come back at once, in any order.
    ready: BTreeMap<u64, Ready>,
    runs: VecDeque<Run>,
    /// Messages in `ready` and `runs`.
    count: u64,
    /// Messages up to this position may have been delivered before the last start.
    redelivered_through: u64,
}

impl Backlog {
    pub(super) fn new(id: u32) -> Self {
        Self { id, ready: BTreeMap::new(), runs: VecDeque::new(), count: 0, redelivered_through: 0 }
    }

    /// Takes over what recovery found. Messages up to `redelivered_through` are marked when they go out.
    pub(super) fn restore(&mut self, runs: VecDeque<Run>, redelivered_through: u64) {
        self.count = runs.iter().map(|run| u64::from(run.count)).sum();
        self.runs = runs;
        self.redelivered_through = redelivered_through;
    }

    pub(super) fn len(&self) -> u64 {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Appends a new message.
    pub(super) fn push(&mut self, entry: &StoredMessage) {
        self.count += 1;
        if !self.runs.back_mut().is_some_and(|run| run.extend(entry)) {
            self.runs.push_back(Run::of(entry));
        }
    }

    /// Puts a message back at its position.
    pub(super) fn put_back(&mut self, entry: StoredMessage) {
        self.ready.insert(entry.position, Ready { entry, page: None });
        self.count += 1;
    }

    /// The position of the message at the head.
    pub(super) fn first_position(&self) -> Option<u64> {
        let ready = self.ready.first_key_value().map(|(position, _)| *position);
        ready.or_else(|| self.runs.front().map(|run| run.first))
    }

    /// The message at the head, if its page was read.
    pub(super) fn head(&self) -> Option<(StoredMessage, Paged)> {
        let (_, front) = self.ready.first_key_value()?;
        front.page.as_ref().map(|(page, start)| (front.entry, (Arc::clone(page), *start)))
    }

    /// Removes the message that [`Backlog::head`] returned.
    pub(super) fn pop(&mut self) {
        if self.ready.pop_first().is_some() {
            self.count -= 1;
        }
    }

    /// Gives up the pages that were read. They are read again when somebody asks.
    pub(super) fn forget_pages(&mut self) {
        for ready in self.ready.values_mut() {
            ready.page = None;
        }
    }

    /// The part of the log that holds the messages at the head. None if nothing waits, or their pages were read.
    pub(super) fn next_fetch(&self) -> Option<Fetch> {
        let Some((_, front)) = self.ready.first_key_value() else {
            let run = self.runs.front()?;
            return Some(Fetch { at: Location { slot: run.slot, offset: run.offset }, end: run.end });
        };
        // Messages that came back together usually lie together, so one page serves many of them.
        let mut end = front.entry.at.offset;
        for Ready { entry, page } in self.ready.values() {
            if page.is_some() || entry.at.slot != front.entry.at.slot || entry.at.offset < end {
                break;
            }
            end = entry.at.offset + entry.length;
        }
        Some(Fetch { at: front.entry.at, end })
    }

    /// Whether the messages at the head lie so far between those of other queues that reading all of them is a waste.
    pub(super) fn is_sparse(&self) -> bool {
        self.ready.is_empty()
            && self.runs.front().is_some_and(|run| {
                let span = u64::from(run.end.saturating_sub(run.offset));
                span > SPARSE_BYTES
                    && run.bytes * SPARSE_SHARE < span
                    && u64::from(run.count) * SPARSE_DISTANCE < span
            })
    }

    /// Nothing of this queue is before `found` in what `fetch` would read.
    pub(super) fn skip(&mut self, fetch: Fetch, found: Location) {
        if self.ready.is_empty()
            && let Some(run) = self.runs.front_mut()
            && (run.slot, run.offset) == (fetch.at.slot, fetch.at.offset)
            && run.slot == found.slot
        {
            run.offset = run.offset.max(found.offset);
        }
    }

    /// Takes a page that [`Backlog::next_fetch`] asked for: whole records of segment `number`. A page that no longer
    /// fits, because another thread was faster or the log was rearranged, changes nothing.
    pub(super) fn install(&mut self, fetch: Fetch, number: u32, page: &Arc<Vec<u8>>) {
        if self.next_fetch().is_none_or(|wanted| wanted.at != fetch.at) {
            return;
        }
        if self.ready.is_empty() {
            self.read_run(number, page);
            return;
        }
        for Ready { entry, page: slot } in self.ready.values_mut() {
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
                    timed: record::arrival(found.payload).is_some(),
                };
                self.ready.insert(run.first, Ready { entry, page: Some((Arc::clone(page), at)) });
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
            self.count -= u64::from(run.count);
            self.runs.pop_front();
        }
    }

    /// Drops everything and tells what it was.
    pub(super) fn drain(&mut self, durable: bool) -> Vec<Settled> {
        let settled = self.ready.values().map(|Ready { entry, .. }| entry.settled(self.id, durable));
        let mut settled: Vec<Settled> = settled.collect();
        settled.extend(self.runs.iter().map(|run| Settled {
            range: run.range(self.id),
            slot: run.slot,
            count: run.count,
            bytes: run.bytes,
            logged: durable,
        }));
        self.ready = BTreeMap::new();
        self.runs = VecDeque::new();
        self.count = 0;
        settled
    }

    /// The slot of the segment that holds the message at `position`, if it waits.
    pub(super) fn slot_of(&self, position: u64) -> Option<u32> {
        if let Some(ready) = self.ready.get(&position) {
            return Some(ready.entry.at.slot);
        }
        let behind = self.runs.partition_point(|run| run.first <= position);
        let run = behind.checked_sub(1).and_then(|index| self.runs.get(index))?;
        (position - run.first < u64::from(run.count)).then_some(run.slot)
    }

    /// The entries that are held one by one.
    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = &mut StoredMessage> {
        self.ready.values_mut().map(|ready| &mut ready.entry)
    }

    /// The log was rearranged: the runs that were in `slots` are now where `moved` (ascending by position) says.
    /// Returns the count and bytes of their messages.
    pub(super) fn relocate_runs(&mut self, slots: &[u32], moved: &[StoredMessage]) -> (u32, u64) {
        let find = |position: u64| moved.binary_search_by_key(&position, |entry| entry.position).ok();
        let (mut count, mut bytes) = (0, 0);
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
