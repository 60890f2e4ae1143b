//! The instances of inventory: which one is asked next, which ones are left alone for a while, and what became of a
//! request that was sent to one.

mod buffers;
mod pool;
mod transport;

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use foundation::Backoff;
use ureq::Agent;
use ureq::config::{AutoHeaderValue, Config};
use ureq::http::uri::{Authority, Parts, PathAndQuery, Scheme, Uri};
use ureq::http::{HeaderValue, Request, Response};

use crate::settings::UpstreamSettings;
pub(crate) use buffers::unread_input;
use pool::Pool;
use transport::{Connector, Fault, FaultKind, Line, NoResolver, Timeouts};

/// How long an instance that refused a connection is left alone: at first, and at most.
const EJECTION_FIRST: Duration = Duration::from_secs(1);
const EJECTION_MAX: Duration = Duration::from_secs(30);

static NEXT_ID: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static AGENT: RefCell<Option<(usize, Agent)>> = const { RefCell::new(None) };
}

/// One instance of inventory.
#[derive(Debug)]
pub(crate) struct Upstream {
    authority: Authority,
    /// The value of `Host`, made once.
    host: HeaderValue,
    /// The address, if the authority names one instead of a host.
    ip: Option<IpAddr>,
    port: u16,
    /// Until when the instance is left alone, in milliseconds since `created`; 0 when it is fine.
    ejected_until: AtomicU64,
    created: Instant,
    backoff: Mutex<Backoff>,
    /// Connections that wait for a request.
    pool: Pool<Line>,
}

impl Upstream {
    fn new(authority: &Authority, settings: &UpstreamSettings) -> Self {
        let ip = authority.host().trim_matches(['[', ']']).parse().ok();
        let port = authority.port_u16().unwrap_or(80);
        // The few addresses live as long as the process. Copies of a static text share no reference count, and one
        // that all threads count on costs more than all else that is done with it.
        let text: &'static str = authority.as_str().to_owned().leak();
        let (authority, host) = (Authority::from_static(text), HeaderValue::from_static(text));
        let backoff = Mutex::new(Backoff::new(EJECTION_FIRST, EJECTION_MAX));
        let ejected_until = AtomicU64::new(0);
        let pool = Pool::new(settings.max_idle, settings.idle_timeout);
        Self { authority, host, ip, port, ejected_until, created: Instant::now(), backoff, pool }
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

    fn now(&self) -> u64 {
        u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_live(&self) -> bool {
        let until = self.ejected_until.load(Ordering::Relaxed);
        until == 0 || until <= self.now()
    }

    /// Leaves the instance alone for a while, longer each time.
    fn eject(&self, cause: &str) {
        let mut backoff = self.backoff.lock().unwrap_or_else(PoisonError::into_inner);
        let was = self.ejected_until.load(Ordering::Relaxed);
        // Many requests may fail at the same time; together they are one failure.
        if was > self.now() {
            return;
        }
        let delay = u64::try_from(backoff.next_delay().as_millis()).unwrap_or(u64::MAX).max(1);
        self.ejected_until.store(self.now().saturating_add(delay), Ordering::Relaxed);
        if was == 0 {
            log::warn!("inventory at {} is not reachable: {cause}", self.authority);
        }
    }

    /// Takes note that the instance could be reached.
    fn readmit(&self) {
        if self.ejected_until.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut backoff = self.backoff.lock().unwrap_or_else(PoisonError::into_inner);
        if self.ejected_until.swap(0, Ordering::Relaxed) != 0 {
            backoff.reset();
            log::info!("inventory at {} is reachable again", self.authority);
        }
    }
}

/// The body of a request to inventory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RequestBody<'b> {
    /// None, and no field that would announce one.
    None,
    /// Complete, and therefore good for more than one attempt.
    Bytes(&'b [u8]),
}

/// Why inventory did not answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection could be made, so that the request did not reach anybody.
    NotConnected(String),
    /// The connection was lost before a byte of the answer came.
    Lost {
        /// Whether it is certain that no byte of the request was sent.
        unsent: bool,
        /// Whether the connection had been used before, so that it may have been dead already.
        reused: bool,
        cause: String,
    },
    /// The answer did not come in time.
    TimedOut(String),
    /// The answer is not HTTP, or was cut off within its head.
    Invalid(String),
    /// The target has a character that cannot be sent.
    BadTarget,
}

impl Failure {
    /// What happened, for the log.
    pub(crate) fn cause(&self) -> &str {
        match self {
            Self::NotConnected(cause)
            | Self::TimedOut(cause)
            | Self::Invalid(cause)
            | Self::Lost { cause, .. } => cause,
            Self::BadTarget => "the target cannot be sent",
        }
    }
}

/// Whether inventory can do its work.
#[derive(Debug)]
pub(crate) enum Readiness {
    /// It can.
    Ready,
    /// It serves, but PostgreSQL is not there for it.
    NotReady(String),
    /// Nothing answers.
    Unreachable(String),
}

impl Readiness {
    /// What is wrong, if anything is.
    pub(crate) fn problem(&self) -> Option<&str> {
        match self {
            Self::Ready => None,
            Self::NotReady(cause) | Self::Unreachable(cause) => Some(cause),
        }
    }
}

/// All instances of inventory, and the connections to them.
pub(crate) struct Upstreams {
    /// Tells the agents of these instances from those of others.
    id: usize,
    config: Config,
    connector: Connector,
    instances: Arc<[Arc<Upstream>]>,
    next: AtomicUsize,
    ready_timeout: Duration,
}

impl Upstreams {
    pub(crate) fn new(settings: &UpstreamSettings) -> Self {
        let instances: Arc<[_]> = settings
            .authorities
            .iter()
            .map(|authority| Arc::new(Upstream::new(authority, settings)))
            .collect();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(AutoHeaderValue::None)
            .accept(AutoHeaderValue::None)
            .accept_encoding(AutoHeaderValue::None)
            // Its pool is replaced by ours.
            .max_idle_connections(0)
            .max_idle_connections_per_host(0)
            .max_response_header_size(buffers::INPUT_BYTES)
            .timeout_connect(Some(settings.connect_timeout))
            .timeout_recv_response(Some(settings.head_timeout))
            .timeout_per_read(Some(settings.body_timeout))
            .timeout_per_write(Some(settings.body_timeout))
            .build();
        let connector = Connector {
            instances: instances.clone(),
            timeouts: Timeouts {
                connect: settings.connect_timeout,
                head: settings.head_timeout,
                write: settings.body_timeout,
            },
            line_max_bytes: edge::REQUEST_LINE_MAX_BYTES.max(edge::HEADERS_MAX_BYTES),
        };
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let ready_timeout = settings.ready_timeout;
        Self { id, config, connector, instances, next: AtomicUsize::new(0), ready_timeout }
    }

    /// This thread's agent. Everything in an agent is reference-counted; in one that all threads share, they would
    /// spend their time on passing the counters around. The connections are pooled elsewhere.
    fn agent(&self) -> Agent {
        AGENT.with_borrow_mut(|slot| match slot {
            Some((id, agent)) if *id == self.id => agent.clone(),
            _ => {
                let agent = Agent::with_parts(self.config.clone(), self.connector.clone(), NoResolver);
                *slot = Some((self.id, agent.clone()));
                agent
            }
        })
    }

    /// The instances in the order in which a request should try them: each live one once, beginning with the one
    /// whose turn it is. When none is live, all are tried nevertheless: a refusal is quick to get, and an only
    /// instance that is back must be found at once.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        let count = self.instances.len();
        let first = if count == 1 { 0 } else { self.next.fetch_add(1, Ordering::Relaxed) % count };
        let in_turn = move || (0..count).map(move |offset| (first + offset) % count);
        let any_live = self.instances.iter().any(|instance| instance.is_live());
        in_turn().map(|index| &self.instances[index]).filter(move |upstream| !any_live || upstream.is_live())
    }

    /// Sends one request to one instance and waits for the head of the response. Takes note of whether the instance
    /// could be reached.
    pub(crate) fn send(
        &self,
        upstream: &Upstream,
        request: Request<()>,
        body: RequestBody<'_>,
    ) -> Result<Response<ureq::Body>, Failure> {
        let (parts, ()) = request.into_parts();
        let agent = self.agent();
        let result = match body {
            RequestBody::None => agent.run(Request::from_parts(parts, ())),
            RequestBody::Bytes(bytes) => agent.run(Request::from_parts(parts, bytes)),
        };
        let result = result.map_err(|error| classify(&error));
        match &result {
            Err(Failure::NotConnected(cause)) => upstream.eject(cause),
            Err(Failure::Lost { reused: true, .. }) => upstream.pool.forget(),
            Err(_) => {}
            Ok(_) => upstream.readmit(),
        }
        result
    }

    /// Whether any instance says that it is ready. Takes at most the ready timeout for each.
    pub(crate) fn readiness(&self) -> Readiness {
        let mut best = Readiness::Unreachable("no instance".to_owned());
        for upstream in self.candidates() {
            match self.probe(upstream) {
                Readiness::Ready => return Readiness::Ready,
                Readiness::NotReady(cause) => best = Readiness::NotReady(cause),
                // One that is not ready is better news than one that is not there.
                Readiness::Unreachable(cause) if matches!(best, Readiness::Unreachable(_)) => {
                    best = Readiness::Unreachable(cause);
                }
                Readiness::Unreachable(_) => {}
            }
        }
        best
    }

    fn probe(&self, upstream: &Upstream) -> Readiness {
        let unreachable = |cause: &str| Readiness::Unreachable(format!("{}: {cause}", upstream.authority));
        let Some(uri) = upstream.uri(b"/ready") else { return unreachable("the address cannot be used") };
        let mut request = Request::new(());
        *request.uri_mut() = uri;
        let agent = self.agent();
        let request = agent.configure_request(request).timeout_global(Some(self.ready_timeout)).build();
        match agent.run(request).map(|response| response.status().as_u16()) {
            Ok(200) => Readiness::Ready,
            Ok(status) => Readiness::NotReady(format!("{}: /ready answered {status}", upstream.authority)),
            Err(error) => unreachable(classify(&error).cause()),
        }
    }
}

/// What an error of ureq means for the request.
fn classify(error: &ureq::Error) -> Failure {
    use ureq::Timeout;
    match error {
        ureq::Error::Io(e) => match e.get_ref().and_then(|inner| inner.downcast_ref::<Fault>()) {
            Some(fault) => match fault.kind {
                FaultKind::Connect => Failure::NotConnected(fault.to_string()),
                FaultKind::Lost { unsent, reused } => {
                    Failure::Lost { unsent, reused, cause: fault.to_string() }
                }
                FaultKind::Cut => Failure::Invalid(fault.to_string()),
            },
            None => Failure::Invalid(error.to_string()),
        },
        ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) | ureq::Error::HostNotFound => {
            Failure::NotConnected(error.to_string())
        }
        ureq::Error::Timeout(_) => Failure::TimedOut(error.to_string()),
        _ => Failure::Invalid(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::settings::tests::environment;

    fn settings() -> Settings {
        Settings::read(&environment([])).unwrap()
    }

    fn upstreams(urls: &str) -> Upstreams {
        let settings = Settings::read(&environment([("INVENTORY_URL", urls)])).unwrap();
        Upstreams::new(&settings.upstream)
    }

    fn hosts(upstreams: &Upstreams) -> Vec<&str> {
        upstreams.candidates().map(|upstream| upstream.authority.host()).collect()
    }

    #[test]
    fn instances_take_turns() {
        let upstreams = upstreams("http://a, http://b, http://c");
        assert_eq!(hosts(&upstreams), ["a", "b", "c"]);
        assert_eq!(hosts(&upstreams), ["b", "c", "a"]);
    }

    #[test]
    fn an_ejected_instance_is_left_out_unless_all_are() {
        let upstreams = upstreams("http://a, http://b");
        upstreams.instances[0].eject("test");
        assert_eq!(hosts(&upstreams), ["b"]);
        upstreams.instances[1].eject("test");
        assert_eq!(hosts(&upstreams).len(), 2);
        upstreams.instances[0].readmit();
        assert_eq!(hosts(&upstreams), ["a"]);
    }

    #[test]
    fn the_target_is_sent_as_it_came() {
        let upstream = Upstream::new(&Authority::from_static("[::1]:8080"), &settings().upstream);
        // Every byte that the target may have according to `edge::path`.
        let all: String = ('!'..='~').filter(|c| !"\"#<>?\\`".contains(*c)).collect();
        let all = format!("/{all}?{all}?");
        for target in ["/", "/api/movies?", &all] {
            let uri = upstream.uri(target.as_bytes()).unwrap();
            assert_eq!(uri.path_and_query().unwrap().as_str(), target);
        }
        assert_eq!(upstream.ip, Some("::1".parse().unwrap()));
    }
}
