//! The edge: an HTTP/1.1 server for strangers, bounded in everything. It knows nothing of what it serves.
//!
//! One thread per connection, blocking, one request at a time; what a client sends ahead waits in the kernel, which
//! slows the client down. The accept loop never writes, reads or waits for a client.

mod admission;
mod body;
mod chunked;
mod connection;
mod date;
mod exchange;
mod framing;
mod head;
mod input;
mod request_id;
mod response;
mod socket;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use foundation::Shutdown;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::Problem;
use crate::settings::EdgeSettings;
use admission::{Admission, Ticket, Verdict};
pub(crate) use body::Body;
use connection::{Connection, Shared};
pub(crate) use exchange::Exchange;
pub(crate) use framing::tokens;
pub(crate) use head::{Head, Method};
pub(crate) use response::BodySize;
use socket::Link;

/// Connections that the kernel completes ahead of `accept`.
const BACKLOG: i32 = 1024;
/// The stack of a connection's thread, in bytes. Measured: a release build touches about 32 KiB of it, a debug build
/// more; the rest is address space and costs no memory.
const STACK_BYTES: usize = 256 << 10;
/// How long to wait after an accept error before trying again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the edge serves. Called from many threads at once.
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers one request, or says why not, in which case the edge answers.
    fn serve(&self, exchange: &mut Exchange<'_>) -> Result<(), Problem>;

    /// Takes note that the edge answers a request by itself, because [`Service::serve`] never saw it or panicked.
    fn refused(&self, problem: &Problem);
}

/// A listening server.
pub(crate) struct Server {
    listener: TcpListener,
    addr: SocketAddr,
}

impl Server {
    /// Binds to `addr`. The socket accepts from now on, although nobody answers before [`Server::run`].
    pub(crate) fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for the connections of the process before it.
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        let addr = listener.local_addr()?;
        Ok(Self { listener, addr })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `shutdown` is requested, and then until all connections are closed or the stop timeout is over.
    pub(crate) fn run(
        self,
        settings: &EdgeSettings,
        service: Arc<dyn Service>,
        shutdown: &Shutdown,
    ) -> io::Result<()> {
        let shared = Arc::new(Shared {
            settings: settings.clone(),
            shutdown: shutdown.clone(),
            service,
            request_ids: request_id::Generator::new(),
        });
        let admission = Arc::new(Admission::default());
        thread::scope(|scope| {
            thread::Builder::new().name("stop".to_owned()).spawn_scoped(scope, || {
                shutdown.wait();
                // This wakes the accept call below.
                let _ = SockRef::from(&self.listener).shutdown(std::net::Shutdown::Both);
            })?;
            self.accept(&shared, &admission);
            io::Result::Ok(())
        })?;
        drop(self.listener);
        let left = admission.close_all(settings.stop_timeout);
        if left > 0 {
            log::warn!("stopped with {left} connections still busy after {:?}", settings.stop_timeout);
        }
        Ok(())
    }

    fn accept(&self, shared: &Arc<Shared>, admission: &Arc<Admission>) {
        let mut failing = false;
        while !shared.shutdown.requested() {
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    failing = false;
                    start(stream, peer.ip(), shared, admission);
                }
                Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(_) if shared.shutdown.requested() => {}
                Err(e) => {
                    // Out of descriptors or memory: open connections go on, and when one ends there is room again.
                    if !failing {
                        log::warn!("cannot accept connections: {e}; trying again every {ACCEPT_PAUSE:?}");
                    }
                    failing = true;
                    shared.shutdown.wait_timeout(ACCEPT_PAUSE);
                }
            }
        }
    }
}

/// Gives a connection its thread, if it is admitted.
fn start(stream: TcpStream, peer: IpAddr, shared: &Arc<Shared>, admission: &Arc<Admission>) {
    let link = Arc::new(Link::new(stream));
    let (ticket, refusal) = match admission.admit(peer, &link, &shared.settings) {
        Verdict::Admitted(ticket) => (ticket, None),
        Verdict::Refused(ticket, problem) => (ticket, Some(problem)),
        Verdict::Dropped => return,
    };
    let shared = shared.clone();
    let spawned = thread::Builder::new()
        .name("client".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || run(&shared, link, peer, refusal.as_ref(), ticket));
    if let Err(e) = spawned {
        log::warn!("cannot start a thread for {peer}: {e}");
    }
}

fn run(shared: &Shared, link: Arc<Link>, peer: IpAddr, refusal: Option<&Problem>, ticket: Ticket) {
    match Connection::new(shared, link, peer) {
        Ok(mut connection) => match refusal {
            Some(problem) => connection.refuse(problem),
            None => connection.serve(),
        },
        // The client was gone before its connection could be set up.
        Err(e) => log::debug!("{peer} left at once: {e}"),
    }
    // Only now is the socket closed, and only then may another connection take its place.
    drop(ticket);
}
