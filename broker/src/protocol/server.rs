//! Accepts connections until the broker stops.

use std::net::{Shutdown, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;

use crate::broker::Broker;
use crate::protocol::connection;

/// After an accept that failed, for instance for want of descriptors, the next attempt waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The body of the accepting thread.
pub(crate) fn accept(broker: &Arc<Broker>, listener: &TcpListener) {
    // One line for each time that it begins to fail: clients decide how often it does.
    let mut fails = false;
    while !broker.shutdown.requested() {
        let accepted = listener.accept();
        let served =
            accepted.and_then(|(socket, address)| connection::start(broker, socket, address.to_string()));
        match served {
            Ok(()) => fails = false,
            Err(_) if broker.shutdown.requested() => {}
            Err(error) => {
                if !std::mem::replace(&mut fails, true) {
                    log::warn!("connections cannot be served: {error}");
                }
                broker.shutdown.wait_timeout(ACCEPT_PAUSE);
            }
        }
    }
}

/// Ends a blocked accept. On Linux a listening socket that is shut down makes it return.
pub(crate) fn stop_accepting(listener: &TcpListener) {
    // Without it the thread ends with the process.
    let _ = SockRef::from(listener).shutdown(Shutdown::Both);
}
