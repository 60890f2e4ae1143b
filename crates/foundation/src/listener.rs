//! The private listener: `/health`, `/ready` with causes, and `/metrics`, for the people who run a binary and for their
//! monitoring. It is a separate socket, on loopback by default; the public must never reach it.
//!
//! `tiny_http` serves it on one thread, one request at a time, so each of these answers must be ready within a second.
//! A request that has a body, asks for one of the binary's own [`Pages`] or has a long answer gets a thread of its own, so
//! that nothing it waits for holds up the others. `tiny_http` has no limits against hostile clients; that is why it serves only this
//! listener.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use socket2::SockRef;
use tiny_http::{Header, Method, Request, Response, Server};

use crate::metrics::{CONTENT_TYPE, Exposition};
use crate::{Environment, Error, codes};

mod pages;

pub use pages::{Answer, BodyError, PageRequest, Pages};

/// How long a client may go without reading any of an answer before its connection is closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after the socket has failed (no file descriptors left, for example) before it is used again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How many requests may have a thread of their own at the same time.
const MAX_THREADS: usize = 16;
/// A longer answer is sent by a thread of its own: it may not fit into what the system keeps for a client that does not
/// read.
const AT_ONCE_BYTES: usize = 64 << 10;
/// A request that announces a longer body is never dropped in the usual way; see [`refuse_body`].
const MAX_BODY_BYTES: usize = 16 << 20;

/// Where the private listener listens.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    host: String,
    port: u16,
}

impl ListenerSettings {
    /// Reads `PRIVATE_HOST`, 127.0.0.1 by default, and `{prefix}_PRIVATE_PORT`; 0 lets the operating system choose.
    pub fn read(environment: &Environment, prefix: &str, default_port: u16) -> Result<Self, Error> {
        Ok(Self {
            host: environment.text("PRIVATE_HOST", "127.0.0.1"),
            port: environment.port(&format!("{prefix}_PRIVATE_PORT"), default_port)?,
        })
    }
}

/// What a binary shows on its private listener. The methods must return within a second; the [`Pages`] need not.
pub trait Inspect: Send + Sync + 'static {
    /// Everything the service needs to do its work.
    fn dependencies(&self) -> Vec<Dependency>;

    /// Adds what the service counts.
    fn metrics(&self, text: &mut Exposition);

    /// Further pages, if there are any.
    fn pages(&self) -> Option<&dyn Pages> {
        None
    }

    /// Called on the listener's thread at the start, and again after the time that it returns, so that a binary can
    /// keep samples of what it counts. `None`: there is nothing to do.
    fn sample(&self) -> Option<Duration> {
        None
    }
}

/// Something that a service needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// What it is: `postgresql`, `broker`.
    pub name: &'static str,
    /// Why it cannot be used at this moment, with addresses and causes; `None` when it can.
    pub problem: Option<String>,
}

/// Which program this is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The name of the binary.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
}

/// Binds the private listener and serves it on its own thread until the process ends. Returns the bound address. Fails
/// if the address cannot be bound or the thread cannot be started.
pub fn start(
    settings: &ListenerSettings,
    identity: Identity,
    inspect: Arc<dyn Inspect>,
) -> Result<SocketAddr, Error> {
    let ListenerSettings { host, port } = settings;
    let failed = |source| Error::Io { action: format!("open the private listener at {host}:{port}"), source };
    let listener = bind(host, *port).map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    let shown =
        Arc::new(Shown { identity, started: SystemTime::now(), inspect, threads: AtomicUsize::new(0) });
    thread::Builder::new()
        .name("private".to_owned())
        .spawn(move || serve(&listener, &shown))
        .map_err(failed)?;
    log::info!("private listener at {addr}");
    Ok(addr)
}

fn bind(host: &str, port: u16) -> std::io::Result<TcpListener> {
    let addrs: Vec<_> = (host.trim_matches(['[', ']']), port).to_socket_addrs()?.collect();
    let listener = TcpListener::bind(addrs.as_slice())?;
    // Accepted connections inherit this timeout.
    SockRef::from(&listener).set_write_timeout(Some(WRITE_TIMEOUT))?;
    Ok(listener)
}

struct Shown {
    identity: Identity,
    started: SystemTime,
    inspect: Arc<dyn Inspect>,
    /// Requests that have a thread of their own.
    threads: AtomicUsize,
}

/// Serves until the process ends. `tiny_http` gives up its socket at the first failed accept, so it then gets a new
/// copy.
fn serve(listener: &TcpListener, shown: &Arc<Shown>) {
    let mut next_sample = Some(Instant::now());
    loop {
        let server = listener
            .try_clone()
            .map_err(Into::into)
            .and_then(|listener| Server::from_listener(listener, None));
        match server {
            Ok(server) => {
                while let Ok(request) = receive(&server, shown, &mut next_sample) {
                    if let Some(request) = request {
                        dispatch(shown, request);
                    }
                }
                log::warn!(
                    "the private listener could not accept a connection; it goes on in {RETRY_PAUSE:?}"
                );
            }
            Err(e) => {
                log::warn!("the private listener cannot be served: {e}; trying again in {RETRY_PAUSE:?}");
            }
        }
        thread::sleep(RETRY_PAUSE);
    }
}

/// The next request; `None` when it was time for a sample instead.
fn receive(
    server: &Server,
    shown: &Shown,
    next_sample: &mut Option<Instant>,
) -> std::io::Result<Option<Request>> {
    let Some(due) = *next_sample else { return server.recv().map(Some) };
    let left = due.saturating_duration_since(Instant::now());
    if left.is_zero() {
        *next_sample = shown.inspect.sample().map(|interval| Instant::now() + interval);
        return Ok(None);
    }
    server.recv_timeout(left)
}

/// Answers a request: at once, or on a thread of its own if it may have to wait for its client or for something else.
fn dispatch(shown: &Arc<Shown>, mut request: Request) {
    let has_body = request.body_length().is_some_and(|length| length > 0)
        || request.headers().iter().any(|field| field.field.equiv("Transfer-Encoding"));
    let own_path = is_own(path_of(request.url()));
    if has_body || (!own_path && shown.inspect.pages().is_some()) {
        return on_thread(shown, request, Shown::answer);
    }
    let answer = shown.answer(&mut request);
    if answer.body.len() <= AT_ONCE_BYTES {
        return respond(request, answer);
    }
    on_thread(shown, request, |_, _| answer);
}

/// Answers a request on a thread of its own, if there are not too many already.
fn on_thread(
    shown: &Arc<Shown>,
    mut request: Request,
    answer: impl FnOnce(&Shown, &mut Request) -> Answer + Send + 'static,
) {
    let seat = Seat::take(shown);
    if seat.0.threads.load(Ordering::Relaxed) > MAX_THREADS {
        let answer = Answer::json(503, error("too many requests are being answered", codes::OVERLOADED))
            .with("Retry-After", "1");
        return respond(request, answer);
    }
    let spawned = thread::Builder::new().name("page".to_owned()).spawn(move || {
        let answer = answer(&seat.0, &mut request);
        respond(request, answer);
    });
    if let Err(e) = spawned {
        // The request went with the closure, and tiny_http has answered it with 500.
        log::warn!("no thread for a request to the private listener: {e}");
    }
}

/// One of the threads that requests have of their own; counted while it exists.
struct Seat(Arc<Shown>);

impl Seat {
    fn take(shown: &Arc<Shown>) -> Self {
        shown.threads.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shown))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.threads.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The path of a request's target, without trailing slashes.
fn path_of(target: &str) -> &str {
    let path = target.split('?').next().unwrap_or_default();
    if path.len() > 1 { path.trim_end_matches('/') } else { path }
}

fn is_own(path: &str) -> bool {
    matches!(path, "/health" | "/ready" | "/metrics")
}

/// Sends an answer.
fn respond(request: Request, answer: Answer) {
    let Answer { status, content_type, fields, body } = answer;
    let has_content = !body.is_empty();
    let mut response = Response::from_data(body).with_status_code(status);
    if has_content && let Ok(field) = Header::from_bytes("Content-Type", content_type) {
        response.add_header(field);
    }
    for (name, value) in fields {
        if let Ok(field) = Header::from_bytes(name, value) {
            response.add_header(field);
        }
    }
    if request.body_length().is_some_and(|length| length > MAX_BODY_BYTES) {
        return refuse_body(request, response);
    }
    if let Err(e) = request.respond(response) {
        log::debug!("a client of the private listener went away: {e}");
    }
}

/// Answers a request whose announced body is so long that nobody will read it. When `tiny_http` drops such a request it
/// allocates as many bytes as the client announced, which can end the process, so its socket is kept for ever instead.
fn refuse_body(request: Request, response: Response<std::io::Cursor<Vec<u8>>>) {
    log::warn!("a client of the private listener announced a body of more than {MAX_BODY_BYTES} bytes");
    std::mem::forget(request.upgrade("none", response));
}

impl Shown {
    fn answer(&self, request: &mut Request) -> Answer {
        let path = path_of(request.url());
        if !is_own(path)
            && let Some(pages) = self.inspect.pages()
        {
            return pages.answer(&mut PageRequest(request));
        }
        match request.method() {
            Method::Get | Method::Head => self.look_up(path),
            _ => Answer::json(405, error("method not allowed", codes::METHOD_NOT_ALLOWED))
                .with("Allow", "GET, HEAD"),
        }
    }

    fn look_up(&self, path: &str) -> Answer {
        match path {
            "/health" => Answer::json(200, r#"{"status":"ok"}"#),
            "/ready" => {
                let dependencies = self.inspect.dependencies();
                let ready = dependencies.iter().all(|dependency| dependency.problem.is_none());
                Answer::json(if ready { 200 } else { 503 }, readiness(&dependencies, ready))
            }
            "/metrics" => {
                let mut text = Exposition::new();
                self.inspect.metrics(&mut text);
                text.process(self.identity.name, self.identity.version, self.started);
                Answer { content_type: CONTENT_TYPE, ..Answer::json(200, text.finish()) }
            }
            _ => Answer::json(404, error("not found", codes::PATH_NOT_FOUND)),
        }
    }
}

fn readiness(dependencies: &[Dependency], ready: bool) -> String {
    let by_name: BTreeMap<_, _> = dependencies
        .iter()
        .map(|dependency| (dependency.name, dependency.problem.as_deref().unwrap_or("ok")))
        .collect();
    let status = if ready { "ready" } else { "unavailable" };
    serde_json::json!({ "status": status, "dependencies": by_name }).to_string()
}

fn error(text: &str, code: &str) -> String {
    serde_json::json!({ "error": text, "code": code }).to_string()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Fake(Mutex<Option<String>>, AtomicUsize, AtomicUsize);

    impl Inspect for Fake {
        fn dependencies(&self) -> Vec<Dependency> {
            vec![Dependency { name: "postgresql", problem: self.0.lock().unwrap().clone() }]
        }

        fn metrics(&self, text: &mut Exposition) {
            text.single("things_total", "counter", "Things.", 3);
            text.single("long", "gauge", &"x".repeat(self.2.load(Ordering::Relaxed)), 1);
        }

        fn pages(&self) -> Option<&dyn Pages> {
            Some(self)
        }

        fn sample(&self) -> Option<Duration> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Some(Duration::from_millis(1))
        }
    }

    impl Pages for Fake {
        fn answer(&self, request: &mut PageRequest<'_>) -> Answer {
            assert!(request.client().is_some_and(|client| client.ip().is_loopback()));
            let seen = format!("{} {} {:?}", request.method(), request.target(), request.field("X-Test"));
            match request.body(2_000) {
                Ok(body) => Answer::json(200, format!("{seen} {}", String::from_utf8_lossy(&body))),
                Err(e) => Answer::json(413, format!("{e:?}")).with("X-Problem", "body"),
            }
        }
    }

    fn ask(addr: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (head, body) = request.split_once('|').unwrap_or((request, ""));
        write!(stream, "{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Test: yes\r\n").unwrap();
        if !body.is_empty() {
            write!(stream, "Content-Length: {}\r\n", body.len()).unwrap();
        }
        write!(stream, "\r\n{body}").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn it_shows_health_readiness_metrics_and_further_pages() {
        let (fake, addr) = started();
        assert!(ask(addr, "GET /health").ends_with(r#"{"status":"ok"}"#));
        let ready = ask(addr, "GET /ready/");
        assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
        assert!(ready.ends_with(r#"{"dependencies":{"postgresql":"ok"},"status":"ready"}"#), "{ready}");
        *fake.0.lock().unwrap() = Some("connect to 127.0.0.1:5432: refused".to_owned());
        let ready = ask(addr, "GET /ready?x=1");
        assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("127.0.0.1:5432: refused"), "{ready}");
        let metrics = ask(addr, "GET /metrics");
        assert!(
            metrics.contains("things_total 3\n") && metrics.contains("service=\"some-app\""),
            "{metrics}"
        );
        assert!(metrics.contains("Content-Type: text/plain; version=0.0.4"), "{metrics}");
        let refused = ask(addr, "DELETE /health");
        assert!(refused.starts_with("HTTP/1.1 405") && refused.contains("Allow: GET, HEAD"), "{refused}");
    }

    fn started() -> (Arc<Fake>, SocketAddr) {
        let fake = Arc::new(Fake::default());
        let settings = ListenerSettings { host: "127.0.0.1".to_owned(), port: 0 };
        let identity = Identity { name: "some-app", version: "1.2.3" };
        let addr = start(&settings, identity, fake.clone()).unwrap();
        (fake, addr)
    }

    #[test]
    fn pages_get_method_target_fields_and_a_bounded_body() {
        let (_, addr) = started();
        let answer = ask(addr, "GET /api/queues/%2F?x=1");
        assert!(answer.ends_with("\r\n\r\nGET /api/queues/%2F?x=1 Some(\"yes\") "), "{answer}");
        // Longer than what tiny_http reads before it hands a request on.
        let body = "b".repeat(2_000);
        let answer = ask(addr, &format!("PUT /api/x|{body}"));
        assert!(answer.ends_with(&format!("PUT /api/x Some(\"yes\") {body}")), "{answer}");
        let answer = ask(addr, &format!("PUT /api/x|{body}b"));
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("X-Problem: body"), "{answer}");
        let chunked = "POST /api HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
                       3\r\nabc\r\n0\r\n\r\n";
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(chunked.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.ends_with(" None abc"), "{text}");
    }

    #[test]
    fn a_body_that_does_not_come_holds_up_nobody_and_an_absurd_one_ends_nothing() {
        let (_, addr) = started();
        let mut waiting = Vec::new();
        for (path, length) in [("/health", 1_500_u64), ("/api", 1_500), ("/api", 1 << 50)] {
            let mut stream = TcpStream::connect(addr).unwrap();
            write!(stream, "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n").unwrap();
            waiting.push(stream);
        }
        let mut first = [0; 12];
        waiting[2].read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 413");
        assert!(ask(addr, "GET /health").ends_with(r#"{"status":"ok"}"#));
    }

    #[test]
    fn a_client_that_does_not_read_a_long_answer_holds_up_nobody() {
        let (fake, addr) = started();
        fake.2.store(30 << 20, Ordering::Relaxed);
        let mut deaf = TcpStream::connect(addr).unwrap();
        write!(deaf, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        // The answer is under way.
        deaf.read_exact(&mut [0; 12]).unwrap();
        let began = Instant::now();
        assert!(ask(addr, "GET /health").ends_with(r#"{"status":"ok"}"#));
        assert!(began.elapsed() < WRITE_TIMEOUT / 2, "{:?}", began.elapsed());
    }

    #[test]
    fn samples_are_taken_again_and_again() {
        let (fake, addr) = started();
        let deadline = Instant::now() + Duration::from_secs(20);
        while fake.1.load(Ordering::Relaxed) < 3 {
            assert!(Instant::now() < deadline, "no samples");
            thread::yield_now();
        }
        assert!(ask(addr, "GET /health").starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let settings = ListenerSettings { host: "127.0.0.1".to_owned(), port };
        let identity = Identity { name: "some-app", version: "1" };
        let error = start(&settings, identity, Arc::new(Fake::default())).unwrap_err().to_string();
        assert!(error.starts_with(&format!("open the private listener at 127.0.0.1:{port}: ")), "{error}");
    }
}
