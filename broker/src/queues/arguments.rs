//! The arguments of a queue: what they ask of it, which values are refused, and when two declarations agree. The texts
//! are RabbitMQ's, so that people find them with a search engine.

use crate::codec::raw_table::{RawTable, RawValue};
use crate::queues::fault::{Fault, NOT_IMPLEMENTED, Outcome, PRECONDITION_FAILED};

/// The longest life of a message or an unused queue, in milliseconds: ten years.
const MAX_LIFE_MS: i64 = 315_360_000_000;

/// What becomes of messages when a queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// The oldest ones are dropped, or dead-lettered.
    #[default]
    DropHead,
    /// New ones are refused: publishers who confirm get a basic.nack.
    RejectPublish,
    /// New ones are refused, and dead-lettered.
    RejectPublishDeadLetter,
}

/// Where dead messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeadLetterTarget {
    pub(crate) exchange: String,
    /// Instead of the keys that the message came with.
    pub(crate) routing_key: Option<String>,
}

/// What a queue's arguments ask of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// As they were declared: the fields of a table.
    pub(super) table: Vec<u8>,
    /// It counts deliveries and keeps every message on disk.
    pub(crate) is_quorum: bool,
    /// The longest life of its messages, in milliseconds.
    pub(crate) message_ttl: Option<u64>,
    /// How long it lives unused, in milliseconds.
    pub(crate) expires: Option<u64>,
    /// The most messages that may wait.
    pub(crate) max_length: Option<u64>,
    /// The most bytes of bodies that may wait.
    pub(crate) max_bytes: Option<u64>,
    pub(crate) overflow: Overflow,
    pub(crate) dead_letters: Option<DeadLetterTarget>,
    /// How often a message may come back before it is dropped or dead-lettered.
    pub(crate) delivery_limit: Option<u64>,
    /// Only the consumer that came first gets messages.
    pub(crate) single_active_consumer: bool,
}

/// Arguments that RabbitMQ 3.10 compares when a queue is declared again. It ignores changes of all others.
const COMPARED: [&str; 20] = [
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-delivery-limit",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-queue-version",
    "x-single-active-consumer",
    "x-queue-type",
    "x-quorum-initial-group-size",
    "x-initial-cluster-size",
    "x-queue-leader-locator",
    "x-queue-master-locator",
];

/// Arguments that only other types of queues know.
const NOT_CLASSIC: [&str; 9] = [
    "x-delivery-limit",
    "x-dead-letter-strategy",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-quorum-initial-group-size",
    "x-initial-cluster-size",
    "x-queue-leader-locator",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
];
const NOT_QUORUM: [&str; 7] = [
    "x-max-priority",
    "x-queue-mode",
    "x-queue-version",
    "x-queue-master-locator",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-initial-cluster-size",
];

/// What is wrong with a value, as RabbitMQ words it.
type Checked<T = ()> = Result<T, String>;

impl Arguments {
    /// Reads the arguments of the queue called `name`. Fails with 406 if a value is not allowed, and with 540 if it asks
    /// for something that RabbitMQ does and this broker does not.
    pub(crate) fn parse(table: RawTable<'_>, name: &str) -> Outcome<Self> {
        let mut arguments = Self { table: table.bytes().to_vec(), ..Self::default() };
        if let Some(kind) = table.get("x-queue-type") {
            arguments.is_quorum = check_type(kind, name)?;
        }
        let (kind, unknown) = if arguments.is_quorum {
            ("rabbit_quorum_queue", &NOT_QUORUM[..])
        } else {
            ("rabbit_classic_queue", &NOT_CLASSIC[..])
        };
        for (argument, value) in table.fields() {
            if unknown.contains(&argument) {
                let text =
                    format!("invalid arg '{argument}' for queue '{name}' in vhost '/' of queue type {kind}");
                return Fault::channel(PRECONDITION_FAILED, text);
            }
            refuse_unsupported(argument, value)?;
            arguments.take(argument, value).or_else(|problem| {
                let text = format!("invalid arg '{argument}' for queue '{name}' in vhost '/': {problem}");
                Fault::channel(PRECONDITION_FAILED, text)
            })?;
        }
        arguments.set_dead_letters(table, name)?;
        Ok(arguments)
    }

    fn take(&mut self, name: &str, value: RawValue<'_>) -> Checked {
        match name {
            "x-message-ttl" => self.message_ttl = Some(life(value)?),
            "x-expires" => {
                self.expires = Some(life(value)?);
                if self.expires == Some(0) {
                    return Err("{value_zero,0}".to_owned());
                }
            }
            "x-max-length" => self.max_length = Some(count(value)?),
            "x-max-length-bytes" => self.max_bytes = Some(count(value)?),
            "x-delivery-limit" => self.delivery_limit = Some(count(value)?),
            "x-overflow" => {
                self.overflow = match text(value)? {
                    b"drop-head" => Overflow::DropHead,
                    b"reject-publish" => Overflow::RejectPublish,
                    b"reject-publish-dlx" => Overflow::RejectPublishDeadLetter,
                    _ => return Err("invalid_overflow".to_owned()),
                };
            }
            "x-single-active-consumer" => {
                self.single_active_consumer = value.boolean().ok_or_else(|| unacceptable(value))?;
            }
            // Every queue keeps its messages on disk, which is what lazy asks for and default allows; the rest is about
            // memory, storage and the other members of a cluster.
            "x-queue-mode" => one_of(value, "mode", &["default", "lazy"])?,
            "x-queue-version" => match integer(value)? {
                1 | 2 => {}
                other => return Err(format!("\"unsupported queue version '{other}'\"")),
            },
            "x-max-in-memory-length" | "x-max-in-memory-bytes" | "x-quorum-initial-group-size" => {
                count(value)?;
            }
            "x-queue-leader-locator" | "x-queue-master-locator" => {
                text(value)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn set_dead_letters(&mut self, table: RawTable<'_>, name: &str) -> Outcome {
        let refuse = |argument: &str, problem: String| {
            let text = format!("invalid arg '{argument}' for queue '{name}' in vhost '/': {problem}");
            Fault::channel(PRECONDITION_FAILED, text)
        };
        let key = table.get("x-dead-letter-routing-key");
        let Some(exchange) = table.get("x-dead-letter-exchange") else {
            return match key {
                None => Ok(()),
                Some(_) => refuse("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined".to_owned()),
            };
        };
        let Some(exchange) = short_text(exchange) else {
            let kind = exchange.type_name();
            let text = format!(
                "invalid type '{kind}' for arg 'x-dead-letter-exchange' in queue '{name}' in vhost '/'"
            );
            return Fault::channel(PRECONDITION_FAILED, text);
        };
        let routing_key = match key {
            None => None,
            Some(key) => match short_text(key) {
                Some(key) => Some(key),
                None => return refuse("x-dead-letter-routing-key", unacceptable(key)),
            },
        };
        self.dead_letters = Some(DeadLetterTarget { exchange, routing_key });
        Ok(())
    }

    /// As they were declared.
    pub(crate) fn table(&self) -> RawTable<'_> {
        RawTable::new(&self.table).unwrap_or_default()
    }

    /// Whether the number of waiting messages or their bytes is limited.
    pub(crate) fn has_length_limit(&self) -> bool {
        self.max_length.is_some() || self.max_bytes.is_some()
    }

    /// Whether new messages are refused when the queue is full.
    pub(crate) fn rejects_publishes(&self) -> bool {
        self.has_length_limit() && self.overflow != Overflow::DropHead
    }
}

/// Fails with 406 if `received` does not ask for the same as `current`.
pub(crate) fn check_equivalent(current: RawTable<'_>, received: RawTable<'_>, queue: &str) -> Outcome {
    for name in COMPARED {
        let is_default = |value: &RawValue<'_>| name == "x-queue-type" && value.text() == Some(b"classic");
        let (old, new) = (current.get(name), received.get(name));
        let same = match (old, new) {
            (Some(old), Some(new)) => old.is_equivalent(new),
            (old, new) => old.or(new).is_none_or(|value| is_default(&value)),
        };
        if same {
            continue;
        }
        let show = |value: Option<RawValue<'_>>| match value {
            None => "none".to_owned(),
            Some(value) if old.is_some() && new.is_some() => format!("'{value}'"),
            Some(value) => format!("the value '{value}' of type '{}'", value.type_name()),
        };
        let text = format!(
            "inequivalent arg '{name}' for queue '{queue}' in vhost '/': received {} but current is {}",
            show(new),
            show(old)
        );
        return Fault::channel(PRECONDITION_FAILED, text);
    }
    Ok(())
}

/// Checks the arguments of a consumer of the queue called `queue`. Fails with 540 if they ask for something that RabbitMQ
/// does and this broker does not, and with 406 if they are for another type of queue.
pub(crate) fn check_consumer(arguments: RawTable<'_>, queue: &str) -> Outcome {
    if let Some(priority) = arguments.get("x-priority") {
        return Fault::connection(NOT_IMPLEMENTED, format!("x-priority={priority}"));
    }
    if arguments.get("x-stream-offset").is_some() {
        let text = format!(
            "invalid arg 'x-stream-offset' for queue '{queue}' in vhost '/' of queue type rabbit_classic_queue"
        );
        return Fault::channel(PRECONDITION_FAILED, text);
    }
    Ok(())
}

/// Checks the expiration of a message that is published. Fails with 406 if it is no number of milliseconds.
pub(crate) fn check_expiration(expiration: &str) -> Outcome {
    let digits = expiration.strip_prefix(['+', '-']).unwrap_or(expiration);
    let end = digits.find(|character: char| !character.is_ascii_digit()).unwrap_or(digits.len());
    let problem = match (end, &digits[end..]) {
        (0, _) => "no_integer".to_owned(),
        (_, "") => {
            let number = expiration.trim_start_matches('+').parse().unwrap_or(i64::MAX);
            match check_life(number) {
                Ok(_) => return Ok(()),
                // The number may be too long for any type.
                Err(_) if number == i64::MAX => format!("{{value_too_large,{digits}}}"),
                Err(problem) => problem,
            }
        }
        (_, rest) => format!("{{leftover_string,\"{rest}\"}}"),
    };
    Fault::channel(PRECONDITION_FAILED, format!("invalid expiration '{expiration}': {problem}"))
}

/// Whether the queue type is quorum.
fn check_type(kind: RawValue<'_>, queue: &str) -> Outcome<bool> {
    let problem = match kind.text() {
        Some(b"classic") => return Ok(false),
        Some(b"quorum") => return Ok(true),
        Some(b"stream") => return Fault::connection(NOT_IMPLEMENTED, "x-queue-type=stream"),
        Some(other) => format!("\"unsupported queue type '{}'\"", String::from_utf8_lossy(other)),
        None => unacceptable(kind),
    };
    let text = format!("invalid arg 'x-queue-type' for queue '{queue}' in vhost '/': {problem}");
    Fault::channel(PRECONDITION_FAILED, text)
}

/// Refuses what RabbitMQ would do and this broker does not. To accept it would break a promise silently.
fn refuse_unsupported(name: &str, value: RawValue<'_>) -> Outcome {
    let refused = match name {
        "x-max-priority" | "x-consumer-timeout" => true,
        "x-dead-letter-strategy" => value.text() != Some(b"at-most-once"),
        _ => false,
    };
    if refused { Fault::connection(NOT_IMPLEMENTED, format!("{name}={value}")) } else { Ok(()) }
}

fn unacceptable(value: RawValue<'_>) -> String {
    format!("{{unacceptable_type,{}}}", value.type_name())
}

fn integer(value: RawValue<'_>) -> Checked<i64> {
    value.integer().ok_or_else(|| format!("\"expected integer, got {}\"", value.type_name()))
}

fn count(value: RawValue<'_>) -> Checked<u64> {
    let number = integer(value)?;
    u64::try_from(number).map_err(|_| format!("{{value_negative,{number}}}"))
}

/// Checks a time in milliseconds.
fn check_life(number: i64) -> Checked<u64> {
    match u64::try_from(number) {
        Err(_) => Err(format!("{{value_negative,{number}}}")),
        Ok(_) if number > MAX_LIFE_MS => Err(format!("{{value_too_large,{number}}}")),
        Ok(life) => Ok(life),
    }
}

fn life(value: RawValue<'_>) -> Checked<u64> {
    check_life(integer(value)?)
}

fn text(value: RawValue<'_>) -> Checked<&[u8]> {
    value.text().ok_or_else(|| unacceptable(value))
}

/// A text that is short enough for the name of an exchange or a routing key.
fn short_text(value: RawValue<'_>) -> Option<String> {
    let text = value.text().filter(|text| text.len() <= 255)?;
    String::from_utf8(text.to_vec()).ok()
}

fn one_of(value: RawValue<'_>, what: &str, known: &[&str]) -> Checked {
    let found = text(value)?;
    if known.iter().any(|known| known.as_bytes() == found) {
        return Ok(());
    }
    Err(format!("\"unsupported queue {what} '{}'\"", String::from_utf8_lossy(found)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::raw_table::PutField;
    use crate::codec::wire::Put;

    fn table(fields: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, value) in fields {
            bytes.put_name(name).put(value);
        }
        bytes
    }

    fn parse(fields: &[(&str, &[u8])]) -> Result<Arguments, String> {
        Arguments::parse(RawTable::new(&table(fields)).unwrap(), "q").map_err(|fault| fault.to_string())
    }

    const QUORUM: (&str, &[u8]) = ("x-queue-type", b"S\0\0\0\x06quorum");

    #[test]
    fn values_are_understood() {
        let arguments = parse(&[
            ("x-message-ttl", b"I\0\0\x03\xe8"),
            ("x-expires", b"l\0\0\0\0\0\0\0\x05"),
            ("x-max-length", b"B\x07"),
            ("x-max-length-bytes", b"u\0\x08"),
            ("x-overflow", b"S\0\0\0\x0ereject-publish"),
            ("x-dead-letter-exchange", b"S\0\0\0\0"),
            ("x-dead-letter-routing-key", b"S\0\0\0\x01k"),
            ("x-single-active-consumer", b"t\x01"),
            ("x-anything", b"V"),
        ])
        .unwrap();
        assert_eq!((arguments.message_ttl, arguments.expires), (Some(1000), Some(5)));
        assert_eq!((arguments.max_length, arguments.max_bytes), (Some(7), Some(8)));
        assert!(arguments.rejects_publishes() && arguments.single_active_consumer && !arguments.is_quorum);
        let target = DeadLetterTarget { exchange: String::new(), routing_key: Some("k".to_owned()) };
        assert_eq!(arguments.dead_letters, Some(target));
        let arguments = parse(&[QUORUM, ("x-delivery-limit", b"b\x03")]).unwrap();
        assert_eq!((arguments.is_quorum, arguments.delivery_limit), (true, Some(3)));
    }

    #[test]
    fn what_is_wrong_with_a_value_is_said_as_rabbitmq_says_it() {
        for (name, value, problem) in [
            ("x-message-ttl", &b"I\xff\xff\xff\xff"[..], ": {value_negative,-1}"),
            ("x-message-ttl", b"S\0\0\0\x01a", ": \"expected integer, got longstr\""),
            ("x-message-ttl", b"l\0\0\0\x49\x6c\xeb\xb8\x01", ": {value_too_large,315360000001}"),
            ("x-expires", b"b\0", ": {value_zero,0}"),
            ("x-max-length", b"b\xff", ": {value_negative,-1}"),
            ("x-overflow", b"S\0\0\0\x03foo", ": invalid_overflow"),
            ("x-overflow", b"I\0\0\0\x01", ": {unacceptable_type,signedint}"),
            ("x-dead-letter-routing-key", b"S\0\0\0\x01a", ": routing_key_but_no_dlx_defined"),
            ("x-single-active-consumer", b"S\0\0\0\x01a", ": {unacceptable_type,longstr}"),
            ("x-queue-type", b"S\0\0\0\x03foo", ": \"unsupported queue type 'foo'\""),
            ("x-queue-mode", b"S\0\0\0\x03foo", ": \"unsupported queue mode 'foo'\""),
            ("x-queue-version", b"b\x03", ": \"unsupported queue version '3'\""),
            ("x-delivery-limit", b"b\x03", " of queue type rabbit_classic_queue"),
        ] {
            let found = parse(&[(name, value)]).unwrap_err();
            let wanted =
                format!("406 PRECONDITION_FAILED - invalid arg '{name}' for queue 'q' in vhost '/'{problem}");
            assert_eq!(found, wanted);
        }
        let found = parse(&[("x-dead-letter-exchange", b"b\x01")]).unwrap_err();
        assert!(
            found.contains("invalid type 'byte' for arg 'x-dead-letter-exchange' in queue 'q'"),
            "{found}"
        );
        let found = parse(&[QUORUM, ("x-queue-mode", b"S\0\0\0\x04lazy")]).unwrap_err();
        assert!(found.ends_with("of queue type rabbit_quorum_queue"), "{found}");
    }

    #[test]
    fn promises_that_cannot_be_kept_are_refused_by_name() {
        let strategy = ("x-dead-letter-strategy", &b"S\0\0\0\x0dat-least-once"[..]);
        for (fields, text) in [
            (&[("x-max-priority", &b"b\x05"[..])][..], "x-max-priority=5"),
            (&[("x-queue-type", b"S\0\0\0\x06stream")], "x-queue-type=stream"),
            (&[QUORUM, strategy], "x-dead-letter-strategy=at-least-once"),
        ] {
            assert_eq!(parse(fields).unwrap_err(), format!("540 NOT_IMPLEMENTED - {text}"));
        }
    }

    #[test]
    fn an_expiration_is_a_number_of_milliseconds() {
        for fine in ["0", "10000", "007", "+5", "315360000000"] {
            assert_eq!(check_expiration(fine), Ok(()), "{fine}");
        }
        for (bad, problem) in [
            ("abc", "no_integer"),
            ("", "no_integer"),
            (" 5", "no_integer"),
            ("-1", "{value_negative,-1}"),
            ("1.5", "{leftover_string,\".5\"}"),
            ("5 ", "{leftover_string,\" \"}"),
            ("315360000001", "{value_too_large,315360000001}"),
            ("99999999999999999999", "{value_too_large,99999999999999999999}"),
        ] {
            let wanted = format!("406 PRECONDITION_FAILED - invalid expiration '{bad}': {problem}");
            assert_eq!(check_expiration(bad).unwrap_err().to_string(), wanted);
        }
    }

    #[test]
    fn declarations_agree_on_what_rabbitmq_compares() {
        let check = |old: &[(&str, &[u8])], new: &[(&str, &[u8])]| {
            let (old, new) = (table(old), table(new));
            let outcome = check_equivalent(RawTable::new(&old).unwrap(), RawTable::new(&new).unwrap(), "q");
            outcome.map_err(|fault| fault.to_string().split(": ").last().unwrap().to_owned())
        };
        let ttl = |value: &'static [u8]| [("x-message-ttl", value)];
        assert_eq!(check(&ttl(b"B\x64"), &ttl(b"I\0\0\0\x64")), Ok(()));
        assert_eq!(check(&[("x-foo", b"V")], &[]), Ok(()));
        assert_eq!(check(&[], &[("x-queue-type", b"S\0\0\0\x07classic")]), Ok(()));
        for (old, new, text) in [
            (&ttl(b"B\x64")[..], &ttl(b"B\x65")[..], "received '101' but current is '100'"),
            (&ttl(b"B\x64"), &[], "received none but current is the value '100' of type 'unsignedbyte'"),
            (&[], &[QUORUM], "received the value 'quorum' of type 'longstr' but current is none"),
        ] {
            assert_eq!(check(old, new), Err(text.to_owned()));
        }
    }
}
