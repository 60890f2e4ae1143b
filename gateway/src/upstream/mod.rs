//! The services behind the gateway: chooses an instance for each request, decides about retries, and asks for
//! readiness. The meaning of requests and the answers to clients do not belong here.
//!
//! `instance` is one instance and its state, `instance::transport` how ureq reaches it; `buffers` and `pool` belong to its
//! connections.

mod buffers;
mod failure;
mod instance;
mod pool;
mod readiness;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use foundation::metrics::Counter;
use foundation::{ServiceToken, Shutdown};
use ureq::config::{AutoHeaderValue, Config};
use ureq::http::{HeaderValue, Request, Response};
use ureq::{Agent, Body};

use crate::settings::{ServiceSettings, UpstreamSettings};
pub(crate) use buffers::unread_input;
pub(crate) use failure::Failure;
use failure::NOBODY;
pub use failure::Reason;
use instance::{Common, Permit, State};
pub(crate) use instance::{Instance, SERVICE_TOKEN};
pub(crate) use readiness::{Readiness, ServiceDetails};

/// Interval for closing connections that have been idle for too long.
const PRUNE_INTERVAL: Duration = Duration::from_secs(5);

/// Largest answer to /ready that is read, in bytes.
const READY_MAX_BYTES: u64 = 16 << 10;

/// How a request that got no answer may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repetition {
    /// Not at all, once a byte of it was sent.
    Never,
    /// Once, if a pooled connection proved dead.
    Idempotent,
    /// It changes nothing, so it may also be sent to another instance while the first may still be working on it.
    Safe,
}

/// One service and its instances.
#[derive(Debug)]
pub(crate) struct UpstreamService {
    common: &'static Common,
    instances: Box<[Instance]>,
    /// Rotates the choice among equally busy instances.
    next: AtomicUsize,
    ready_timeout: Duration,
    /// Requests without an answer, counted by [`Reason`].
    unanswered: [Counter; Reason::NAMES.len()],
}

impl UpstreamService {
    /// Creates the service, which lives as long as the process.
    pub(crate) fn new(settings: &ServiceSettings, upstream: &UpstreamSettings) -> &'static Self {
        let common: &'static Common = Box::leak(Box::new(Common {
            name: settings.name.clone().leak(),
            up: AtomicUsize::new(0),
            max_in_flight: upstream.max_in_flight,
            config: config(upstream),
            service_token: upstream.service_token.as_ref().map(header_value),
        }));
        let instances =
            settings.authorities.iter().map(|authority| Instance::new(authority, common)).collect();
        let ready_timeout = upstream.ready_timeout;
        let (next, unanswered) = (AtomicUsize::new(0), Default::default());
        Box::leak(Box::new(Self { common, instances, next, ready_timeout, unanswered }))
    }

    /// The name, as the settings give it.
    pub(crate) fn name(&self) -> &'static str {
        self.common.name
    }

    /// Counts a request that got no answer, or not all of it.
    pub(crate) fn count_unanswered(&self, reason: Reason) {
        self.unanswered[reason as usize].increment();
    }

    /// The requests without an answer, by the reason's name.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Reason::NAMES.into_iter().zip(&self.unanswered).map(|(name, count)| (name, count.get()))
    }

    /// How many instances are up.
    pub(crate) fn instances_up(&self) -> usize {
        self.common.up.load(Ordering::Relaxed)
    }

    /// How many requests wait for the head of an answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.instances.iter().map(Instance::in_flight).sum()
    }

    /// Tries the instances in turn until one can be reached, and waits for the head of its answer. `make` builds the
    /// request for an instance, or returns `None` if the target cannot be sent. Repeats the request at most once, if
    /// `repetition` allows it.
    pub(crate) fn send(
        &'static self,
        make: impl Fn(&Instance) -> Option<Request<()>>,
        body: Option<&[u8]>,
        repetition: Repetition,
    ) -> Result<Response<Body>, Failure> {
        let mut tried = 0;
        let mut last = None;
        let mut may_repeat = true;
        loop {
            let (instance, _permit) = match self.choose(&mut tried) {
                Ok(chosen) => chosen,
                Err(failure) => return Err(last.unwrap_or(failure)),
            };
            loop {
                let request = make(instance).ok_or(Failure::BadTarget)?;
                let can_move = may_repeat && repetition == Repetition::Safe;
                let failure = match instance.send(request, body, can_move) {
                    Ok(response) => return Ok(response),
                    Err(failure) => failure,
                };
                match failure {
                    Failure::Lost { reused: true, unsent, .. }
                        if may_repeat && (unsent || repetition != Repetition::Never) =>
                    {
                        may_repeat = false;
                    }
                    Failure::Hung(_) => {
                        may_repeat = false;
                        last = Some(failure);
                        break;
                    }
                    Failure::NotConnected { .. } | Failure::Local(_) => {
                        last = Some(failure);
                        break;
                    }
                    _ => return Err(failure),
                }
            }
        }
    }

    /// Chooses an instance and takes a permit for it. Prefers live instances, then those on trial, then those that
    /// refuse connections; among equals, the one with the fewest requests in flight. Never chooses hung ones, nor those
    /// in `tried`, which has a bit for each instance.
    fn choose(&'static self, tried: &mut u64) -> Result<(&'static Instance, Permit), Failure> {
        let count = self.instances.len();
        let first = if count == 1 { 0 } else { self.next.fetch_add(1, Ordering::Relaxed) % count };
        let mut any_full = false;
        loop {
            let candidates = (first..count).chain(0..first).filter(|index| *tried & (1 << index) == 0);
            let ranked = candidates.filter_map(|index| {
                let waiting = self.instances[index].in_flight();
                let rank = match self.instances[index].state() {
                    State::Live => 0,
                    State::Trial if waiting == 0 => 0,
                    State::Trial => 1,
                    State::Refusing => 2,
                    State::Hung => return None,
                };
                Some((rank, waiting, index))
            });
            // Of equal ones, `min_by_key` takes the first, whose turn it is.
            let Some((_, _, index)) = ranked.min_by_key(|(rank, waiting, _)| (*rank, *waiting)) else {
                return Err(if any_full {
                    Failure::Overloaded
                } else {
                    Failure::NotConnected { silent: true, cause: NOBODY.to_owned() }
                });
            };
            *tried |= 1 << index;
            match self.instances[index].admit() {
                Some(permit) => return Ok((&self.instances[index], permit)),
                None => any_full = true,
            }
        }
    }

    /// What the first instance that is up has at `path`. Takes at most the ready timeout for each.
    fn document(&'static self, path: &[u8], max_bytes: u64) -> Option<Vec<u8>> {
        let mut up = self.instances.iter().filter(|instance| instance.state() != State::Hung);
        up.find_map(|instance| instance.document(path, max_bytes, self.ready_timeout).ok().flatten())
    }

    /// Asks the instances until one is ready. Takes at most the ready timeout for each.
    pub(crate) fn readiness(&'static self) -> Readiness {
        let mut best = Readiness::nobody();
        let any_up = self.instances_up() > 0;
        for instance in &self.instances {
            let state = instance.state();
            if if any_up { !state.is_up() } else { state == State::Hung } {
                continue;
            }
            let at = instance.authority.as_str();
            let found = match instance.read(b"/ready", READY_MAX_BYTES, self.ready_timeout) {
                Ok((status, body)) => Readiness::of_answer(at, status, &body.unwrap_or_default()),
                Err(failure) => Readiness::of_failure(at, &failure),
            };
            match (&found, &best) {
                (Readiness::Ready(_), _) => return found,
                // `NotReady` is the better result: at least one instance answered.
                (Readiness::Unreachable(_), Readiness::NotReady(_)) => {}
                _ => best = found,
            }
        }
        best
    }
}

/// The readiness of each service, in the same order.
pub(crate) fn readiness(services: &[&'static UpstreamService]) -> Vec<Readiness> {
    ask_all(services, UpstreamService::readiness, Readiness::not_asked)
}

/// What each service has at `path`, in the same order; `None` if it answers anything but 200, or more than
/// `max_bytes`.
pub(crate) fn documents(
    services: &[&'static UpstreamService],
    path: &[u8],
    max_bytes: u64,
) -> Vec<Option<Vec<u8>>> {
    ask_all(services, |service| service.document(path, max_bytes), || None)
}

/// Asks all services at the same time; `failed` is the answer of one that could not be asked.
fn ask_all<T: Send>(
    services: &[&'static UpstreamService],
    ask: impl Fn(&'static UpstreamService) -> T + Sync,
    failed: impl Fn() -> T,
) -> Vec<T> {
    let ask = &ask;
    thread::scope(|scope| {
        let asked: Vec<_> = services
            .iter()
            .map(|service| (service, thread::Builder::new().spawn_scoped(scope, move || ask(service))))
            .collect();
        let found = asked.into_iter().map(|(service, thread)| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|_| failed()),
            Err(_) => ask(service),
        });
        found.collect()
    })
}

/// Closes connections that have been idle for too long, until the shutdown is requested.
pub(crate) fn prune(services: &[&'static UpstreamService], shutdown: &Shutdown) {
    while !shutdown.wait_timeout(PRUNE_INTERVAL) {
        for instance in services.iter().flat_map(|service| &service.instances) {
            instance.pool.prune();
        }
    }
}

/// The token as the value of a field, made from static text like all values that threads share.
fn header_value(token: &ServiceToken) -> HeaderValue {
    let text: &'static str = token.text().to_owned().leak();
    // The settings accept only visible characters, so this does not panic.
    let mut value = HeaderValue::from_static(text);
    value.set_sensitive(true);
    value
}

/// A client that adds no fields, follows no redirects and pools no connections.
fn config(settings: &UpstreamSettings) -> Config {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent(AutoHeaderValue::None)
        .accept(AutoHeaderValue::None)
        .accept_encoding(AutoHeaderValue::None)
        // A service may have non-standard methods.
        .allow_non_standard_methods(true)
        // `pool` replaces ureq's own pool.
        .max_idle_connections(0)
        .max_idle_connections_per_host(0)
        .max_response_header_size(buffers::INPUT_MAX_BYTES)
        .timeout_connect(Some(settings.connect_timeout))
        .timeout_recv_response(Some(settings.head_timeout))
        .timeout_per_read(Some(settings.body_timeout))
        .timeout_per_write(Some(settings.body_timeout))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::settings::tests::environment;

    fn service(urls: &str) -> &'static UpstreamService {
        let mut settings = Settings::read(&environment([("INVENTORY_URL", urls)])).unwrap();
        settings.upstream.max_in_flight = 2;
        UpstreamService::new(&settings.services[0], &settings.upstream)
    }

    /// The hosts in the order in which one request would try them; the places are kept until the end.
    fn hosts(service: &'static UpstreamService) -> Vec<&'static str> {
        let (mut tried, mut chosen) = (0, Vec::new());
        while let Ok(choice) = service.choose(&mut tried) {
            chosen.push(choice);
        }
        chosen.iter().map(|(instance, _)| instance.authority.host()).collect()
    }

    #[test]
    fn instances_take_turns() {
        let service = service("http://a, http://b, http://c");
        assert_eq!(hosts(service), ["a", "b", "c"]);
        assert_eq!(hosts(service), ["b", "c", "a"]);
    }

    #[test]
    fn the_least_busy_instance_is_asked_first_and_a_full_one_never() {
        let service = service("http://a, http://b");
        let first = service.instances[0].admit().unwrap();
        assert_eq!(hosts(service), ["b", "a"]);
        let second = service.instances[0].admit().unwrap();
        assert!(service.instances[0].admit().is_none());
        assert_eq!(hosts(service), ["b"]);
        assert_eq!(service.in_flight(), 2);
        let mut tried = 0b10;
        assert!(matches!(service.choose(&mut tried), Err(Failure::Overloaded)));
        drop((first, second));
        assert_eq!(hosts(service).len(), 2);
    }

    #[test]
    fn a_hung_instance_is_never_asked_and_one_that_refuses_comes_last() {
        let service = service("http://a, http://b, http://c");
        service.instances[0].force(State::Hung);
        service.instances[1].force(State::Refusing);
        for _ in 0..3 {
            assert_eq!(hosts(service), ["c", "b"]);
        }
        assert_eq!(service.instances_up(), 1);
        service.instances[2].force(State::Hung);
        assert_eq!(hosts(service), ["b"]);
        service.instances[1].force(State::Hung);
        assert_eq!(hosts(service), [""; 0]);
        assert!(!service.instances[0].is_hung_unlike_others());
        service.instances[1].force(State::Trial);
        assert!(service.instances[0].is_hung_unlike_others());
    }

    #[test]
    fn an_instance_on_trial_gets_one_request_at_a_time_while_another_is_live() {
        let service = service("http://a, http://b");
        service.instances[0].force(State::Trial);
        let busy = [service.instances[1].admit().unwrap()];
        assert_eq!(hosts(service), ["a", "b"]);
        let _trial = service.instances[0].admit().unwrap();
        assert_eq!(hosts(service), ["b", "a"]);
        drop(busy);
        // Alone, it gets all of them.
        service.instances[1].force(State::Hung);
        assert_eq!(hosts(service), ["a"]);
    }

    #[test]
    fn the_target_is_sent_as_it_came() {
        let instance = &service("http://[::1]:8080").instances[0];
        // Every byte that the target may have according to the edge.
        let all: String = ('!'..='~').filter(|c| !"\"#<>?\\`".contains(*c)).collect();
        let all = format!("/{all}?{all}?");
        for target in ["/", "/api/movies?", &all] {
            let uri = instance.uri(target.as_bytes()).unwrap();
            assert_eq!(uri.path_and_query().unwrap().as_str(), target);
        }
        assert_eq!((instance.ip, instance.port), (Some("::1".parse().unwrap()), 8080));
    }
}
