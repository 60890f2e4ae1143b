//! The methods that a client may send (AMQP 0-9-1 §1.8 and RabbitMQ's extensions), decoded from a method frame.

use super::raw_table::RawTable;
use super::table::Table;
use super::wire::{Malformed, Reader};

/// A client's method. Texts are borrowed from the frame. `BasicReject` is basic.nack or basic.reject: that is a nack of
/// a single delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Method<'a> {
    ConnectionStartOk { client_properties: Table, mechanism: &'a str, response: &'a [u8] },
    ConnectionTuneOk { channel_max: u16, frame_max: u32, heartbeat: u16 },
    ConnectionOpen { vhost: &'a str },
    ConnectionClose { code: u16, text: &'a str },
    ConnectionCloseOk,
    ConnectionUpdateSecret,
    ChannelOpen,
    ChannelFlow { active: bool },
    ChannelFlowOk,
    ChannelClose { code: u16, text: &'a str },
    ChannelCloseOk,
    ExchangeDeclare(ExchangeDeclare<'a>),
    ExchangeDelete { exchange: &'a str, if_unused: bool, no_wait: bool },
    ExchangeBind(ExchangeBinding<'a>),
    ExchangeUnbind(ExchangeBinding<'a>),
    QueueDeclare(QueueDeclare<'a>),
    QueueBind(Binding<'a>),
    QueueUnbind(Binding<'a>),
    QueuePurge { queue: &'a str, no_wait: bool },
    QueueDelete { queue: &'a str, if_unused: bool, if_empty: bool, no_wait: bool },
    BasicQos { prefetch_size: u32, prefetch_count: u16, global: bool },
    BasicConsume(Consume<'a>),
    BasicCancel { consumer_tag: &'a str, no_wait: bool },
    BasicCancelOk,
    BasicPublish { exchange: &'a str, routing_key: &'a str, mandatory: bool, immediate: bool },
    BasicGet { queue: &'a str, no_ack: bool },
    BasicAck { delivery_tag: u64, multiple: bool },
    BasicReject { delivery_tag: u64, multiple: bool, requeue: bool },
    BasicRecover { requeue: bool, is_async: bool },
    ConfirmSelect { no_wait: bool },
    TxSelect,
    TxCommit,
    TxRollback,
}

/// exchange.declare.
#[expect(clippy::struct_excessive_bools, reason = "they are the bits of the method")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExchangeDeclare<'a> {
    pub(crate) exchange: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) passive: bool,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) internal: bool,
    pub(crate) no_wait: bool,
    pub(crate) arguments: Table,
}

/// queue.declare.
#[expect(clippy::struct_excessive_bools, reason = "they are the bits of the method")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueueDeclare<'a> {
    pub(crate) queue: &'a str,
    pub(crate) passive: bool,
    pub(crate) durable: bool,
    pub(crate) exclusive: bool,
    pub(crate) auto_delete: bool,
    pub(crate) no_wait: bool,
    pub(crate) arguments: RawTable<'a>,
}

/// What queue.bind and queue.unbind name; the latter is always answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binding<'a> {
    pub(crate) queue: &'a str,
    pub(crate) exchange: &'a str,
    pub(crate) routing_key: &'a str,
    pub(crate) no_wait: bool,
    pub(crate) arguments: RawTable<'a>,
}

/// What RabbitMQ's exchange.bind and exchange.unbind name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExchangeBinding<'a> {
    pub(crate) destination: &'a str,
    pub(crate) source: &'a str,
    pub(crate) routing_key: &'a str,
    pub(crate) no_wait: bool,
    pub(crate) arguments: RawTable<'a>,
}

/// basic.consume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Consume<'a> {
    pub(crate) queue: &'a str,
    pub(crate) consumer_tag: &'a str,
    pub(crate) no_ack: bool,
    pub(crate) exclusive: bool,
    pub(crate) no_wait: bool,
    pub(crate) arguments: RawTable<'a>,
}

/// Class and method number of a method frame; zeros when it is too short to have them.
pub(crate) fn ids(payload: &[u8]) -> (u16, u16) {
    let mut reader = Reader::new(payload);
    (reader.u16().unwrap_or(0), reader.u16().unwrap_or(0))
}

/// Whether only the broker sends this method.
pub(crate) fn is_brokers(ids: (u16, u16)) -> bool {
    match ids.0 {
        10 => matches!(ids.1, 10 | 20 | 30 | 41 | 60 | 61 | 71),
        20 | 85 => ids.1 == 11,
        40 => matches!(ids.1, 11 | 21 | 31 | 51),
        50 => matches!(ids.1, 11 | 21 | 31 | 41 | 51),
        60 => matches!(ids.1, 11 | 21 | 50 | 60 | 71 | 72 | 111),
        90 => matches!(ids.1, 11 | 21 | 31),
        _ => false,
    }
}

type Decoded<'a> = Result<Option<Method<'a>>, Malformed>;

/// Decodes the payload of a method frame; None if the method is out of this broker's scope or not known at all. Bytes
/// after the last argument are an error like missing ones.
pub(crate) fn decode(payload: &[u8]) -> Decoded<'_> {
    let mut reader = Reader::new(payload);
    let ids = (reader.u16()?, reader.u16()?);
    let decoded = match ids.0 {
        10 | 20 => connection_or_channel(ids, &mut reader)?,
        40 | 50 => exchange_or_queue(ids, &mut reader)?,
        60 | 85 | 90 => basic_confirm_or_tx(ids, &mut reader)?,
        _ => None,
    };
    if decoded.is_some() && !reader.is_empty() { Err(Malformed) } else { Ok(decoded) }
}

/// The bit fields of a method, which share one octet, lowest bit first.
fn bits(reader: &mut Reader<'_>) -> Result<[bool; 5], Malformed> {
    let octet = reader.u8()?;
    Ok(std::array::from_fn(|bit| octet & (1 << bit) != 0))
}

fn connection_or_channel<'a>(ids: (u16, u16), reader: &mut Reader<'a>) -> Decoded<'a> {
    Ok(Some(match ids {
        (10, 11) => {
            let client_properties = Table::read(reader)?;
            let (mechanism, response) = (reader.short_string()?, reader.long_string()?);
            reader.short_string()?; // locale
            Method::ConnectionStartOk { client_properties, mechanism, response }
        }
        (10, 31) => {
            let (channel_max, frame_max) = (reader.u16()?, reader.u32()?);
            Method::ConnectionTuneOk { channel_max, frame_max, heartbeat: reader.u16()? }
        }
        (10, 40) => {
            let vhost = reader.short_string()?;
            reader.short_string()?; // reserved
            reader.u8()?; // reserved
            Method::ConnectionOpen { vhost }
        }
        (10, 50) | (20, 40) => {
            let (code, text) = (reader.u16()?, reader.short_string()?);
            reader.u32()?; // class and method that failed
            if ids.0 == 10 {
                Method::ConnectionClose { code, text }
            } else {
                Method::ChannelClose { code, text }
            }
        }
        (10, 51) => Method::ConnectionCloseOk,
        (10, 70) => {
            reader.long_string()?; // secret
            reader.short_string()?; // reason
            Method::ConnectionUpdateSecret
        }
        (20, 10) => {
            reader.short_string()?; // reserved
            Method::ChannelOpen
        }
        (20, 20) => Method::ChannelFlow { active: bits(reader)?[0] },
        (20, 21) => {
            bits(reader)?;
            Method::ChannelFlowOk
        }
        (20, 41) => Method::ChannelCloseOk,
        _ => return Ok(None),
    }))
}

fn exchange_or_queue<'a>(ids: (u16, u16), reader: &mut Reader<'a>) -> Decoded<'a> {
    if !matches!(ids, (40, 10 | 20 | 30 | 40) | (50, 10 | 20 | 30 | 40 | 50)) {
        return Ok(None);
    }
    reader.u16()?; // reserved
    // All of them begin with the name of the exchange or queue.
    let name = reader.short_string()?;
    Ok(Some(match ids {
        (40, 10) => {
            let (exchange, kind) = (name, reader.short_string()?);
            let [passive, durable, auto_delete, internal, no_wait] = bits(reader)?;
            let arguments = Table::read(reader)?;
            let declare = ExchangeDeclare {
                exchange,
                kind,
                passive,
                durable,
                auto_delete,
                internal,
                no_wait,
                arguments,
            };
            Method::ExchangeDeclare(declare)
        }
        (40, method @ (30 | 40)) => {
            let (source, routing_key) = (reader.short_string()?, reader.short_string()?);
            let no_wait = bits(reader)?[0];
            let arguments = RawTable::read(reader)?;
            let binding = ExchangeBinding { destination: name, source, routing_key, no_wait, arguments };
            if method == 30 { Method::ExchangeBind(binding) } else { Method::ExchangeUnbind(binding) }
        }
        (40, _) => {
            let [if_unused, no_wait, ..] = bits(reader)?;
            Method::ExchangeDelete { exchange: name, if_unused, no_wait }
        }
        (_, 10) => {
            let queue = name;
            let [passive, durable, exclusive, auto_delete, no_wait] = bits(reader)?;
            let arguments = RawTable::read(reader)?;
            let declare =
                QueueDeclare { queue, passive, durable, exclusive, auto_delete, no_wait, arguments };
            Method::QueueDeclare(declare)
        }
        (_, 30) => Method::QueuePurge { queue: name, no_wait: bits(reader)?[0] },
        (_, 40) => {
            let [if_unused, if_empty, no_wait, ..] = bits(reader)?;
            Method::QueueDelete { queue: name, if_unused, if_empty, no_wait }
        }
        (_, method) => {
            let (exchange, routing_key) = (reader.short_string()?, reader.short_string()?);
            let no_wait = method == 20 && bits(reader)?[0];
            let arguments = RawTable::read(reader)?;
            let binding = Binding { queue: name, exchange, routing_key, no_wait, arguments };
            if method == 20 { Method::QueueBind(binding) } else { Method::QueueUnbind(binding) }
        }
    }))
}

fn basic_confirm_or_tx<'a>(ids: (u16, u16), reader: &mut Reader<'a>) -> Decoded<'a> {
    if matches!(ids, (60, 20 | 40 | 70)) {
        reader.u16()?; // reserved
    }
    Ok(Some(match ids {
        (60, 10) => {
            let (prefetch_size, prefetch_count) = (reader.u32()?, reader.u16()?);
            Method::BasicQos { prefetch_size, prefetch_count, global: bits(reader)?[0] }
        }
        (60, 20) => {
            let (queue, consumer_tag) = (reader.short_string()?, reader.short_string()?);
            let [_no_local, no_ack, exclusive, no_wait, _] = bits(reader)?;
            let arguments = RawTable::read(reader)?;
            Method::BasicConsume(Consume { queue, consumer_tag, no_ack, exclusive, no_wait, arguments })
        }
        (60, 30) => Method::BasicCancel { consumer_tag: reader.short_string()?, no_wait: bits(reader)?[0] },
        (60, 31) => {
            reader.short_string()?; // consumer tag
            Method::BasicCancelOk
        }
        (60, 40) => {
            let (exchange, routing_key) = (reader.short_string()?, reader.short_string()?);
            let [mandatory, immediate, ..] = bits(reader)?;
            Method::BasicPublish { exchange, routing_key, mandatory, immediate }
        }
        (60, 70) => Method::BasicGet { queue: reader.short_string()?, no_ack: bits(reader)?[0] },
        (60, 80 | 90 | 120) => {
            let (delivery_tag, [first, second, ..]) = (reader.u64()?, bits(reader)?);
            match ids.1 {
                80 => Method::BasicAck { delivery_tag, multiple: first },
                90 => Method::BasicReject { delivery_tag, multiple: false, requeue: first },
                _ => Method::BasicReject { delivery_tag, multiple: first, requeue: second },
            }
        }
        (60, method @ (100 | 110)) => {
            Method::BasicRecover { requeue: bits(reader)?[0], is_async: method == 100 }
        }
        (85, 10) => Method::ConfirmSelect { no_wait: bits(reader)?[0] },
        (90, 10) => Method::TxSelect,
        (90, 20) => Method::TxCommit,
        (90, 30) => Method::TxRollback,
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_is_decoded() {
        let payload = b"\0\x3c\0\x28\0\0\x02ex\x03key\x01";
        let expected =
            Method::BasicPublish { exchange: "ex", routing_key: "key", mandatory: true, immediate: false };
        assert_eq!(decode(payload), Ok(Some(expected)));
        assert_eq!(ids(payload), (60, 40));
    }

    #[test]
    fn missing_and_leftover_bytes_are_malformed_and_unknown_methods_unsupported() {
        let payload = b"\0\x3c\0\x50\0\0\0\0\0\0\0\x09\x01";
        for end in 4..payload.len() {
            assert_eq!(decode(&payload[..end]), Err(Malformed), "{end}");
        }
        let ack = Method::BasicAck { delivery_tag: 9, multiple: true };
        assert_eq!(decode(payload), Ok(Some(ack)));
        assert_eq!(decode(b"\0\x3c\0\x50\0\0\0\0\0\0\0\x09\x01\0"), Err(Malformed));
        for unknown in [b"\0\x5a\0\x0b", b"\0\x3c\0\xff", b"\0\x28\0\x32", b"\xff\xff\xff\xff"] {
            assert_eq!(decode(unknown), Ok(None));
        }
    }
}
