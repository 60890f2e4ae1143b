//! The life of one connection: requests are read, served and answered one after the other.

use std::cell::Cell;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foundation::Shutdown;

use crate::admission::STOP_GRACE;
use crate::body::BodyReader;
use crate::budget::Budget;
use crate::head::{HEADERS_MAX_BYTES, Head, HeadScanner, REQUEST_LINE_MAX_BYTES};
use crate::input::Input;
use crate::method::Method;
use crate::pace::Pace;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::request_id;
use crate::response::{Context, Response, shrink};
use crate::service::Service;
use crate::settings::EdgeSettings;
use crate::socket::{Link, Socket};

/// Most bytes that are read from a client after the last response, so that it gets to see that response.
const LINGER_MAX_BYTES: usize = 64 << 20;
/// How long a refused connection may take to send its request; some clients read nothing before they have sent it.
const REFUSAL_PATIENCE: Duration = Duration::from_millis(500);

/// What the threads of all connections share.
pub(crate) struct Shared {
    pub(crate) settings: EdgeSettings,
    pub(crate) shutdown: Shutdown,
    pub(crate) service: Arc<dyn Service>,
    pub(crate) request_ids: request_id::Generator,
    /// The memory that all bodies may take together.
    pub(crate) bodies: Arc<Budget>,
}

impl Shared {
    fn body_pace(&self) -> Pace {
        let settings = &self.settings;
        Pace::new(settings.body_timeout, settings.min_rate, settings.body_deadline)
    }

    fn response_pace(&self) -> Pace {
        let settings = &self.settings;
        Pace::new(settings.write_timeout, settings.min_rate, settings.response_deadline)
    }
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

/// How waiting for a request ended.
enum Arrival {
    Request,
    /// No request: the client closed the connection or was idle for too long, or the server stops. Nothing is answered.
    Nothing,
}

impl<'s> Connection<'s> {
    pub(crate) fn new(shared: &'s Shared, link: Arc<Link>, peer: IpAddr) -> std::io::Result<Self> {
        let socket = Socket::new(link, &shared.settings)?;
        let peer = peer.to_canonical().to_string();
        Ok(Self { shared, socket, peer, input: Input::new(), head: Head::new(), output: Vec::new() })
    }

    /// Serves requests until either side ends the connection.
    pub(crate) fn serve(&mut self) {
        loop {
            match self.receive_head() {
                Ok(Arrival::Request) => {}
                Ok(Arrival::Nothing) => return,
                Err(refusal) => {
                    self.answer_refusal(&refusal);
                    return;
                }
            }
            if !self.serve_request() {
                return;
            }
            self.socket.set_used();
            self.input.shrink();
            self.head.shrink();
            shrink(&mut self.output);
        }
    }

    /// Answers `refusal` to whatever the client asks, and closes.
    pub(crate) fn refuse(&mut self, refusal: &Refusal) {
        let timeout = self.shared.settings.linger_timeout.min(REFUSAL_PATIENCE);
        let _ = self.input.fill(&self.socket, timeout, 4 << 10);
        self.answer_refusal(refusal);
    }

    /// Waits for the next request and reads its head.
    fn receive_head(&mut self) -> Result<Arrival, Refusal> {
        const HEAD_MAX_BYTES: usize = REQUEST_LINE_MAX_BYTES + HEADERS_MAX_BYTES + 1;
        let settings = &self.shared.settings;
        let mut scanner = HeadScanner::default();
        let mut first_byte = (!self.input.unread().is_empty()).then(Instant::now);
        loop {
            // One empty line before a request is ignored (RFC 9112 §2.2).
            while scanner.is_fresh() && self.input.unread().starts_with(b"\r\n") {
                self.input.consume(2);
                scanner.skip_empty_line()?;
            }
            if let Some(length) = scanner.advance(self.input.unread())? {
                self.head.parse(&self.input.unread()[..length])?;
                self.input.consume(length);
                return Ok(Arrival::Request);
            }
            let timeout = match first_byte {
                Some(first_byte) => {
                    self.socket.set_within_head(first_byte);
                    settings.head_timeout.saturating_sub(first_byte.elapsed())
                }
                None => self.begin_waiting(),
            };
            let filled = match timeout {
                Duration::ZERO => Err(ErrorKind::TimedOut.into()),
                timeout => self.input.fill(&self.socket, timeout, HEAD_MAX_BYTES),
            };
            self.socket.set_busy();
            match filled {
                Ok(0) => return Ok(Arrival::Nothing),
                Ok(_) => {
                    first_byte.get_or_insert_with(Instant::now);
                }
                Err(e) if e.kind() == ErrorKind::TimedOut && first_byte.is_some() => {
                    return Err(Refusal::Timeout("the request was not sent in time"));
                }
                Err(_) => return Ok(Arrival::Nothing),
            }
        }
    }

    /// Marks the connection as idle and returns how long it may stay so.
    fn begin_waiting(&self) -> Duration {
        let settings = &self.shared.settings;
        self.socket.set_idle();
        match (self.socket.is_used(), self.shared.shutdown.requested()) {
            // A request that was sent before the stop may already have arrived; it is still answered.
            (true, true) => Duration::from_millis(1),
            (false, true) => STOP_GRACE,
            (true, false) => settings.idle_timeout,
            (false, false) => settings.first_byte_timeout.min(settings.idle_timeout),
        }
    }

    /// Serves the request whose head was just read; returns whether the connection can serve another one.
    fn serve_request(&mut self) -> bool {
        let shared = self.shared;
        let started = log::log_enabled!(log::Level::Debug).then(Instant::now);
        let request_id = shared.request_ids.of(&self.head);
        let drainable = Cell::new(true);
        let mut request = Request {
            head: &self.head,
            body: BodyReader::new(
                &self.socket,
                &mut self.input,
                shared.body_pace(),
                &shared.bodies,
                (self.head.framing, self.head.expects_continue),
                &drainable,
            ),
            peer: &self.peer,
            id: &request_id,
        };
        let context = Context {
            http10: self.head.is_http10(),
            to_head: self.head.method == Method::Head,
            keep_alive: self.head.keep_alive,
            drainable: &drainable,
            request_id: &request_id,
            shutdown: &shared.shutdown,
        };
        let mut response = Response::new(&self.socket, &mut self.output, shared.response_pace(), context);
        answer(&*shared.service, &mut request, &mut response);
        if let Some(started) = started {
            log_request(&request, response.status(), started.elapsed());
        }
        if !response.is_complete() {
            response.abort();
            return false;
        }
        if response.allows_next() && request.body.drain().is_ok() {
            return true;
        }
        // If the request was read completely and the client expects the connection to close, there is nothing to linger
        // for.
        let all_read = request.body.is_done() && self.input.unread().is_empty();
        if !all_read || self.head.keep_alive {
            self.linger();
        }
        false
    }

    /// Answers a request that cannot be served because its head cannot be trusted, and closes.
    fn answer_refusal(&mut self, refusal: &Refusal) {
        self.shared.service.refused(refusal);
        let request_id = self.shared.request_ids.next();
        let drainable = Cell::new(false);
        let context = Context {
            http10: false,
            to_head: false,
            keep_alive: false,
            drainable: &drainable,
            request_id: &request_id,
            shutdown: &self.shared.shutdown,
        };
        let pace = self.shared.response_pace();
        Response::new(&self.socket, &mut self.output, pace, context).refuse(refusal);
        log::debug!("{request_id} {} {} {refusal}", self.peer, refusal.status());
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
        self.socket.set_idle();
        self.socket.set_used();
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

/// Lets the service answer; answers in its place if it refuses, panics or sends no response.
fn answer(service: &dyn Service, request: &mut Request<'_>, response: &mut Response<'_>) {
    // A panic in the service fails only this request, which is answered 500.
    let outcome = catch_unwind(AssertUnwindSafe(|| service.serve(request, response)));
    let refusal = match outcome {
        Ok(Ok(())) if response.is_begun() => return,
        Ok(Err(refusal)) => refusal,
        Ok(Ok(())) => {
            let refusal = Refusal::Internal("the service sent no response");
            service.refused(&refusal);
            refusal
        }
        Err(_) => {
            let refusal = Refusal::Internal("a panic, reported above");
            service.refused(&refusal);
            refusal
        }
    };
    let level = if refusal.status() >= 500 && !matches!(refusal, Refusal::VersionNotSupported) {
        log::Level::Warn
    } else {
        log::Level::Debug
    };
    match &refusal {
        Refusal::ClientGone(cause) => log::debug!("{} client gone: {cause}", request.id),
        _ => log::log!(level, "{} {} {refusal}", request.id, refusal.status()),
    }
    response.refuse(&refusal);
}

/// The debug log line of a request.
fn log_request(request: &Request<'_>, status: u16, took: Duration) {
    log::debug!(
        "{} {} {} {} {status} {:.1} ms",
        request.id,
        request.peer,
        request.method_name(),
        String::from_utf8_lossy(request.target()).escape_debug(),
        took.as_secs_f64() * 1_000.0,
    );
}
