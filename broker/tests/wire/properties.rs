//! Properties and headers of messages, as the tests write and read them.

use std::collections::BTreeMap;

use crate::support::{Args, Fields};

/// A value of a field table, as far as the tests look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Number(i64),
    Time(u64),
    Array(Vec<Value>),
    Table(Headers),
}

pub(crate) type Headers = BTreeMap<String, Value>;

impl Value {
    pub(crate) fn text(&self) -> &str {
        let Self::Text(text) = self else { panic!("{self:?} is no text") };
        text
    }

    pub(crate) fn number(&self) -> i64 {
        let Self::Number(number) = self else { panic!("{self:?} is no number") };
        *number
    }

    fn read(fields: &mut Fields<'_>) -> Self {
        match fields.octet() {
            b'S' => Self::Text(String::from_utf8(long_bytes(fields)).unwrap()),
            b'l' => Self::Number(fields.long_long().cast_signed()),
            b'I' => Self::Number(fields.long().cast_signed().into()),
            b'T' => Self::Time(fields.long_long()),
            b'F' => Self::Table(table(&long_bytes(fields))),
            b'A' => {
                let bytes = long_bytes(fields);
                let (mut fields, mut members) = (Fields(&bytes), Vec::new());
                while !fields.0.is_empty() {
                    members.push(Self::read(&mut fields));
                }
                Self::Array(members)
            }
            other => panic!("a value of type {}", char::from(other)),
        }
    }
}

fn long_bytes(fields: &mut Fields<'_>) -> Vec<u8> {
    let length = fields.long();
    (0..length).map(|_| fields.octet()).collect()
}

fn table(bytes: &[u8]) -> Headers {
    let (mut fields, mut headers) = (Fields(bytes), Headers::new());
    while !fields.0.is_empty() {
        headers.insert(fields.short_string(), Value::read(&mut fields));
    }
    headers
}

/// The headers of a message; none if it has no such property.
pub(crate) fn headers(properties: &[u8]) -> Headers {
    let mut fields = Fields(properties);
    let flags = fields.short();
    for bit in [15, 14] {
        if flags & (1 << bit) != 0 {
            fields.short_string();
        }
    }
    if flags & (1 << 13) == 0 { Headers::new() } else { table(&long_bytes(&mut fields)) }
}

/// What is in x-death: the tables, the newest first.
pub(crate) fn deaths(properties: &[u8]) -> Vec<Headers> {
    let Some(Value::Array(members)) = headers(properties).remove("x-death") else { return Vec::new() };
    let tables = members.into_iter().map(|member| match member {
        Value::Table(table) => table,
        other => panic!("{other:?} in x-death"),
    });
    tables.collect()
}

/// Queue, reason and count of each death, the newest first.
pub(crate) fn obituary(properties: &[u8]) -> Vec<(String, String, i64)> {
    let text = |death: &Headers, name: &str| death[name].text().to_owned();
    let deaths = deaths(properties).into_iter();
    deaths.map(|death| (text(&death, "queue"), text(&death, "reason"), death["count"].number())).collect()
}

/// Properties of a persistent message that lives for so many milliseconds.
pub(crate) fn living(expiration: &str) -> Vec<u8> {
    Args::new().short((1 << 12) | (1 << 8)).octet(2).short_string(expiration).0
}

/// A text as a value of a table.
pub(crate) fn text(text: &str) -> Vec<u8> {
    Args::new().octet(b'S').long_string(text.as_bytes()).0
}

/// A number as a value of a table.
pub(crate) fn number(number: u32) -> Vec<u8> {
    Args::new().octet(b'I').long(number).0
}
