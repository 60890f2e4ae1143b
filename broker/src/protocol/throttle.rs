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

/// Why publishers have to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// The disk is nearly full: all publishers wait.
    Disk,
    /// The memory for unfinished messages is used up: this connection waits.
    Memory,
}

impl Shortage {
    /// What clients are told. RabbitMQ's words, which some clients show.
    fn reason(self) -> &'static str {
        match self {
            Self::Disk => "low on disk",
            Self::Memory => "low on memory",
        }
    }
}

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
    /// What it has to wait for; it was told of the first of them.
    shortages: Vec<Shortage>,
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
        if !state.shortages.is_empty() && !blocked_notify {
            channel.push(&Reply::ChannelFlow { active: false });
        } else if state.shortages.is_empty() && alarm.is_raised() {
            state.shortages.push(Shortage::Disk);
            self.tell(&state, Some(Shortage::Disk));
        }
        drop(state);
        self.send_buffer.flush();
    }

    /// How many channels have published or selected confirms, and are open.
    pub(crate) fn publishers(&self) -> usize {
        lock(&self.state).channels.iter().filter(|channel| channel.strong_count() > 0).count()
    }

    /// Whether the client was told that publishers have to wait.
    pub(crate) fn is_halted(&self) -> bool {
        !lock(&self.state).shortages.is_empty()
    }

    /// Tells the client that publishers have to wait, or may go on, unless it knows or does not publish.
    pub(crate) fn set(&self, shortage: Shortage, short: bool) {
        let mut state = lock(&self.state);
        if state.shortages.contains(&shortage) == short || state.channels.is_empty() {
            return;
        }
        let halted = !state.shortages.is_empty();
        if short {
            state.shortages.push(shortage);
        } else {
            state.shortages.retain(|known| *known != shortage);
        }
        if halted == state.shortages.is_empty() {
            self.tell(&state, short.then_some(shortage));
        }
        drop(state);
        self.send_buffer.flush();
    }

    fn tell(&self, state: &State, shortage: Option<Shortage>) {
        if state.blocked_notify {
            let reply = match shortage {
                Some(shortage) => Reply::ConnectionBlocked { reason: shortage.reason() },
                None => Reply::ConnectionUnblocked,
            };
            self.send_buffer.push(|out| reply.put(out, 0));
            return;
        }
        for channel in state.channels.iter().filter_map(Weak::upgrade) {
            channel.push(&Reply::ChannelFlow { active: shortage.is_none() });
        }
    }
}
