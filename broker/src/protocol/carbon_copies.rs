//! The headers CC and BCC, RabbitMQ's extension: arrays of further routing keys for a message. BCC is taken out of the
//! message before anybody sees it.

use crate::codec::properties::{Properties, with_headers};
use crate::codec::raw_table::{RawTable, RawValue};
use crate::codec::wire::Put;
use crate::protocol::fault::{Fault, Outcome, PRECONDITION_FAILED};

/// The further routing keys that `headers` name. Fails with 406 if CC or BCC is no array; its members that are no texts
/// are passed over, as RabbitMQ does.
pub(crate) fn routing_keys(headers: RawTable<'_>) -> Outcome<Vec<String>> {
    let mut keys = Vec::new();
    if !may_have_copies(headers) {
        return Ok(keys);
    }
    for (name, value) in headers.fields().filter(|(name, _)| matches!(*name, "CC" | "BCC")) {
        let Some(members) = value.members() else {
            let text = format!("invalid message: header {name} is not an array");
            return Fault::channel(PRECONDITION_FAILED, text);
        };
        // A key that is longer than a short string, or no UTF-8, is that of no binding.
        let texts = members.into_iter().filter_map(RawValue::text).filter(|key| key.len() <= 255);
        keys.extend(texts.filter_map(|key| std::str::from_utf8(key).ok()).map(str::to_owned));
    }
    Ok(keys)
}

/// Appends a message's properties without the header BCC. `bytes` are the properties as they came.
pub(crate) fn put_without_bcc(out: &mut Vec<u8>, bytes: &[u8], properties: &Properties<'_>) {
    let headers = properties.headers;
    if may_have_copies(headers) && headers.get("BCC").is_some() {
        let mut visible = Vec::with_capacity(headers.bytes().len());
        for (name, value) in headers.fields().filter(|(name, _)| *name != "BCC") {
            visible.put_short_string(name).put(value.bytes());
        }
        if let Ok(stripped) = with_headers(bytes, &visible, true) {
            out.extend_from_slice(&stripped);
            return;
        }
    }
    out.extend_from_slice(bytes);
}

/// False for nearly every message, without its headers being taken apart.
fn may_have_copies(headers: RawTable<'_>) -> bool {
    headers.bytes().windows(2).any(|pair| pair == b"CC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_and_bcc_is_taken_out() {
        let mut bytes = b"\xb0\0\x04text".to_vec();
        bytes.put_counted(|out| {
            out.put(b"\x02CCA\0\0\0\x0eS\0\0\0\x01at\x01S\0\0\0\x01b");
            out.put(b"\x03BCCA\0\0\0\x06S\0\0\0\x01c\x01kV");
        });
        bytes.push(2);
        let properties = Properties::read(&bytes).unwrap();
        assert_eq!(routing_keys(properties.headers).unwrap(), ["a", "b", "c"]);
        let mut out = Vec::new();
        put_without_bcc(&mut out, &bytes, &properties);
        let stripped = Properties::read(&out).unwrap();
        assert_eq!(stripped.headers.bytes(), b"\x02CCA\0\0\0\x0eS\0\0\0\x01at\x01S\0\0\0\x01b\x01kV");
        assert!(stripped.persistent && out.starts_with(b"\xb0\0\x04text") && out.ends_with(b"\x02"));
        let mut again = Vec::new();
        put_without_bcc(&mut again, &out, &stripped);
        assert_eq!(again, out);
    }

    #[test]
    fn what_is_no_array_is_refused_by_name() {
        let fault = routing_keys(RawTable::new(b"\x02CCS\0\0\0\x01a").unwrap()).unwrap_err().to_string();
        assert!(fault.contains("406") && fault.contains("header CC"), "{fault}");
        assert!(routing_keys(RawTable::new(b"\x02ccS\0\0\0\x01a").unwrap()).unwrap().is_empty());
    }
}
