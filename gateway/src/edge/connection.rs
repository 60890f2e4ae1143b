//! The life of one connection: requests are read, served and answered one after the other.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foundation::Shutdown;

use super::body::Body;
use super::exchange::Exchange;
use super::framing::Framing;
use super::head::{Head, HeadScanner};
use super::input::Input;
use super::response::Response;
use super::socket::{Link, Pace, Socket};
use super::{Service, request_id};
use crate::Problem;
use crate::settings::EdgeSettings;

/// The most bytes that are read from a client after its connection was given up, so that it sees the response.
const LINGER_MAX_BYTES: usize = 64 << 20;

/// What the threads of all connections share.
pub(crate) struct Shared {
    pub(crate) settings: EdgeSettings,
    pub(crate) shutdown: Shutdown,
    pub(crate) service: Arc<dyn Service>,
    pub(crate) request_ids: request_id::Generator,
}

/// One connection and the buffers that its requests share.
pub(crate) struct Connection<'s> {
    shared: &'s Shared,
    socket: Socket,
    peer: String,
    input: Input,
    head: Head,
    output: Vec<u8>,
}

/// What waiting for a request ended with.
enum Arrival {
    Request,
    /// The client left, stayed silent for too long, or the gateway stops: nothing was asked, nothing is answered.
    Nothing,
}

impl<'s> Connection<'s> {
    pub(crate) fn new(shared: &'s Shared, link: Arc<Link>, peer: IpAddr) -> std::io::Result<Self> {
        let socket = Socket::new(link, &shared.settings)?;
        let peer = peer.to_canonical().to_string();
        Ok(Self { shared, socket, peer, input: Input::new(), head: Head::new(), output: Vec::new() })
    }

    /// Serves requests until one side has had enough.
    pub(crate) fn serve(&mut self) {
        loop {
            match self.receive_head() {
                Ok(Arrival::Request) => {}
                Ok(Arrival::Nothing) => return,
                Err(problem) => {
                    self.answer_problem(&problem);
                    return;
                }
            }
            if !self.serve_request() {
                return;
            }
            self.input.shrink();
        }
    }

    /// Answers `problem` to whatever the client asks, and closes.
    pub(crate) fn refuse(&mut self, problem: &Problem) {
        // The request is awaited, although it does not matter, because some clients read nothing before they sent it.
        let timeout = self.shared.settings.linger_timeout.min(Duration::from_millis(500));
        let _ = self.input.fill(&self.socket, timeout, 4 << 10);
        self.answer_problem(problem);
    }

    /// Waits for the next request and reads its head.
    fn receive_head(&mut self) -> Result<Arrival, Problem> {
        let settings = &self.shared.settings;
        let head_max_bytes = settings.request_line_max_bytes + settings.headers_max_bytes + 1;
        let mut scanner = HeadScanner::default();
        let mut first_byte = (!self.input.unread().is_empty()).then(Instant::now);
        loop {
            // One empty line before a request is forgiven (RFC 9112 §2.2).
            while scanner.is_fresh() && self.input.unread().starts_with(b"\r\n") {
                self.input.consume(2);
                scanner.skip_empty_line()?;
            }
            if let Some(length) = scanner.advance(self.input.unread(), settings)? {
                self.head.parse(&self.input.unread()[..length], settings)?;
                self.input.consume(length);
                return Ok(Arrival::Request);
            }
            let timeout = match first_byte {
                Some(first_byte) => settings.head_timeout.saturating_sub(first_byte.elapsed()),
                None if self.shared.shutdown.requested() => return Ok(Arrival::Nothing),
                None => {
                    self.socket.set_idle(true);
                    settings.idle_timeout
                }
            };
            let filled = match timeout {
                Duration::ZERO => Err(ErrorKind::TimedOut.into()),
                timeout => self.input.fill(&self.socket, timeout, head_max_bytes),
            };
            if first_byte.is_none() {
                self.socket.set_idle(false);
            }
            match filled {
                Ok(0) => return Ok(Arrival::Nothing),
                Ok(_) => {
                    first_byte.get_or_insert_with(Instant::now);
                }
                Err(e) if e.kind() == ErrorKind::TimedOut && first_byte.is_some() => {
                    return Err(Problem::Timeout("the request was not sent in time"));
                }
                Err(_) => return Ok(Arrival::Nothing),
            }
        }
    }

    /// Serves the request whose head was just read; tells whether the connection can serve another one.
    fn serve_request(&mut self) -> bool {
        let shared = self.shared;
        let started = log::log_enabled!(log::Level::Debug).then(Instant::now);
        let request_id = shared.request_ids.of(&self.head);
        let mut exchange = Exchange {
            head: &self.head,
            body: Body::new(
                &self.socket,
                &mut self.input,
                &shared.settings,
                self.head.framing(),
                self.head.expects_continue(),
            ),
            response: Response::new(
                &self.socket,
                &mut self.output,
                Pace::new(shared.settings.write_timeout, shared.settings.min_rate),
                self.head.is_http10(),
            ),
            peer: &self.peer,
            request_id: &request_id,
            shutdown: &shared.shutdown,
        };
        // A bug costs one request, not the thread's connection without a word.
        let outcome =
            catch_unwind(AssertUnwindSafe(|| shared.service.serve(&mut exchange))).unwrap_or_else(|_| {
                let problem = Problem::Internal("a panic, reported above");
                shared.service.refused(&problem);
                Err(problem)
            });
        if let Err(problem) = outcome {
            exchange.answer_problem(&problem);
        }
        if let Some(started) = started {
            exchange.log(started.elapsed());
        }
        let Exchange { mut body, mut response, .. } = exchange;
        if !response.is_complete() {
            response.abort();
            return false;
        }
        if response.allows_next() && body.drain().is_ok() {
            return true;
        }
        // A request that was read to its end and is the last by agreement needs no farewell.
        let all_read = body.is_done() && self.input.unread().is_empty();
        if !all_read || self.head.keep_alive() {
            self.linger();
        }
        false
    }

    /// Answers a request that cannot be served because its head cannot be trusted, and closes.
    fn answer_problem(&mut self, problem: &Problem) {
        self.shared.service.refused(problem);
        let request_id = self.shared.request_ids.next();
        // The head that was parsed last, if any, is not the one that this answer is for.
        self.head = Head::new();
        let settings = &self.shared.settings;
        let mut exchange = Exchange {
            head: &self.head,
            body: Body::new(&self.socket, &mut self.input, settings, Framing::None, false),
            response: Response::new(
                &self.socket,
                &mut self.output,
                Pace::new(settings.write_timeout, settings.min_rate),
                false,
            ),
            peer: &self.peer,
            request_id: &request_id,
            shutdown: &self.shared.shutdown,
        };
        exchange.answer_problem(problem);
        log::debug!("{request_id} {} refused: {}", self.peer, problem.public());
        self.linger();
    }

    /// Closes our side and reads what the client is still sending, within bounds. A socket that is closed with
    /// unread bytes in it is reset, and a reset can overtake the response (RFC 9112 §9.6).
    fn linger(&mut self) {
        if self.socket.finish().is_err() {
            return;
        }
        let deadline = Instant::now() + self.shared.settings.linger_timeout;
        let mut scrap = [0; 8 << 10];
        let mut dropped = 0;
        self.socket.set_idle(true);
        while dropped < LINGER_MAX_BYTES {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            match self.socket.read(&mut scrap, left) {
                Ok(0) | Err(_) => return,
                Ok(count) => dropped += count,
            }
        }
    }
}
