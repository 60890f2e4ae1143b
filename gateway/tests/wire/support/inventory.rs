//! A stand-in for inventory that speaks whatever a test wants it to speak.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// A request as inventory saw it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The head's bytes.
    pub head: String,
    /// The body, decoded.
    pub body: Vec<u8>,
    /// The number of the connection it came on, from 0.
    pub connection: usize,
}

impl Request {
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub fn target(&self) -> &str {
        self.line().split(' ').nth(1).unwrap_or_default()
    }

    /// All values of the field `name`.
    pub fn fields(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        match self.fields(name)[..] {
            [value] => Some(value),
            _ => None,
        }
    }
}

/// Answers requests on real sockets, each connection in a thread of its own.
pub struct Inventory {
    pub addr: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Inventory {
    /// Answers every request with the bytes that `answer` returns for it; an empty answer closes the connection
    /// without a word.
    pub fn answering(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::serving(move |mut stream, request| {
            let bytes = answer(request);
            !bytes.is_empty() && stream.write_all(&bytes).is_ok()
        })
    }

    /// Answers every request with 200 and `body`.
    pub fn fixed(body: &'static str) -> Self {
        Self::answering(move |_| ok(body))
    }

    /// Answers every request with 200 and `body` while it is not frozen, and none while it is.
    pub fn freezable(body: &'static str) -> (Self, Arc<Freezer>) {
        let freezer = Arc::new(Freezer::default());
        let copy = freezer.clone();
        let inventory = Self::answering(move |_| {
            copy.wait();
            ok(body)
        });
        (inventory, freezer)
    }

    /// Gives each request to `serve`, which returns whether the connection goes on.
    pub fn serving(serve: impl Fn(&TcpStream, &Request) -> bool + Send + Sync + 'static) -> Self {
        Self::listening(TcpListener::bind("127.0.0.1:0").unwrap(), serve)
    }

    /// Gives each connection to `serve` once the head of a request has come, without reading its body, and closes it.
    pub fn serving_heads(serve: impl Fn(&TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inventory = Self::idle(&listener);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut head = [0; 1024];
                let _ = (&stream).read(&mut head);
                serve(&stream);
            }
        });
        inventory
    }

    fn idle(listener: &TcpListener) -> Self {
        Self {
            addr: listener.local_addr().unwrap(),
            requests: Arc::default(),
            connections: Arc::default(),
            stopped: Arc::default(),
            open: Arc::default(),
        }
    }

    /// Answers with 200 and `body` on a given port.
    pub fn fixed_at(addr: SocketAddr, body: &'static str) -> Self {
        let mut listener = TcpListener::bind(addr);
        super::eventually("the port is free", || {
            if listener.is_err() {
                listener = TcpListener::bind(addr);
            }
            listener.is_ok()
        });
        Self::listening(listener.unwrap(), move |mut stream, _| stream.write_all(&ok(body)).is_ok())
    }

    fn listening(
        listener: TcpListener,
        serve: impl Fn(&TcpStream, &Request) -> bool + Send + Sync + 'static,
    ) -> Self {
        let inventory = Self::idle(&listener);
        let (requests, connections) = (inventory.requests.clone(), inventory.connections.clone());
        let (stopped, open) = (inventory.stopped.clone(), inventory.open.clone());
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let number = connections.fetch_add(1, Ordering::SeqCst);
                open.lock().unwrap().push(stream.try_clone().unwrap());
                let (requests, serve) = (requests.clone(), serve.clone());
                thread::spawn(move || {
                    let mut unread = Vec::new();
                    while let Some(mut request) = read_request(&stream, &mut unread) {
                        request.connection = number;
                        requests.lock().unwrap().push(request.clone());
                        if !serve(&stream, &request) {
                            // The test keeps a clone of the socket, therefore dropping it would not close it.
                            let _ = stream.shutdown(std::net::Shutdown::Both);
                            return;
                        }
                    }
                });
            }
        });
        inventory
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The requests that came completely, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// How many requests came that are not the gateway's own questions after /health.
    pub fn served(&self) -> usize {
        self.requests.lock().unwrap().iter().filter(|request| request.target() != "/health").count()
    }

    /// The one request that came.
    pub fn only_request(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests[0].clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Closes all connections that are open now, as a restart would.
    pub fn drop_connections(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Stops listening and closes everything.
    pub fn stop(self) -> SocketAddr {
        self.stopped.store(true, Ordering::SeqCst);
        // The connection wakes the accept loop, which then ends.
        let _ = TcpStream::connect(self.addr);
        super::eventually("the listener is closed", || TcpStream::connect(self.addr).is_err());
        self.drop_connections();
        self.addr
    }
}

/// Stops a stand-in as SIGSTOP does: it accepts, and answers nothing, /health neither.
#[derive(Default)]
pub struct Freezer {
    frozen: Mutex<bool>,
    thawed: Condvar,
}

impl Freezer {
    pub fn freeze(&self) {
        *self.frozen.lock().unwrap() = true;
    }

    pub fn thaw(&self) {
        *self.frozen.lock().unwrap() = false;
        self.thawed.notify_all();
    }

    fn wait(&self) {
        drop(self.thawed.wait_while(self.frozen.lock().unwrap(), |frozen| *frozen).unwrap());
    }
}

/// A complete answer with this body.
pub fn ok(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn read_request(mut stream: &TcpStream, unread: &mut Vec<u8>) -> Option<Request> {
    let mut fill = |unread: &mut Vec<u8>| {
        let mut buffer = vec![0; 64 << 10];
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        unread.extend_from_slice(&buffer[..count]);
        Some(())
    };
    let head_end = loop {
        if let Some(end) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        fill(unread)?;
    };
    let head = String::from_utf8(unread.drain(..head_end).collect()).unwrap();
    let mut request = Request { head, ..Request::default() };
    if let Some(length) = request.field("content-length").map(|length| length.parse::<usize>().unwrap()) {
        while unread.len() < length {
            fill(unread)?;
        }
        request.body = unread.drain(..length).collect();
    } else if request.field("transfer-encoding") == Some("chunked") {
        loop {
            let line_end = loop {
                if let Some(end) = unread.windows(2).position(|pair| pair == b"\r\n") {
                    break end + 2;
                }
                fill(unread)?;
            };
            let line: Vec<u8> = unread.drain(..line_end).collect();
            let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
            while unread.len() < size + 2 {
                fill(unread)?;
            }
            request.body.extend(unread.drain(..size + 2).take(size));
            if size == 0 {
                break;
            }
        }
    }
    Some(request)
}
