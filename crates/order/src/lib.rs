//! The order and its rules. The gateway and billing parse it with the same code, so an order that the gateway confirms
//! cannot turn out to be invalid in billing.
//!
//! HTTP, AMQP and SQL do not belong here.

pub mod question;
pub mod report;

use serde::Deserialize;
use serde_json::value::RawValue;

use foundation::json::{self, member, parse_object};

/// The name of this message format, carried in the header `schema`.
pub const SCHEMA: &str = "order.v1";
/// The `app_id` of orders and of questions about them: the gateway's name for the broker.
pub const APP_ID: &str = "api-gateway";

/// Longest `user_id`, in characters.
const USER_ID_MAX_CHARS: usize = 64;
/// Largest `number_of_items`.
const NUMBER_OF_ITEMS_MAX: i128 = 1_000_000;
/// Largest `total_amount`, in hundredths: 9,999,999,999.99.
const TOTAL_AMOUNT_MAX_CENTS: i128 = 999_999_999_999;

/// A valid order. Its fields cannot hold anything that the database would refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    user_id: String,
    number_of_items: i32,
    total_amount_cents: i64,
}

/// Why a body is no valid order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidOrder {
    /// Not JSON at all, or JSON of another shape. The text says where.
    Malformed(String),
    /// JSON, but these fields break the rules; name and complaint for each.
    Fields(Vec<(&'static str, &'static str)>),
}

impl std::fmt::Display for InvalidOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(problem) => f.write_str(problem),
            Self::Fields(fields) => {
                for (index, (name, problem)) in fields.iter().enumerate() {
                    write!(f, "{}{name} {problem}", if index == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for InvalidOrder {}

/// The members of an order as raw JSON text, because a binary float would not keep amounts of money exact.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow, default, deserialize_with = "member")]
    user_id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "member")]
    number_of_items: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "member")]
    total_amount: Option<&'a RawValue>,
}

impl Order {
    /// Reads an order from JSON. Unknown members are ignored; every field that breaks a rule is reported.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidOrder> {
        let members: Members = parse_object(json).map_err(InvalidOrder::Malformed)?;
        let user_id = parse_user_id(members.user_id);
        let number_of_items = parse_number_of_items(members.number_of_items);
        let total_amount_cents = parse_total_amount(members.total_amount);
        match (user_id, number_of_items, total_amount_cents) {
            (Ok(user_id), Ok(number_of_items), Ok(total_amount_cents)) => {
                Ok(Self { user_id, number_of_items, total_amount_cents })
            }
            (user_id, number_of_items, total_amount) => Err(InvalidOrder::Fields(
                [
                    ("user_id", user_id.err()),
                    ("number_of_items", number_of_items.err()),
                    ("total_amount", total_amount.err()),
                ]
                .into_iter()
                .filter_map(|(name, problem)| Some((name, problem?)))
                .collect(),
            )),
        }
    }

    /// Who ordered: 1 to 64 characters, without U+0000.
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// How many items: 1 to 1,000,000.
    pub fn number_of_items(&self) -> i32 {
        self.number_of_items
    }

    /// The amount as a decimal number with two decimals, which is how SQL's `numeric` reads it.
    pub fn total_amount(&self) -> String {
        format!("{}.{:02}", self.total_amount_cents / 100, self.total_amount_cents % 100)
    }
}

const REQUIRED: &str = "is required";

fn parse_user_id(member: Option<&RawValue>) -> Result<String, &'static str> {
    const PROBLEM: &str = "must be a string or an integer of 1 to 64 characters";
    let token = member.ok_or(REQUIRED)?.get();
    let user_id = match Scalar::read(token) {
        Some(Scalar::Text(text)) => text,
        Some(Scalar::Number) if token.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') => {
            token.to_owned()
        }
        _ => return Err(PROBLEM),
    };
    if user_id.contains('\0') {
        return Err("must not contain U+0000");
    }
    if (1..=USER_ID_MAX_CHARS).contains(&user_id.chars().count()) { Ok(user_id) } else { Err(PROBLEM) }
}

fn parse_number_of_items(member: Option<&RawValue>) -> Result<i32, &'static str> {
    const PROBLEM: &str = "must be an integer from 1 to 1000000";
    let value = decimal(member.ok_or(REQUIRED)?.get(), 0).ok_or(PROBLEM)?;
    if (1..=NUMBER_OF_ITEMS_MAX).contains(&value) {
        i32::try_from(value).map_err(|_| PROBLEM)
    } else {
        Err(PROBLEM)
    }
}

fn parse_total_amount(member: Option<&RawValue>) -> Result<i64, &'static str> {
    const PROBLEM: &str = "must be a number from 0 to 9999999999.99 with at most 2 decimals";
    let cents = decimal(member.ok_or(REQUIRED)?.get(), 2).ok_or(PROBLEM)?;
    if (0..=TOTAL_AMOUNT_MAX_CENTS).contains(&cents) {
        i64::try_from(cents).map_err(|_| PROBLEM)
    } else {
        Err(PROBLEM)
    }
}

/// A JSON token that can be a field's value. `RawValue` has already checked that it is well formed.
enum Scalar {
    Number,
    Text(String),
}

impl Scalar {
    fn read(token: &str) -> Option<Self> {
        match token.as_bytes().first()? {
            b'"' => serde_json::from_str(token).ok().map(Self::Text),
            b'-' | b'0'..=b'9' => Some(Self::Number),
            _ => None,
        }
    }
}

/// The exact value of a number, or of a string of digits, in units of 10^-`scale`. `None` if it is neither, is negative
/// or has more decimals.
fn decimal(token: &str, scale: u32) -> Option<i128> {
    match Scalar::read(token)? {
        // Taken by value: `1.5e1` is 15, and `180.100` is 180.1.
        Scalar::Number => json::decimal(token, scale).filter(|_| !token.starts_with('-')),
        Scalar::Text(text) => decimal_of_text(&text, scale),
    }
}

/// A string is taken as written: digits, and at most `scale` decimals after a point.
fn decimal_of_text(text: &str, scale: u32) -> Option<i128> {
    let (whole, fraction) = match text.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (text, ""),
    };
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let missing = usize::try_from(scale).ok()?.checked_sub(fraction.len())?;
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    format!("{whole}{fraction}{}", "0".repeat(missing)).parse().ok()
}

/// The same JSON without the white space between its tokens: members, numbers and escapes stay as they were sent.
/// The input must be valid JSON, as it is after [`Order::parse`].
pub fn compact(json: &[u8]) -> Vec<u8> {
    let mut compact = Vec::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for &byte in json {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            continue;
        } else {
            in_string = byte == b'"';
        }
        compact.push(byte);
    }
    compact
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order(user_id: &str, number_of_items: &str, total_amount: &str) -> Result<Order, InvalidOrder> {
        let json = format!(
            r#"{{"user_id": {user_id}, "number_of_items": {number_of_items}, "total_amount": {total_amount}}}"#
        );
        Order::parse(json.as_bytes())
    }

    fn amount(token: &str) -> Option<String> {
        order("1", "1", token).ok().map(|order| order.total_amount())
    }

    #[test]
    fn strings_and_numbers_mean_the_same_order() {
        let texts = order(r#""3""#, r#""5""#, r#""180""#).unwrap();
        assert_eq!(texts, order("3", "5", "180").unwrap());
        assert_eq!((texts.user_id(), texts.number_of_items()), ("3", 5));
        assert_eq!(texts.total_amount(), "180.00");
    }

    #[test]
    fn money_is_exact() {
        for (token, expected) in [
            ("0", "0.00"),
            ("0.1", "0.10"),
            ("180.10", "180.10"),
            ("1.5e1", "15.00"),
            ("18000E-2", "180.00"),
            ("180.100", "180.10"),
            ("9999999999.99", "9999999999.99"),
            (r#""9999999999.99""#, "9999999999.99"),
            (r#""0.05""#, "0.05"),
            ("0e999999", "0.00"),
        ] {
            assert_eq!(amount(token).as_deref(), Some(expected), "{token}");
        }
        for token in [
            "-1",
            "0.001",
            "10000000000",
            "1e11",
            "1e999999999999",
            "1e-3",
            r#""1e2""#,
            r#""180.100""#,
            r#""""#,
            r#""1.""#,
            r#"".5""#,
            r#""+1""#,
            r#"" 1""#,
            "null",
            "true",
            "[1]",
            r#"{"a":1}"#,
            r#""NaN""#,
        ] {
            assert_eq!(amount(token), None, "{token}");
        }
    }

    #[test]
    fn every_broken_field_is_reported() {
        let Err(InvalidOrder::Fields(fields)) = order("1.5", "0", "-1") else { panic!("must be refused") };
        assert_eq!(
            fields.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            ["user_id", "number_of_items", "total_amount"]
        );
        let Err(InvalidOrder::Fields(fields)) = Order::parse(b"{}") else { panic!("must be refused") };
        assert_eq!(
            fields,
            [("user_id", REQUIRED), ("number_of_items", REQUIRED), ("total_amount", REQUIRED)]
        );
    }

    #[test]
    fn limits_hold_at_their_edges() {
        let id = |length: usize| format!("\"{}\"", "é".repeat(length));
        assert!(order(&id(64), "1", "1").is_ok());
        assert!(order(&id(65), "1", "1").is_err());
        assert!(order(&id(0), "1", "1").is_err());
        assert!(order(r#""a\u0000b""#, "1", "1").is_err());
        assert!(order("1", "1000000", "1").is_ok());
        assert!(order("1", "1000001", "1").is_err());
        assert!(order("1", "5.5", "1").is_err());
        assert_eq!(order("1", "5.0", "1").unwrap().number_of_items(), 5);
        assert!(order("1", r#""5.0""#, "1").is_err());
    }

    #[test]
    fn what_is_no_json_object_is_malformed() {
        for body in ["", "[]", "3", "{", r#"{"user_id":1"#, "\u{feff}{}", r#"{"user_id":1,"user_id":2}"#] {
            assert!(matches!(Order::parse(body.as_bytes()), Err(InvalidOrder::Malformed(_))), "{body}");
        }
        assert!(matches!(Order::parse(b"{\"user_id\": \"\xff\"}"), Err(InvalidOrder::Malformed(_))));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Order::parse(&body);
        }

        #[test]
        fn any_number_in_range_keeps_its_value(cents in 0i64..=999_999_999_999, zeros in 0usize..4) {
            let plain = format!("{}.{:02}", cents / 100, cents % 100);
            let (as_number, as_text) = (format!("{plain}{}", "0".repeat(zeros)), format!("\"{plain}\""));
            let as_exponent = format!("{cents}e-2");
            for token in [as_number, as_text, as_exponent] {
                prop_assert_eq!(amount(&token), Some(plain.clone()), "{}", token);
            }
        }

        #[test]
        fn compacting_changes_white_space_alone(text in ".*", number in any::<i64>()) {
            let value = serde_json::json!({"text": text, "list": [number, null, {"nested": text}]});
            let pretty = serde_json::to_vec_pretty(&value).unwrap();
            prop_assert_eq!(compact(&pretty), serde_json::to_vec(&value).unwrap());
        }
    }
}
