//! Parses request bodies: JSON into members that satisfy the rules of their fields, or complaints that name the fields.

use std::borrow::Cow;

use foundation::json::parse_object;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::field::{Caller, Field, FieldType, Source};
use crate::resource::{Given, Member, Resource};
use crate::value::{self, Complaint};

/// Why a body is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// Not a JSON object, or one without any usable member. The text says what is wrong.
    Malformed(String),
    /// These fields break rules: the path of each field (`coordinates.lat`, `images[2].url`) and the complaint.
    Fields(Vec<(String, Complaint)>),
}

/// Reads a new record: its key, if clients choose keys, and a member for each field. Unknown members are ignored.
pub(crate) fn new_record(
    resource: &Resource,
    body: &[u8],
    caller: &Caller<'_>,
) -> Result<(Option<String>, Vec<Member>), Invalid> {
    let sent = parse(body)?;
    let mut complaints = Vec::new();
    let key = &resource.key.field;
    let key = key.is_writable().then(|| complete(key, &sent, key.name.to_owned(), &mut complaints));
    if key.as_ref().and_then(Member::text).is_some_and(|key| !fits_path(key)) {
        let problem = "must not contain slashes and control characters, and must not be . or ..";
        complain(&mut complaints, resource.key.field.name.to_owned(), problem);
    }
    let members = resource.fields.iter().map(|field| match field.source {
        Source::Caller(find) => match find(caller) {
            Some(text) => match value::from_text(&field.kind, &text) {
                Ok(text) => Member::Value(text),
                Err(problem) => complain(&mut complaints, field.name.to_owned(), problem),
            },
            None if field.required => complain(&mut complaints, field.name.to_owned(), "is required"),
            None => Member::Null,
        },
        Source::Client | Source::Database => complete(field, &sent, field.name.to_owned(), &mut complaints),
    });
    let members: Vec<_> = members.collect();
    finish(resource, &members, complaints)?;
    Ok((key.and_then(|key| key.text().map(str::to_owned)), members))
}

/// Whether a key can be a path segment that all programs read alike.
fn fits_path(key: &str) -> bool {
    !matches!(key, "." | "..")
        && !key.chars().any(|character| character.is_control() || "/\\".contains(character))
}

/// Reads changes to a record: a member for each field, at least one of which is not absent.
pub(crate) fn changes(resource: &Resource, body: &[u8]) -> Result<Vec<Member>, Invalid> {
    let sent = parse(body)?;
    let mut complaints = Vec::new();
    let members = resource.fields.iter().map(|field| match sent.find(field.name) {
        Occurrence::Once(token) if field.is_writable() => {
            read(field, token, field.name.to_owned(), &mut complaints)
        }
        Occurrence::Twice if field.is_writable() => {
            complain(&mut complaints, field.name.to_owned(), "must be given once")
        }
        _ => Member::Absent,
    });
    let members: Vec<_> = members.collect();
    finish(resource, &members, complaints)?;
    if members.iter().all(|member| *member == Member::Absent) {
        let names: Vec<_> =
            resource.fields.iter().filter(|field| field.is_writable()).map(|field| field.name).collect();
        let names = match names.split_last() {
            Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
            _ => names.concat(),
        };
        return Err(Invalid::Malformed(format!("{names} must be given")));
    }
    Ok(members)
}

/// Runs the resource's own check, if no field's rule is broken.
fn finish(
    resource: &Resource,
    members: &[Member],
    mut complaints: Vec<(String, Complaint)>,
) -> Result<(), Invalid> {
    if let (Some(check), true) = (resource.check, complaints.is_empty()) {
        let mut found = Vec::new();
        check(&Given { fields: resource.fields, members }, &mut found);
        complaints.extend(found.into_iter().map(|(name, problem)| (name.to_owned(), problem.into())));
    }
    if complaints.is_empty() { Ok(()) } else { Err(Invalid::Fields(complaints)) }
}

/// The members of an object, unparsed, so that each can be refused by name.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// How often a member occurs.
enum Occurrence<'a> {
    Never,
    Once(&'a RawValue),
    Twice,
}

impl<'a> Members<'a> {
    fn find(&self, name: &str) -> Occurrence<'a> {
        let mut found = self.0.iter().filter(|(given, _)| given == name);
        match (found.next(), found.next()) {
            (None, _) => Occurrence::Never,
            (Some((_, token)), None) => Occurrence::Once(token),
            // Programs disagree on which of the two counts (RFC 8259 §4).
            (Some(_), Some(_)) => Occurrence::Twice,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                /// Without `borrow`, serde always reads a `Cow` as owned text.
                #[derive(Deserialize)]
                struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

                let mut members = Vec::new();
                while let Some((Name(name), token)) = map.next_entry()? {
                    members.push((name, token));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

fn parse(body: &[u8]) -> Result<Members<'_>, Invalid> {
    parse_object(body).map_err(Invalid::Malformed)
}

/// The value of a field in a new record or object: what was sent, else its default.
fn complete(
    field: &Field,
    sent: &Members<'_>,
    path: String,
    complaints: &mut Vec<(String, Complaint)>,
) -> Member {
    if !field.is_writable() {
        return Member::Absent;
    }
    match sent.find(field.name) {
        Occurrence::Once(token) => read(field, token, path, complaints),
        Occurrence::Twice => complain(complaints, path, "must be given once"),
        Occurrence::Never if field.required => complain(complaints, path, "is required"),
        Occurrence::Never => field.default.map_or(Member::Null, |text| Member::Value(text.to_owned())),
    }
}

fn read(field: &Field, token: &RawValue, path: String, complaints: &mut Vec<(String, Complaint)>) -> Member {
    if token.get() == "null" && field.is_nullable() {
        return Member::Null;
    }
    match field.kind {
        FieldType::Object(fields) => read_object(fields, token, path, complaints),
        FieldType::Array { element, max } => read_array(element, max, token, &path, complaints),
        _ => match value::from_json(&field.kind, token) {
            Ok(text) => Member::Value(text),
            Err(problem) => complain(complaints, path, problem),
        },
    }
}

/// Reads an object into the JSON to be stored: its known members that are not null.
fn read_object(
    fields: &[Field],
    token: &RawValue,
    path: String,
    complaints: &mut Vec<(String, Complaint)>,
) -> Member {
    let Ok(sent) = parse(token.get().as_bytes()) else {
        return complain(complaints, path, "must be an object");
    };
    let mut json = String::from("{");
    for field in fields {
        let member = complete(field, &sent, format!("{path}.{}", field.name), complaints);
        if let Member::Value(text) = member {
            json.push_str(if json.len() > 1 { "," } else { "" });
            push_json(&mut json, true, field.name);
            json.push(':');
            push_json(&mut json, field.kind.is_string(), &text);
        }
    }
    json.push('}');
    Member::Value(json)
}

fn read_array(
    element: &Field,
    max: usize,
    token: &RawValue,
    path: &str,
    complaints: &mut Vec<(String, Complaint)>,
) -> Member {
    let Ok(tokens) = serde_json::from_str::<Vec<&RawValue>>(token.get()) else {
        return complain(complaints, path.to_owned(), "must be an array");
    };
    if tokens.len() > max {
        return complain(complaints, path.to_owned(), format!("must not have more than {max} elements"));
    }
    // An element cannot be absent, so it cannot be null either.
    let element = Field { required: true, default: None, ..*element };
    let mut json = String::from("[");
    for (index, token) in tokens.into_iter().enumerate() {
        if let Member::Value(text) = read(&element, token, format!("{path}[{index}]"), complaints) {
            json.push_str(if json.len() > 1 { "," } else { "" });
            push_json(&mut json, element.kind.is_string(), &text);
        }
    }
    json.push(']');
    Member::Value(json)
}

fn push_json(json: &mut String, is_string: bool, text: &str) {
    if is_string {
        // A text always serialises.
        json.push_str(&serde_json::to_string(text).unwrap_or_default());
    } else {
        json.push_str(text);
    }
}

fn complain(
    complaints: &mut Vec<(String, Complaint)>,
    path: String,
    problem: impl Into<Complaint>,
) -> Member {
    complaints.push((path, problem.into()));
    Member::Absent
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOVIES: Resource = Resource::new(
        "/api/movies",
        ["movie", "movies"],
        "movies",
        &[
            Field::text("title").length(1..=255).trimmed().required(),
            Field::text("description").length(0..=10_000).default(""),
        ],
    );
    const ROOMS: Resource = Resource {
        key: crate::Key::text(Field::text("code").length(1..=8)),
        check: Some(|given, complaints| {
            if given.get("name").is_some_and(|name| given.get("provider") == Some(name)) {
                complaints.push(("name", "must not be the provider's"));
            }
        }),
        ..Resource::new(
            "/rooms",
            ["room", "rooms"],
            "rooms",
            &[
                Field::text("name").required(),
                Field::text("provider"),
                Field::timestamp("made").read_only(),
                Field::text("owner").from_caller(|caller| caller.header("x-user")),
                Field::object(
                    "coordinates",
                    &[
                        Field::decimal("lat", 9, 6).range(-90..=90).required(),
                        Field::decimal("lon", 9, 6).range(-180..=180).required(),
                        Field::text("note"),
                    ],
                ),
                Field::array("images", &Field::object("image", &[Field::url("url").required()]), 2),
                Field::array("tags", &Field::word("tag", &["a", "b"]), 2),
            ],
        )
    };
    const NOBODY: Caller<'static> = Caller { find: &|_| None };

    fn text(text: &str) -> Member {
        Member::Value(text.to_owned())
    }

    fn created(resource: &Resource, json: &str) -> Vec<Member> {
        new_record(resource, json.as_bytes(), &NOBODY).unwrap().1
    }

    fn complaints<T: std::fmt::Debug>(outcome: Result<T, Invalid>) -> Vec<(String, String)> {
        match outcome {
            Err(Invalid::Fields(fields)) => {
                fields.into_iter().map(|(name, problem)| (name, problem.into_owned())).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn refused(resource: &Resource, json: &str) -> Vec<(String, String)> {
        complaints(new_record(resource, json.as_bytes(), &NOBODY))
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, problem)| ((*name).to_owned(), (*problem).to_owned())).collect()
    }

    #[test]
    fn a_record_is_read_and_completed() {
        let members = created(&MOVIES, r#"{"title": "  Alien\n", "year": 1979, "year": 2}"#);
        assert_eq!(members, [text("Alien"), text("")]);
        let members = created(&MOVIES, r#"{"t\u0069tle": "\u0041", "description": "d"}"#);
        assert_eq!(members, [text("A"), text("d")]);
    }

    #[test]
    fn every_broken_field_is_reported_with_its_rule() {
        assert_eq!(refused(&MOVIES, "{}"), pairs(&[("title", "is required")]));
        assert_eq!(
            refused(&MOVIES, r#"{"title": 1917, "description": null}"#),
            pairs(&[("title", "must be a string"), ("description", "must be a string")])
        );
        assert_eq!(
            refused(&MOVIES, r#"{"title":"a","title":"b"}"#),
            pairs(&[("title", "must be given once")])
        );
        for malformed in ["", "[]", "{", "\u{0}", "{}x"] {
            let outcome = new_record(&MOVIES, malformed.as_bytes(), &NOBODY);
            assert!(matches!(outcome, Err(Invalid::Malformed(_))), "{malformed}");
        }
    }

    #[test]
    fn changes_keep_what_is_not_given_and_must_change_something() {
        let read = |json: &str| changes(&MOVIES, json.as_bytes());
        assert_eq!(read(r#"{"description": ""}"#), Ok(vec![Member::Absent, text("")]));
        assert_eq!(
            read(r#"{"year": 1}"#),
            Err(Invalid::Malformed("title or description must be given".to_owned()))
        );
        assert_eq!(complaints(read(r#"{"title": null}"#)), pairs(&[("title", "must be a string")]));
        let rooms = |json: &str| changes(&ROOMS, json.as_bytes());
        assert_eq!(rooms(r#"{"provider": null}"#).unwrap()[1], Member::Null);
        // What the server says cannot be changed.
        let unchangeable = rooms(r#"{"owner": "me", "made": "2024-02-29T00:00:00Z", "code": "x"}"#);
        assert!(matches!(unchangeable, Err(Invalid::Malformed(_))));
    }

    #[test]
    fn documents_are_read_to_their_depth_and_complained_about_by_path() {
        let (key, members) = new_record(
            &ROOMS,
            br#"{"code": "k1", "name": "n", "owner": "thief", "tags": ["a"], "images": [{"url": "http://a"}, {"url": "http://b", "x": 1}],
                "coordinates": {"lon": 16.37, "lat": 48.2, "note": null, "more": {}}}"#,
            &Caller { find: &|name| Some(format!("{name}'s")) },
        )
        .unwrap();
        assert_eq!(key.as_deref(), Some("k1"));
        assert_eq!(members[1..4], [Member::Null, Member::Absent, text("x-user's")]);
        assert_eq!(members[4], text(r#"{"lat":48.200000,"lon":16.370000}"#));
        assert_eq!(members[5], text(r#"[{"url":"http://a"},{"url":"http://b"}]"#));
        assert_eq!(members[6], text(r#"["a"]"#));
        let url = "must be an absolute http or https URL of at most 2048 characters";
        assert_eq!(
            refused(
                &ROOMS,
                r#"{"name": "n", "coordinates": {"lat": 91}, "images": [{"url": "http://a"}, {"url": 1}, null], "tags": ["c", null]}"#
            ),
            pairs(&[
                ("code", "is required"),
                ("coordinates.lat", "must be a number from -90 to 90 with at most 6 decimals"),
                ("coordinates.lon", "is required"),
                ("images", "must not have more than 2 elements"),
                ("tags[0]", "must be one of a, b"),
                ("tags[1]", "must be a string"),
            ])
        );
        assert_eq!(
            refused(
                &ROOMS,
                r#"{"code": "k", "name": "n", "coordinates": [], "images": [{"url": "x"}, null], "tags": {}}"#
            ),
            pairs(&[
                ("coordinates", "must be an object"),
                ("images[0].url", url),
                ("images[1]", "must be an object"),
                ("tags", "must be an array"),
            ])
        );
    }

    #[test]
    fn a_check_of_its_own_sees_what_the_rules_let_pass() {
        for key in ["a/b", "..", "\\\\", "\\n"] {
            let key = refused(&ROOMS, &format!(r#"{{"code": "{key}", "name": "n"}}"#));
            assert_eq!(key[0].0, "code");
        }
        let same = refused(&ROOMS, r#"{"code": "k", "name": "n", "provider": "n"}"#);
        assert_eq!(same, pairs(&[("name", "must not be the provider's")]));
    }
}
