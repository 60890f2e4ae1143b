//! One instance of a service: its address, its idle connections, its requests in flight, and whether it can be used.
//!
//! When a request finds that an instance refuses connections or answers slowly, a *health check* starts: a thread that
//! asks for /health until there is an answer. No request is sent to an instance that is known to be hung.

mod transport;

use std::cell::OnceCell;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use foundation::{Backoff, service_token};
use ureq::Agent;
use ureq::config::Config;
use ureq::http::uri::{Authority, Parts, PathAndQuery, Scheme, Uri};
use ureq::http::{HeaderName, HeaderValue, Request, Response};

use super::failure::Failure;
use super::pool::Pool;
use transport::{Connector, NoResolver, Purpose, UpstreamConnection, set_purpose};

/// The field by which services know the gateway.
pub(crate) const SERVICE_TOKEN: HeaderName = HeaderName::from_static(service_token::FIELD);
/// How long an instance may take to answer the health check.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// The delay between health checks: the first, the longest, and the longest while no instance of the service is up.
const PROBE_DELAY_FIRST: Duration = Duration::from_millis(100);
const PROBE_DELAY_MAX: Duration = Duration::from_secs(5);
const PROBE_DELAY_MAX_NONE_UP: Duration = Duration::from_millis(500);
/// For this long after a successful health check, slow answers start no further check.
const TRUST_AFTER_ANSWER: Duration = Duration::from_secs(1);
/// How long an unused connection is kept.
const IDLE_MAX: Duration = Duration::from_secs(20);
/// Spare room for the fields that ureq adds to a head, and the largest part of a body that is written at once, in
/// bytes.
const HEAD_SPARE_BYTES: usize = 128;
const WRITE_BYTES: usize = 16 << 10;

thread_local! {
    /// Each thread has its own agent: an agent is full of reference counters, and sharing them between threads is slow.
    /// One agent serves all services, since they have the same configuration.
    static AGENT: OnceCell<Agent> = const { OnceCell::new() };
}

/// The known state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its last request was answered.
    Live = 0,
    /// It has answered the health check, but no request yet. While another instance is live, it gets one request at a
    /// time.
    Trial = 1,
    /// It refuses connections. Trying it costs little time, so it is used if no other instance can be.
    Refusing = 2,
    /// It does not answer; only the health check asks it.
    Hung = 3,
}

impl State {
    /// Whether the instance is up: it gets requests.
    pub(super) fn is_up(self) -> bool {
        matches!(self, Self::Live | Self::Trial)
    }
}

/// What the instances of one service share.
#[derive(Debug)]
pub(super) struct Common {
    /// The service's name.
    pub(super) name: &'static str,
    /// How many of its instances are up.
    pub(super) up: AtomicUsize,
    /// The most requests that may wait for one instance.
    pub(super) max_in_flight: usize,
    pub(super) config: Config,
    /// What shows the services that a request comes from this gateway.
    pub(super) service_token: Option<HeaderValue>,
}

/// The state of the health check.
#[derive(Debug)]
struct HealthCheck {
    running: bool,
    /// When the instance last answered.
    answered: Option<Instant>,
    /// Reset only by an answered request.
    backoff: Backoff,
}

/// One instance of a service. It lives as long as the process, so that requests can hold it without counting
/// references.
#[derive(Debug)]
pub(crate) struct Instance {
    common: &'static Common,
    pub(super) authority: Authority,
    /// The value of `Host`, made once.
    pub(crate) host: HeaderValue,
    /// The IP address, if the authority has one instead of a host name.
    pub(super) ip: Option<IpAddr>,
    pub(super) port: u16,
    state: AtomicU8,
    /// Requests that wait for the head of their answer.
    in_flight: AtomicUsize,
    /// Idle connections.
    pub(super) pool: Pool<UpstreamConnection>,
    health_check: Mutex<HealthCheck>,
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.common.name, self.authority)
    }
}

impl Instance {
    pub(super) fn new(authority: &Authority, common: &'static Common) -> Self {
        common.up.fetch_add(1, Ordering::Relaxed);
        // Values made from static text have no reference count, which would be slow to share between threads.
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
            health_check: Mutex::new(HealthCheck {
                running: false,
                answered: None,
                backoff: Backoff::new(PROBE_DELAY_FIRST, PROBE_DELAY_MAX),
            }),
        }
    }

    /// The value of [`SERVICE_TOKEN`], if the services want one.
    pub(crate) fn service_token(&self) -> Option<&HeaderValue> {
        self.common.service_token.as_ref()
    }

    /// The URI of `target` at this instance; `None` when the target has a character that ureq cannot send.
    pub(crate) fn uri(&self, target: &[u8]) -> Option<Uri> {
        let mut parts = Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
        Uri::from_parts(parts).ok()
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

    /// Takes one of the permits for requests; `None` if all are taken.
    pub(super) fn admit(&'static self) -> Option<Permit> {
        let permit = Permit(self);
        (self.in_flight.fetch_add(1, Ordering::Relaxed) < self.common.max_in_flight).then_some(permit)
    }

    /// Whether the instance is hung and another one is up.
    pub(super) fn is_hung_unlike_others(&self) -> bool {
        self.state() == State::Hung && self.has_others_up()
    }

    /// Sends one request, waits for the head of the answer, and updates the instance's state. With `can_move`, fails
    /// early if the instance turns out to be hung while another one is up.
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
                self.leave_out(&mut self.health_check(), state, cause);
                self.start_health_check();
            }
            Err(Failure::TimedOut(cause)) => {
                let mut check = self.health_check();
                check.answered = None;
                if self.has_others_up() {
                    self.leave_out(&mut check, State::Hung, cause);
                } else if self.state().is_up() {
                    // Perhaps only this request is slow, and there is no other instance to use.
                    self.set(State::Trial);
                }
                drop(check);
                self.start_health_check();
            }
            Err(Failure::Lost { reused: true, .. }) => self.pool.forget(),
            _ => {}
        }
        result
    }

    /// Asks for `path` and returns the status.
    pub(super) fn probe(&'static self, path: &[u8], timeout: Duration) -> Result<u16, Failure> {
        Ok(self.ask(path, timeout)?.status().as_u16())
    }

    /// Asks for `path` and returns the body; `None` unless the answer is 200 and has at most `max_bytes`.
    pub(super) fn document(
        &'static self,
        path: &[u8],
        max_bytes: u64,
        timeout: Duration,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let (status, body) = self.read(path, max_bytes, timeout)?;
        Ok(body.filter(|_| status == 200))
    }

    /// Asks for `path` and returns the status and the body; `None` for a body that is cut off or larger than `max_bytes`.
    pub(super) fn read(
        &'static self,
        path: &[u8],
        max_bytes: u64,
        timeout: Duration,
    ) -> Result<(u16, Option<Vec<u8>>), Failure> {
        let answer = self.ask(path, timeout)?;
        let status = answer.status().as_u16();
        Ok((status, answer.into_body().into_with_config().limit(max_bytes).read_to_vec().ok()))
    }

    fn ask(&'static self, path: &[u8], timeout: Duration) -> Result<Response<ureq::Body>, Failure> {
        let mut request = Request::new(());
        *request.uri_mut() = self.uri(path).ok_or(Failure::BadTarget)?;
        if let Some(token) = self.service_token() {
            request.headers_mut().insert(SERVICE_TOKEN, token.clone());
        }
        set_purpose(Purpose { instance: self, output_bytes: head_bytes(&request), can_move: false });
        let agent = self.agent();
        let request = agent.configure_request(request).timeout_global(Some(timeout)).build();
        Ok(agent.run(request)?)
    }

    /// An answer takes long: starts a health check, if another instance is up.
    pub(super) fn suspect(&'static self) {
        if self.has_others_up() {
            self.start_health_check();
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

    fn health_check(&self) -> MutexGuard<'_, HealthCheck> {
        self.health_check.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The caller must hold the lock of the health check.
    fn set(&self, state: State) {
        let was_up = self.state().is_up();
        self.state.store(state as u8, Ordering::Relaxed);
        match (was_up, state.is_up()) {
            (true, false) => self.common.up.fetch_sub(1, Ordering::Relaxed),
            (false, true) => self.common.up.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    fn leave_out(&self, _held: &mut HealthCheck, state: State, cause: &str) {
        // Many requests may fail at the same time; they are logged once.
        if self.state().is_up() {
            log::warn!("{self} is not reachable: {cause}");
            self.pool.forget();
        }
        self.set(state);
    }

    /// A request was answered by an instance that was not live: makes it live.
    fn readmit(&self) {
        let mut check = self.health_check();
        if !self.state().is_up() {
            log::info!("{self} is reachable again");
        }
        self.set(State::Live);
        check.backoff.reset();
    }

    /// Starts the health check, unless it is running or was answered just now.
    fn start_health_check(&'static self) {
        let mut check = self.health_check();
        let trusted =
            self.state().is_up() && check.answered.is_some_and(|at| at.elapsed() < TRUST_AFTER_ANSWER);
        if check.running || trusted {
            return;
        }
        // While the instance is up, requests wait for the result, so check at once.
        let delay = if self.state().is_up() { Duration::ZERO } else { check.backoff.next_delay() };
        let spawned =
            thread::Builder::new().name("health".to_owned()).spawn(move || self.run_health_check(delay));
        match spawned {
            Ok(_) => check.running = true,
            Err(e) => {
                log::warn!("cannot start the health check of {self}: {e}");
                self.set(State::Trial);
            }
        }
    }

    fn run_health_check(&'static self, mut delay: Duration) {
        loop {
            self.pause(delay);
            let answer = self.probe(b"/health", PROBE_TIMEOUT);
            let mut check = self.health_check();
            let (state, cause) = match answer {
                // Any answer shows that it is not hung.
                Ok(_) | Err(Failure::Invalid(_) | Failure::BadTarget) => {
                    if !self.state().is_up() {
                        log::info!("{self} is reachable again");
                        self.set(State::Trial);
                    }
                    check.running = false;
                    check.answered = Some(Instant::now());
                    return;
                }
                // It may have been restarted.
                Err(Failure::Lost { reused: true, .. }) => {
                    self.pool.forget();
                    delay = Duration::ZERO;
                    continue;
                }
                // A local problem says nothing about the instance.
                Err(Failure::Local(_)) if self.state().is_up() => {
                    check.running = false;
                    return;
                }
                Err(Failure::Local(cause)) => (self.state(), cause),
                Err(Failure::NotConnected { silent: false, cause }) => (State::Refusing, cause),
                Err(Failure::TimedOut(_)) => {
                    (State::Hung, format!("no answer to /health within {PROBE_TIMEOUT:?}"))
                }
                Err(failure) => (State::Hung, failure.cause().to_owned()),
            };
            self.leave_out(&mut check, state, &cause);
            delay = check.backoff.next_delay();
        }
    }

    /// Waits for `delay`, but at most one step while no instance is up.
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

/// Permission to send one request to an instance, returned when dropped.
pub(super) struct Permit(&'static Instance);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The size of a request's head, in bytes.
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
            let _held = self.health_check();
            self.set(state);
        }
    }
}
