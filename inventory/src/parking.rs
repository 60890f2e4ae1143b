//! Keeps the server library's thread pool from letting a connection wait.
//!
//! A connection is given to an idle thread of the pool if there is one, and to a new thread otherwise. When connections
//! come faster than idle threads wake up, the pool counts on the same thread twice, and one of them waits until some
//! other connection ends, which a kept-alive one does not. So no thread is left idle: as many connections of our own as
//! the pool keeps threads occupy these. They take turns in ending, because the thread of a connection that ends takes
//! over one that waits, should there be one after all: threads are also idle for some seconds after their connection.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

/// How many are parked: twice as many as the threads that the pool keeps for ever, since the first of them may have come
/// before those were ready.
const PLACES: usize = 8;
/// How long connecting to ourselves may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(50);
/// How long the threads whose connections have ended are given to look for others.
const LOOK: Duration = Duration::from_millis(1);

/// Connections of our own on which nothing is ever sent.
pub(crate) struct Parking {
    address: SocketAddr,
    parked: VecDeque<TcpStream>,
}

impl Parking {
    /// For the server that listens at `address`.
    pub(crate) fn new(mut address: SocketAddr) -> Self {
        if address.ip().is_unspecified() {
            let v4 = address.is_ipv4();
            address.set_ip(if v4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        Self { address, parked: VecDeque::with_capacity(PLACES) }
    }

    /// Frees threads for connections that may be waiting, and occupies them again if none was: all threads when
    /// requests are coming in, and otherwise one, which is enough for the first request of a burst.
    pub(crate) fn take_turns(&mut self, busy: bool) {
        let turns = if busy { self.parked.len() } else { 1.min(self.parked.len()) };
        self.parked.drain(..turns);
        thread::sleep(LOOK);
        while self.parked.len() < PLACES {
            // A failure only means that the next turn tries again.
            let Ok(stream) = TcpStream::connect_timeout(&self.address, CONNECT_TIMEOUT) else { return };
            self.parked.push_back(stream);
        }
    }
}
