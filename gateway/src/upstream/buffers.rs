//! The buffers of one connection to inventory.

use std::cell::Cell;

use ureq::unversioned::transport::Buffers;

/// How much of a response is read at once, and the most that its head may have, in bytes.
pub(super) const INPUT_BYTES: usize = 32 << 10;
/// How much of a request is collected before it is written, in bytes.
const WRITE_BYTES: usize = 16 << 10;

thread_local! {
    static UNREAD_INPUT: Cell<usize> = const { Cell::new(0) };
}

/// How many bytes of the response that this thread reads have arrived and were not used yet. Each thread works on one
/// response at a time; ureq's body reader does not tell whether its next read has to wait, and this does.
pub(crate) fn unread_input() -> usize {
    UNREAD_INPUT.get()
}

/// ureq writes a request's head and each piece of its body as if each were sent at once. Here they are collected, so
/// that a request with a small body is one write.
#[derive(Debug, Default)]
pub(super) struct ExchangeBuffers {
    input: Vec<u8>,
    start: usize,
    end: usize,
    progress: bool,
    output: Vec<u8>,
    filled: usize,
    line_max_bytes: usize,
}

impl ExchangeBuffers {
    /// `line_max_bytes` is the longest line that a request's head can have; ureq never splits one.
    pub(super) fn new(line_max_bytes: usize) -> Self {
        Self { line_max_bytes: line_max_bytes + 1024, ..Self::default() }
    }

    /// Takes `count` bytes that were put into [`Buffers::output`]; tells whether it is time to write.
    pub(super) fn collect(&mut self, count: usize) -> bool {
        self.filled += count;
        self.output.len() - self.filled < self.line_max_bytes
    }

    /// What was collected.
    pub(super) fn collected(&self) -> &[u8] {
        &self.output[..self.filled]
    }

    pub(super) fn clear_collected(&mut self) {
        self.filled = 0;
    }

    fn allocate(&mut self) {
        if self.output.is_empty() {
            self.output = vec![0; self.line_max_bytes + WRITE_BYTES];
        }
        if self.input.is_empty() {
            self.input = vec![0; INPUT_BYTES];
        }
    }
}

impl Buffers for ExchangeBuffers {
    fn output(&mut self) -> &mut [u8] {
        self.allocate();
        &mut self.output[self.filled..]
    }

    fn input(&self) -> &[u8] {
        &self.input[self.start..self.end]
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.allocate();
        if self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.input[self.end..]
    }

    fn input_appended(&mut self, amount: usize) {
        self.end += amount;
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
        self.allocate();
        (&mut self.input[self.end..], &mut self.output[self.filled..])
    }

    fn can_use_input(&self) -> bool {
        self.start < self.end && self.progress
    }
}
