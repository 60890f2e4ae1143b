//! The private listener: `/health`, `/ready` with causes, and `/metrics`, for the people who run a binary and for their
//! monitoring. It is a separate socket, on loopback by default; the public must never reach it.
//!
//! `tiny_http` serves it on one thread, one request at a time, so every answer must be ready within a second.
//! `tiny_http` has no limits against hostile clients; that is why it serves only this listener.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use socket2::SockRef;
use tiny_http::{Header, Method, Request, Response, Server};

use crate::metrics::{CONTENT_TYPE, Exposition};
use crate::{Environment, Error};

/// How long a client may go without reading any of an answer before its connection is closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after the socket has failed (no file descriptors left, for example) before it is used again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

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

/// What a binary shows on its private listener. Every method must return within a second.
pub trait Inspect: Send + Sync + 'static {
    /// Everything the service needs to do its work.
    fn dependencies(&self) -> Vec<Dependency>;

    /// Adds what the service counts.
    fn metrics(&self, text: &mut Exposition);

    /// A further page, in JSON; `None` when there is nothing at this path.
    fn page(&self, _path: &str) -> Option<String> {
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
    let shown = Shown { identity, started: SystemTime::now(), inspect };
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
}

/// Serves until the process ends. `tiny_http` gives up its socket at the first failed accept, so it then gets a new
/// copy.
fn serve(listener: &TcpListener, shown: &Shown) {
    loop {
        let server = listener
            .try_clone()
            .map_err(Into::into)
            .and_then(|listener| Server::from_listener(listener, None));
        match server {
            Ok(server) => {
                while let Ok(request) = server.recv() {
                    shown.answer(request);
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

impl Shown {
    fn answer(&self, request: Request) {
        let path = request.url().split('?').next().unwrap_or_default();
        let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
        let (status, content_type, body) = match request.method() {
            Method::Get | Method::Head => self.look_up(path),
            _ => (405, "application/json", error("method not allowed")),
        };
        let mut response = Response::from_string(body).with_status_code(status);
        let fields = [("Content-Type", content_type), ("Allow", "GET, HEAD")];
        for (name, value) in fields.iter().take(if status == 405 { 2 } else { 1 }) {
            if let Ok(field) = Header::from_bytes(*name, *value) {
                response.add_header(field);
            }
        }
        if let Err(e) = request.respond(response) {
            log::debug!("a client of the private listener went away: {e}");
        }
    }

    fn look_up(&self, path: &str) -> (u16, &'static str, String) {
        const JSON: &str = "application/json";
        match path {
            "/health" => (200, JSON, r#"{"status":"ok"}"#.to_owned()),
            "/ready" => {
                let dependencies = self.inspect.dependencies();
                let ready = dependencies.iter().all(|dependency| dependency.problem.is_none());
                (if ready { 200 } else { 503 }, JSON, readiness(&dependencies, ready))
            }
            "/metrics" => {
                let mut text = Exposition::new();
                self.inspect.metrics(&mut text);
                text.process(self.identity.name, self.identity.version, self.started);
                (200, CONTENT_TYPE, text.finish())
            }
            path => match self.inspect.page(path) {
                Some(json) => (200, JSON, json),
                None => (404, JSON, error("not found")),
            },
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

fn error(text: &str) -> String {
    serde_json::json!({ "error": text }).to_string()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Fake(Mutex<Option<String>>);

    impl Inspect for Fake {
        fn dependencies(&self) -> Vec<Dependency> {
            vec![Dependency { name: "postgresql", problem: self.0.lock().unwrap().clone() }]
        }

        fn metrics(&self, text: &mut Exposition) {
            text.single("things_total", "counter", "Things.", 3);
        }

        fn page(&self, path: &str) -> Option<String> {
            (path == "/api/queues").then(|| "[]".to_owned())
        }
    }

    fn ask(addr: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn it_shows_health_readiness_metrics_and_further_pages() {
        let fake = Arc::new(Fake::default());
        let settings = ListenerSettings { host: "127.0.0.1".to_owned(), port: 0 };
        let identity = Identity { name: "some-app", version: "1.2.3" };
        let addr = start(&settings, identity, fake.clone()).unwrap();
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
        assert!(ask(addr, "GET /api/queues").ends_with("[]"));
        assert!(ask(addr, "GET /api/movies").starts_with("HTTP/1.1 404"));
        let refused = ask(addr, "DELETE /health");
        assert!(refused.starts_with("HTTP/1.1 405") && refused.contains("Allow: GET, HEAD"), "{refused}");
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
