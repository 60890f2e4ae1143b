//! Entity tags and the conditions that clients state with them (RFC 9110 §8.8.3 and §13.1).

use crate::movie::Movie;
use crate::service::Condition;

/// The strong entity tag of a movie.
pub(crate) fn etag(movie: &Movie) -> String {
    format!("\"{}\"", movie.version())
}

/// What `If-None-Match` asks for: answer only if the client has none of these.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum IfNoneMatch {
    Any,
    Tags(Vec<String>),
}

impl IfNoneMatch {
    /// Reads the field. What is malformed matches nothing, so that the client simply gets the whole answer.
    pub(crate) fn parse(field: &str) -> Self {
        if field.trim() == "*" {
            return Self::Any;
        }
        let tags = split_tags(field).unwrap_or_default();
        // Weak comparison: the mark of a weak tag does not count (RFC 9110 §8.8.3.2).
        Self::Tags(tags.into_iter().map(|tag| tag.opaque).collect())
    }

    /// Whether the client has the movie as it is.
    pub(crate) fn holds(&self, movie: &Movie) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.contains(&movie.version().to_string()),
        }
    }
}

/// Reads `If-Match`; `None` when it is malformed. `*` asks only that the movie exists, which a change asks anyway.
pub(crate) fn if_match(field: &str) -> Option<Condition> {
    if field.trim() == "*" {
        return Some(Condition::None);
    }
    // Strong comparison: a weak tag never matches (RFC 9110 §8.8.3.2).
    let tags = split_tags(field)?.into_iter().filter(|tag| !tag.weak).map(|tag| tag.opaque).collect();
    Some(Condition::Unchanged(tags))
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

    fn movie() -> Movie {
        Movie { id: 1, title: "t".to_owned(), description: String::new() }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        let tag = etag(&movie());
        for field in [tag.clone(), format!("W/{tag}"), format!("\"a,b\" , {tag}"), "*".to_owned()] {
            assert!(IfNoneMatch::parse(&field).holds(&movie()), "{field}");
        }
        for field in ["\"other\"", "", "unquoted"] {
            assert!(!IfNoneMatch::parse(field).holds(&movie()), "{field}");
        }
    }

    #[test]
    fn if_match_compares_strongly_and_must_be_well_formed() {
        let tag = etag(&movie());
        let held = Condition::Unchanged(vec![movie().version().to_string()]);
        assert_eq!(if_match(&tag), Some(held));
        assert_eq!(if_match(&format!("W/{tag}")), Some(Condition::Unchanged(Vec::new())));
        assert_eq!(if_match("*"), Some(Condition::None));
        for malformed in ["", "abc", "\"a\" \"b\"", "\"a"] {
            assert_eq!(if_match(malformed), None, "{malformed}");
        }
    }
}
