//! The listening socket: binds, accepts, starts a thread for each connection, and stops gracefully.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use foundation::Shutdown;
use rustix::event::{PollFd, PollFlags, poll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::admission::{Admission, Connections, Decision, Registration};
use crate::budget::Budget;
use crate::connection::{Connection, Shared};
use crate::refusal::Refusal;
use crate::request_id;
use crate::service::Service;
use crate::settings::EdgeSettings;
use crate::socket::Link;

/// Connections that the kernel completes ahead of `accept`.
const BACKLOG: i32 = 1024;
/// The stack of a connection's thread, in bytes. Measured: a release build touches about 32 KiB of it, a debug build
/// more; the rest is address space and costs no memory. It is this large because glibc caches the stacks of ended
/// threads, with about 24 KiB of memory each, up to 40 MiB of address space: the larger the stacks, the fewer are
/// cached.
const STACK_BYTES: usize = 2 << 20;
/// How long to wait after an accept error before trying again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listening server.
pub struct Server {
    listener: TcpListener,
    addr: SocketAddr,
    admission: Arc<Admission>,
}

impl Server {
    /// Binds to the first address of `host`, which may be an IPv6 address in brackets; port 0 lets the operating system
    /// choose. The kernel completes connections from now on; they are answered once [`Server::run`] is called.
    pub fn bind(host: &str, port: u16) -> io::Result<Self> {
        let mut addrs = (host.trim_matches(['[', ']']), port).to_socket_addrs()?;
        let addr = addrs.next().ok_or(ErrorKind::AddrNotAvailable)?;
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not have to wait for old connections in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        // The accept loop waits in `poll`, which a shutdown can wake.
        socket.set_nonblocking(true)?;
        let listener = TcpListener::from(socket);
        let addr = listener.local_addr()?;
        Ok(Self { listener, addr, admission: Arc::default() })
    }

    /// The address that was bound.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// This server's connection metrics.
    pub fn connections(&self) -> Connections {
        Connections(self.admission.clone())
    }

    /// Serves until `shutdown` is requested. Connections that the kernel has completed by then are still served, and
    /// running requests finish. Returns when all connections are closed or the stop timeout has passed.
    pub fn run(
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
            bodies: Arc::new(Budget::new(settings.bodies_max_bytes)),
        });
        // Closing `stop` wakes the accept loop.
        let (stop, stopped) = UnixStream::pair()?;
        thread::scope(|scope| {
            thread::Builder::new().name("stop".to_owned()).spawn_scoped(scope, move || {
                shutdown.wait();
                drop(stop);
            })?;
            self.accept(&shared, &stopped);
            io::Result::Ok(())
        })?;
        drop(self.listener);
        let left = self.admission.close_all(settings.stop_timeout);
        if left > 0 {
            log::warn!("stopped with {left} connections still busy after {:?}", settings.stop_timeout);
        }
        Ok(())
    }

    /// Accepts connections until the shutdown is requested and the kernel's queue is empty.
    fn accept(&self, shared: &Arc<Shared>, stopped: &UnixStream) {
        let mut failing = false;
        loop {
            let stopping = shared.shutdown.requested();
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    failing = false;
                    self.start(stream, peer.ip(), shared);
                }
                Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                // All connections from before the stop have been accepted.
                Err(_) if stopping => return,
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.wait(stopped),
                Err(e) => {
                    // Out of descriptors or memory: open connections go on, and each one that ends makes room.
                    if !failing {
                        log::warn!("cannot accept connections: {e}; trying again every {ACCEPT_PAUSE:?}");
                    }
                    failing = true;
                    shared.shutdown.wait_timeout(ACCEPT_PAUSE);
                }
            }
        }
    }

    /// Waits for a connection or the stop.
    fn wait(&self, stopped: &UnixStream) {
        let mut sources = [PollFd::new(&self.listener, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
        if let Err(e) = poll(&mut sources, None)
            && e != rustix::io::Errno::INTR
        {
            // Without this, a lasting error would make the loop spin.
            thread::sleep(ACCEPT_PAUSE);
        }
    }

    /// Starts the thread of a connection, unless it is dropped.
    fn start(&self, stream: TcpStream, peer: IpAddr, shared: &Arc<Shared>) {
        // Except on Linux, accepted sockets inherit the listener's non-blocking mode.
        if cfg!(not(target_os = "linux")) && stream.set_nonblocking(false).is_err() {
            return;
        }
        let (link, decision) = self.admission.admit(stream, peer, &shared.settings);
        let (registration, refusal) = match decision {
            Decision::Admitted(registration) => (registration, None),
            Decision::Refused(registration, refusal) => (registration, Some(refusal)),
            Decision::Dropped => return,
        };
        let shared = shared.clone();
        let spawned = thread::Builder::new()
            .name("client".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || run(&shared, link, peer, refusal.as_ref(), registration));
        if let Err(e) = spawned {
            self.admission.count_no_thread();
            log::warn!("cannot start a thread for {peer}: {e}");
        }
    }
}

fn run(
    shared: &Shared,
    link: Arc<Link>,
    peer: IpAddr,
    refusal: Option<&Refusal>,
    registration: Registration,
) {
    match Connection::new(shared, link, peer) {
        Ok(mut connection) => match refusal {
            Some(refusal) => connection.refuse(refusal),
            None => connection.serve(),
        },
        // The client was gone before its connection could be set up.
        Err(e) => log::debug!("{peer} left at once: {e}"),
    }
    // By now the socket is closed, so another connection may take its place.
    drop(registration);
}
