//! The methods that the broker sends, encoded as method frames.

use super::frame::{FrameKind, put};
use super::wire::Put;

/// One of the broker's methods.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply<'a> {
    /// The properties are a table that is encoded already.
    ConnectionStart {
        server_properties: &'a [u8],
    },
    ConnectionTune {
        channel_max: u16,
        frame_max: u32,
        heartbeat: u16,
    },
    ConnectionOpenOk,
    ConnectionClose {
        code: u16,
        text: &'a str,
        failed: (u16, u16),
    },
    ConnectionCloseOk,
    ConnectionBlocked {
        reason: &'a str,
    },
    ConnectionUnblocked,
    ConnectionUpdateSecretOk,
    ChannelOpenOk,
    ChannelFlow {
        active: bool,
    },
    ChannelFlowOk {
        active: bool,
    },
    ChannelClose {
        code: u16,
        text: &'a str,
        failed: (u16, u16),
    },
    ChannelCloseOk,
    ExchangeDeclareOk,
    ExchangeDeleteOk,
    ExchangeBindOk,
    ExchangeUnbindOk,
    QueueDeclareOk {
        queue: &'a str,
        messages: u32,
        consumers: u32,
    },
    QueueBindOk,
    QueueUnbindOk,
    QueuePurgeOk {
        messages: u32,
    },
    QueueDeleteOk {
        messages: u32,
    },
    BasicQosOk,
    BasicConsumeOk {
        consumer_tag: &'a str,
    },
    BasicCancel {
        consumer_tag: &'a str,
    },
    BasicCancelOk {
        consumer_tag: &'a str,
    },
    BasicReturn {
        code: u16,
        text: &'a str,
        exchange: &'a [u8],
        routing_key: &'a [u8],
    },
    BasicDeliver {
        consumer_tag: &'a str,
        delivered: Delivered<'a>,
    },
    BasicGetOk {
        delivered: Delivered<'a>,
        messages: u32,
    },
    BasicGetEmpty,
    BasicAck {
        tag: u64,
        multiple: bool,
    },
    /// A message that was not taken.
    BasicNack {
        tag: u64,
    },
    BasicRecoverOk,
    ConfirmSelectOk,
    TxSelectOk,
    TxCommitOk,
    TxRollbackOk,
}

/// What basic.deliver and basic.get-ok say of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivered<'a> {
    pub(crate) tag: u64,
    pub(crate) redelivered: bool,
    pub(crate) exchange: &'a [u8],
    pub(crate) routing_key: &'a [u8],
}

impl Reply<'_> {
    /// Appends the method as a frame on `channel`.
    pub(crate) fn put(&self, out: &mut Vec<u8>, channel: u16) {
        put(out, FrameKind::Method, channel, |out| self.put_payload(out));
    }

    fn put_payload(&self, out: &mut Vec<u8>) {
        match *self {
            Self::ConnectionStart { server_properties } => method(out, 10, 10)
                .put(&[0, 9])
                .put(server_properties)
                .put_long_string(b"PLAIN AMQPLAIN")
                .put_long_string(b"en_US"),
            Self::ConnectionTune { channel_max, frame_max, heartbeat } => {
                method(out, 10, 30).put_u16(channel_max).put_u32(frame_max).put_u16(heartbeat)
            }
            Self::ConnectionOpenOk => method(out, 10, 41).put_short_string(""),
            Self::ConnectionClose { code, text, failed } => {
                method(out, 10, 50).put_u16(code).put_short_string(text).put_u16(failed.0).put_u16(failed.1)
            }
            Self::ConnectionCloseOk => method(out, 10, 51),
            Self::ConnectionBlocked { reason } => method(out, 10, 60).put_short_string(reason),
            Self::ConnectionUnblocked => method(out, 10, 61),
            Self::ConnectionUpdateSecretOk => method(out, 10, 71),
            Self::ChannelOpenOk => method(out, 20, 11).put_long_string(b""),
            Self::ChannelFlow { active } => method(out, 20, 20).put_bool(active),
            Self::ChannelFlowOk { active } => method(out, 20, 21).put_bool(active),
            Self::ChannelClose { code, text, failed } => {
                method(out, 20, 40).put_u16(code).put_short_string(text).put_u16(failed.0).put_u16(failed.1)
            }
            Self::ChannelCloseOk => method(out, 20, 41),
            Self::ExchangeDeclareOk => method(out, 40, 11),
            Self::ExchangeDeleteOk => method(out, 40, 21),
            Self::ExchangeBindOk => method(out, 40, 31),
            // 51, not 41: RabbitMQ's clients expect that.
            Self::ExchangeUnbindOk => method(out, 40, 51),
            Self::QueueDeclareOk { queue, messages, consumers } => {
                method(out, 50, 11).put_short_string(queue).put_u32(messages).put_u32(consumers)
            }
            Self::QueueBindOk => method(out, 50, 21),
            Self::QueueUnbindOk => method(out, 50, 51),
            Self::QueuePurgeOk { messages } => method(out, 50, 31).put_u32(messages),
            Self::QueueDeleteOk { messages } => method(out, 50, 41).put_u32(messages),
            Self::BasicQosOk => method(out, 60, 11),
            Self::BasicConsumeOk { consumer_tag } => method(out, 60, 21).put_short_string(consumer_tag),
            // No-wait: nothing is expected in return.
            Self::BasicCancel { consumer_tag } => {
                method(out, 60, 30).put_short_string(consumer_tag).put_bool(true)
            }
            Self::BasicCancelOk { consumer_tag } => method(out, 60, 31).put_short_string(consumer_tag),
            Self::BasicReturn { code, text, exchange, routing_key } => method(out, 60, 50)
                .put_u16(code)
                .put_short_string(text)
                .put_short_bytes(exchange)
                .put_short_bytes(routing_key),
            Self::BasicDeliver { consumer_tag, delivered } => {
                delivered.put(method(out, 60, 60).put_short_string(consumer_tag))
            }
            Self::BasicGetOk { delivered, messages } => delivered.put(method(out, 60, 71)).put_u32(messages),
            Self::BasicGetEmpty => method(out, 60, 72).put_short_string(""),
            Self::BasicAck { tag, multiple } => method(out, 60, 80).put_u64(tag).put_bool(multiple),
            // Bits: multiple, requeue.
            Self::BasicNack { tag } => method(out, 60, 120).put_u64(tag).put(&[0]),
            Self::BasicRecoverOk => method(out, 60, 111),
            Self::ConfirmSelectOk => method(out, 85, 11),
            Self::TxSelectOk => method(out, 90, 11),
            Self::TxCommitOk => method(out, 90, 21),
            Self::TxRollbackOk => method(out, 90, 31),
        };
    }
}

fn method(out: &mut Vec<u8>, class: u16, method: u16) -> &mut Vec<u8> {
    out.put_u16(class).put_u16(method)
}

impl Delivered<'_> {
    fn put<'out>(&self, out: &'out mut Vec<u8>) -> &'out mut Vec<u8> {
        let out = out.put_u64(self.tag).put_bool(self.redelivered);
        out.put_short_bytes(self.exchange).put_short_bytes(self.routing_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_exact() {
        let mut out = Vec::new();
        Reply::BasicAck { tag: 258, multiple: true }.put(&mut out, 3);
        assert_eq!(out, b"\x01\0\x03\0\0\0\x0d\0\x3c\0\x50\0\0\0\0\0\0\x01\x02\x01\xce");
        out.clear();
        Reply::ChannelClose { code: 404, text: "gone", failed: (50, 10) }.put(&mut out, 1);
        assert_eq!(out, b"\x01\0\x01\0\0\0\x0f\0\x14\0\x28\x01\x94\x04gone\0\x32\0\x0a\xce");
        out.clear();
        Reply::QueueDeclareOk { queue: "q", messages: 1, consumers: 2 }.put(&mut out, 1);
        assert_eq!(out, b"\x01\0\x01\0\0\0\x0e\0\x32\0\x0b\x01q\0\0\0\x01\0\0\0\x02\xce");
    }
}
