//! A server with a service that does what a test asks for by its path.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use edge::{BodySize, Connections, EdgeSettings, Method, Refusal, Request, Response, Server, Service, path};
use foundation::Shutdown;
use socket2::{Domain, Socket, Type};
use testkit::http::Connection;
use testkit::patience;

/// The largest body that /echo takes, in bytes.
pub const ECHO_MAX_BYTES: u64 = 1 << 20;

/// A running server; it stops with the value.
pub struct TestServer {
    pub addr: SocketAddr,
    pub shutdown: Shutdown,
    pub connections: Connections,
    /// Lets one request for /hold be answered.
    pub release: Sender<()>,
    /// How many requests for /hold have come so far, with their bodies.
    pub holding: Arc<AtomicUsize>,
    /// The statuses of the responses that the edge itself made.
    pub refused: Arc<Mutex<Vec<u16>>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

struct TestService {
    holding: Arc<AtomicUsize>,
    held: Mutex<Receiver<()>>,
    refused: Arc<Mutex<Vec<u16>>>,
}

impl Service for TestService {
    fn serve(&self, request: &mut Request<'_>, response: &mut Response<'_>) -> Result<(), Refusal> {
        let target = path::parse(request.target())?;
        if request.method() == Method::Other {
            return response.send_json(405, &[("allow", "GET, POST")], br#"{"error":"method not allowed"}"#);
        }
        match &*target.path {
            "/echo" => {
                let body = request.read_body(ECHO_MAX_BYTES)?;
                response.send(200, &[], &body)
            }
            "/large" => {
                response.begin(200);
                response.end_head(BodySize::Unknown);
                let mebibytes: usize = std::str::from_utf8(target.query).unwrap().parse().unwrap();
                for _ in 0..mebibytes << 6 {
                    response.write(&[b'x'; 16 << 10])?;
                }
                response.finish()
            }
            "/hold" => {
                let _body = request.read_body(ECHO_MAX_BYTES)?;
                self.holding.fetch_add(1, Ordering::SeqCst);
                self.held.lock().unwrap().recv_timeout(patience()).unwrap();
                response.send(200, &[], b"held")
            }
            "/cut" => {
                response.begin(200);
                response.end_head(BodySize::Known(10));
                response.write(b"12345")
            }
            "/split" => response.send(200, &[("x-text", "a\r\nSet-Cookie: b")], b""),
            "/silent" => Ok(()),
            "/panic" => panic!("on purpose"),
            _ => response.send_json(200, &[], br#"{"hello":"world"}"#),
        }
    }

    fn refused(&self, refusal: &Refusal) {
        self.refused.lock().unwrap().push(refusal.status());
    }
}

/// A server that is bound and does not serve yet.
pub struct BoundServer {
    server: Server,
    settings: EdgeSettings,
}

impl BoundServer {
    pub fn new(settings: EdgeSettings) -> Self {
        let server = Server::bind("127.0.0.1", 0).unwrap();
        Self { server, settings }
    }

    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    pub fn run(self, shutdown: Shutdown) -> TestServer {
        let Self { server, settings } = self;
        let (addr, connections) = (server.addr(), server.connections());
        let (release, held) = channel();
        let refused = Arc::new(Mutex::new(Vec::new()));
        let holding = Arc::new(AtomicUsize::new(0));
        let service = Arc::new(TestService {
            holding: holding.clone(),
            held: Mutex::new(held),
            refused: refused.clone(),
        });
        let stop = shutdown.clone();
        let thread = std::thread::spawn(move || server.run(&settings, service, &stop));
        TestServer { addr, shutdown, connections, release, holding, refused, thread: Some(thread) }
    }
}

impl TestServer {
    pub fn start(settings: EdgeSettings) -> Self {
        BoundServer::new(settings).run(Shutdown::new())
    }

    /// A connection.
    pub fn connect(&self) -> Connection {
        Connection::open(self.addr).unwrap()
    }

    /// GET of `target` on a connection of its own.
    pub fn get(&self, target: &str) -> testkit::http::Response {
        self.connect().request("GET", target, &[], None).unwrap()
    }

    /// Waits until the server has returned.
    pub fn wait(mut self) {
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.shutdown.request();
        for _ in 0..self.holding.load(Ordering::SeqCst) {
            let _ = self.release.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A connection to `addr` from 127.0.0.`last`.
pub fn connect_from(last: u8, addr: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0);
    socket.bind(&from.into()).unwrap();
    socket.connect(&addr.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(patience())).unwrap();
    stream
}

/// Settings whose farewell is short, so that tests are.
pub fn settings() -> EdgeSettings {
    EdgeSettings { linger_timeout: Duration::from_millis(300), ..EdgeSettings::default() }
}
