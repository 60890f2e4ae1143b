//! The bytes that were read from a client and are not used yet.

use std::io;
use std::time::Duration;

use crate::socket::Socket;

/// How much an idle connection keeps allocated, in bytes.
const IDLE_CAPACITY: usize = 2 << 10;

/// A buffer in front of a socket. It holds at most as much as its caller asks for; the rest stays in the kernel, which
/// slows the sender down.
#[derive(Debug)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; IDLE_CAPACITY], start: 0, end: 0 }
    }

    /// The unread bytes.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Marks the first `count` unread bytes as used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Reads once from the socket, making room for up to `max` unread bytes. Returns 0 at the end of file; the caller
    /// ensures that fewer than `max` bytes are unread.
    pub(crate) fn fill(&mut self, socket: &Socket, timeout: Duration, max: usize) -> io::Result<usize> {
        if self.end == self.bytes.len() && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.bytes.len() && self.bytes.len() < max {
            self.bytes.resize((self.bytes.len() * 2).min(max), 0);
        }
        let count = socket.read(&mut self.bytes[self.end..], timeout)?;
        self.end += count;
        Ok(count)
    }

    /// Frees what a large head allocated.
    pub(crate) fn shrink(&mut self) {
        if self.bytes.len() > 2 * IDLE_CAPACITY && self.start == self.end {
            self.bytes.truncate(IDLE_CAPACITY);
            self.bytes.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_large_head_allocated_is_given_back_once_it_was_used() {
        let mut input = Input { bytes: vec![0; 6 * IDLE_CAPACITY], start: 0, end: 5 * IDLE_CAPACITY };
        input.shrink();
        assert_eq!(input.unread().len(), 5 * IDLE_CAPACITY);
        input.consume(5 * IDLE_CAPACITY);
        input.shrink();
        assert!(input.unread().is_empty() && input.bytes.capacity() <= 2 * IDLE_CAPACITY);
    }
}
