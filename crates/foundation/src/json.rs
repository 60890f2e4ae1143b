//! Reads a JSON object from a request or a message, with errors that its sender understands.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Whether a `Content-Type` says JSON: `application/json`, or a type with the suffix `+json` (RFC 6839 §3.1), whatever
/// its parameters.
pub fn is_json(content_type: &[u8]) -> bool {
    let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    let media_type = media_type.trim_ascii().to_ascii_lowercase();
    media_type == b"application/json" || (media_type.contains(&b'/') && media_type.ends_with(b"+json"))
}

/// Reads `bytes` as one JSON object of type `T`. The error's text is fit for the sender.
pub fn parse_object<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "the body is not valid UTF-8".to_owned())?;
    let invalid = |e: serde_json::Error| format!("the body is not valid JSON: {e}");
    if text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
        serde_json::from_str(text).map_err(invalid)
    } else {
        // serde would also read a struct from an array, which no sender means.
        serde_json::from_str::<IgnoredAny>(text).map_err(invalid)?;
        Err("the body must be a JSON object".to_owned())
    }
}

/// Reads a member as it stands, `null` included. By default serde treats `null` like an absent member. For use as
/// `#[serde(borrow, default, deserialize_with = "member")]`.
pub fn member<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The exact value of a number (RFC 8259 §6) in units of 10^-`scale`: with a scale of 2, `1.5e1` is 1500. `None` if it
/// has more decimals or too many digits, or is no number.
pub fn decimal(text: &str, scale: u32) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (mantissa, ""),
    };
    let digits = format!("{whole}{fraction}");
    if whole.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let dropped = i32::try_from(digits.len() - significant.len()).ok()?;
    let power = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?.checked_add(dropped)?;
    let shift = u32::try_from(power.checked_add(i32::try_from(scale).ok()?)?).ok()?;
    let units = significant.parse::<i128>().ok()?.checked_mul(10i128.checked_pow(shift)?)?;
    Some(if negative { -units } else { units })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Point {
        x: i32,
    }

    #[test]
    fn json_is_recognised_by_its_media_type() {
        for json in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.order.v1+json"] {
            assert!(is_json(json.as_bytes()), "{json}");
        }
        for other in ["", "text/plain", "application/jsonx", "text/json", "+json", "application/x; a=+json"] {
            assert!(!is_json(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn an_object_is_read_and_anything_else_is_explained() {
        assert_eq!(parse_object::<Point>(b" {\"x\": 3, \"y\": 4}").unwrap().x, 3);
        assert_eq!(parse_object::<Point>(b"[3]").unwrap_err(), "the body must be a JSON object");
        assert_eq!(parse_object::<Point>(b"\xff").unwrap_err(), "the body is not valid UTF-8");
        assert!(parse_object::<Point>(b"").unwrap_err().starts_with("the body is not valid JSON"));
        assert!(parse_object::<Point>(b"{\"x\":1,\"x\":2}").unwrap_err().contains("duplicate"));
    }
}
