//! Parses single values: checks a JSON token or a query parameter by the rules of its field and converts it to the text
//! that PostgreSQL gets. SQL casts the text, so nothing here depends on database types.

use std::borrow::Cow;

use foundation::json;
use serde_json::value::RawValue;

use crate::field::FieldType;

/// Why a value is refused, as a text that follows the field's name: "must not be empty".
pub(crate) type Complaint = Cow<'static, str>;

/// Longest URL, in characters: all browsers support it, and it is short enough for an index.
const URL_MAX_CHARS: usize = 2_048;

/// Reads a JSON token that is no object or array.
pub(crate) fn from_json(kind: &FieldType, token: &RawValue) -> Result<String, Complaint> {
    let token = token.get();
    match kind {
        FieldType::Boolean => match token {
            "true" | "false" => Ok(token.to_owned()),
            _ => Err(NOT_BOOLEAN.into()),
        },
        FieldType::Integer { .. } | FieldType::Decimal { .. } if !token.starts_with('"') => {
            from_text(kind, token)
        }
        // An integer is a JSON number; a decimal may also be a string, because not every client has exact numbers.
        FieldType::Integer { min, max } => Err(not_integer(*min, *max)),
        _ => {
            let text: String = serde_json::from_str(token).map_err(|_| "must be a string")?;
            from_owned_text(kind, text)
        }
    }
}

/// Reads a value that was given as text, by a query parameter or a path.
pub(crate) fn from_text(kind: &FieldType, text: &str) -> Result<String, Complaint> {
    from_owned_text(kind, text.to_owned())
}

fn from_owned_text(kind: &FieldType, text: String) -> Result<String, Complaint> {
    match kind {
        FieldType::Text { min, max, trimmed } => read_text(text, *min, *max, *trimmed),
        FieldType::Url if is_url(&text) => Ok(text),
        FieldType::Url => Err("must be an absolute http or https URL of at most 2048 characters".into()),
        FieldType::Uuid => match uuid::Uuid::try_parse(&text) {
            // Other spellings exist (braces, no hyphens); only one is accepted, so that equal values are equal texts.
            Ok(uuid) if text.len() == uuid::fmt::Hyphenated::LENGTH => Ok(uuid.to_string()),
            _ => Err("must be a UUID".into()),
        },
        FieldType::Integer { min, max } => match text.parse::<i64>() {
            Ok(value) if (*min..=*max).contains(&value) && !text.starts_with('+') => Ok(value.to_string()),
            _ => Err(not_integer(*min, *max)),
        },
        FieldType::Decimal { precision, scale, bounds } => read_decimal(&text, *precision, *scale, *bounds),
        FieldType::Boolean => match text.as_str() {
            "true" | "false" => Ok(text),
            _ => Err(NOT_BOOLEAN.into()),
        },
        FieldType::Date if is_date(&text) => Ok(text),
        FieldType::Date => Err("must be a day such as 2024-02-29".into()),
        FieldType::Timestamp if is_timestamp(&text) => Ok(text),
        FieldType::Timestamp => Err("must be a time such as 2024-02-29T12:30:00Z".into()),
        FieldType::Word(words) if words.contains(&text.as_str()) => Ok(text),
        FieldType::Word(words) => Err(format!("must be one of {}", words.join(", ")).into()),
        FieldType::Object(_) | FieldType::Array { .. } => Err("must be a document".into()),
    }
}

const NOT_BOOLEAN: &str = "must be true or false";

fn not_integer(min: i64, max: i64) -> Complaint {
    match (min, max) {
        (i64::MIN, i64::MAX) => "must be a 64-bit integer".into(),
        _ => format!("must be an integer from {min} to {max}").into(),
    }
}

fn read_text(text: String, min: usize, max: usize, trimmed: bool) -> Result<String, Complaint> {
    // PostgreSQL's text cannot hold it.
    if text.contains('\0') {
        return Err("must not contain U+0000".into());
    }
    let text = if trimmed && text.trim().len() != text.len() { text.trim().to_owned() } else { text };
    match text.chars().count() {
        0 if min > 0 => Err("must not be empty".into()),
        length if length < min => Err(format!("must not be shorter than {min} characters").into()),
        length if length > max => Err(format!("must not be longer than {max} characters").into()),
        _ => Ok(text),
    }
}

/// An absolute URL (RFC 3986 §4.3) with a host, of printable ASCII.
fn is_url(text: &str) -> bool {
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        text.get(..scheme.len()).filter(|start| start.eq_ignore_ascii_case(scheme))?;
        text.get(scheme.len()..)
    });
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
    !host.is_empty() && text.len() <= URL_MAX_CHARS && text.bytes().all(is_allowed)
}

/// Converts a decimal number exactly to plain digits with `scale` decimals: with a scale of 2, `1.5e1` becomes `15.00`.
fn read_decimal(
    text: &str,
    precision: u32,
    scale: u32,
    bounds: Option<(i64, i64)>,
) -> Result<String, Complaint> {
    let complaint = || {
        let Some((min, max)) = bounds else {
            let whole = precision - scale;
            return format!(
                "must be a number with at most {whole} digits before and {scale} behind the point"
            )
            .into();
        };
        format!("must be a number from {min} to {max} with at most {scale} decimals").into()
    };
    let units = json::decimal(text, scale).ok_or_else(complaint)?;
    let one = 10i128.pow(scale);
    let in_bounds =
        bounds.is_none_or(|(min, max)| (i128::from(min) * one..=i128::from(max) * one).contains(&units));
    if units.unsigned_abs() >= 10u128.pow(precision) || !in_bounds {
        return Err(complaint());
    }
    let sign = if units < 0 { "-" } else { "" };
    let (whole, fraction) =
        (units.unsigned_abs() / one.unsigned_abs(), units.unsigned_abs() % one.unsigned_abs());
    let width = scale as usize;
    Ok(if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction:0width$}") })
}

/// A day of the years 0001 to 9999, as `YYYY-MM-DD`.
fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return false;
    }
    let (Some(year), Some(month), Some(day)) =
        (digits(&bytes[..4]), digits(&bytes[5..7]), digits(&bytes[8..]))
    else {
        return false;
    };
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return false,
    };
    year > 0 && (1..=days).contains(&day)
}

/// A time with its offset from UTC (RFC 3339 §5.6), with at most nine decimals.
fn is_timestamp(text: &str) -> bool {
    let Some((date, time)) = text.split_at_checked(10) else { return false };
    let bytes = time.as_bytes();
    if !is_date(date) || bytes.len() < 10 || !matches!(bytes[0], b'T' | b't' | b' ') || bytes[6] != b':' {
        return false;
    }
    let clock = |bytes: &[u8]| {
        let (hours, minutes) = (digits(bytes.get(..2)?)?, digits(bytes.get(3..5)?)?);
        (bytes.len() == 5 && bytes[2] == b':' && hours < 24 && minutes < 60).then_some(())
    };
    let seconds_fit = digits(&bytes[7..9]).is_some_and(|seconds| seconds < 60);
    let mut rest = &bytes[9..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=9).contains(&length) {
            return false;
        }
        rest = &fraction[length..];
    }
    let offset_fits = match rest {
        [b'Z' | b'z'] => true,
        // PostgreSQL knows no larger offsets than 15:59.
        [b'+' | b'-', offset @ ..] => clock(offset).is_some() && offset[..2] < b"16"[..],
        _ => false,
    };
    clock(&bytes[1..6]).is_some() && seconds_fit && offset_fits
}

fn digits(bytes: &[u8]) -> Option<u32> {
    let all_digits = bytes.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(bytes).ok().filter(|_| all_digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Field;

    fn read(field: &Field, token: &str) -> Result<String, String> {
        let raw: &RawValue = serde_json::from_str(token).unwrap();
        from_json(&field.kind, raw).map_err(Cow::into_owned)
    }

    fn accepts(field: &Field, tokens: &[(&str, &str)]) {
        for (token, text) in tokens {
            assert_eq!(read(field, token).as_deref(), Ok(*text), "{token}");
        }
    }

    fn refuses(field: &Field, complaint: &str, tokens: &[&str]) {
        for token in tokens {
            assert_eq!(read(field, token), Err(complaint.to_owned()), "{token}");
        }
    }

    #[test]
    fn lengths_count_characters_after_trimming() {
        const TITLE: Field = Field::text("title").length(1..=3).trimmed();
        accepts(&TITLE, &[(r#"" a\n""#, "a"), (r#""é🎬日""#, "é🎬日")]);
        refuses(&TITLE, "must not be empty", &[r#""""#, r#"" \t""#]);
        refuses(&TITLE, "must not be longer than 3 characters", &[r#""éééé""#]);
        refuses(&TITLE, "must be a string", &["1", "null", "true", "[]", r#""\ud800""#]);
        refuses(&TITLE, "must not contain U+0000", &[r#""a\u0000""#]);
        refuses(&Field::text("t").length(2..=3), "must not be shorter than 2 characters", &[r#""a""#]);
        accepts(&Field::text("t"), &[(r#"" a ""#, " a ")]);
    }

    #[test]
    fn integers_are_json_numbers_in_their_range() {
        const STARS: Field = Field::integer("stars").range(1..=5);
        accepts(&STARS, &[("1", "1"), ("5", "5")]);
        let complaint = "must be an integer from 1 to 5";
        refuses(&STARS, complaint, &["0", "6", "1.0", "1e0", r#""3""#, "null", "99999999999999999999"]);
        accepts(&Field::integer("n"), &[("-9223372036854775808", "-9223372036854775808"), ("-0", "0")]);
        refuses(&Field::integer("n"), "must be a 64-bit integer", &["9223372036854775808", "{}"]);
    }

    #[test]
    fn decimals_are_exact() {
        const PRICE: Field = Field::decimal("price", 6, 2);
        accepts(
            &PRICE,
            &[
                ("0", "0.00"),
                ("-0.0", "0.00"),
                ("9999.99", "9999.99"),
                ("-9999.99", "-9999.99"),
                ("0.10", "0.10"),
                ("0.1000", "0.10"),
                ("1.5e1", "15.00"),
                ("1e-2", "0.01"),
                (r#""12.5""#, "12.50"),
            ],
        );
        let complaint = "must be a number with at most 4 digits before and 2 behind the point";
        refuses(
            &PRICE,
            complaint,
            &["10000", "0.001", "1e-3", "1e9", "1e999999999", r#""1.""#, r#"".5""#, r#""x""#, r#""+1""#],
        );
        refuses(&PRICE, complaint, &["null", "true", "[1]"]);
        let latitude = Field::decimal("lat", 9, 6).range(-90..=90);
        accepts(&latitude, &[("90", "90.000000"), ("-90.0", "-90.000000"), ("48.2", "48.200000")]);
        refuses(&latitude, "must be a number from -90 to 90 with at most 6 decimals", &["90.000001", "-91"]);
        accepts(
            &Field::decimal("n", 36, 0),
            &[("123456789012345678901234567890123456", "123456789012345678901234567890123456")],
        );
    }

    #[test]
    fn days_and_times_exist() {
        let day = Field::date("day");
        accepts(&day, &[(r#""2024-02-29""#, "2024-02-29"), (r#""0001-01-01""#, "0001-01-01")]);
        refuses(
            &day,
            "must be a day such as 2024-02-29",
            &[
                r#""2023-02-29""#,
                r#""1900-02-29""#,
                r#""2024-04-31""#,
                r#""2024-13-01""#,
                r#""0000-01-01""#,
                r#""2024-2-01""#,
                r#""2024-02-0é""#,
            ],
        );
        let time = Field::timestamp("time");
        for text in [
            "2024-02-29T12:30:00Z",
            "2024-02-29t23:59:59.123456+02:00",
            "2024-02-29 00:00:00-11:30",
            "2024-02-29T12:30:00+15:59",
        ] {
            accepts(&time, &[(&format!("{text:?}"), text)]);
        }
        for text in [
            "2024-02-29",
            "2024-02-29T12:30:00",
            "2024-02-29T24:00:00Z",
            "2024-02-29T12:60:00Z",
            "2024-02-29T12:30:60Z",
            "2024-02-29T12:30:00.Z",
            "2024-02-29T12:30:00+2:00",
            "2024-02-29T12:30:00+16:00",
            "2024-02-29T12:30Z",
            "2024-02-29T12:30:00Zé",
            "now",
        ] {
            refuses(&time, "must be a time such as 2024-02-29T12:30:00Z", &[&format!("{text:?}")]);
        }
    }

    #[test]
    fn words_urls_uuids_and_booleans_are_themselves() {
        let status = Field::word("status", &["active", "done"]);
        accepts(&status, &[(r#""done""#, "done")]);
        refuses(&status, "must be one of active, done", &[r#""Done""#, r#""""#]);
        let url = Field::url("url");
        for text in ["http://example.org", "HTTPS://example.org:80/a?b=c#d", "http://[::1]/"] {
            accepts(&url, &[(&format!("{text:?}"), text)]);
        }
        for text in
            ["", "http://", "http:///path", "ftp://a", "example.org", "http://a b", "http://é", "httpsé"]
        {
            refuses(
                &url,
                "must be an absolute http or https URL of at most 2048 characters",
                &[&format!("{text:?}")],
            );
        }
        let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        accepts(&Field::uuid("id"), &[(&format!("\"{}\"", id.to_uppercase()), id)]);
        refuses(&Field::uuid("id"), "must be a UUID", &[r#""67e5504410b1426f9247bb680e5fe0c8""#, r#""x""#]);
        accepts(&Field::boolean("b"), &[("true", "true"), ("false", "false")]);
        refuses(&Field::boolean("b"), "must be true or false", &["1", "null", r#""true""#]);
    }
}
