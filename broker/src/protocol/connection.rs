//! One client connection: its two threads, its channels, and what ends it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foundation::Warnings;
use socket2::SockRef;

use crate::broker::Broker;
use crate::protocol::channel::Channel;
use crate::protocol::closing::{Reason, await_end, close, failed_method};
use crate::protocol::codec::frame::{Frame, FrameKind, ParsedFrame, scan};
use crate::protocol::codec::method::{self, Method};
use crate::protocol::codec::reply::Reply;
use crate::protocol::connections::{Peer, Progress};
use crate::protocol::fault::{
    CHANNEL_ERROR, FRAME_ERROR, Fault, NOT_ALLOWED, Outcome, PRECONDITION_FAILED, UNEXPECTED_FRAME,
    close_text,
};
use crate::protocol::handshake::{Input, decode, shake};
use crate::protocol::send_buffer::SendBuffer;
use crate::protocol::session::Session;
use crate::queues::delivery;

/// Both threads of a connection need little; a thousand connections should too.
const STACK_BYTES: usize = 192 << 10;
/// How often channels are looked through for deliveries that are overdue, at least.
const MOST_BETWEEN_ROUNDS: Duration = Duration::from_secs(60);

/// Strangers can connect as often as they like.
static STRANGERS: Warnings = Warnings::new("connections that ended before they were open");

/// A channel number that is in use.
enum ChannelState {
    Open(Box<Channel>),
    /// The broker has closed it and waits for close-ok; everything else is ignored until then.
    Closing,
}

/// Starts the threads of a new connection.
pub(crate) fn start(broker: &Arc<Broker>, socket: TcpStream, address: String) -> std::io::Result<()> {
    let options = SockRef::from(&socket);
    options.set_tcp_nodelay(true)?;
    options.set_keepalive(true)?;
    options.set_write_timeout(Some(broker.settings.send_timeout))?;
    let socket = Arc::new(socket);
    let send_buffer = SendBuffer::new(Arc::clone(&socket), Arc::clone(&broker.memory));
    let consumers = Arc::clone(&broker.connections.consumers);
    let peer = Peer::new(broker.next_id(), address, send_buffer, consumers);
    if !broker.connections.admit(&peer) {
        return Ok(());
    }
    let spawned = spawn_writer(broker, &peer).and_then(|()| {
        let (broker, peer) = (Arc::clone(broker), Arc::clone(&peer));
        let reader = move || {
            let traffic = Arc::clone(&peer.send_buffer.traffic);
            serve(&broker, &peer, Input::new(socket, traffic));
            peer.send_buffer.finish();
            broker.connections.dismiss(peer.id);
        };
        spawn("reader", reader)
    });
    if let Err(error) = spawned {
        peer.send_buffer.close();
        broker.connections.dismiss(peer.id);
        return Err(error);
    }
    Ok(())
}

fn spawn_writer(broker: &Arc<Broker>, peer: &Arc<Peer>) -> std::io::Result<()> {
    let (broker, peer) = (Arc::clone(broker), Arc::clone(peer));
    spawn("writer", move || {
        peer.send_buffer.run_writer(|| {
            for queue in peer.consumed() {
                delivery::pump(&broker, &queue);
            }
        });
    })
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(body).map(drop)
}

/// The life of a connection, on its reader thread.
fn serve(broker: &Arc<Broker>, peer: &Arc<Peer>, mut input: Input) {
    let mut expects_content = false;
    let outcome = shake(broker, &mut input, peer).and_then(|agreement| {
        peer.set_progress(Progress::Open);
        log::debug!("{}: user '{}' connected", peer.address, agreement.user);
        let heartbeat = Duration::from_secs(agreement.heartbeat_s.into());
        let beats = !heartbeat.is_zero();
        peer.send_buffer.set_heartbeat(beats.then_some(heartbeat / 2));
        // Silence of two intervals means that the client is gone (AMQP 0-9-1 §4.2.7).
        let limit = beats.then_some(heartbeat * 2 + Duration::from_secs(1));
        let consumer_timeout = broker.settings.consumer_timeout;
        let round = consumer_timeout.map(|timeout| (timeout / 4).min(MOST_BETWEEN_ROUNDS));
        input.set_patience(limit, round)?;
        let session = Arc::new(Session { broker: Arc::clone(broker), peer: Arc::clone(peer), agreement });
        let mut connection = Connection { session, channels: BTreeMap::new(), last_round: Instant::now() };
        let outcome = connection.run(&mut input);
        expects_content = connection.expects_content(&input);
        connection.release();
        outcome
    });
    match outcome {
        Ok(()) => {
            log::debug!("{}: closed by the client", peer.address);
            await_end(&mut input);
        }
        Err(Fault::Gone(why)) if why.is_empty() => log::debug!("{}: disconnected", peer.address),
        Err(Fault::Gone(why)) => log_end(peer, format_args!("connection dropped: {why}")),
        Err(Fault::Connection(code, text) | Fault::Channel(code, text)) => {
            log_end(peer, format_args!("connection closed: {} {text}", code.0));
            let frame_max = broker.settings.frame_max_bytes;
            // What is wrong is still in front.
            let failed = match scan(input.pending(), frame_max) {
                ParsedFrame::Whole(frame, _) => failed_method(frame, expects_content),
                ParsedFrame::Partial(_) | ParsedFrame::Bad(_) => (0, 0),
            };
            close(peer, &mut input, frame_max, &Reason { code, text: &text, failed });
        }
    }
}

/// Logs how a connection ended.
fn log_end(peer: &Peer, how: fmt::Arguments<'_>) {
    if peer.client.get().is_some() {
        log::info!("{}: {how}", peer.address);
    } else {
        STRANGERS.warn(format_args!("{}: {how}", peer.address));
    }
}

struct Connection {
    session: Arc<Session>,
    channels: BTreeMap<u16, ChannelState>,
    /// When the channels were last looked through for deliveries that are overdue.
    last_round: Instant,
}

impl Connection {
    /// Handles frames until the connection ends; Ok means that the client closed it.
    fn run(&mut self, input: &mut Input) -> Outcome {
        let frame_max = self.session.agreement.frame_max;
        loop {
            let wanted = match scan(input.pending(), frame_max) {
                ParsedFrame::Whole(frame, taken) => {
                    let goes_on = self.frame(frame)?;
                    input.take(taken);
                    if !goes_on {
                        return Ok(());
                    }
                    continue;
                }
                ParsedFrame::Partial(wanted) => wanted,
                ParsedFrame::Bad(text) => return Fault::connection(FRAME_ERROR, text),
            };
            // Everything that came is handled: now the log and the client may have what it led to.
            self.session.peer.send_buffer.flush();
            self.session.broker.persister.write_or_kick();
            self.session.peer.send_buffer.wait_for_room();
            self.close_overdue_channels();
            input.read(wanted)?;
        }
    }

    /// Handles one frame; false means that the client closed the connection.
    fn frame(&mut self, frame: Frame<'_>) -> Outcome<bool> {
        match (frame.kind, frame.channel) {
            (FrameKind::Heartbeat, 0) if frame.payload.is_empty() => Ok(true),
            (FrameKind::Heartbeat, 0) => Fault::connection(FRAME_ERROR, "a heartbeat with a payload"),
            (FrameKind::Heartbeat, _) => Fault::connection(UNEXPECTED_FRAME, "heartbeat on a channel"),
            (FrameKind::Method, 0) => self.connection_method(frame.payload),
            (_, 0) => Fault::connection(UNEXPECTED_FRAME, "content on channel 0"),
            _ => self.channel_frame(frame).map(|()| true),
        }
    }

    fn connection_method(&mut self, payload: &[u8]) -> Outcome<bool> {
        match decode(payload)? {
            Method::ConnectionClose { code, text } => {
                log::debug!("{}: client closes the connection: {code} {text}", self.session.peer.address);
                self.session.peer.send_buffer.send(&Reply::ConnectionCloseOk, 0);
                Ok(false)
            }
            Method::ConnectionCloseOk => Ok(false),
            // Passwords come from the settings alone, so there is no credential that could expire.
            Method::ConnectionUpdateSecret => {
                self.session.peer.send_buffer.send(&Reply::ConnectionUpdateSecretOk, 0);
                Ok(true)
            }
            _ => Fault::connection(CHANNEL_ERROR, "unexpected method on channel 0"),
        }
    }

    fn channel_frame(&mut self, frame: Frame<'_>) -> Outcome {
        let number = frame.channel;
        let outcome = match self.channels.get_mut(&number) {
            None => return self.open_channel(frame),
            // Only the end of closing matters. If both sides close at the same time, the client's close wants its
            // answer as well.
            Some(ChannelState::Closing) => {
                let ids = method::ids(frame.payload);
                if frame.kind == FrameKind::Method && ids == (20, 41) {
                    self.channels.remove(&number);
                } else if frame.kind == FrameKind::Method && ids == (20, 40) {
                    self.session.peer.send_buffer.push(|out| Reply::ChannelCloseOk.put(out, number));
                }
                return Ok(());
            }
            Some(ChannelState::Open(channel)) => match frame.kind {
                FrameKind::Method => channel.method(decode(frame.payload)?),
                _ => channel.content(frame).map(|()| true),
            },
        };
        match outcome {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.close_channel(number, &Reply::ChannelCloseOk);
                self.channels.remove(&number);
                Ok(())
            }
            Err(Fault::Channel(code, text)) => {
                log::info!("{}: channel {number} closed: {} {text}", self.session.peer.address, code.0);
                let failed = failed_method(frame, self.channel_expects_content(number));
                let text = close_text(code, &text);
                self.close_channel(number, &Reply::ChannelClose { code: code.0, text: &text, failed });
                Ok(())
            }
            Err(fault) => Err(fault),
        }
    }

    /// Closes the channels that have deliveries unsettled for longer than the consumer timeout.
    fn close_overdue_channels(&mut self) {
        let Some(timeout) = self.session.broker.settings.consumer_timeout else { return };
        let now = Instant::now();
        if now.duration_since(self.last_round) < (timeout / 4).min(MOST_BETWEEN_ROUNDS) {
            return;
        }
        self.last_round = now;
        let overdue = self.channels.iter().filter_map(|(number, channel)| match channel {
            ChannelState::Open(channel) if channel.output.is_overdue(now, timeout) => Some(*number),
            _ => None,
        });
        for number in overdue.collect::<Vec<_>>() {
            let text = format!(
                "delivery acknowledgement on channel {number} timed out. Timeout value used: {} ms",
                timeout.as_millis()
            );
            log::warn!("{}: channel {number} closed: {text}", self.session.peer.address);
            let (code, text) = (PRECONDITION_FAILED.0, close_text(PRECONDITION_FAILED, &text));
            self.close_channel(number, &Reply::ChannelClose { code, text: &text, failed: (0, 0) });
        }
    }

    /// Whether the frame in front of the input is for a channel that awaits content.
    fn expects_content(&self, input: &Input) -> bool {
        match scan(input.pending(), self.session.agreement.frame_max) {
            ParsedFrame::Whole(frame, _) => self.channel_expects_content(frame.channel),
            ParsedFrame::Partial(_) | ParsedFrame::Bad(_) => false,
        }
    }

    fn channel_expects_content(&self, number: u16) -> bool {
        match self.channels.get(&number) {
            Some(ChannelState::Open(channel)) => channel.publisher.expects_content(),
            Some(ChannelState::Closing) | None => false,
        }
    }

    fn open_channel(&mut self, frame: Frame<'_>) -> Outcome {
        if frame.kind != FrameKind::Method {
            let text = "expected method frame, got non method frame instead";
            return Fault::connection(UNEXPECTED_FRAME, text);
        }
        let opens = matches!(decode(frame.payload)?, Method::ChannelOpen);
        if !opens {
            return Fault::connection(CHANNEL_ERROR, "expected 'channel.open'");
        }
        let limit = self.session.agreement.channel_max;
        if frame.channel > limit {
            let text = format!("channel {} is above the negotiated channel_max ({limit})", frame.channel);
            return Fault::connection(NOT_ALLOWED, text);
        }
        self.session.broker.connections.check_channels()?;
        let channel = Channel::new(Arc::clone(&self.session), frame.channel);
        self.channels.insert(frame.channel, ChannelState::Open(Box::new(channel)));
        self.session.peer.send_buffer.push(|out| Reply::ChannelOpenOk.put(out, frame.channel));
        Ok(())
    }

    /// Gives up what a channel holds and says a last word on it.
    fn close_channel(&mut self, number: u16, last: &Reply<'_>) {
        if let Some(ChannelState::Open(mut channel)) = self.channels.insert(number, ChannelState::Closing) {
            let unsettled = channel.silence();
            delivery::end_deliveries(&self.session.broker, &unsettled, delivery::Settlement::Requeue);
            channel.end_consumers();
            self.session.peer.send_buffer.send(last, number);
        }
    }

    /// Gives up everything the connection holds.
    fn release(&mut self) {
        let broker = &self.session.broker;
        broker.persister.kick();
        let mut unsettled = Vec::new();
        for slot in self.channels.values_mut() {
            if let ChannelState::Open(channel) = slot {
                unsettled.extend(channel.silence());
            }
        }
        delivery::end_deliveries(broker, &unsettled, delivery::Settlement::Requeue);
        for slot in self.channels.values_mut() {
            if let ChannelState::Open(channel) = slot {
                channel.end_consumers();
            }
        }
        for queue in broker.topology.queues() {
            if queue.owner == Some(self.session.peer.id)
                && let Err(fault) = broker.delete_queue(&queue)
            {
                log::error!("exclusive queue '{}' cannot be deleted: {fault}", queue.name);
            }
        }
        self.channels.clear();
    }
}
