//! The methods that the broker sends, encoded as method frames.

use super::frame::{FrameKind, put};
use super::table::Table;
use super::wire::{put_long_string, put_short_bytes, put_short_string};

/// One of the broker's methods.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply<'a> {
    ConnectionStart {
        server_properties: &'a Table,
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
        exchange: &'a str,
        routing_key: &'a str,
    },
    BasicDeliver {
        consumer_tag: &'a str,
        tag: u64,
        redelivered: bool,
        exchange: &'a [u8],
        routing_key: &'a [u8],
    },
    BasicGetOk {
        tag: u64,
        redelivered: bool,
        exchange: &'a [u8],
        routing_key: &'a [u8],
        messages: u32,
    },
    BasicGetEmpty,
    BasicAck {
        tag: u64,
        multiple: bool,
    },
    BasicRecoverOk,
    ConfirmSelectOk,
}

impl Reply<'_> {
    /// Appends the method as a frame on `channel`.
    pub(crate) fn put(&self, out: &mut Vec<u8>, channel: u16) {
        put(out, FrameKind::Method, channel, |out| {
            let (class, method) = self.ids();
            out.extend_from_slice(&class.to_be_bytes());
            out.extend_from_slice(&method.to_be_bytes());
            self.put_arguments(out);
        });
    }

    fn ids(&self) -> (u16, u16) {
        match self {
            Self::ConnectionStart { .. } => (10, 10),
            Self::ConnectionTune { .. } => (10, 30),
            Self::ConnectionOpenOk => (10, 41),
            Self::ConnectionClose { .. } => (10, 50),
            Self::ConnectionCloseOk => (10, 51),
            Self::ConnectionBlocked { .. } => (10, 60),
            Self::ConnectionUnblocked => (10, 61),
            Self::ConnectionUpdateSecretOk => (10, 71),
            Self::ChannelOpenOk => (20, 11),
            Self::ChannelFlowOk { .. } => (20, 21),
            Self::ChannelClose { .. } => (20, 40),
            Self::ChannelCloseOk => (20, 41),
            Self::ExchangeDeclareOk => (40, 11),
            Self::ExchangeDeleteOk => (40, 21),
            Self::QueueDeclareOk { .. } => (50, 11),
            Self::QueueBindOk => (50, 21),
            Self::QueueUnbindOk => (50, 51),
            Self::QueuePurgeOk { .. } => (50, 31),
            Self::QueueDeleteOk { .. } => (50, 41),
            Self::BasicQosOk => (60, 11),
            Self::BasicConsumeOk { .. } => (60, 21),
            Self::BasicCancel { .. } => (60, 30),
            Self::BasicCancelOk { .. } => (60, 31),
            Self::BasicReturn { .. } => (60, 50),
            Self::BasicDeliver { .. } => (60, 60),
            Self::BasicGetOk { .. } => (60, 71),
            Self::BasicGetEmpty => (60, 72),
            Self::BasicAck { .. } => (60, 80),
            Self::BasicRecoverOk => (60, 111),
            Self::ConfirmSelectOk => (85, 11),
        }
    }

    fn put_arguments(&self, out: &mut Vec<u8>) {
        match *self {
            Self::ConnectionStart { server_properties } => {
                out.extend_from_slice(&[0, 9]);
                server_properties.write(out);
                put_long_string(out, b"PLAIN AMQPLAIN");
                put_long_string(out, b"en_US");
            }
            Self::ConnectionTune { channel_max, frame_max, heartbeat } => {
                out.extend_from_slice(&channel_max.to_be_bytes());
                out.extend_from_slice(&frame_max.to_be_bytes());
                out.extend_from_slice(&heartbeat.to_be_bytes());
            }
            Self::ConnectionClose { code, text, failed } | Self::ChannelClose { code, text, failed } => {
                out.extend_from_slice(&code.to_be_bytes());
                put_short_string(out, text);
                out.extend_from_slice(&failed.0.to_be_bytes());
                out.extend_from_slice(&failed.1.to_be_bytes());
            }
            Self::ConnectionBlocked { reason } => put_short_string(out, reason),
            Self::ConnectionOpenOk | Self::BasicGetEmpty => out.push(0), // reserved short string
            Self::ChannelOpenOk => put_long_string(out, b""),            // reserved
            Self::ChannelFlowOk { active } => out.push(u8::from(active)),
            Self::QueueDeclareOk { queue, messages, consumers } => {
                put_short_string(out, queue);
                out.extend_from_slice(&messages.to_be_bytes());
                out.extend_from_slice(&consumers.to_be_bytes());
            }
            Self::QueuePurgeOk { messages } | Self::QueueDeleteOk { messages } => {
                out.extend_from_slice(&messages.to_be_bytes());
            }
            Self::BasicConsumeOk { consumer_tag } | Self::BasicCancelOk { consumer_tag } => {
                put_short_string(out, consumer_tag);
            }
            Self::BasicCancel { consumer_tag } => {
                put_short_string(out, consumer_tag);
                out.push(1); // no-wait: nothing is expected in return
            }
            Self::BasicReturn { code, text, exchange, routing_key } => {
                out.extend_from_slice(&code.to_be_bytes());
                put_short_string(out, text);
                put_short_string(out, exchange);
                put_short_string(out, routing_key);
            }
            Self::BasicDeliver { consumer_tag, tag, redelivered, exchange, routing_key } => {
                put_short_string(out, consumer_tag);
                out.extend_from_slice(&tag.to_be_bytes());
                out.push(u8::from(redelivered));
                put_short_bytes(out, exchange);
                put_short_bytes(out, routing_key);
            }
            Self::BasicGetOk { tag, redelivered, exchange, routing_key, messages } => {
                out.extend_from_slice(&tag.to_be_bytes());
                out.push(u8::from(redelivered));
                put_short_bytes(out, exchange);
                put_short_bytes(out, routing_key);
                out.extend_from_slice(&messages.to_be_bytes());
            }
            Self::BasicAck { tag, multiple } => {
                out.extend_from_slice(&tag.to_be_bytes());
                out.push(u8::from(multiple));
            }
            Self::ConnectionCloseOk
            | Self::ConnectionUnblocked
            | Self::ConnectionUpdateSecretOk
            | Self::ChannelCloseOk
            | Self::ExchangeDeclareOk
            | Self::ExchangeDeleteOk
            | Self::QueueBindOk
            | Self::QueueUnbindOk
            | Self::BasicQosOk
            | Self::BasicRecoverOk
            | Self::ConfirmSelectOk => {}
        }
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
