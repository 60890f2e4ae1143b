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
    while !broker.shutdown.requested() {
        let accepted = listener.accept();
        let served =
            accepted.and_then(|(socket, address)| connection::start(broker, socket, address.to_string()));
        if let Err(error) = served
            && !broker.shutdown.requested()
        {
            log::warn!("a connection cannot be served: {error}");
            broker.shutdown.wait_timeout(ACCEPT_PAUSE);
        }
    }
}

/// Ends a blocked accept. On Linux a listening socket that is shut down makes it return.
pub(crate) fn stop_accepting(listener: &TcpListener) {
    // Without it the thread ends with the process.
    let _ = SockRef::from(listener).shutdown(Shutdown::Both);
}
