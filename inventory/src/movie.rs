//! A movie and the rules for its fields. A value of these types cannot break them.
//!
//! Nothing here knows HTTP or SQL.

use foundation::json::{member, parse_object};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// Longest title, in characters.
const TITLE_MAX_CHARS: usize = 255;
/// Longest description, in characters.
const DESCRIPTION_MAX_CHARS: usize = 10_000;

/// A stored movie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Movie {
    /// Given by the database, from 1 up.
    pub id: i64,
    /// 1 to 255 characters, without white space at its ends.
    pub title: String,
    /// Up to 10,000 characters.
    pub description: String,
}

impl Movie {
    /// The fingerprint of the movie as it is now: it changes whenever a field does.
    pub(crate) fn version(&self) -> Version {
        let mut digest = Sha256::new();
        digest.update(self.id.to_be_bytes());
        // The length keeps a title's end apart from a description's beginning.
        digest.update(self.title.len().to_be_bytes());
        digest.update(&self.title);
        digest.update(&self.description);
        let mut version = [0; 16];
        version.copy_from_slice(&digest.finalize()[..16]);
        Version(version)
    }
}

/// A stored movie that is only passed on, not copied: lists are long.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct MovieView<'a> {
    /// As in [`Movie`].
    pub id: i64,
    /// As in [`Movie`].
    pub title: &'a str,
    /// As in [`Movie`].
    pub description: &'a str,
}

/// The fingerprint of one state of a movie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version([u8; 16]);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A movie that is not stored yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewMovie {
    /// A valid title.
    pub title: String,
    /// A valid description.
    pub description: String,
}

/// New values for some fields of a movie, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MovieChanges {
    /// The new title; `None` keeps the old one.
    pub title: Option<String>,
    /// The new description; `None` keeps the old one.
    pub description: Option<String>,
}

/// Why a body is no movie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InvalidMovie {
    /// Not a JSON object, or one without a member that could be used. The text says what is wrong.
    Malformed(String),
    /// These fields break the rules; name and complaint for each.
    Fields(Vec<(&'static str, &'static str)>),
}

/// The members that matter, unread, so that each can be complained about by name.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow, default, deserialize_with = "member")]
    title: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "member")]
    description: Option<&'a RawValue>,
}

impl NewMovie {
    /// Reads a movie from JSON. The title is required; unknown members are ignored.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, InvalidMovie> {
        let members: Members = parse_object(json).map_err(InvalidMovie::Malformed)?;
        let title = members.title.ok_or("is required").and_then(parse_title);
        let description = members.description.map_or_else(|| Ok(String::new()), parse_description);
        match (title, description) {
            (Ok(title), Ok(description)) => Ok(Self { title, description }),
            (title, description) => Err(complaints(title.err(), description.err())),
        }
    }
}

impl MovieChanges {
    /// Reads changes from JSON: at least one of `title` and `description`.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, InvalidMovie> {
        let members: Members = parse_object(json).map_err(InvalidMovie::Malformed)?;
        let title = members.title.map(parse_title).transpose();
        let description = members.description.map(parse_description).transpose();
        match (title, description) {
            (Ok(None), Ok(None)) => {
                Err(InvalidMovie::Malformed("title or description must be given".to_owned()))
            }
            (Ok(title), Ok(description)) => Ok(Self { title, description }),
            (title, description) => Err(complaints(title.err(), description.err())),
        }
    }
}

fn complaints(title: Option<&'static str>, description: Option<&'static str>) -> InvalidMovie {
    let fields = [("title", title), ("description", description)];
    InvalidMovie::Fields(fields.into_iter().filter_map(|(name, problem)| Some((name, problem?))).collect())
}

fn parse_title(member: &RawValue) -> Result<String, &'static str> {
    let title = parse_text(member)?.trim().to_owned();
    match title.chars().count() {
        0 => Err("must not be empty"),
        1..=TITLE_MAX_CHARS => Ok(title),
        _ => Err("must not be longer than 255 characters"),
    }
}

fn parse_description(member: &RawValue) -> Result<String, &'static str> {
    let description = parse_text(member)?;
    if description.chars().count() > DESCRIPTION_MAX_CHARS {
        return Err("must not be longer than 10000 characters");
    }
    Ok(description)
}

fn parse_text(member: &RawValue) -> Result<String, &'static str> {
    let text: String = serde_json::from_str(member.get()).map_err(|_| "must be a string")?;
    // PostgreSQL's text cannot hold it.
    if text.contains('\0') { Err("must not contain U+0000") } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Vec<(&'static str, &'static str)> {
        match NewMovie::parse(json.as_bytes()) {
            Err(InvalidMovie::Fields(fields)) => fields,
            other => panic!("{json} gave {other:?}"),
        }
    }

    #[test]
    fn a_movie_is_read_and_its_title_trimmed() {
        let movie = NewMovie::parse(br#"{"title": "  Alien\n", "year": 1979}"#).unwrap();
        assert_eq!((movie.title.as_str(), movie.description.as_str()), ("Alien", ""));
    }

    #[test]
    fn every_broken_field_is_reported_with_its_rule() {
        assert_eq!(fields("{}"), [("title", "is required")]);
        assert_eq!(
            fields(r#"{"title": 1917, "description": null}"#),
            [("title", "must be a string"), ("description", "must be a string")]
        );
        assert_eq!(fields(r#"{"title": " \t "}"#), [("title", "must not be empty")]);
        assert_eq!(fields(r#"{"title": "a\u0000"}"#), [("title", "must not contain U+0000")]);
        assert_eq!(fields(r#"{"title": "\ud800"}"#), [("title", "must be a string")]);
    }

    #[test]
    fn lengths_count_characters() {
        let with_title = |length: usize| format!(r#"{{"title": "{}"}}"#, "é".repeat(length));
        assert!(NewMovie::parse(with_title(255).as_bytes()).is_ok());
        assert_eq!(fields(&with_title(256)), [("title", "must not be longer than 255 characters")]);
        let with_description =
            |length: usize| format!(r#"{{"title": "t", "description": "{}"}}"#, "🎬".repeat(length));
        assert!(NewMovie::parse(with_description(10_000).as_bytes()).is_ok());
        assert!(NewMovie::parse(with_description(10_001).as_bytes()).is_err());
    }

    #[test]
    fn changes_keep_what_is_not_given_and_must_change_something() {
        let changes = MovieChanges::parse(br#"{"description": ""}"#).unwrap();
        assert_eq!(changes, MovieChanges { title: None, description: Some(String::new()) });
        assert!(matches!(MovieChanges::parse(br#"{"year": 1}"#), Err(InvalidMovie::Malformed(_))));
        assert!(matches!(MovieChanges::parse(br#"{"title": null}"#), Err(InvalidMovie::Fields(_))));
    }

    #[test]
    fn a_version_tells_states_apart() {
        let movie = |title: &str, description: &str| Movie {
            id: 1,
            title: title.to_owned(),
            description: description.to_owned(),
        };
        assert_eq!(movie("a", "b").version(), movie("a", "b").version());
        assert_ne!(movie("a", "b").version(), movie("ab", "").version());
        assert_eq!(movie("a", "b").version().to_string().len(), 32);
    }
}
