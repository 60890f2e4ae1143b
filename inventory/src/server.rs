//! The server: sockets, threads and deadlines around the handlers.
//!
//! Two lanes of workers take requests from the one queue of the server library. Movie workers answer what is quick.
//! What may take as long as a client likes, a list that is read slowly or a large body that is sent slowly, they
//! hand over to list workers, so that slow clients can only hold up each other.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tiny_http::Server;

use crate::error::Error;
use crate::exchange;
use crate::http::Response;
use crate::metrics::Metrics;
use crate::routes::{self, Route};
use crate::service::MovieService;
use crate::settings::Settings;

/// Opens the listening socket. Its options are inherited by every accepted connection, which is the one way to set
/// them, as the server library keeps its connections to itself. A read timeout cannot be set this way: it would end
/// waiting for connections, too.
pub(crate) fn listen(settings: &Settings) -> Result<TcpListener, Error> {
    let address = format!("{}:{}", settings.host, settings.port);
    let failed = |source| Error::Listen { address: address.clone(), source };
    let resolved = (settings.host.as_str(), settings.port).to_socket_addrs().map_err(failed)?.next();
    let resolved = resolved.ok_or_else(|| failed(io::Error::other("the host has no address")))?;
    open_socket(resolved, settings.stall_timeout).map_err(failed)
}

fn open_socket(address: SocketAddr, stall_timeout: Duration) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    let options = SockRef::from(&socket);
    options.set_tcp_nodelay(true)?;
    options.set_write_timeout(Some(stall_timeout))?;
    options.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(30)))?;
    #[cfg(target_os = "linux")]
    options.set_tcp_user_timeout(Some(stall_timeout))?;
    socket.listen(1_024)?;
    Ok(socket.into())
}

/// What all threads share.
pub(crate) struct Shared {
    pub server: Server,
    pub settings: Settings,
    pub metrics: Metrics,
    /// Where a thread reports that the process cannot go on.
    pub fatal: Sender<Error>,
    /// Whether a request has come since this was last looked at.
    pub active: AtomicBool,
    pub stopping: AtomicBool,
}

/// The request that a worker is answering, kept where the deadline can take it away.
#[derive(Default)]
pub(crate) struct Slot {
    state: Mutex<SlotState>,
}

#[derive(Default)]
enum SlotState {
    #[default]
    Idle,
    Answering {
        raw: Box<tiny_http::Request>,
        since: Instant,
    },
    /// The client has been told 503; the worker still waits for PostgreSQL.
    Overdue,
}

impl Slot {
    fn swap(&self, state: SlotState) -> SlotState {
        std::mem::replace(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner), state)
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(*self.state.lock().unwrap_or_else(PoisonError::into_inner), SlotState::Idle)
    }

    /// Answers the request in the worker's stead if PostgreSQL has kept it waiting for too long. Tells whether the
    /// worker is stuck.
    pub(crate) fn enforce(&self, deadline: Duration, metrics: &Metrics) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            SlotState::Idle => false,
            SlotState::Overdue => true,
            SlotState::Answering { since, .. } if since.elapsed() < deadline => false,
            SlotState::Answering { .. } => {
                let overdue = std::mem::replace(&mut *state, SlotState::Overdue);
                drop(state);
                if let SlotState::Answering { raw, since } = overdue {
                    log::warn!("{}postgresql did not answer in time", label(&raw));
                    metrics.database_timeouts.increment();
                    finish(*raw, Response::unavailable(), since, metrics);
                }
                true
            }
        }
    }
}

/// Answers what waits in the queue when every movie worker is stuck.
pub(crate) fn answer_without_workers(shared: &Shared) {
    while let Ok(Some(raw)) = shared.server.try_recv() {
        shared.active.store(true, Ordering::Relaxed);
        let response = match Route::of(exchange::target(&raw).1) {
            Route::Health => crate::handlers::health(),
            Route::Metrics => Response::text(foundation::metrics::CONTENT_TYPE, shared.metrics.text()),
            _ => Response::unavailable(),
        };
        finish(raw, response, Instant::now(), &shared.metrics);
    }
}

/// Serves what is quick, until the process stops.
pub(crate) fn serve_movies(
    shared: &Shared,
    slot: &Slot,
    movies: &mut MovieService,
    lists: &SyncSender<tiny_http::Request>,
) {
    if !started(shared, movies) {
        return;
    }
    while !shared.stopping.load(Ordering::Acquire) {
        let raw = match shared.server.recv() {
            Ok(raw) => raw,
            // The queue was only woken up.
            Err(_) if shared.stopping.load(Ordering::Acquire) => return,
            Err(error) => {
                let _ = shared.fatal.send(Error::Accept(error));
                return;
            }
        };
        shared.active.store(true, Ordering::Relaxed);
        if is_slow(&raw) {
            hand_over(shared, raw, lists);
        } else {
            serve(shared, slot, movies, raw);
        }
    }
}

/// Gives a request to the list workers, or turns it away when too many are waiting for them.
fn hand_over(shared: &Shared, raw: tiny_http::Request, lists: &SyncSender<tiny_http::Request>) {
    if let Err(TrySendError::Full(raw) | TrySendError::Disconnected(raw)) = lists.try_send(raw) {
        let busy = Response::error(503, "Too many lists are being read, please try again");
        finish(raw, busy.with("Retry-After", "1"), Instant::now(), &shared.metrics);
    }
}

/// Serves lists and large bodies, until the process stops.
pub(crate) fn serve_lists(
    shared: &Shared,
    slot: &Slot,
    movies: &mut MovieService,
    waiting: &Mutex<Receiver<tiny_http::Request>>,
) {
    if !started(shared, movies) {
        return;
    }
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(raw) = next else { return };
        serve(shared, slot, movies, raw);
    }
}

/// Connects before the first request comes. PostgreSQL may well be away at this time; only a database that this
/// program must not touch ends it.
fn started(shared: &Shared, movies: &mut MovieService) -> bool {
    match movies.check() {
        Err(error @ Error::Database(_)) => {
            let _ = shared.fatal.send(error);
            false
        }
        _ => true,
    }
}

fn is_slow(raw: &tiny_http::Request) -> bool {
    let (method, path, _) = exchange::target(raw);
    exchange::has_slow_body(raw) || Route::of(path).is_list(method)
}

fn serve(shared: &Shared, slot: &Slot, movies: &mut MovieService, mut raw: tiny_http::Request) {
    let (since, metrics) = (Instant::now(), &shared.metrics);
    let _in_flight = metrics.http.begin();
    let request = match exchange::read(&mut raw, shared.settings.body_max_bytes) {
        Ok(request) => request,
        Err(response) => return finish(raw, response, since, metrics),
    };
    slot.swap(SlotState::Answering { raw: Box::new(raw), since: Instant::now() });
    let request = &request;
    let answered = catch_unwind(AssertUnwindSafe(move || {
        // Moved, not lent again, because the response may be reading from it.
        let movies = movies;
        routes::answer(request, movies, metrics)
    }));
    // Without a request, the deadline has passed and the client has been answered already.
    if let SlotState::Answering { raw, .. } = slot.swap(SlotState::Idle) {
        // The panic itself has been reported on standard error.
        let response = answered.unwrap_or_else(|_| Response::error(500, "Internal server error"));
        finish(*raw, response, since, metrics);
    }
}

/// Writes a response and its line in the log, and counts it. The request came at `since`.
fn finish(raw: tiny_http::Request, response: Response, since: Instant, metrics: &Metrics) {
    let status = response.status;
    let may_be_logged = status >= 500 || response.is_stream() || log::log_enabled!(log::Level::Debug);
    let label = if may_be_logged { label(&raw) } else { String::new() };
    let (method, route) = (raw.method().clone(), Route::of(exchange::target(&raw).1).label_index());
    metrics.count_failure(&response);
    match &response.cause {
        Some(cause) if status >= 500 => log::warn!("{label}{status}: {cause}"),
        _ => log::debug!("{label}{status}"),
    }
    match exchange::write(raw, response) {
        Ok(()) => {}
        Err(Error::Client(error)) => log::debug!("{label}the client went away: {error}"),
        Err(error) => log::warn!("{label}the list was cut short: {error}"),
    }
    metrics.http.record(route, method.as_str(), status, since.elapsed());
}

/// How a request is named in the log.
fn label(raw: &tiny_http::Request) -> String {
    let (method, path, _) = exchange::target(raw);
    let id = exchange::field(raw, "X-Request-Id").unwrap_or_else(|| "-".to_owned());
    format!("request_id={id} {method} {path} ")
}

/// Starts a named thread.
pub(crate) fn spawn(
    name: String,
    work: impl FnOnce() + Send + 'static,
) -> Result<thread::JoinHandle<()>, Error> {
    thread::Builder::new().name(name).spawn(work).map_err(Error::Thread)
}

/// The slots of one lane of workers.
pub(crate) fn slots(count: usize) -> Vec<Arc<Slot>> {
    (0..count).map(|_| Arc::default()).collect()
}
