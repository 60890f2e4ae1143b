//! From the first byte of a connection to connection.open-ok (AMQP 0-9-1 §2.2.4): protocol header, login, tuning.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::broker::Broker;
use crate::codec::table::{Table, Value};
use crate::codec::wire::{Put, Reader};
use crate::logins::Protocol;
use crate::protocol::client::{ClientFacts, outline};
use crate::protocol::codec::frame::{FrameKind, MIN_FRAME_MAX, PROTOCOL_HEADER, ParsedFrame, scan};
use crate::protocol::codec::method::{self, Method};
use crate::protocol::codec::reply::Reply;
use crate::protocol::connections::{Peer, Progress};
use crate::protocol::fault::{
    ACCESS_REFUSED, CHANNEL_ERROR, COMMAND_INVALID, FRAME_ERROR, Fault, NOT_ALLOWED, NOT_IMPLEMENTED,
    Outcome, SYNTAX_ERROR,
};
use crate::protocol::traffic::Traffic;
use crate::settings::Settings;

/// What the handshake settled.
#[derive(Debug)]
pub(crate) struct Agreement {
    pub(crate) user: String,
    pub(crate) channel_max: u16,
    pub(crate) frame_max: u32,
    /// The heartbeat interval in seconds; 0 for none.
    pub(crate) heartbeat_s: u16,
    /// The client understands a basic.cancel from the broker.
    pub(crate) cancel_notify: bool,
    /// The client understands connection.blocked.
    pub(crate) blocked_notify: bool,
}

/// The bytes a client sends, as frames.
pub(crate) struct Input {
    socket: Arc<TcpStream>,
    buffer: Vec<u8>,
    traffic: Arc<Traffic>,
    /// The part of the buffer that is not yet handled.
    start: usize,
    end: usize,
    patience: Patience,
}

/// How long a read waits for a client that is silent.
#[derive(Default)]
struct Patience {
    /// The connection ends when nothing was heard for so long.
    limit: Option<Duration>,
    /// A read returns after this time.
    slice: Option<Duration>,
    /// For how long nothing was heard.
    silence: Duration,
}

/// The input buffer of a new connection; it doubles whenever one read fills it.
const FIRST_BUFFER_BYTES: usize = 4 << 10;
const MAX_BUFFER_BYTES: usize = 128 << 10;
/// A buffer beyond this is given back before the client is waited for.
const IDLE_BUFFER_BYTES: usize = 32 << 10;

impl Input {
    pub(crate) fn new(socket: Arc<TcpStream>, traffic: Arc<Traffic>) -> Self {
        let buffer = vec![0; FIRST_BUFFER_BYTES];
        Self { socket, buffer, traffic, start: 0, end: 0, patience: Patience::default() }
    }

    /// What was read and not yet taken.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(crate) fn take(&mut self, bytes: usize) {
        self.start += bytes;
    }

    /// Ends the connection when nothing was heard for `limit`. A read of silence returns after `slice`, if that is
    /// shorter.
    pub(crate) fn set_patience(&mut self, limit: Option<Duration>, slice: Option<Duration>) -> Outcome {
        let slice = limit.into_iter().chain(slice).min();
        self.patience = Patience { limit, slice, silence: Duration::ZERO };
        self.socket.set_read_timeout(slice).or_else(|error| Fault::gone(error.to_string()))
    }

    /// Reads once; nothing, if the client is silent for a while. At least `wanted` bytes will fit, counted from the first
    /// that is not yet taken.
    pub(crate) fn read(&mut self, wanted: usize) -> Outcome {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() < wanted || self.end == self.buffer.len() {
            let doubled = (self.buffer.len() * 2).min(MAX_BUFFER_BYTES);
            self.buffer.resize(doubled.max(wanted), 0);
        }
        let mut waits = self.end > 0 || self.buffer.len() <= IDLE_BUFFER_BYTES;
        loop {
            let flags = if waits { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
            match rustix::net::recv(&self.socket, &mut self.buffer[self.end..], flags) {
                Ok((0, _)) if self.end == 0 => return Fault::gone(""),
                Ok((0, _)) => return Fault::gone("the client closed the connection within a frame"),
                Ok((count, _)) => {
                    self.end += count;
                    self.patience.silence = Duration::ZERO;
                    self.traffic.received.count(count);
                    return Ok(());
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if waits => {
                    let Patience { limit, slice, silence } = &mut self.patience;
                    *silence += slice.unwrap_or_default();
                    if limit.is_none_or(|limit| *silence < limit) {
                        return Ok(());
                    }
                    return Fault::gone("nothing was heard of the client in time");
                }
                Err(Errno::AGAIN) => {
                    // The client pauses: a large buffer is not kept for that.
                    self.buffer = vec![0; FIRST_BUFFER_BYTES.max(wanted)];
                    waits = true;
                }
                Err(error) => return Fault::gone(error.to_string()),
            }
        }
    }
}

/// Leads a client to an open connection. Everything has to happen before the deadline.
pub(crate) fn shake(broker: &Broker, input: &mut Input, peer: &Peer) -> Outcome<Agreement> {
    let send_buffer = &peer.send_buffer;
    let deadline = Instant::now() + broker.settings.handshake_timeout;
    while input.pending().len() < PROTOCOL_HEADER.len() && PROTOCOL_HEADER.starts_with(input.pending()) {
        read_before(input, 0, deadline)?;
        peer.set_progress(Progress::Handshaking);
    }
    if !input.pending().starts_with(&PROTOCOL_HEADER) {
        send_buffer.push(|out| out.extend_from_slice(&PROTOCOL_HEADER));
        return Fault::gone("the client does not speak AMQP 0-9-1");
    }
    input.take(PROTOCOL_HEADER.len());
    send_buffer.send(&Reply::ConnectionStart { server_properties: &server_properties() }, 0);
    let Login { user, mechanism, capabilities, properties } =
        next_method(input, deadline, |method| login(broker, peer, method))?;
    let Settings { channel_max, frame_max_bytes, heartbeat_s, .. } = broker.settings;
    let (frame_max, heartbeat) = (frame_max_bytes, heartbeat_s);
    send_buffer.send(&Reply::ConnectionTune { channel_max, frame_max, heartbeat }, 0);
    let (channel_max, frame_max, heartbeat_s) =
        next_method(input, deadline, |method| tuned(broker, &method))?;
    next_method(input, deadline, |method| open(&method))?;
    let connected_at = SystemTime::now();
    let facts = ClientFacts {
        user: user.clone(),
        mechanism,
        channel_max,
        frame_max,
        heartbeat_s,
        properties,
        connected_at,
    };
    // Nobody else sets it.
    let _ = peer.client.set(facts);
    send_buffer.send(&Reply::ConnectionOpenOk, 0);
    Ok(Agreement {
        user,
        channel_max,
        frame_max,
        heartbeat_s,
        cancel_notify: capabilities.cancel_notify,
        blocked_notify: capabilities.blocked_notify,
    })
}

fn read_before(input: &mut Input, wanted: usize, deadline: Instant) -> Outcome {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Fault::gone("the client did not finish the handshake in time");
    }
    input.set_patience(Some(left), None)?;
    input.read(wanted)
}

/// Decodes a method, or tells the client what is wrong with it.
pub(crate) fn decode(payload: &[u8]) -> Outcome<Method<'_>> {
    match method::decode(payload) {
        Ok(Some(method)) => Ok(method),
        Ok(None) => {
            let ids @ (class, method) = method::ids(payload);
            if method::is_brokers(ids) {
                let text = format!("method {method} of class {class} is the broker's");
                return Fault::connection(COMMAND_INVALID, text);
            }
            let text = format!("method {method} of class {class} is not implemented");
            Fault::connection(NOT_IMPLEMENTED, text)
        }
        Err(_) => Fault::connection(FRAME_ERROR, "the method cannot be decoded"),
    }
}

/// Waits for the next method on channel 0 and hands it to `handle`.
fn next_method<T>(
    input: &mut Input,
    deadline: Instant,
    handle: impl FnOnce(Method<'_>) -> Outcome<T>,
) -> Outcome<T> {
    loop {
        // Until tuning is over, frames may be as large as the smallest frame_max allows; big client properties are
        // tolerated up to four times that.
        let (frame, taken) = match scan(input.pending(), 4 * MIN_FRAME_MAX) {
            ParsedFrame::Whole(frame, taken) => (frame, taken),
            ParsedFrame::Partial(wanted) => {
                read_before(input, wanted, deadline)?;
                continue;
            }
            ParsedFrame::Bad(text) => return Fault::connection(FRAME_ERROR, text),
        };
        if frame.kind == FrameKind::Heartbeat {
            input.take(taken);
            continue;
        }
        if frame.kind != FrameKind::Method || frame.channel != 0 {
            return Fault::connection(CHANNEL_ERROR, "expected a connection method on channel 0");
        }
        let outcome = match decode(frame.payload)? {
            Method::ConnectionClose { .. } => Fault::gone("the client gave up"),
            method => handle(method),
        };
        // What is wrong stays in front, for the answer to name it.
        if outcome.is_ok() {
            input.take(taken);
        }
        return outcome;
    }
}

/// A login that was accepted, and what came with it.
struct Login {
    user: String,
    mechanism: &'static str,
    capabilities: Capabilities,
    /// As far as [`outline`] keeps them.
    properties: Table,
}

/// What the client understands, of all that RabbitMQ's clients announce.
#[derive(Clone, Copy, Debug)]
struct Capabilities {
    /// connection.close after a login that failed.
    failure_close: bool,
    cancel_notify: bool,
    blocked_notify: bool,
}

impl Capabilities {
    fn of(properties: &Table) -> Self {
        let announced = |name| match properties.get("capabilities") {
            Some(Value::Table(capabilities)) => capabilities.is_true(name),
            _ => false,
        };
        Self {
            failure_close: announced("authentication_failure_close"),
            cancel_notify: announced("consumer_cancel_notify"),
            blocked_notify: announced("connection.blocked"),
        }
    }
}

fn login(broker: &Broker, peer: &Peer, method: Method<'_>) -> Outcome<Login> {
    let Method::ConnectionStartOk { client_properties, mechanism, response } = method else {
        return Fault::connection(COMMAND_INVALID, "expected connection.start-ok");
    };
    let capabilities = Capabilities::of(&client_properties);
    // Many fields take much memory, and a login that fails takes its time.
    let properties = outline(&client_properties);
    drop(client_properties);
    let (mechanism, credentials) = match mechanism {
        "PLAIN" => ("PLAIN", plain(response)),
        "AMQPLAIN" => ("AMQPLAIN", amqplain(response)),
        _ => {
            let text = format!("unknown authentication mechanism '{mechanism}'");
            return Fault::connection(COMMAND_INVALID, text);
        }
    };
    let Some((name, password)) = credentials else {
        return Fault::connection(SYNTAX_ERROR, format!("invalid {mechanism} response"));
    };
    if let Some(user) = broker.log_in((&name, &password), peer.socket_addr(), Protocol::Amqp) {
        let user = user.name.clone();
        return Ok(Login { user, mechanism, capabilities, properties });
    }
    let text = format!(
        "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
    );
    if capabilities.failure_close {
        return Fault::connection(ACCESS_REFUSED, text);
    }
    Fault::gone("its login was refused")
}

type Credentials = (Vec<u8>, Vec<u8>);

/// RFC 4616: an authorization identity, which is ignored, the user and the password, separated by NUL.
fn plain(response: &[u8]) -> Option<Credentials> {
    let mut parts = response.splitn(3, |byte| *byte == 0).skip(1);
    Some((parts.next()?.to_vec(), parts.next()?.to_vec()))
}

/// RabbitMQ's older mechanism: the inside of a field table with LOGIN and PASSWORD.
fn amqplain(response: &[u8]) -> Option<Credentials> {
    let mut table = Vec::new();
    table.put_long_string(response);
    let table = Table::read(&mut Reader::new(&table)).ok()?;
    let text = |name| match table.get(name) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    };
    Some((text("LOGIN")?, text("PASSWORD")?))
}

/// Checks what the client made of connection.tune: it may lower the limits, not raise them, and not drop them.
fn tuned(broker: &Broker, method: &Method<'_>) -> Outcome<(u16, u32, u16)> {
    let Method::ConnectionTuneOk { channel_max, frame_max, heartbeat } = *method else {
        return Fault::connection(COMMAND_INVALID, "expected connection.tune-ok");
    };
    check_limit("channel_max", channel_max.into(), broker.settings.channel_max.into())?;
    check_limit("frame_max", frame_max, broker.settings.frame_max_bytes)?;
    if frame_max < MIN_FRAME_MAX {
        let text = format!(
            "negotiated frame_max = {frame_max} is lower than the minimum allowed value ({MIN_FRAME_MAX})"
        );
        return Fault::connection(NOT_ALLOWED, text);
    }
    Ok((channel_max, frame_max, heartbeat))
}

fn check_limit(name: &str, value: u32, limit: u32) -> Outcome {
    if value == 0 || value > limit {
        let meaning = if value == 0 { " (no limit)" } else { "" };
        let text = format!(
            "negotiated {name} = {value}{meaning} is higher than the maximum allowed value ({limit})"
        );
        return Fault::connection(NOT_ALLOWED, text);
    }
    Ok(())
}

fn open(method: &Method<'_>) -> Outcome {
    match method {
        Method::ConnectionOpen { vhost: "/" } => Ok(()),
        Method::ConnectionOpen { vhost } => {
            Fault::connection(NOT_ALLOWED, format!("vhost {vhost} not found"))
        }
        _ => Fault::connection(COMMAND_INVALID, "expected connection.open"),
    }
}

/// What the broker says of itself, as a table: long strings, and capabilities as they truly are.
fn server_properties() -> Vec<u8> {
    let capabilities = [
        ("publisher_confirms", true),
        ("exchange_exchange_bindings", true),
        ("basic.nack", true),
        ("consumer_cancel_notify", true),
        ("connection.blocked", true),
        ("consumer_priorities", false),
        ("authentication_failure_close", true),
        ("per_consumer_qos", true),
        ("direct_reply_to", false),
    ];
    let texts = [
        ("product", "broker"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("platform", "Rust"),
        ("cluster_name", "broker@localhost"),
        ("information", "an embedded AMQP 0-9-1 broker for one machine"),
        ("copyright", "MIT OR Apache-2.0"),
    ];
    let mut table = Vec::new();
    table.put_counted(|fields| {
        fields.put_short_string("capabilities").put(b"F").put_counted(|fields| {
            for (name, has) in capabilities {
                fields.put_short_string(name).put(b"t").put_bool(has);
            }
        });
        for (name, text) in texts {
            fields.put_short_string(name).put(b"S").put_long_string(text.as_bytes());
        }
    });
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_amqplain_responses_are_taken_apart() {
        let expected = Some((b"user".to_vec(), b"a\0b".to_vec()));
        assert_eq!(plain(b"\0user\0a\0b"), expected);
        assert_eq!(plain(b"identity\0user\0a\0b"), expected);
        assert_eq!(plain(b"\0user"), None);
        let response = b"\x05LOGINS\0\0\0\x04user\x08PASSWORDS\0\0\0\x03a\0b";
        assert_eq!(amqplain(response), expected);
        assert_eq!(amqplain(b"\x05LOGINS\0\0\0\x04user"), None);
        assert_eq!(amqplain(b"\xff"), None);
    }

    #[test]
    fn limits_can_be_lowered_only() {
        assert!(
            check_limit("channel_max", 2047, 2047).is_ok() && check_limit("channel_max", 1, 2047).is_ok()
        );
        assert!(
            check_limit("channel_max", 0, 2047).is_err() && check_limit("channel_max", 2048, 2047).is_err()
        );
    }
}
