//! How a connection that publishes learns that publishers have to wait, and that they may go on.
//!
//! Connection.blocked and connection.unblocked are RabbitMQ's extension, for clients that announce it. All others get
//! AMQP's own means, channel.flow (AMQP 0-9-1 §1.5.2.3). RabbitMQ tells a connection when it next publishes; here every
//! connection that has published or has selected confirms is told at once, so that it need not send a message, of which
//! nobody knows whether it will be stored, in order to find out.

use std::sync::{Arc, Mutex, Weak};

use crate::log::alarm::Alarm;
use crate::protocol::channel_output::ChannelOutput;
use crate::protocol::codec::reply::Reply;
use crate::protocol::send_buffer::SendBuffer;
use crate::sync::lock;

/// What clients are told. RabbitMQ's words, which some clients show.
const REASON: &str = "low on disk";

/// The publishing channels of one connection, and what was said to them.
pub(crate) struct Throttle {
    send_buffer: Arc<SendBuffer>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    channels: Vec<Weak<ChannelOutput>>,
    /// The client understands connection.blocked.
    blocked_notify: bool,
    /// It was told to wait.
    halted: bool,
}

impl Throttle {
    pub(crate) fn new(send_buffer: Arc<SendBuffer>) -> Self {
        Self { send_buffer, state: Mutex::default() }
    }

    /// A channel begins to publish. If publishers have to wait at this moment, it is told so.
    pub(crate) fn enlist(&self, channel: &Arc<ChannelOutput>, blocked_notify: bool, alarm: &Alarm) {
        let mut state = lock(&self.state);
        state.blocked_notify = blocked_notify;
        state.channels.retain(|known| known.strong_count() > 0);
        state.channels.push(Arc::downgrade(channel));
        // The alarm is looked at under the lock that `set` takes: a change is seen here, or by the `set` that follows it.
        if state.halted && !blocked_notify {
            channel.push(&Reply::ChannelFlow { active: false });
        } else if !state.halted && alarm.is_raised() {
            self.tell(&mut state, true);
        }
        drop(state);
        self.send_buffer.flush();
    }

    /// How many channels have published or selected confirms, and are open.
    pub(crate) fn publishers(&self) -> usize {
        lock(&self.state).channels.iter().filter(|channel| channel.strong_count() > 0).count()
    }

    /// Tells the client that publishers have to wait, or may go on, unless it knows or does not publish.
    pub(crate) fn set(&self, halted: bool) {
        let mut state = lock(&self.state);
        if state.halted == halted || state.channels.is_empty() {
            return;
        }
        self.tell(&mut state, halted);
        drop(state);
        self.send_buffer.flush();
    }

    fn tell(&self, state: &mut State, halted: bool) {
        state.halted = halted;
        if state.blocked_notify {
            let blocked = Reply::ConnectionBlocked { reason: REASON };
            let reply = if halted { blocked } else { Reply::ConnectionUnblocked };
            self.send_buffer.push(|out| reply.put(out, 0));
            return;
        }
        for channel in state.channels.iter().filter_map(Weak::upgrade) {
            channel.push(&Reply::ChannelFlow { active: !halted });
        }
    }
}
