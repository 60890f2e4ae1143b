//! Parses the query string of a list: filters, order, first record and limit.

use std::borrow::Cow;

use crate::field::Field;
use crate::resource::{Lists, Parameter, Resource};
use crate::value::{self, Complaint};

/// Most records on one page.
pub(crate) const LIMIT_MAX: usize = 1_000;
/// Most records that a page may skip, because PostgreSQL reads all of them.
pub(crate) const OFFSET_MAX: usize = 1_000_000;
/// The highest number up to which a list is counted on request, for the same reason.
pub(crate) const COUNT_MAX: usize = 10_000;

/// Selects the records of a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// The conditions; all must hold.
    pub filters: Vec<Filter>,
    pub sort: Sort,
    /// Only records after this one.
    pub after: Option<Cursor>,
    /// At most this many.
    pub limit: Option<usize>,
    /// How many records the page skips, where lists are counted.
    pub offset: usize,
    /// Up to which number the records of all pages are counted, if the client asks for that.
    pub count_up_to: Option<usize>,
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
    /// A condition of the resource's own.
    Condition(&'static Parameter),
    /// The second value of that condition.
    Refinement(&'static Parameter),
}

/// An order by a field, then by the key.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sort {
    /// The field; `None` means the key alone.
    pub field: Option<&'static Field>,
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
    /// Whether it selects all records in the order of their keys.
    pub(crate) fn is_whole(&self) -> bool {
        self.filters.is_empty() && self.sort.field.is_none() && !self.sort.descending
    }

    /// Reads a query string. Unknown parameters are ignored.
    pub(crate) fn parse(resource: &'static Resource, query: &str) -> Result<Self, Refused> {
        let parameters = parameters(query).map_err(Refused::Malformed)?;
        let mut seen: Vec<&str> = Vec::new();
        let mut selection = Self::default();
        let (mut key, mut value) = (None, None);
        let sort = parameters.iter().find(|(name, _)| name == "sort").map(|(_, value)| value.as_str());
        selection.sort = Sort::parse(resource, sort).map_err(|problem| refuse("sort", problem))?;
        let is_counted = if let Lists::Counted { size } = resource.lists {
            selection.limit = Some(size);
            true
        } else {
            false
        };
        let sorted_by = selection.sort.field;
        let after_value = sorted_by.filter(|_| !is_counted).map(|field| format!("after_{}", field.name));
        for (name, given) in &parameters {
            let is_known = match name.as_str() {
                "limit" => {
                    let limit = within(given, 1, LIMIT_MAX).map_err(|problem| refuse(name, problem))?;
                    selection.limit = Some(limit);
                    true
                }
                "offset" if is_counted => {
                    selection.offset =
                        within(given, 0, OFFSET_MAX).map_err(|problem| refuse(name, problem))?;
                    true
                }
                "after" if !is_counted => {
                    key =
                        Some(position(&resource.key.field, given).map_err(|problem| refuse(name, problem))?);
                    true
                }
                "count" if !is_counted => {
                    let most = within(given, 1, COUNT_MAX).map_err(|problem| refuse(name, problem))?;
                    selection.count_up_to = Some(most);
                    true
                }
                "sort" => true,
                _ if after_value.as_ref() == Some(name) => {
                    value = sorted_by.map(|field| value::from_text(&field.kind, given));
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
        for filter in &selection.filters {
            let FilterKind::Refinement(refined) = filter.kind else { continue };
            if !selection.filters.iter().any(|other| other.name == refined.name) {
                return Err(refuse(&filter.name, format!("must be given with {}", refined.name).into()));
            }
        }
        let after_value = after_value.unwrap_or_default();
        let value = value.transpose().map_err(|problem| refuse(&after_value, problem))?;
        if sorted_by.is_some() && key.is_some() != value.is_some() {
            let missing = if key.is_some() { &after_value } else { "after" };
            return Err(refuse(missing, "is required with the other one".into()));
        }
        selection.after = key.map(|key| Cursor { key, value });
        Ok(selection)
    }

    /// The query string of the page after `last`, the last record of this one.
    pub(crate) fn next_query(&self, resource: &Resource, last: &Cursor) -> String {
        let mut parts = vec![
            format!("limit={}", self.limit.unwrap_or(LIMIT_MAX)),
            format!("after={}", encode(&last.key)),
        ];
        if let Some(field) = self.sort.field {
            let value = last.value.as_deref().unwrap_or_default();
            parts.push(format!("after_{}={}", field.name, encode(value)));
        }
        self.finish_query(resource, parts)
    }

    /// The query string of the page with this offset, where lists are counted.
    pub(crate) fn offset_query(&self, resource: &Resource, offset: usize) -> String {
        let parts = vec![format!("limit={}", self.limit.unwrap_or(LIMIT_MAX)), format!("offset={offset}")];
        self.finish_query(resource, parts)
    }

    /// Adds what all pages have in common, and joins the parts.
    fn finish_query(&self, resource: &Resource, mut parts: Vec<String>) -> String {
        let Sort { field, descending } = self.sort;
        if field.is_some() || descending {
            let name = field.map_or(resource.key.field.name, |field| field.name);
            parts.push(format!("sort={}{name}", if descending { "-" } else { "" }));
        }
        parts.extend(self.filters.iter().map(Filter::encode));
        parts.join("&")
    }
}

fn refuse(name: &str, problem: Complaint) -> Refused {
    Refused::Parameter(name.to_owned(), problem)
}

fn within(given: &str, min: usize, max: usize) -> Result<usize, Complaint> {
    let number = given.parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| format!("must be an integer from {min} to {max}").into())
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
    fn parse(resource: &'static Resource, given: Option<&str>) -> Result<Self, Complaint> {
        let Some(given) = given else { return Ok(Self::default()) };
        let (descending, name) = match given.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, given),
        };
        if name == resource.key.field.name {
            return Ok(Self { field: None, descending });
        }
        if let Some(field) = resource.fields.iter().find(|field| field.sortable && field.name == name) {
            return Ok(Self { field: Some(field), descending });
        }
        let names: Vec<_> = resource.sortable().collect();
        Err(format!("must be one of {}, with - in front for the reverse order", names.join(", ")).into())
    }
}

impl Filter {
    /// The query parameter as it was given, encoded.
    fn encode(&self) -> String {
        format!("{}={}", encode(&self.name), encode(&self.given))
    }

    /// The filter for a query parameter; `None` if the parameter is unknown.
    fn parse(resource: &'static Resource, name: &str, given: &str) -> Result<Option<Self>, Complaint> {
        let filter = |kind, value| Some(Self { name: name.to_owned(), given: given.to_owned(), kind, value });
        for parameter in resource.parameters {
            if parameter.name == name {
                return Ok(filter(FilterKind::Condition(parameter), (parameter.read)(given)?));
            }
            if let Some(refinement) = parameter.refined_by.filter(|refinement| refinement.name == name) {
                return Ok(filter(FilterKind::Refinement(parameter), (refinement.read)(given)?));
            }
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
    use crate::Refinement;
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
            refined_by: Some(Refinement {
                name: "language",
                default: "simple",
                read: |text| if text.len() == 2 { Ok(text.to_owned()) } else { Err("must be two letters") },
                about: "",
            }),
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
            Selection::parse(&MOVIES, "title=a%25&limit=2&after=07&other=x&other=y&sort=id").unwrap();
        assert!(selection.limit == Some(2) && selection.sort.field.is_none() && !selection.sort.descending);
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
            "sort=x",
            "sort=",
            "sort=-id&sort=id",
            "count=0",
            "count=10001",
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
            ("q=a&language=english", "language"),
            ("language=en", "language"),
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
        assert_eq!(selection.next_query(&MOVIES, &cursor("9", None)), "limit=2&after=9&title=a%26b");
        let selection = Selection::parse(&MOVIES, "sort=-id&limit=2&count=9").unwrap();
        assert_eq!(selection.next_query(&MOVIES, &cursor("9", None)), "limit=2&after=9&sort=-id");
        let query = "limit=3&after=67e55044-10b1-426f-9247-bb680e5fe0c8&after_price=2.50&sort=-price&state=new&q=%2B&language=en";
        let selection = Selection::parse(&ROOMS, query).unwrap();
        assert_eq!(selection.next_query(&ROOMS, &selection.after.clone().unwrap()), query);
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
