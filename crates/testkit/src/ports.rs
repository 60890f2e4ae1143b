//! Ports for servers that must keep their port over a restart.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports below the range from which the kernel takes ports for outgoing connections (32768 and up on Linux), so that
/// no client takes the port of a server while it is restarted.
const FIRST: u16 = 16_000;
const COUNT: u16 = 16_000;

/// A free TCP port of the loopback address. Each call in a process returns another one; every process starts at a
/// random port. A test that does not restart its server uses port 0 instead.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = crate::hex(2);
    let start = u16::from_str_radix(&start, 16).unwrap_or_default() % COUNT;
    let _ = NEXT.compare_exchange(0, start, Ordering::Relaxed, Ordering::Relaxed);
    for _ in 0..COUNT {
        let port = FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("all ports from {FIRST} to {} are taken", FIRST + COUNT - 1);
}
