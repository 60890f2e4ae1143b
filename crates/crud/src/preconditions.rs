//! Entity tags and the conditions that clients state with them (RFC 9110 §8.8.3 and §13.1).

use sha2::{Digest, Sha256};

/// The strong entity tag of a record, which changes whenever a value changes: a digest of the key and all values. Each
/// value but the last is preceded by its length, so that different values cannot give the same bytes.
pub(crate) fn entity_tag<'v>(key: &str, values: impl ExactSizeIterator<Item = Option<&'v str>>) -> String {
    let mut digest = Sha256::new();
    match key.parse::<i64>() {
        Ok(number) => digest.update(number.to_be_bytes()),
        Err(_) => update_with_length(&mut digest, Some(key)),
    }
    let last = values.len().saturating_sub(1);
    for (index, value) in values.enumerate() {
        match value {
            Some(value) if index == last => digest.update(value),
            // UTF-8 text never contains this byte (RFC 3629 §3).
            None if index == last => digest.update([0xff]),
            value => update_with_length(&mut digest, value),
        }
    }
    let mut version = [0; 16];
    version.copy_from_slice(&digest.finalize()[..16]);
    format!("\"{:032x}\"", u128::from_be_bytes(version))
}

fn update_with_length(digest: &mut Sha256, value: Option<&str>) {
    // No value is this long, so a missing value has a length of its own.
    let length = value.map_or(u64::MAX, |value| value.len() as u64);
    digest.update(length.to_be_bytes());
    digest.update(value.unwrap_or_default());
}

/// The preconditions of a change. A record that does not exist is 404, whatever the condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Condition {
    /// `If-Match`: the record's tag must be one of these.
    expected: Option<Vec<String>>,
    /// `If-None-Match`: the record's tag must be none of these.
    refused: Option<Tags>,
}

/// The tags in `If-None-Match`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tags {
    /// `*`: any tag.
    Any,
    /// These tags, without the prefix `W/`.
    These(Vec<String>),
}

impl Condition {
    /// Reads the header fields of a request that changes a record. The error is fit for the client.
    pub(crate) fn of_change(
        if_match: Option<&str>,
        if_none_match: Option<&str>,
    ) -> Result<Self, &'static str> {
        let expected = match if_match {
            // `*` requires only that the record exists, as every change does.
            None => None,
            Some(field) if field.trim() == "*" => None,
            // Strong comparison: a weak tag never matches (RFC 9110 §8.8.3.2).
            Some(field) => {
                let tags = split_tags(field)
                    .ok_or("If-Match must be * or a list of entity tags in double quotes")?;
                Some(tags.into_iter().filter(|tag| !tag.weak).map(|tag| tag.opaque).collect())
            }
        };
        let refused = if_none_match.map(Tags::parse).transpose();
        let refused =
            refused.map_err(|()| "If-None-Match must be * or a list of entity tags in double quotes")?;
        Ok(Self { expected, refused })
    }

    /// Whether there is no precondition.
    pub(crate) fn is_empty(&self) -> bool {
        self.expected.is_none() && self.refused.is_none()
    }

    /// Whether it holds for a record with this tag.
    pub(crate) fn holds(&self, tag: &str) -> bool {
        let matches = self.expected.as_ref().is_none_or(|tags| tags.iter().any(|one| is(one, tag)));
        matches && !self.refused.as_ref().is_some_and(|tags| tags.contain(tag))
    }
}

impl Tags {
    /// Reads the field.
    fn parse(field: &str) -> Result<Self, ()> {
        if field.trim() == "*" {
            return Ok(Self::Any);
        }
        let tags = split_tags(field).ok_or(())?;
        // Weak comparison ignores `W/` (RFC 9110 §8.8.3.2).
        Ok(Self::These(tags.into_iter().map(|tag| tag.opaque).collect()))
    }

    fn contain(&self, tag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => tags.iter().any(|one| is(one, tag)),
        }
    }
}

/// Whether the client of a GET has the record already. A malformed field matches nothing, so the client gets the whole
/// answer.
pub(crate) fn is_known(if_none_match: Option<&str>, tag: &str) -> bool {
    if_none_match.is_some_and(|field| Tags::parse(field).is_ok_and(|tags| tags.contain(tag)))
}

/// Whether `tag`, which has quotes, equals `opaque`, which has none.
fn is(opaque: &str, tag: &str) -> bool {
    tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) == Some(opaque)
}

struct Tag {
    weak: bool,
    opaque: String,
}

/// Splits a list of entity tags. A tag may hold a comma, so splitting at commas alone would be wrong.
fn split_tags(field: &str) -> Option<Vec<Tag>> {
    let mut tags = Vec::new();
    let mut rest = field.trim();
    while !rest.is_empty() {
        let (weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let (opaque, after) = quoted.strip_prefix('"')?.split_once('"')?;
        tags.push(Tag { weak, opaque: opaque.to_owned() });
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if after.is_empty() => after,
            None => return None,
        };
    }
    (!tags.is_empty()).then_some(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(key: &str, values: &[Option<&str>]) -> String {
        entity_tag(key, values.iter().copied())
    }

    fn holds(if_match: Option<&str>, if_none_match: Option<&str>, tag: &str) -> bool {
        Condition::of_change(if_match, if_none_match).unwrap().holds(tag)
    }

    #[test]
    fn a_tag_tells_states_apart() {
        let states: [(&str, &[Option<&str>]); 9] = [
            ("1", &[Some("a"), Some("b")]),
            ("1", &[Some("ab"), Some("")]),
            ("1", &[Some(""), Some("ab")]),
            ("2", &[Some("a"), Some("b")]),
            ("1", &[Some("a"), None]),
            ("1", &[Some("a"), Some("")]),
            ("1", &[None, Some("")]),
            ("a", &[Some("b"), Some("")]),
            ("1", &[]),
        ];
        let tags: std::collections::BTreeSet<_> =
            states.iter().map(|(key, values)| tag(key, values)).collect();
        assert_eq!(tags.len(), states.len());
        assert_eq!(tag("1", &[Some("a"), Some("b")]), tag("1", &[Some("a"), Some("b")]));
    }

    #[test]
    fn a_tag_that_clients_hold_stays_valid() {
        // The movie 7, "Alien", "In space": the form of the digest must not change between versions.
        assert_eq!(tag("7", &[Some("Alien"), Some("In space")]), "\"6229dcc60cd26d9d39dcb925d950e7fc\"");
    }

    #[test]
    fn if_none_match_compares_weakly() {
        for field in ["\"t\"", "W/\"t\"", "\"a,b\" , \"t\"", "*"] {
            assert!(is_known(Some(field), "\"t\""), "{field}");
            assert!(!holds(None, Some(field), "\"t\""), "{field}");
        }
        for field in ["\"other\"", "", "unquoted"] {
            assert!(!is_known(Some(field), "\"t\""), "{field}");
        }
        assert!(!is_known(None, "\"t\"") && holds(None, Some("\"other\""), "\"t\""));
    }

    #[test]
    fn if_match_compares_strongly() {
        assert!(holds(Some("\"t\""), None, "\"t\"") && holds(Some("*"), None, "\"t\""));
        assert!(!holds(Some("W/\"t\""), None, "\"t\"") && !holds(Some("\"x\", \"y\""), None, "\"t\""));
        assert!(!holds(Some("\"t\""), Some("\"t\""), "\"t\""));
    }

    #[test]
    fn a_malformed_condition_of_a_change_is_refused() {
        for malformed in ["", "abc", "\"a\" \"b\"", "\"a"] {
            assert!(Condition::of_change(Some(malformed), None).is_err(), "{malformed}");
            assert!(Condition::of_change(None, Some(malformed)).is_err(), "{malformed}");
        }
        assert!(Condition::of_change(Some("*"), None).unwrap().is_empty());
        assert!(!Condition::of_change(None, Some("*")).unwrap().is_empty());
    }
}
