//! The headers exchange (AMQP 0-9-1 §3.1.3.4): a binding's arguments are compared with a message's headers, and its
//! `x-match` says how many have to agree. Pure functions.

use crate::codec::raw_table::{RawTable, RawValue};

/// How many of a binding's arguments have to be among the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    /// `all`, which is the default, or `all-with-x`.
    All { with_x: bool },
    /// `any` or `any-with-x`.
    Any { with_x: bool },
}

impl Match {
    /// None if the binding's `x-match` means nothing.
    fn of(arguments: RawTable<'_>) -> Option<Self> {
        let Some(value) = arguments.get("x-match") else { return Some(Self::All { with_x: false }) };
        match value.text()? {
            b"all" => Some(Self::All { with_x: false }),
            b"any" => Some(Self::Any { with_x: false }),
            b"all-with-x" => Some(Self::All { with_x: true }),
            b"any-with-x" => Some(Self::Any { with_x: true }),
            _ => None,
        }
    }
}

/// Whether a headers exchange can have a binding with these arguments.
pub(crate) fn is_valid(arguments: RawTable<'_>) -> bool {
    Match::of(arguments).is_some()
}

/// Whether a message with these headers takes a binding with these arguments. Arguments that begin with `x-` do not
/// count, unless `x-match` says so; an argument without a value asks only that the header be there.
pub(crate) fn matches(arguments: RawTable<'_>, headers: RawTable<'_>) -> bool {
    let Some(wanted) = Match::of(arguments) else { return false };
    let (Match::All { with_x } | Match::Any { with_x }) = wanted;
    let counts = |name: &str| name != "x-match" && (with_x || !name.starts_with("x-"));
    let mut counted = arguments.fields().filter(|(name, _)| counts(name));
    let agrees = |(name, value): (&str, RawValue<'_>)| {
        headers.get(name).is_some_and(|header| value.bytes() == b"V" || value.is_equivalent(header))
    };
    match wanted {
        Match::All { .. } => counted.all(agrees),
        Match::Any { .. } => counted.any(agrees),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(arguments: &[u8], headers: &[u8]) -> bool {
        super::matches(RawTable::new(arguments).unwrap(), RawTable::new(headers).unwrap())
    }

    fn is_valid(arguments: &[u8]) -> bool {
        super::is_valid(RawTable::new(arguments).unwrap())
    }

    const ONE: &[u8] = b"\x01aI\0\0\0\x01";
    const TWO: &[u8] = b"\x01bS\0\0\0\x02hi";
    const ALL: &[u8] = b"\x07x-matchS\0\0\0\x03all";
    const ANY: &[u8] = b"\x07x-matchS\0\0\0\x03any";
    const ANY_WITH_X: &[u8] = b"\x07x-matchS\0\0\0\x0aany-with-x";

    #[test]
    fn all_wants_every_argument_and_any_wants_one() {
        type Case = (&'static [&'static [u8]], &'static [&'static [u8]], bool);
        let cases: [Case; 9] = [
            (&[ONE, TWO], &[ONE, TWO], true),
            (&[ONE, TWO], &[ONE], false),
            (&[ALL, ONE, TWO], &[TWO, ONE, b"\x01cV"], true),
            (&[ANY, ONE, TWO], &[TWO], true),
            (&[ANY, ONE, TWO], &[b"\x01aI\0\0\0\x02"], false),
            (&[], &[], true),
            (&[ALL], &[ONE], true),
            (&[ANY], &[ONE], false),
            (&[ANY, ONE], &[], false),
        ];
        for (arguments, headers, expected) in cases {
            assert_eq!(
                matches(&arguments.concat(), &headers.concat()),
                expected,
                "{arguments:?} {headers:?}"
            );
        }
    }

    #[test]
    fn values_are_compared_by_meaning_and_nothing_means_presence() {
        assert!(matches(ONE, b"\x01al\0\0\0\0\0\0\0\x01"), "1 and 1");
        assert!(!matches(ONE, b"\x01at\x01"), "1 and true");
        assert!(matches(b"\x01aV", ONE) && matches(b"\x01aV", b"\x01at\0"));
        assert!(!matches(b"\x01aV", TWO));
    }

    #[test]
    fn arguments_with_x_count_only_if_that_is_asked_for() {
        let x = b"\x03x-at\x01";
        assert!(matches(&[ALL, x, ONE].concat(), ONE));
        assert!(!matches(&[ANY, x].concat(), x));
        assert!(matches(&[ANY_WITH_X, x].concat(), x));
        assert!(is_valid(ALL) && is_valid(ANY_WITH_X) && is_valid(b""));
        assert!(!is_valid(b"\x07x-matchS\0\0\0\x04some") && !is_valid(b"\x07x-matcht\x01"));
    }
}
