//! One instance of a service: its address, its idle connections, how many requests wait for it, and whether it is fit
//! to be asked.
//!
//! Requests find out that an instance refuses connections, or that it takes its time; then a thread of its own (the
//! *watch*) asks for /health until there is an answer. No request ever waits for an instance that is known to be hung.

use std::cell::OnceCell;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use foundation::Backoff;
use ureq::Agent;
use ureq::config::Config;
use ureq::http::uri::{Authority, Parts, PathAndQuery, Scheme, Uri};
use ureq::http::{HeaderValue, Request, Response};

use super::failure::Failure;
use super::pool::Pool;
use super::transport::{Connector, Line, NoResolver, Purpose, set_purpose};

/// How long an instance may take to answer the watch.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// The delays of the watch: at first, at most, and at most while the service has no instance that takes part.
const PROBE_DELAY_FIRST: Duration = Duration::from_millis(100);
const PROBE_DELAY_MAX: Duration = Duration::from_secs(5);
const PROBE_DELAY_MAX_NONE_UP: Duration = Duration::from_millis(500);
/// An instance that has answered the watch is not suspected again for so long, however slow its other answers are.
const TRUST: Duration = Duration::from_secs(1);
/// How long an unused connection is kept.
const IDLE_MAX: Duration = Duration::from_secs(20);
/// The room for what ureq adds to a head, such as the body's length, and the most of a body that is written at once.
const HEAD_SPARE_BYTES: usize = 128;
const WRITE_BYTES: usize = 16 << 10;

thread_local! {
    /// Everything in an agent is reference-counted; in one that all threads share, they would spend their time on
    /// passing the counters around. A thread works for one gateway only, whose services have one configuration.
    static AGENT: OnceCell<Agent> = const { OnceCell::new() };
}

/// What is known of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its last request was answered.
    Live = 0,
    /// It answers the watch; whether it answers requests is not known. While another instance is live, it is given
    /// one request at a time.
    Trial = 1,
    /// It refuses connections, which is quick to find out: it is asked if nobody else can be.
    Refusing = 2,
    /// It does not answer; only the watch asks it.
    Hung = 3,
}

impl State {
    /// Whether the instance takes part.
    pub(super) fn is_up(self) -> bool {
        matches!(self, Self::Live | Self::Trial)
    }
}

/// What the instances of one service share.
#[derive(Debug)]
pub(super) struct Common {
    /// The service's name.
    pub(super) name: &'static str,
    /// How many of its instances take part.
    pub(super) up: AtomicUsize,
    /// The most requests that may wait for one instance.
    pub(super) max_in_flight: usize,
    pub(super) config: Config,
}

/// What the watch remembers.
#[derive(Debug)]
struct Watch {
    running: bool,
    /// When the instance last answered.
    answered: Option<Instant>,
    /// Only an answered request resets it.
    backoff: Backoff,
}

/// One instance of a service. It lives as long as the process, so that a request need not count references to it.
#[derive(Debug)]
pub(crate) struct Instance {
    common: &'static Common,
    authority: Authority,
    /// The value of `Host`, made once.
    host: HeaderValue,
    /// The address, if the authority names one instead of a host.
    pub(super) ip: Option<IpAddr>,
    pub(super) port: u16,
    state: AtomicU8,
    /// Requests that wait for the head of their answer.
    in_flight: AtomicUsize,
    /// Connections that wait for a request.
    pub(super) pool: Pool<Line>,
    watch: Mutex<Watch>,
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.common.name, self.authority)
    }
}

impl Instance {
    pub(super) fn new(authority: &Authority, common: &'static Common) -> Self {
        common.up.fetch_add(1, Ordering::Relaxed);
        // Copies of a static text share no reference count, and one that all threads count on costs more than all
        // else that is done with it.
        let text: &'static str = authority.as_str().to_owned().leak();
        let (authority, host) = (Authority::from_static(text), HeaderValue::from_static(text));
        Self {
            common,
            ip: authority.host().trim_matches(['[', ']']).parse().ok(),
            port: authority.port_u16().unwrap_or(80),
            authority,
            host,
            state: AtomicU8::new(State::Live as u8),
            in_flight: AtomicUsize::new(0),
            pool: Pool::new(common.max_in_flight, IDLE_MAX),
            watch: Mutex::new(Watch {
                running: false,
                answered: None,
                backoff: Backoff::new(PROBE_DELAY_FIRST, PROBE_DELAY_MAX),
            }),
        }
    }

    /// The value of `Host` for this instance.
    pub(crate) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// The URI of `target` at this instance; `None` when the target has a character that ureq cannot send.
    pub(crate) fn uri(&self, target: &[u8]) -> Option<Uri> {
        let mut parts = Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
        Uri::from_parts(parts).ok()
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(super) fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            0 => State::Live,
            1 => State::Trial,
            2 => State::Refusing,
            _ => State::Hung,
        }
    }

    /// How many requests wait for this instance.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Takes one of the places for requests; `None` when all are taken.
    pub(super) fn admit(&'static self) -> Option<Place> {
        let place = Place(self);
        (self.in_flight.fetch_add(1, Ordering::Relaxed) < self.common.max_in_flight).then_some(place)
    }

    /// Whether the instance is hung and another one is not.
    pub(super) fn is_worse_than_others(&self) -> bool {
        self.state() == State::Hung && self.has_others_up()
    }

    /// Sends one request and waits for the head of the answer; `can_move` gives it up early when the instance turns
    /// out to be hung and another one is not. Takes note of what that says about the instance.
    pub(super) fn send(
        &'static self,
        request: Request<()>,
        body: Option<&[u8]>,
        can_move: bool,
    ) -> Result<Response<ureq::Body>, Failure> {
        let body_bytes = body.map_or(0, |body| body.len().min(WRITE_BYTES));
        let output_bytes = head_bytes(&request) + body_bytes;
        set_purpose(Purpose { instance: self, output_bytes, can_move });
        let agent = self.agent();
        let result = match body {
            None => agent.run(request),
            Some(bytes) => agent.run(request.map(|()| bytes)),
        };
        let result = result.map_err(Failure::from);
        match &result {
            Ok(_) if self.state() != State::Live => self.readmit(),
            Err(Failure::NotConnected { silent, cause }) => {
                let state = if *silent { State::Hung } else { State::Refusing };
                self.leave_out(&mut self.watch(), state, cause);
                self.start_watch();
            }
            Err(Failure::TimedOut(cause)) => {
                let mut watch = self.watch();
                watch.answered = None;
                if self.has_others_up() {
                    self.leave_out(&mut watch, State::Hung, cause);
                } else if self.state().is_up() {
                    // It may be this one request that takes so long, and nobody else could answer others.
                    self.set(State::Trial);
                }
                drop(watch);
                self.start_watch();
            }
            Err(Failure::Lost { reused: true, .. }) => self.pool.forget(),
            _ => {}
        }
        result
    }

    /// Asks for `path` and returns the status.
    pub(super) fn probe(&'static self, path: &[u8], timeout: Duration) -> Result<u16, Failure> {
        let mut request = Request::new(());
        *request.uri_mut() = self.uri(path).ok_or(Failure::BadTarget)?;
        set_purpose(Purpose { instance: self, output_bytes: head_bytes(&request), can_move: false });
        let agent = self.agent();
        let request = agent.configure_request(request).timeout_global(Some(timeout)).build();
        Ok(agent.run(request)?.status().as_u16())
    }

    /// An answer takes long. If others could answer instead, finds out whether this instance is still there.
    pub(super) fn suspect(&'static self) {
        if self.has_others_up() {
            self.start_watch();
        }
    }

    fn has_others_up(&self) -> bool {
        self.common.up.load(Ordering::Relaxed) > usize::from(self.state().is_up())
    }

    fn agent(&self) -> Agent {
        AGENT.with(|agent| {
            agent.get_or_init(|| Agent::with_parts(self.common.config.clone(), Connector, NoResolver)).clone()
        })
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever calls this holds the lock of the watch.
    fn set(&self, state: State) {
        let was_up = self.state().is_up();
        self.state.store(state as u8, Ordering::Relaxed);
        match (was_up, state.is_up()) {
            (true, false) => self.common.up.fetch_sub(1, Ordering::Relaxed),
            (false, true) => self.common.up.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    fn leave_out(&self, _held: &mut Watch, state: State, cause: &str) {
        // Many requests may fail at the same time; together they are one failure.
        if self.state().is_up() {
            log::warn!("{self} is not reachable: {cause}");
            self.pool.forget();
        }
        self.set(state);
    }

    /// A request was answered although the instance was not live.
    fn readmit(&self) {
        let mut watch = self.watch();
        if !self.state().is_up() {
            log::info!("{self} is reachable again");
        }
        self.set(State::Live);
        watch.backoff.reset();
    }

    /// Starts the watch, unless it is running or the instance has just answered it.
    fn start_watch(&'static self) {
        let mut watch = self.watch();
        let trusted = self.state().is_up() && watch.answered.is_some_and(|at| at.elapsed() < TRUST);
        if watch.running || trusted {
            return;
        }
        // Whether an instance that takes part is still there should be known soon.
        let delay = if self.state().is_up() { Duration::ZERO } else { watch.backoff.next_delay() };
        let spawned = thread::Builder::new().name("watch".to_owned()).spawn(move || self.run_watch(delay));
        match spawned {
            Ok(_) => watch.running = true,
            Err(e) => {
                log::warn!("cannot start a thread that watches {self}: {e}");
                self.set(State::Trial);
            }
        }
    }

    fn run_watch(&'static self, mut delay: Duration) {
        loop {
            self.pause(delay);
            let answer = self.probe(b"/health", PROBE_TIMEOUT);
            let mut watch = self.watch();
            let (state, cause) = match answer {
                // Whatever it says, it does answer.
                Ok(_) | Err(Failure::Invalid(_) | Failure::BadTarget) => {
                    if !self.state().is_up() {
                        log::info!("{self} is reachable again");
                        self.set(State::Trial);
                    }
                    watch.running = false;
                    watch.answered = Some(Instant::now());
                    return;
                }
                // It may have been restarted.
                Err(Failure::Lost { reused: true, .. }) => {
                    self.pool.forget();
                    delay = Duration::ZERO;
                    continue;
                }
                // That is not its fault, and says nothing about it.
                Err(Failure::Local(_)) if self.state().is_up() => {
                    watch.running = false;
                    return;
                }
                Err(Failure::Local(cause)) => (self.state(), cause),
                Err(Failure::NotConnected { silent: false, cause }) => (State::Refusing, cause),
                Err(Failure::TimedOut(_)) => {
                    (State::Hung, format!("no answer to /health within {PROBE_TIMEOUT:?}"))
                }
                Err(failure) => (State::Hung, failure.cause().to_owned()),
            };
            self.leave_out(&mut watch, state, &cause);
            delay = watch.backoff.next_delay();
        }
    }

    /// Lets `delay` pass, or less as soon as no instance takes part.
    fn pause(&self, delay: Duration) {
        let mut left = delay;
        while !left.is_zero() {
            let step = left.min(PROBE_DELAY_MAX_NONE_UP);
            thread::sleep(step);
            let none_up = self.common.up.load(Ordering::Relaxed) == 0;
            left = if none_up { Duration::ZERO } else { left.saturating_sub(step) };
        }
    }
}

/// A request's place among those that wait for an instance; dropping it makes room.
pub(super) struct Place(&'static Instance);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The room that a request's head needs, in bytes.
fn head_bytes(request: &Request<()>) -> usize {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    request.method().as_str().len() + target + fields.sum::<usize>() + HEAD_SPARE_BYTES
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    impl Instance {
        /// As if requests had found out.
        pub(in crate::upstream) fn force(&self, state: State) {
            let _held = self.watch();
            self.set(state);
        }
    }
}
