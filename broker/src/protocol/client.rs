//! What a client says of itself in its handshake, kept for people who look at its connection.

use std::time::SystemTime;

use crate::codec::table::{Table, Value};

/// Fields of the client's properties that are kept.
const MAX_FIELDS: usize = 32;
/// Bytes of a text among them that are kept.
const MAX_TEXT_BYTES: usize = 256;

/// An open connection's client.
#[derive(Debug)]
pub(crate) struct ClientFacts {
    pub(crate) user: String,
    /// How it logged in: PLAIN or AMQPLAIN.
    pub(crate) mechanism: &'static str,
    pub(crate) channel_max: u16,
    pub(crate) frame_max: u32,
    pub(crate) heartbeat_s: u16,
    /// Its properties, as far as [`outline`] keeps them.
    pub(crate) properties: Table,
    pub(crate) connected_at: SystemTime,
}

/// The texts and truth values of a client's properties and of the tables directly inside, shortened, so that no
/// client can make the broker remember much.
pub(crate) fn outline(properties: Table) -> Table {
    shorten(properties, 1)
}

fn shorten(table: Table, depth: u8) -> Table {
    let fields = table.0.into_iter().filter_map(|(name, value)| match value {
        Value::Text(mut text) => {
            text.truncate(MAX_TEXT_BYTES);
            text.shrink_to_fit();
            Some((name, Value::Text(text)))
        }
        Value::Bool(value) => Some((name, Value::Bool(value))),
        Value::Table(inner) if depth > 0 => Some((name, Value::Table(shorten(inner, depth - 1)))),
        _ => None,
    });
    Table(fields.take(MAX_FIELDS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_cannot_make_the_broker_remember_much() {
        let text = |length: usize| Value::Text(vec![b'x'; length]);
        let inner =
            Table(vec![("deep".to_owned(), Value::Table(Table::default())), ("t".to_owned(), text(1))]);
        let mut fields = vec![("long".to_owned(), text(10_000)), ("inner".to_owned(), Value::Table(inner))];
        fields.extend((0..100).map(|number| (number.to_string(), Value::Bool(true))));
        let kept = outline(Table(fields));
        assert_eq!(kept.0.len(), MAX_FIELDS);
        assert_eq!(kept.get("long"), Some(&text(MAX_TEXT_BYTES)));
        assert_eq!(kept.get("inner"), Some(&Value::Table(Table(vec![("t".to_owned(), text(1))]))));
    }
}
