//! Why messages die, and the obituary of one: the headers that tell a dead letter's reader where it died and why, and
//! whether it goes in circles. As RabbitMQ writes them. No I/O.

use crate::codec::properties::{self, Properties};
use crate::codec::raw_table::{PutField, RawTable, RawValue};
use crate::codec::wire::{Malformed, Put};
use crate::log::record::Message;
use crate::log::stored_message::StoredMessage;
use crate::queues::backlog::Paged;

const DEATHS: &str = "x-death";
const FIRST: [&str; 3] = ["x-first-death-exchange", "x-first-death-queue", "x-first-death-reason"];

/// Why a message died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Expired,
    Rejected,
    /// The queue was full.
    MaxLength,
    /// It came back too often.
    DeliveryLimit,
}

impl Reason {
    /// RabbitMQ's name for it, in the header x-death.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Rejected => "rejected",
            Self::MaxLength => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

/// A message on its way to be a dead letter. Its queue holds it until it is settled.
#[derive(Debug)]
pub(crate) struct Dead {
    pub(crate) entry: StoredMessage,
    /// Its record, if it was read already.
    pub(crate) page: Option<Paged>,
    pub(crate) reason: Reason,
}

/// One death of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Death<'a> {
    pub(super) reason: Reason,
    pub(super) queue: &'a str,
    /// Seconds since 1970.
    pub(super) time: u64,
    /// The letter gets a routing key of its own, so that copies that were asked for by header are not made again.
    pub(super) drops_copies: bool,
}

/// The routing keys of a message: the publisher's, then those of the header CC.
pub(super) fn routing_keys<'a>(message: &Message<'a>) -> Vec<&'a [u8]> {
    let headers = Properties::read(message.properties).map(|read| read.headers).unwrap_or_default();
    let copies = headers.get("CC").and_then(RawValue::members).unwrap_or_default();
    let copies = copies.into_iter().filter_map(RawValue::text);
    std::iter::once(message.routing_key).chain(copies).collect()
}

/// The properties of the dead letter that `message` becomes.
pub(super) fn properties(message: &Message<'_>, death: &Death<'_>) -> Result<Vec<u8>, Malformed> {
    let read = Properties::read(message.properties)?;
    let known = read.headers.get(DEATHS);
    let mut headers = Vec::new();
    for (name, value) in read.headers.fields() {
        let dropped = name == DEATHS
            || (known.is_none() && FIRST.contains(&name))
            || (death.drops_copies && name == "CC");
        if !dropped {
            headers.put_name(name).put(value.bytes());
        }
    }
    headers.put_name(DEATHS).put_array_value(|out| put_deaths(out, known, message, death, read.expiration));
    if known.is_none() {
        let values = [message.exchange, death.queue.as_bytes(), death.reason.name().as_bytes()];
        for (name, value) in FIRST.iter().zip(values) {
            headers.put_name(name).put_text_value(value);
        }
    }
    properties::with_headers(message.properties, &headers, false)
}

/// The deaths so far with this one in front; it is counted if the message died in this queue for this reason before.
fn put_deaths(
    out: &mut Vec<u8>,
    known: Option<RawValue<'_>>,
    message: &Message<'_>,
    death: &Death<'_>,
    expiration: Option<&str>,
) {
    let deaths = known.and_then(RawValue::members).unwrap_or_default();
    let text = |value: RawValue<'_>, name: &str, wanted: &[u8]| {
        value.table().and_then(|table| table.get(name)).and_then(RawValue::text) == Some(wanted)
    };
    let is_same = |value: &RawValue<'_>| {
        text(*value, "queue", death.queue.as_bytes())
            && text(*value, "reason", death.reason.name().as_bytes())
    };
    let same = deaths.iter().find(|value| is_same(value)).and_then(|value| value.table());
    out.put_table_value(|out| match same {
        Some(table) => put_again(out, table),
        None => put_first(out, message, death, expiration),
    });
    for other in deaths.iter().filter(|value| !is_same(value)) {
        out.put(other.bytes());
    }
}

/// The fields of a death that happened before, with its count increased.
fn put_again(out: &mut Vec<u8>, table: RawTable<'_>) {
    let count = table.get("count").and_then(RawValue::integer).unwrap_or(1);
    out.put_name("count").put_long_value(count.saturating_add(1));
    for (name, value) in table.fields().filter(|(name, _)| *name != "count") {
        out.put_name(name).put(value.bytes());
    }
}

fn put_first(out: &mut Vec<u8>, message: &Message<'_>, death: &Death<'_>, expiration: Option<&str>) {
    out.put_name("count").put_long_value(1);
    out.put_name("reason").put_text_value(death.reason.name().as_bytes());
    out.put_name("queue").put_text_value(death.queue.as_bytes());
    out.put_name("time").put_timestamp_value(death.time);
    out.put_name("exchange").put_text_value(message.exchange);
    out.put_name("routing-keys").put_array_value(|out| {
        for key in routing_keys(message) {
            out.put_text_value(key);
        }
    });
    if let Some(expiration) = expiration {
        out.put_name("original-expiration").put_text_value(expiration.as_bytes());
    }
}

/// Whether a message with these properties was in `queue` before, and nobody rejected it since: it would go in circles
/// for ever.
pub(super) fn is_cycle(properties: &[u8], queue: &str) -> bool {
    let headers = Properties::read(properties).map(|read| read.headers).unwrap_or_default();
    let deaths = headers.get(DEATHS).and_then(RawValue::members).unwrap_or_default();
    let field = |value: RawValue<'_>, name: &str, wanted: &str| {
        let found = value.table().and_then(|table| table.get(name)).and_then(RawValue::text);
        found == Some(wanted.as_bytes())
    };
    let Some(last) = deaths.iter().position(|value| field(*value, "queue", queue)) else { return false };
    !deaths[..=last].iter().any(|value| field(*value, "reason", Reason::Rejected.name()))
}

/// The properties of a delivery from a queue that counts how often messages come back.
pub(crate) fn with_delivery_count(properties: &[u8], count: u32) -> Result<Vec<u8>, Malformed> {
    const NAME: &str = "x-delivery-count";
    let mut headers = Vec::new();
    for (name, value) in Properties::read(properties)?.headers.fields().filter(|(name, _)| *name != NAME) {
        headers.put_name(name).put(value.bytes());
    }
    headers.put_name(NAME).put_long_value(count.into());
    properties::with_headers(properties, &headers, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(properties: &[u8]) -> Message<'_> {
        Message { exchange: b"ex", routing_key: b"key", properties, body: b"" }
    }

    fn death(reason: Reason, queue: &str) -> Death<'_> {
        Death { reason, queue, time: 1000, drops_copies: false }
    }

    fn deaths(properties: &[u8]) -> Vec<(String, String, i64)> {
        let headers = Properties::read(properties).unwrap().headers;
        let members = headers.get(DEATHS).and_then(RawValue::members).unwrap();
        let tables = members.into_iter().map(|member| member.table().unwrap());
        let text = |table: RawTable<'_>, name: &str| table.get(name).unwrap().to_string();
        tables
            .map(|table| {
                let count = table.get("count").and_then(RawValue::integer).unwrap();
                (text(table, "queue"), text(table, "reason"), count)
            })
            .collect()
    }

    #[test]
    fn deaths_are_listed_newest_first_and_counted_by_queue_and_reason() {
        // Headers h=true, expiration 10.
        let bytes = b"\x21\0\0\0\0\x04\x01ht\x01\x0210";
        let one = properties(&message(bytes), &death(Reason::Expired, "q")).unwrap();
        let read = Properties::read(&one).unwrap();
        assert_eq!(read.expiration, None, "the letter does not expire");
        assert_eq!(read.headers.get("h").and_then(RawValue::boolean), Some(true));
        for (name, value) in FIRST.iter().zip(["ex", "q", "expired"]) {
            assert_eq!(read.headers.get(name).unwrap().to_string(), value);
        }
        let first = read.headers.get(DEATHS).and_then(RawValue::members).unwrap()[0].table().unwrap();
        assert_eq!(first.get("original-expiration").unwrap().to_string(), "10");
        let keys = first.get("routing-keys").and_then(RawValue::members).unwrap();
        assert_eq!(keys.iter().map(ToString::to_string).collect::<Vec<_>>(), ["key"]);
        let two = properties(&message(&one), &death(Reason::Rejected, "r")).unwrap();
        let three = properties(&message(&two), &death(Reason::Expired, "q")).unwrap();
        let expected =
            [("q".to_owned(), "expired".to_owned(), 2), ("r".to_owned(), "rejected".to_owned(), 1)];
        assert_eq!(deaths(&three), expected);
        let headers = Properties::read(&three).unwrap().headers;
        assert_eq!(headers.get(FIRST[2]).unwrap().to_string(), "expired");
        assert_eq!(headers.fields().filter(|(name, _)| *name == FIRST[0]).count(), 1);
    }

    #[test]
    fn only_circles_that_nobody_broke_are_circles() {
        let one = properties(&message(b"\0\0"), &death(Reason::Expired, "a")).unwrap();
        let two = properties(&message(&one), &death(Reason::MaxLength, "b")).unwrap();
        assert!(is_cycle(&two, "a") && is_cycle(&two, "b") && !is_cycle(&two, "c"));
        let rejected = properties(&message(&one), &death(Reason::Rejected, "b")).unwrap();
        assert!(!is_cycle(&rejected, "a") && !is_cycle(&rejected, "b"));
        assert!(!is_cycle(b"\0\0", "a"));
    }

    #[test]
    fn a_header_that_is_no_list_of_deaths_is_replaced() {
        let mut headers = Vec::new();
        headers.put_name(DEATHS).put_text_value(b"text").put_name("CC").put_array_value(|out| {
            out.put_text_value(b"copy");
        });
        let bytes = properties::with_headers(b"\0\0", &headers, true).unwrap();
        assert_eq!(routing_keys(&message(&bytes)), [&b"key"[..], b"copy"]);
        let alone = Death { drops_copies: true, ..death(Reason::Rejected, "q") };
        let letter = properties(&message(&bytes), &alone).unwrap();
        assert_eq!(deaths(&letter), [("q".to_owned(), "rejected".to_owned(), 1)]);
        let headers = Properties::read(&letter).unwrap().headers;
        assert!(headers.get("CC").is_none() && headers.get(FIRST[0]).is_none());
    }

    #[test]
    fn the_delivery_count_is_one_header_more() {
        let one = with_delivery_count(b"\x10\0\x02", 0).unwrap();
        let two = with_delivery_count(&one, 3).unwrap();
        let read = Properties::read(&two).unwrap();
        assert_eq!(read.headers.get("x-delivery-count").and_then(RawValue::integer), Some(3));
        assert_eq!((read.headers.fields().count(), read.persistent), (1, true));
    }

    proptest! {
        #[test]
        fn whatever_a_client_wrote_becomes_a_letter_that_can_be_read(
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let one = properties(&message(b"\0\0"), &death(Reason::Expired, "q")).unwrap();
            let mut bytes = properties(&message(&one), &death(Reason::Rejected, "r")).unwrap();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if Properties::read(&bytes).is_ok() {
                let letter = properties(&message(&bytes), &death(Reason::Expired, "q")).unwrap();
                let read = Properties::read(&letter).unwrap();
                prop_assert!(read.headers.get(DEATHS).and_then(RawValue::members).is_some());
                prop_assert!(is_cycle(&letter, "q"));
                prop_assert!(Properties::read(&with_delivery_count(&letter, 1).unwrap()).is_ok());
            }
        }
    }
}
