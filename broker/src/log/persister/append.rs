//! How records get into the batch that gathers, and segments begin and end in it. Nothing is written here.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use super::State;
use crate::clock;
use crate::codec::properties;
use crate::log::owner::{LogQueue, wants};
use crate::log::record::{self, ALIGNMENT, Head, MAGIC, Message, Origin, Previous, RecordKind};
use crate::log::segment_table::Chunk;
use crate::log::stored_message::{Location, Settled};
use crate::log::write_batch::{BatchedMessage, Confirm, Routes};

/// Bytes kept free at the end of a segment for its end record.
const END_BYTES: usize = (record::HEADER_BYTES + record::END_PAYLOAD_BYTES).next_multiple_of(ALIGNMENT);

impl<Q: LogQueue> State<Q> {
    /// Returns what the queues want of the message, as in [`wants`].
    pub(super) fn append_message(
        &mut self,
        message: &Message<'_>,
        routes: &Routes<Q>,
        persistent: bool,
    ) -> u8 {
        let wanted = routes.iter().fold(0, |wanted, queue| wanted | queue.wants());
        let timed = wanted & wants::ARRIVAL != 0 || properties::has_expiration(message.properties);
        let arrived = timed.then(clock::now_ms);
        let persistent = persistent || wanted & wants::DURABILITY != 0;
        let length = record::message_bytes(message, routes.len() + usize::from(timed));
        let flags = if persistent { record::FLAG_PERSISTENT } else { 0 };
        let (at, start) = self.append(RecordKind::Message, flags, length, |out| {
            let places = routes.iter().map(|queue| (queue.id(), queue.next_position()));
            record::put_message(out, message, arrived, places);
        });
        let length = u32::try_from(self.batch.bytes.len() - start).unwrap_or(u32::MAX);
        self.batch.sync |= persistent && routes.iter().any(|queue| queue.is_durable());
        let (routes, refused) = (Arc::clone(routes), Cell::new(false));
        self.batch.items.push(BatchedMessage { routes, at, start, length, persistent, timed, refused });
        wanted
    }

    /// Notes the wish for the confirm of the message that was just appended, or of one that goes nowhere. `may_refuse`
    /// says that a queue may not take it.
    pub(super) fn append_confirm(&mut self, confirm: Confirm, may_refuse: bool) {
        let batch = &mut self.batch;
        batch.since.get_or_insert_with(Instant::now);
        let last_is_alone = batch.conditional.last().is_some_and(|(at, _)| at + 1 == batch.confirms.len());
        match batch.confirms.last_mut() {
            Some((last, count))
                if Arc::ptr_eq(&last.receiver, &confirm.receiver) && !may_refuse && !last_is_alone =>
            {
                last.tag = confirm.tag;
                *count += 1;
            }
            _ => {
                if may_refuse {
                    batch.conditional.push((batch.confirms.len(), batch.items.len() - 1));
                }
                batch.confirms.push((confirm, 1));
            }
        }
    }

    /// Appends how often messages came back.
    pub(super) fn append_returns(&mut self) {
        /// Messages in one record.
        const MOST: usize = 4096;
        let returned = std::mem::take(&mut self.returned);
        for returned in returned.chunks(MOST) {
            let length = returned.len() * record::RETURNED_BYTES;
            self.append(RecordKind::Returns, 0, length, |out| record::put_returns(out, returned));
        }
    }

    /// Notes what was settled until the next batch is taken. What is settled in order takes one range, so that a log
    /// that cannot write, because the disk is full, does not fill the memory.
    pub(super) fn note_acks(&mut self, settled: &[Settled]) {
        for Settled { range, .. } in settled.iter().filter(|settled| settled.logged) {
            match self.acks.last_mut() {
                Some(last) if last.queue == range.queue && last.to.checked_add(1) == Some(range.from) => {
                    last.to = range.to;
                }
                _ => self.acks.push(*range),
            }
        }
    }

    /// Appends what was settled, as few ranges as possible.
    pub(super) fn append_acks(&mut self) {
        /// Ranges in one record.
        const MOST: usize = 4096;
        let mut acks = std::mem::take(&mut self.acks);
        record::join(&mut acks);
        for ranges in acks.chunks(MOST) {
            self.append(RecordKind::Acks, 0, ranges.len() * 20, |out| record::put_acks(out, ranges));
        }
        acks.clear();
        acks.shrink_to(MOST);
        self.acks = acks;
    }

    /// Appends a record to the batch, in a new segment if the current one has no room. Returns its location and where
    /// it begins in the batch.
    pub(super) fn append(
        &mut self,
        kind: RecordKind,
        flags: u8,
        length: usize,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> (Location, usize) {
        let total = record::total_bytes(length);
        if self.offset > 0 && self.offset as usize + total + END_BYTES > self.segment_bytes as usize {
            self.end_segment();
            self.batch.sealed.push((self.segment, self.offset));
            self.previous = Previous { end: self.offset, torn: Vec::new() };
            self.segment += 1;
            self.offset = 0;
        }
        if self.offset == 0 {
            self.begin_segment();
        }
        self.put(kind, flags, fill)
    }

    pub(super) fn begin_segment(&mut self) {
        let (segment, size) = (self.segment, self.segment_bytes);
        let previous = std::mem::take(&mut self.previous);
        self.batch.chunks.push(Chunk { segment, offset: 0, start: self.batch.bytes.len() });
        self.batch.bytes.extend_from_slice(MAGIC);
        self.offset = u32::try_from(MAGIC.len()).unwrap_or(u32::MAX);
        self.put(RecordKind::Start, 0, |out| record::put_start(out, segment, size, &previous));
    }

    pub(super) fn end_segment(&mut self) {
        let segment = self.segment;
        self.put(RecordKind::End, 0, |out| record::put_end(out, segment));
    }

    fn put(&mut self, kind: RecordKind, flags: u8, fill: impl FnOnce(&mut Vec<u8>)) -> (Location, usize) {
        let start = self.batch.bytes.len();
        if self.batch.chunks.last().is_none_or(|chunk| chunk.segment != self.segment) {
            self.batch.chunks.push(Chunk { segment: self.segment, offset: self.offset, start });
        }
        let synced = if start == 0 && self.synced { record::FLAG_SYNCED } else { 0 };
        let origin = Origin { salt: self.salt, segment: self.segment };
        let head = Head { kind, flags: flags | synced, origin, sequence: self.sequence };
        record::put(&mut self.batch.bytes, head, fill);
        self.sequence += 1;
        let at = Location { slot: self.segment, offset: self.offset };
        self.offset += u32::try_from(self.batch.bytes.len() - start).unwrap_or(u32::MAX);
        (at, start)
    }
}
