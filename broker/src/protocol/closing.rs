//! How a connection ends: who says the last word, what it names, and how long the other side is waited for.

use std::time::{Duration, Instant};

use crate::protocol::codec::frame::{Frame, FrameKind, ParsedFrame, scan};
use crate::protocol::codec::method;
use crate::protocol::codec::reply::Reply;
use crate::protocol::connections::Peer;
use crate::protocol::fault::{Code, FRAME_ERROR, close_text};
use crate::protocol::handshake::Input;

/// How long a client may take to answer the broker's connection.close, or be silent after its own.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a client may still send after its connection.close.
const LAST_WRITES_TIMEOUT: Duration = Duration::from_secs(30);

/// What connection.close says.
pub(crate) struct Reason<'a> {
    pub(crate) code: Code,
    pub(crate) text: &'a str,
    /// Class and method.
    pub(crate) failed: (u16, u16),
}

/// Waits a moment until the client has closed its socket, and ignores what it still sends: some clients ask for the end
/// of a connection before they have written what they published, and fail if nobody reads that.
pub(crate) fn await_end(input: &mut Input) {
    let deadline = Instant::now() + LAST_WRITES_TIMEOUT;
    let mut open = input.set_patience(Some(CLOSE_TIMEOUT), None).is_ok();
    while open && Instant::now() < deadline {
        input.take(input.pending().len());
        open = input.read(0).is_ok();
    }
}

/// Tells the client that its connection ends, and waits a moment for its answer: a socket closed with unread input
/// would be reset, and the client might never see why.
pub(crate) fn close(peer: &Peer, input: &mut Input, frame_max: u32, reason: &Reason<'_>) {
    let Reason { code, failed, .. } = *reason;
    let text = close_text(code, reason.text);
    peer.send_buffer.send(&Reply::ConnectionClose { code: code.0, text: &text, failed }, 0);
    if code == FRAME_ERROR {
        // The input has no frames any more that could be told apart.
        peer.send_buffer.finish();
    }
    let deadline = Instant::now() + CLOSE_TIMEOUT;
    loop {
        let wanted = match scan(input.pending(), frame_max) {
            ParsedFrame::Whole(frame, _) if is_close_ok(frame) => return,
            ParsedFrame::Whole(_, taken) => {
                input.take(taken);
                continue;
            }
            ParsedFrame::Partial(wanted) => wanted,
            ParsedFrame::Bad(_) => {
                input.take(input.pending().len());
                0
            }
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || input.set_patience(Some(left), None).and_then(|()| input.read(wanted)).is_err() {
            return;
        }
    }
}

/// Class and method that failed with a frame. A frame on a channel that awaits content fails its basic.publish.
pub(crate) fn failed_method(frame: Frame<'_>, expects_content: bool) -> (u16, u16) {
    match frame.kind {
        _ if expects_content => (60, 40),
        FrameKind::Method => method::ids(frame.payload),
        FrameKind::Header | FrameKind::Body | FrameKind::Heartbeat => (0, 0),
    }
}

fn is_close_ok(frame: Frame<'_>) -> bool {
    frame.kind == FrameKind::Method && method::ids(frame.payload) == (10, 51)
}
