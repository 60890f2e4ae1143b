//! What a client says of itself in its handshake, kept for people who look at its connection.

use std::time::SystemTime;

use crate::codec::table::{Table, Value};

/// Fields of the client's properties that are kept, those of inner tables included.
const MAX_FIELDS: usize = 64;
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
pub(crate) fn outline(properties: &Table) -> Table {
    let mut left = MAX_FIELDS;
    shorten(properties, 1, &mut left)
}

/// Keeps at most `left` fields, and counts them off.
fn shorten(table: &Table, depth: u8, left: &mut usize) -> Table {
    // Collected one by one: `collect` would go on using the memory of all fields.
    let mut kept = Vec::new();
    for (name, value) in &table.0 {
        if *left == 0 {
            break;
        }
        *left -= 1;
        let value = match value {
            Value::Text(text) => Value::Text(text[..text.len().min(MAX_TEXT_BYTES)].to_vec()),
            Value::Bool(value) => Value::Bool(*value),
            Value::Table(inner) if depth > 0 => Value::Table(shorten(inner, depth - 1, left)),
            _ => continue,
        };
        kept.push((name.clone(), value));
    }
    Table(kept)
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
        fields.extend((0..10_000).map(|number| (number.to_string(), Value::Bool(true))));
        let kept = outline(&Table(fields));
        assert_eq!(kept.0.len(), MAX_FIELDS - 2, "two are in the inner table");
        assert!(kept.0.capacity() <= 2 * MAX_FIELDS, "the memory of all fields is given back");
        assert_eq!(kept.get("long"), Some(&text(MAX_TEXT_BYTES)));
        assert_eq!(kept.get("inner"), Some(&Value::Table(Table(vec![("t".to_owned(), text(1))]))));
    }
}
