//! The buffers of one request to an instance and of its answer. An idle connection has none.

use std::cell::Cell;

use ureq::unversioned::transport::Buffers;

/// The first size of the input buffer, and the largest, which is also the most that an answer's head may have, in bytes.
const INPUT_FIRST_BYTES: usize = 4 << 10;
pub(super) const INPUT_MAX_BYTES: usize = 32 << 10;
/// The most that a thread keeps of each buffer for its next request, in bytes.
const SPARE_MAX_BYTES: usize = 4 << 10;

thread_local! {
    static UNREAD_INPUT: Cell<usize> = const { Cell::new(0) };
    /// The memory of the last input and output, for the next.
    static SPARE: Cell<(Vec<u8>, Vec<u8>)> = const { Cell::new((Vec::new(), Vec::new())) };
}

/// How many bytes of the answer that this thread reads have arrived and were not used yet. Each thread works on one
/// answer at a time; ureq's body reader does not tell whether its next read has to wait, and this does.
pub(crate) fn unread_input() -> usize {
    UNREAD_INPUT.get()
}

/// ureq writes a request's head and each piece of its body as if each were sent at once. Here they are collected, so
/// that a request with a small body is one write.
#[derive(Debug)]
pub(super) struct RequestBuffers {
    input: Vec<u8>,
    /// What has arrived and was not used yet is `input[start..end]`.
    start: usize,
    end: usize,
    /// Whether the last read filled the buffer, so that a larger one saves system calls.
    was_filled: bool,
    /// Whether ureq used some of the input when it last looked at it.
    progress: bool,
    output: Vec<u8>,
    /// How much of `output` was collected.
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

    /// Takes `count` bytes that were put into [`Buffers::output`]; tells whether there is no room for more.
    pub(super) fn collect(&mut self, count: usize) -> bool {
        self.collected += count;
        self.collected == self.output.len()
    }

    /// What was collected.
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
        // A body of known length, and no other is sent, is written to the output without a detour.
        (&mut self.input[self.end..], &mut self.output[self.collected..])
    }

    fn can_use_input(&self) -> bool {
        self.start < self.end && self.progress
    }
}
