//! Keeps the server library's thread pool from letting a connection wait.
//!
//! A connection is given to an idle thread of the pool if there is one, and to a new thread otherwise. When connections
//! come faster than idle threads wake up, the pool counts on the same thread twice, and one of them waits until some
//! other connection ends, which a kept-alive one does not. So no thread is left idle: as many connections of our own as
//! the pool keeps threads occupy these. They take turns in ending, because the thread of a connection that ends takes
//! over one that waits, should there be one after all: threads are also idle for some seconds after their connection.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use std::{fs, thread};

/// How many are parked: twice as many as the threads that the pool keeps for ever, since the first of them may have come
/// before those were ready.
const PLACES: usize = 8;
/// How long connecting to ourselves may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(50);
/// How long a thread whose connection has ended is given to look for another, and the pool to accept one.
const LOOK: Duration = Duration::from_millis(1);
/// How many threads are freed at once at the most: on a busy machine, some other may have been slow to look.
const TURNS_MAX: u32 = 8;
/// How long connections take turns after a request has come: for longer than the pool keeps a thread idle, 5 s. After
/// that, no thread is idle but those that are occupied here, so that nothing can be waiting.
const ALERT: Duration = Duration::from_secs(8);

/// Connections of our own on which nothing is ever sent.
pub(crate) struct Parking {
    address: SocketAddr,
    parked: VecDeque<TcpStream>,
    last_request: Instant,
}

impl Parking {
    /// For the server that listens at `address`.
    pub(crate) fn new(mut address: SocketAddr) -> Self {
        if address.ip().is_unspecified() {
            let v4 = address.is_ipv4();
            address.set_ip(if v4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        Self { address, parked: VecDeque::with_capacity(PLACES), last_request: Instant::now() }
    }

    /// Frees a thread for a connection that may be waiting, and occupies it again if none was. If one was, its place is
    /// taken by a new thread, and there may be more of them: then the next thread is freed at once. `active` tells
    /// whether requests have come since the last time.
    pub(crate) fn take_turns(&mut self, active: bool) {
        if active {
            self.last_request = Instant::now();
        } else if self.last_request.elapsed() > ALERT {
            return;
        }
        for _ in 0..TURNS_MAX {
            let threads = thread_count();
            drop(self.parked.pop_front());
            thread::sleep(LOOK);
            while self.parked.len() < PLACES {
                // A failure only means that the next turn tries again.
                let Ok(stream) = TcpStream::connect_timeout(&self.address, CONNECT_TIMEOUT) else { return };
                self.parked.push_back(stream);
            }
            thread::sleep(LOOK);
            if thread_count() <= threads {
                return;
            }
        }
    }
}

/// How many threads this process has; 0 where the system does not tell by way of `/proc`.
fn thread_count() -> u32 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may have spaces in it; the number is the 18th field after it.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    fields.split_whitespace().nth(17).and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn threads_are_counted() {
        let others: Vec<_> =
            (0..50).map(|_| thread::spawn(|| thread::park_timeout(Duration::from_secs(20)))).collect();
        assert!(thread_count() > 50);
        for other in others {
            other.thread().unpark();
            other.join().unwrap();
        }
    }
}
