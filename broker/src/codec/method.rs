//! The methods that a client may send (AMQP 0-9-1 §1.8 and RabbitMQ's extensions), decoded from a method frame.

use super::table::Table;
use super::wire::{Malformed, Reader};

/// A client's method. Texts are borrowed from the frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Method<'a> {
    Connection(Connection<'a>),
    Channel(Channel<'a>),
    Exchange(Exchange<'a>),
    Queue(Queue<'a>),
    Basic(Basic<'a>),
    ConfirmSelect {
        no_wait: bool,
    },
    /// Known to the protocol or to RabbitMQ, but out of this broker's scope, or not known at all: error 540.
    Unsupported,
}

/// Class 10.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Connection<'a> {
    StartOk { client_properties: Table, mechanism: &'a str, response: &'a [u8] },
    TuneOk { channel_max: u16, frame_max: u32, heartbeat: u16 },
    Open { vhost: &'a str },
    Close { code: u16, text: &'a str },
    CloseOk,
    UpdateSecret { secret: &'a [u8] },
}

/// Class 20.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Channel<'a> {
    Open,
    Flow { active: bool },
    FlowOk,
    Close { code: u16, text: &'a str },
    CloseOk,
}

/// Class 40.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Exchange<'a> {
    Declare(ExchangeDeclare<'a>),
    Delete { exchange: &'a str, if_unused: bool, no_wait: bool },
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

/// Class 50.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Queue<'a> {
    Declare(QueueDeclare<'a>),
    Bind(Binding<'a>, bool),
    Unbind(Binding<'a>),
    Purge { queue: &'a str, no_wait: bool },
    Delete { queue: &'a str, if_unused: bool, if_empty: bool, no_wait: bool },
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
    pub(crate) arguments: Table,
}

/// What queue.bind and queue.unbind name. The boolean beside it in [`Queue::Bind`] is no-wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binding<'a> {
    pub(crate) queue: &'a str,
    pub(crate) exchange: &'a str,
    pub(crate) routing_key: &'a str,
    pub(crate) arguments: Table,
}

/// Class 60.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Basic<'a> {
    Qos {
        prefetch_size: u32,
        prefetch_count: u16,
        global: bool,
    },
    Consume(Consume<'a>),
    Cancel {
        consumer_tag: &'a str,
        no_wait: bool,
    },
    CancelOk,
    Publish {
        exchange: &'a str,
        routing_key: &'a str,
        mandatory: bool,
        immediate: bool,
    },
    Get {
        queue: &'a str,
        no_ack: bool,
    },
    Ack {
        delivery_tag: u64,
        multiple: bool,
    },
    /// basic.reject is a basic.nack of one delivery.
    Nack {
        delivery_tag: u64,
        multiple: bool,
        requeue: bool,
    },
    Recover {
        requeue: bool,
        is_async: bool,
    },
}

/// basic.consume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Consume<'a> {
    pub(crate) queue: &'a str,
    pub(crate) consumer_tag: &'a str,
    pub(crate) no_ack: bool,
    pub(crate) exclusive: bool,
    pub(crate) no_wait: bool,
    pub(crate) arguments: Table,
}

/// Class and method number of a method frame; zeros when it is too short to have them.
pub(crate) fn ids(payload: &[u8]) -> (u16, u16) {
    let mut reader = Reader::new(payload);
    (reader.u16().unwrap_or(0), reader.u16().unwrap_or(0))
}

/// Decodes the payload of a method frame. Bytes after the last argument are an error like missing ones.
pub(crate) fn decode(payload: &[u8]) -> Result<Method<'_>, Malformed> {
    let mut reader = Reader::new(payload);
    let (class, method) = (reader.u16()?, reader.u16()?);
    let decoded = match class {
        10 => connection(method, &mut reader)?.map(Method::Connection),
        20 => channel(method, &mut reader)?.map(Method::Channel),
        40 => exchange(method, &mut reader)?.map(Method::Exchange),
        50 => queue(method, &mut reader)?.map(Method::Queue),
        60 => basic(method, &mut reader)?.map(Method::Basic),
        85 if method == 10 => Some(Method::ConfirmSelect { no_wait: bits(&mut reader)?[0] }),
        _ => None,
    };
    match decoded {
        None => Ok(Method::Unsupported),
        Some(_) if !reader.is_empty() => Err(Malformed),
        Some(method) => Ok(method),
    }
}

/// The bit fields of a method, which share one octet, lowest bit first.
fn bits(reader: &mut Reader<'_>) -> Result<[bool; 5], Malformed> {
    let octet = reader.u8()?;
    Ok(std::array::from_fn(|bit| octet & (1 << bit) != 0))
}

fn connection<'a>(method: u16, reader: &mut Reader<'a>) -> Result<Option<Connection<'a>>, Malformed> {
    Ok(Some(match method {
        11 => {
            let client_properties = Table::read(reader)?;
            let (mechanism, response) = (reader.short_string()?, reader.long_string()?);
            reader.short_string()?; // locale
            Connection::StartOk { client_properties, mechanism, response }
        }
        31 => Connection::TuneOk {
            channel_max: reader.u16()?,
            frame_max: reader.u32()?,
            heartbeat: reader.u16()?,
        },
        40 => {
            let vhost = reader.short_string()?;
            reader.short_string()?; // reserved
            reader.u8()?; // reserved
            Connection::Open { vhost }
        }
        50 => {
            let (code, text) = close_arguments(reader)?;
            Connection::Close { code, text }
        }
        51 => Connection::CloseOk,
        70 => {
            let secret = reader.long_string()?;
            reader.short_string()?; // reason
            Connection::UpdateSecret { secret }
        }
        _ => return Ok(None),
    }))
}

fn close_arguments<'a>(reader: &mut Reader<'a>) -> Result<(u16, &'a str), Malformed> {
    let (code, text) = (reader.u16()?, reader.short_string()?);
    reader.u32()?; // class and method that failed
    Ok((code, text))
}

fn channel<'a>(method: u16, reader: &mut Reader<'a>) -> Result<Option<Channel<'a>>, Malformed> {
    Ok(Some(match method {
        10 => {
            reader.short_string()?; // reserved
            Channel::Open
        }
        20 => Channel::Flow { active: bits(reader)?[0] },
        21 => {
            bits(reader)?;
            Channel::FlowOk
        }
        40 => {
            let (code, text) = close_arguments(reader)?;
            Channel::Close { code, text }
        }
        41 => Channel::CloseOk,
        _ => return Ok(None),
    }))
}

fn exchange<'a>(method: u16, reader: &mut Reader<'a>) -> Result<Option<Exchange<'a>>, Malformed> {
    if !matches!(method, 10 | 20) {
        return Ok(None);
    }
    reader.u16()?; // reserved
    let exchange = reader.short_string()?;
    if method == 20 {
        let [if_unused, no_wait, ..] = bits(reader)?;
        return Ok(Some(Exchange::Delete { exchange, if_unused, no_wait }));
    }
    let kind = reader.short_string()?;
    let [passive, durable, auto_delete, internal, no_wait] = bits(reader)?;
    let arguments = Table::read(reader)?;
    let declare =
        ExchangeDeclare { exchange, kind, passive, durable, auto_delete, internal, no_wait, arguments };
    Ok(Some(Exchange::Declare(declare)))
}

fn queue<'a>(method: u16, reader: &mut Reader<'a>) -> Result<Option<Queue<'a>>, Malformed> {
    if !matches!(method, 10 | 20 | 30 | 40 | 50) {
        return Ok(None);
    }
    reader.u16()?; // reserved
    let queue = reader.short_string()?;
    Ok(Some(match method {
        10 => {
            let [passive, durable, exclusive, auto_delete, no_wait] = bits(reader)?;
            let arguments = Table::read(reader)?;
            Queue::Declare(QueueDeclare {
                queue,
                passive,
                durable,
                exclusive,
                auto_delete,
                no_wait,
                arguments,
            })
        }
        30 => Queue::Purge { queue, no_wait: bits(reader)?[0] },
        40 => {
            let [if_unused, if_empty, no_wait, ..] = bits(reader)?;
            Queue::Delete { queue, if_unused, if_empty, no_wait }
        }
        _ => {
            let (exchange, routing_key) = (reader.short_string()?, reader.short_string()?);
            let no_wait = method == 20 && bits(reader)?[0];
            let binding = Binding { queue, exchange, routing_key, arguments: Table::read(reader)? };
            if method == 20 { Queue::Bind(binding, no_wait) } else { Queue::Unbind(binding) }
        }
    }))
}

fn basic<'a>(method: u16, reader: &mut Reader<'a>) -> Result<Option<Basic<'a>>, Malformed> {
    Ok(Some(match method {
        10 => Basic::Qos {
            prefetch_size: reader.u32()?,
            prefetch_count: reader.u16()?,
            global: bits(reader)?[0],
        },
        20 => {
            reader.u16()?; // reserved
            let (queue, consumer_tag) = (reader.short_string()?, reader.short_string()?);
            let [_no_local, no_ack, exclusive, no_wait, _] = bits(reader)?;
            let arguments = Table::read(reader)?;
            Basic::Consume(Consume { queue, consumer_tag, no_ack, exclusive, no_wait, arguments })
        }
        30 => Basic::Cancel { consumer_tag: reader.short_string()?, no_wait: bits(reader)?[0] },
        31 => {
            reader.short_string()?;
            Basic::CancelOk
        }
        40 => {
            reader.u16()?; // reserved
            let (exchange, routing_key) = (reader.short_string()?, reader.short_string()?);
            let [mandatory, immediate, ..] = bits(reader)?;
            Basic::Publish { exchange, routing_key, mandatory, immediate }
        }
        70 => {
            reader.u16()?; // reserved
            Basic::Get { queue: reader.short_string()?, no_ack: bits(reader)?[0] }
        }
        80 => Basic::Ack { delivery_tag: reader.u64()?, multiple: bits(reader)?[0] },
        90 => Basic::Nack { delivery_tag: reader.u64()?, multiple: false, requeue: bits(reader)?[0] },
        100 | 110 => Basic::Recover { requeue: bits(reader)?[0], is_async: method == 100 },
        120 => {
            let delivery_tag = reader.u64()?;
            let [multiple, requeue, ..] = bits(reader)?;
            Basic::Nack { delivery_tag, multiple, requeue }
        }
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
            Basic::Publish { exchange: "ex", routing_key: "key", mandatory: true, immediate: false };
        assert_eq!(decode(payload), Ok(Method::Basic(expected)));
        assert_eq!(ids(payload), (60, 40));
    }

    #[test]
    fn missing_and_leftover_bytes_are_malformed_and_unknown_methods_unsupported() {
        let payload = b"\0\x3c\0\x50\0\0\0\0\0\0\0\x09\x01";
        for end in 4..payload.len() {
            assert_eq!(decode(&payload[..end]), Err(Malformed), "{end}");
        }
        let ack = Method::Basic(Basic::Ack { delivery_tag: 9, multiple: true });
        assert_eq!(decode(payload), Ok(ack));
        assert_eq!(decode(b"\0\x3c\0\x50\0\0\0\0\0\0\0\x09\x01\0"), Err(Malformed));
        for unknown in [b"\0\x5a\0\x0a", b"\0\x3c\0\xff", b"\0\x28\0\x1e", b"\xff\xff\xff\xff"] {
            assert_eq!(decode(unknown), Ok(Method::Unsupported));
        }
    }
}
