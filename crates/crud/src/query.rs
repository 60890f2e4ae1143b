//! Parses the query string of a list: filters, order, first record and limit.

use std::borrow::Cow;

use crate::field::Field;
use crate::resource::Resource;
use crate::value::{self, Complaint};

/// Most records on one page.
pub(crate) const LIMIT_MAX: usize = 1_000;

/// Selects the records of a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// The conditions; all must hold.
    pub filters: Vec<Filter>,
    /// The order; `None` means by the key alone.
    pub sort: Option<Sort>,
    /// Only records after this one.
    pub after: Option<Cursor>,
    /// At most this many.
    pub limit: Option<usize>,
}

/// A condition on the records of a list.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    /// The query parameter.
    pub name: String,
    /// Its value as it was given, for the link to the next page.
    pub given: String,
    pub kind: FilterKind,
    /// The value, checked.
    pub value: String,
}

/// How a value filters a list.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FilterKind {
    /// The field contains the value, ignoring case.
    Contains(&'static str),
    /// The field compares to the value by this operator: `=`, `>=` or `<=`.
    Compares(&'static Field, &'static str),
    /// A condition of the resource's own, with `$` for the value.
    Condition(&'static str),
}

/// An order by a field, then by the key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sort {
    pub field: &'static Field,
    pub descending: bool,
}

/// The position of a record in a list (keyset pagination).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Its key.
    pub key: String,
    /// Its value of the field that the list is sorted by, if any.
    pub value: Option<String>,
}

/// Why a query string is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It cannot be parsed.
    Malformed(&'static str),
    /// This parameter breaks a rule.
    Parameter(String, Complaint),
}

impl Selection {
    /// Reads a query string. Unknown parameters are ignored.
    pub(crate) fn parse(resource: &'static Resource, query: &str) -> Result<Self, Refused> {
        let parameters = parameters(query).map_err(Refused::Malformed)?;
        let mut seen: Vec<&str> = Vec::new();
        let mut selection = Self::default();
        let (mut key, mut value) = (None, None);
        let sort = parameters.iter().find(|(name, _)| name == "sort").map(|(_, value)| value.as_str());
        selection.sort = Sort::parse(resource, sort).map_err(|problem| refuse("sort", problem))?;
        let after_value = selection.sort.map(|sort| format!("after_{}", sort.field.name));
        for (name, given) in &parameters {
            let is_known = match name.as_str() {
                "limit" => {
                    selection.limit = Some(limit(given).map_err(|problem| refuse(name, problem))?);
                    true
                }
                "after" => {
                    key =
                        Some(position(&resource.key.field, given).map_err(|problem| refuse(name, problem))?);
                    true
                }
                "sort" => sort.is_some() && resource.fields.iter().any(|field| field.sortable),
                _ if after_value.as_ref() == Some(name) => {
                    value = selection.sort.map(|sort| value::from_text(&sort.field.kind, given));
                    true
                }
                _ => match Filter::parse(resource, name, given).map_err(|problem| refuse(name, problem))? {
                    Some(filter) => {
                        // A search for the empty text finds everything.
                        if !matches!(filter.kind, FilterKind::Contains(_)) || !given.is_empty() {
                            selection.filters.push(filter);
                        }
                        true
                    }
                    None => false,
                },
            };
            if is_known {
                if seen.contains(&name.as_str()) {
                    return Err(refuse(name, "must be given once".into()));
                }
                seen.push(name);
            }
        }
        let after_value = after_value.unwrap_or_default();
        let value = value.transpose().map_err(|problem| refuse(&after_value, problem))?;
        if selection.sort.is_some() && key.is_some() != value.is_some() {
            let missing = if key.is_some() { &after_value } else { "after" };
            return Err(refuse(missing, "is required with the other one".into()));
        }
        selection.after = key.map(|key| Cursor { key, value });
        Ok(selection)
    }

    /// The query string of the page after `last`, the last record of this one.
    pub(crate) fn next_query(&self, last: &Cursor) -> String {
        let mut parts = vec![
            format!("limit={}", self.limit.unwrap_or(LIMIT_MAX)),
            format!("after={}", encode(&last.key)),
        ];
        if let Some(Sort { field, descending }) = self.sort {
            let value = last.value.as_deref().unwrap_or_default();
            parts.push(format!("after_{}={}", field.name, encode(value)));
            parts.push(format!("sort={}{}", if descending { "-" } else { "" }, field.name));
        }
        for filter in &self.filters {
            parts.push(format!("{}={}", encode(&filter.name), encode(&filter.given)));
        }
        parts.join("&")
    }
}

fn refuse(name: &str, problem: Complaint) -> Refused {
    Refused::Parameter(name.to_owned(), problem)
}

fn limit(given: &str) -> Result<usize, Complaint> {
    let limit = given.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| format!("must be an integer from 1 to {LIMIT_MAX}").into())
}

/// Checks a key after which a list shall start. 0 is allowed: it is before all generated keys.
fn position(key: &Field, given: &str) -> Result<String, Complaint> {
    if let crate::field::FieldType::Integer { .. } = key.kind {
        let number = given.parse::<i64>().ok().filter(|number| *number >= 0);
        let number = number.ok_or_else(|| format!("must be an integer from 0 to {}", i64::MAX))?;
        return Ok(number.to_string());
    }
    value::from_text(&key.kind, given)
}

impl Sort {
    fn parse(resource: &'static Resource, given: Option<&str>) -> Result<Option<Self>, Complaint> {
        let sortable = || resource.fields.iter().filter(|field| field.sortable);
        let Some(given) = given.filter(|_| sortable().next().is_some()) else { return Ok(None) };
        let (descending, name) = match given.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, given),
        };
        if let Some(field) = sortable().find(|field| field.name == name) {
            return Ok(Some(Self { field, descending }));
        }
        let names: Vec<_> = sortable().map(|field| field.name).collect();
        Err(format!("must be one of {}, with - in front for the reverse order", names.join(", ")).into())
    }
}

impl Filter {
    /// The filter for a query parameter; `None` if the parameter is unknown.
    fn parse(resource: &'static Resource, name: &str, given: &str) -> Result<Option<Self>, Complaint> {
        let filter = |kind, value| Some(Self { name: name.to_owned(), given: given.to_owned(), kind, value });
        if let Some(parameter) = resource.parameters.iter().find(|parameter| parameter.name == name) {
            return Ok(filter(FilterKind::Condition(parameter.condition), (parameter.read)(given)?));
        }
        for field in resource.fields {
            let Some(rest) = name.strip_prefix(field.name) else { continue };
            let operator = match rest {
                "" if field.searchable => {
                    return Ok(filter(FilterKind::Contains(field.name), given.to_owned()));
                }
                "" if field.filterable => "=",
                "_from" if field.has_ranges() => ">=",
                "_to" if field.has_ranges() => "<=",
                _ => continue,
            };
            let value = value::from_text(&field.kind, given)?;
            return Ok(filter(FilterKind::Compares(field, operator), value));
        }
        Ok(None)
    }
}

/// Decodes a part of a query string, in which `+` stands for a space as in HTML forms. The error is fit for the client.
fn decode(text: &str) -> Result<String, &'static str> {
    let text = text.replace('+', "%20");
    let decoded = edge::path::decode(text.as_bytes()).map(Cow::into_owned);
    decoded.ok_or("the query is not valid UTF-8 in percent-encoding")
}

/// Splits a query string into decoded names and values.
pub(crate) fn parameters(query: &str) -> Result<Vec<(String, String)>, &'static str> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

/// Encodes text for use in a path or a query string.
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
    use crate::Parameter;
    use proptest::prelude::*;

    static MOVIES: Resource = Resource::new(
        "/api/movies",
        ["movie", "movies"],
        "movies",
        &[Field::text("title").required().searchable()],
    );
    static ROOMS: Resource = Resource {
        key: crate::Key::uuid("id"),
        parameters: &[Parameter {
            name: "q",
            condition: "words @@ $",
            read: |text| Ok(text.to_owned()),
            about: "",
        }],
        ..Resource::new(
            "/rooms",
            ["room", "rooms"],
            "rooms",
            &[
                Field::decimal("price", 8, 2).required().filterable().sortable(),
                Field::word("state", &["new", "old"]).filterable(),
            ],
        )
    };

    fn cursor(key: &str, value: Option<&str>) -> Cursor {
        Cursor { key: key.to_owned(), value: value.map(str::to_owned) }
    }

    #[test]
    fn a_selection_is_read_and_its_errors_named() {
        let selection =
            Selection::parse(&MOVIES, "title=a%25&limit=2&after=07&other=x&other=y&sort=x").unwrap();
        assert!(selection.limit == Some(2) && selection.sort.is_none());
        assert_eq!(selection.after, Some(cursor("7", None)));
        assert!(matches!(selection.filters[0].kind, FilterKind::Contains("title")));
        assert_eq!(selection.filters[0].value, "a%");
        assert!(Selection::parse(&MOVIES, "title=").unwrap().filters.is_empty());
        for query in [
            "limit=0",
            "limit=1001",
            "limit=x",
            "limit=",
            "after=-1",
            "after=x",
            "title=%ff",
            "title=%00",
            "title=%2",
            "limit=1&limit=2",
            "title=&title=a",
        ] {
            assert!(Selection::parse(&MOVIES, query).is_err(), "{query}");
        }
    }

    #[test]
    fn filters_are_checked_like_the_fields_they_belong_to() {
        let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        let query =
            format!("price_from=1.5&price_to=20&state=new&q=a+b&sort=-price&after={id}&after_price=3");
        let selection = Selection::parse(&ROOMS, &query).unwrap();
        let values: Vec<_> = selection.filters.iter().map(|filter| filter.value.as_str()).collect();
        assert_eq!(values, ["1.50", "20.00", "new", "a b"]);
        assert_eq!(selection.after, Some(cursor(id, Some("3.00"))));
        for (query, name) in [
            ("state=other", "state"),
            ("price=x", "price"),
            ("price_from=x", "price_from"),
            ("sort=state", "sort"),
            ("sort=", "sort"),
            ("sort=price&sort=price", "sort"),
            ("after=7", "after"),
            (&format!("sort=price&after={id}"), "after_price"),
            (&format!("sort=price&after={id}&after_price=x"), "after_price"),
            ("sort=price&after_price=1", "after"),
        ] {
            let refused = Selection::parse(&ROOMS, query).unwrap_err();
            assert!(
                matches!(&refused, Refused::Parameter(found, _) if found == name),
                "{query}: {refused:?}"
            );
        }
    }

    #[test]
    fn the_link_leads_on_with_the_same_question() {
        let selection = Selection::parse(&MOVIES, "title=a%26b&limit=2").unwrap();
        assert_eq!(selection.next_query(&cursor("9", None)), "limit=2&after=9&title=a%26b");
        let query =
            "limit=3&after=67e55044-10b1-426f-9247-bb680e5fe0c8&after_price=2.50&sort=-price&state=new&q=%2B";
        let selection = Selection::parse(&ROOMS, query).unwrap();
        assert_eq!(selection.next_query(&selection.after.clone().unwrap()), query);
    }

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
            prop_assert_eq!(decode(&encode(&text)).unwrap(), text);
        }
    }
}
