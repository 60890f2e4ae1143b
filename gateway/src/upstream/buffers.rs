//! The buffers of one request to an instance and of its answer. Idle connections have none.

use std::cell::Cell;

use ureq::unversioned::transport::Buffers;

/// The first and the largest size of the input buffer, in bytes. The head of an answer must fit into the largest.
const INPUT_FIRST_BYTES: usize = 2 << 10;
pub(super) const INPUT_MAX_BYTES: usize = 32 << 10;
/// The most that a thread keeps of each buffer for its next request, in bytes.
const SPARE_MAX_BYTES: usize = 4 << 10;

thread_local! {
    static UNREAD_INPUT: Cell<usize> = const { Cell::new(0) };
    /// The buffers of the last request, for reuse.
    static SPARE: Cell<(Vec<u8>, Vec<u8>)> = const { Cell::new((Vec::new(), Vec::new())) };
}

/// How many bytes of the answer that this thread is reading have arrived but are not used yet. ureq's body reader does
/// not say whether its next read would wait; this does. Each thread reads one answer at a time.
pub(crate) fn unread_input() -> usize {
    UNREAD_INPUT.get()
}

/// Collects what ureq writes, so that a request with a small body is a single system call.
#[derive(Debug)]
pub(super) struct RequestBuffers {
    input: Vec<u8>,
    /// `input[start..end]` are the bytes that have arrived and are not used yet.
    start: usize,
    end: usize,
    /// Whether the last read filled the buffer, so that a larger one saves system calls.
    was_filled: bool,
    /// Whether ureq consumed some of the input when it last read it.
    progress: bool,
    output: Vec<u8>,
    /// How many bytes of `output` were collected.
    collected: usize,
}

impl RequestBuffers {
    /// `output_bytes` must have room for the whole head of the request: ureq never splits a line.
    pub(super) fn new(output_bytes: usize) -> Self {
        UNREAD_INPUT.set(0);
        let (input, mut output) = SPARE.take();
        output.resize(output_bytes, 0);
        Self { input, start: 0, end: 0, was_filled: false, progress: false, output, collected: 0 }
    }

    /// Adds the `count` bytes that were put into [`Buffers::output`]; returns whether the buffer is full.
    pub(super) fn collect(&mut self, count: usize) -> bool {
        self.collected += count;
        self.collected == self.output.len()
    }

    /// The collected bytes.
    pub(super) fn collected(&self) -> &[u8] {
        &self.output[..self.collected]
    }

    pub(super) fn clear_collected(&mut self) {
        self.collected = 0;
    }
}

impl Drop for RequestBuffers {
    fn drop(&mut self) {
        let mut spare = (std::mem::take(&mut self.input), std::mem::take(&mut self.output));
        for buffer in [&mut spare.0, &mut spare.1] {
            if buffer.capacity() > SPARE_MAX_BYTES {
                *buffer = Vec::new();
            }
        }
        SPARE.set(spare);
    }
}

impl Buffers for RequestBuffers {
    fn output(&mut self) -> &mut [u8] {
        &mut self.output[self.collected..]
    }

    fn input(&self) -> &[u8] {
        &self.input[self.start..self.end]
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.input.is_empty() || self.was_filled {
            let grown = (self.input.len() * 2).clamp(INPUT_FIRST_BYTES, INPUT_MAX_BYTES);
            self.input.resize(grown, 0);
        }
        &mut self.input[self.end..]
    }

    fn input_appended(&mut self, amount: usize) {
        self.end += amount;
        self.was_filled = self.end == self.input.len();
        UNREAD_INPUT.set(self.end - self.start);
    }

    fn input_consume(&mut self, amount: usize) {
        self.progress = amount > 0;
        self.start += amount;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
        UNREAD_INPUT.set(self.end - self.start);
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        // We send only bodies of known length, which ureq writes directly to the output.
        (&mut self.input[self.end..], &mut self.output[self.collected..])
    }

    fn can_use_input(&self) -> bool {
        self.start < self.end && self.progress
    }
}
