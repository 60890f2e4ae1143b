//! Message properties and field tables as JSON, in both directions. The bytes of stored messages were checked when they
//! came; whatever cannot be read all the same is left out.

use serde_json::{Map, Value, json};

use super::request::{ApiError, ApiResult};
use crate::codec::raw_table::RawTable;
use crate::codec::wire::{Malformed, Put, Reader};

/// The properties in the order of their flags (AMQP 0-9-1 §4.2.6.1), from the highest bit on.
const PROPERTIES: [(&str, Encoding); 14] = [
    ("content_type", Encoding::Text),
    ("content_encoding", Encoding::Text),
    ("headers", Encoding::Table),
    ("delivery_mode", Encoding::Octet),
    ("priority", Encoding::Octet),
    ("correlation_id", Encoding::Text),
    ("reply_to", Encoding::Text),
    ("expiration", Encoding::Text),
    ("message_id", Encoding::Text),
    ("timestamp", Encoding::Number),
    ("type", Encoding::Text),
    ("user_id", Encoding::Text),
    ("app_id", Encoding::Text),
    ("cluster_id", Encoding::Text),
];

#[derive(Clone, Copy)]
enum Encoding {
    Text,
    Table,
    Octet,
    Number,
}

/// The bytes of the properties that `fields` names.
pub(super) fn put_properties(fields: &Map<String, Value>) -> ApiResult<Vec<u8>> {
    if let Some(unknown) = fields.keys().find(|name| PROPERTIES.iter().all(|(known, _)| known != name)) {
        return ApiError::bad(format!("unknown_property: {unknown}"));
    }
    let (mut flags, mut list) = (0_u16, Vec::new());
    for (index, (name, encoding)) in PROPERTIES.into_iter().enumerate() {
        let Some(value) = fields.get(name) else { continue };
        flags |= 1 << (15 - index);
        let invalid = || ApiError::BadRequest(format!("the property '{name}' cannot be {value}"));
        match encoding {
            Encoding::Text => {
                let text = value.as_str().filter(|text| text.len() <= 255).ok_or_else(invalid)?;
                list.put_short_string(text);
            }
            Encoding::Table => put_table(&mut list, value.as_object().ok_or_else(invalid)?)?,
            Encoding::Octet => {
                let number = value.as_u64().and_then(|number| u8::try_from(number).ok());
                list.put(&[number.ok_or_else(invalid)?]);
            }
            Encoding::Number => _ = list.put_u64(value.as_u64().ok_or_else(invalid)?),
        }
    }
    let mut bytes = Vec::with_capacity(2 + list.len());
    bytes.put_u16(flags).put(&list);
    Ok(bytes)
}

/// Appends a field table (AMQP 0-9-1 §4.2.5.5).
pub(super) fn put_table(out: &mut Vec<u8>, fields: &Map<String, Value>) -> ApiResult<()> {
    let mut list = Vec::new();
    for (name, value) in fields {
        if name.len() > 255 {
            return ApiError::bad("the name of a field has at most 255 bytes");
        }
        list.put_short_string(name);
        put_value(&mut list, value)?;
    }
    out.put_long_string(&list);
    Ok(())
}

fn put_value(out: &mut Vec<u8>, value: &Value) -> ApiResult<()> {
    match value {
        Value::Null => return ApiError::bad("null_not_allowed"),
        Value::Bool(value) => _ = out.put(b"t").put_bool(*value),
        Value::String(text) => _ = out.put(b"S").put_long_string(text.as_bytes()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => _ = out.put(b"l").put(&number.to_be_bytes()),
            (None, Some(number)) => _ = out.put(b"d").put(&number.to_be_bytes()),
            (None, None) => return ApiError::bad(format!("{number} is out of range")),
        },
        Value::Array(members) => {
            let mut list = Vec::new();
            for member in members {
                put_value(&mut list, member)?;
            }
            out.put(b"A").put_long_string(&list);
        }
        Value::Object(fields) => put_table(out.put(b"F"), fields)?,
    }
    Ok(())
}

/// The properties that `bytes` hold. Without any they are an empty list, as in RabbitMQ.
pub(super) fn properties(bytes: &[u8]) -> Value {
    let mut fields = Map::new();
    let mut reader = Reader::new(bytes);
    let Ok(flags) = reader.u16() else { return json!([]) };
    for (index, (name, encoding)) in PROPERTIES.into_iter().enumerate() {
        if flags & (1 << (15 - index)) == 0 {
            continue;
        }
        let value = match encoding {
            Encoding::Text => reader.short_bytes().map(|text| String::from_utf8_lossy(text).into()),
            Encoding::Table => table(&mut reader),
            Encoding::Octet => reader.u8().map(Value::from),
            Encoding::Number => reader.u64().map(Value::from),
        };
        let Ok(value) = value else { break };
        fields.insert(name.to_owned(), value);
    }
    if fields.is_empty() { json!([]) } else { Value::Object(fields) }
}

/// The fields of a table of arguments.
pub(super) fn arguments(table: RawTable<'_>) -> Value {
    fields(table.bytes()).unwrap_or_else(|_| json!({}))
}

fn table(reader: &mut Reader<'_>) -> Result<Value, Malformed> {
    fields(reader.long_string()?)
}

fn fields(bytes: &[u8]) -> Result<Value, Malformed> {
    let mut list = Reader::new(bytes);
    let mut fields = Map::new();
    while !list.is_empty() {
        let name = list.short_string()?.to_owned();
        fields.insert(name, value(&mut list)?);
    }
    Ok(Value::Object(fields))
}

/// A value of a table. The codec has checked how deep they are nested.
fn value(reader: &mut Reader<'_>) -> Result<Value, Malformed> {
    Ok(match reader.u8()? {
        b't' => (reader.u8()? != 0).into(),
        b'S' | b'x' => String::from_utf8_lossy(reader.long_string()?).into(),
        b'F' => table(reader)?,
        b'A' => {
            let mut list = Reader::new(reader.long_string()?);
            let mut members = Vec::new();
            while !list.is_empty() {
                members.push(value(&mut list)?);
            }
            Value::Array(members)
        }
        b'V' => Value::Null,
        b'b' => i8::from_be_bytes([reader.u8()?]).into(),
        b'B' => reader.u8()?.into(),
        b's' => reader.u16()?.cast_signed().into(),
        b'u' => reader.u16()?.into(),
        b'I' => reader.u32()?.cast_signed().into(),
        b'i' => reader.u32()?.into(),
        b'l' | b'L' => reader.u64()?.cast_signed().into(),
        b'T' => reader.u64()?.into(),
        b'f' => f64::from(f32::from_bits(reader.u32()?)).into(),
        b'd' => f64::from_bits(reader.u64()?).into(),
        b'D' => {
            let (scale, unscaled) = (reader.u8()?, reader.u32()?);
            (f64::from(unscaled) / 10_f64.powi(i32::from(scale))).into()
        }
        _ => return Err(Malformed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::properties::Properties;

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn properties_survive_the_way_there_and_back() {
        let all = json!({ "content_type": "text/plain", "content_encoding": "utf-8", "delivery_mode": 2,
            "headers": { "a": 1, "b": "x", "c": [true, -2.5, { "d": [] }], "big": i64::MIN },
            "priority": 9, "correlation_id": "c", "reply_to": "r", "expiration": "1", "message_id": "m",
            "timestamp": 4_000_000_000_u64, "type": "t", "user_id": "u", "app_id": "ä", "cluster_id": "" });
        let bytes = put_properties(&object(&all)).unwrap();
        let read = Properties::read(&bytes).unwrap();
        assert!(read.persistent && read.user_id == Some("u"));
        assert_eq!(properties(&bytes), all);
        assert_eq!(put_properties(&Map::new()), Ok(vec![0, 0]));
        assert_eq!(properties(&[0, 0]), json!([]));
    }

    #[test]
    fn what_is_no_property_is_refused() {
        for wrong in [
            json!({ "delivery-mode": 2 }),
            json!({ "delivery_mode": 256 }),
            json!({ "priority": "1" }),
            json!({ "message_id": "x".repeat(256) }),
            json!({ "headers": [] }),
            json!({ "headers": { "a": null } }),
            json!({ "timestamp": -1 }),
        ] {
            assert!(put_properties(&object(&wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_type_of_a_table_is_shown() {
        let mut list = Vec::new();
        for (name, bytes) in [
            ("b", &b"b\xff"[..]),
            ("B", b"B\xff"),
            ("s", b"s\xff\xfe"),
            ("u", b"u\xff\xfe"),
            ("I", b"I\xff\xff\xff\xfd"),
            ("i", b"i\xff\xff\xff\xfd"),
            ("l", b"l\xff\xff\xff\xff\xff\xff\xff\xfc"),
            ("T", b"T\0\0\0\0\0\0\0\x05"),
            ("f", b"f\x3f\xc0\0\0"),
            ("d", b"d\x3f\xf8\0\0\0\0\0\0"),
            ("D", b"D\x02\0\0\x01\x2c"),
            ("V", b"V"),
            ("x", b"x\0\0\0\x01z"),
        ] {
            list.put_short_string(name).put(bytes);
        }
        let mut bytes = Vec::new();
        bytes.put_u16(1 << 13).put_long_string(&list);
        let expected = json!({ "b": -1, "B": 255, "s": -2, "u": 65534, "I": -3, "i": 4_294_967_293_u32, "l": -4,
            "T": 5, "f": 1.5, "d": 1.5, "D": 3.0, "V": null, "x": "z" });
        assert_eq!(properties(&bytes)["headers"], expected);
        bytes.truncate(bytes.len() - 1);
        assert_eq!(properties(&bytes), json!([]));
    }
}
