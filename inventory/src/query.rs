//! The query string of a request (RFC 3986 §3.4), read strictly.

/// Decodes percent-encoding (RFC 3986 §2.1) into UTF-8 text without U+0000; in a query, `+` stands for a space as in
/// HTML forms. The error is fit for the client.
pub(crate) fn decode(text: &str, is_query: bool) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => match (rest.next().and_then(hex), rest.next().and_then(hex)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err("a percent sign must be followed by two hexadecimal digits"),
            },
            b'+' if is_query => b' ',
            _ => byte,
        });
    }
    let text = String::from_utf8(bytes).map_err(|_| "the text is not valid UTF-8")?;
    if text.contains('\0') { Err("the text must not contain U+0000") } else { Ok(text) }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Splits a query string into decoded names and values.
pub(crate) fn parameters(query: &str) -> Result<Vec<(String, String)>, &'static str> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name, true)?, decode(value, true)?))
        })
        .collect()
}

/// Encodes text for use as a value in a query string.
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_values_are_decoded() {
        let parsed = parameters("title=a+b%25&&limit=3&flag").unwrap();
        let pairs: Vec<_> = parsed.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("title", "a b%"), ("limit", "3"), ("flag", "")]);
    }

    #[test]
    fn what_cannot_be_decoded_is_refused() {
        for query in ["a=%", "a=%2", "a=%zz", "a=%+1", "a=%ff", "a=%00", "%00=a"] {
            assert!(parameters(query).is_err(), "{query}");
        }
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(text in "[^\0]*") {
            prop_assert_eq!(decode(&encode(&text), true).unwrap(), text);
        }
    }
}
