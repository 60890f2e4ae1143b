//! A resource at run time: its checked description, its columns and its statements.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Error;
use crate::field::{Field, FieldType};
use crate::query::LIMIT_MAX;
use crate::resource::{Lists, Parameter, Resource};
use crate::statements::Statements;

/// Query parameters of lists that no field can have.
const RESERVED: [&str; 5] = ["limit", "after", "offset", "sort", "count"];

/// A resource with a valid description.
#[derive(Debug)]
pub(crate) struct Table {
    /// Its index among the resources of the service.
    pub index: usize,
    pub resource: &'static Resource,
    /// The key, then the fields.
    pub columns: Vec<Field>,
    pub statements: Statements,
    /// The recent average size of a record in a list, in bytes; 0 while unknown.
    record_bytes: AtomicUsize,
}

impl Table {
    /// Checks a description and makes the statements.
    pub(crate) fn new(index: usize, resource: &'static Resource) -> Result<Self, Error> {
        let columns = resource.columns();
        check(resource, &columns).map_err(|problem| Error::Description { name: resource.name, problem })?;
        let statements = Statements::new(resource, &columns);
        Ok(Self { index, resource, columns, statements, record_bytes: AtomicUsize::new(0) })
    }

    /// Updates the average with a batch of a list.
    pub(crate) fn learn(&self, records: usize, bytes: usize) {
        if records > 0 {
            // A concurrent update may be lost, which does no harm.
            let known = self.record_bytes.load(Ordering::Relaxed);
            let found = bytes.div_ceil(records);
            let learned = if known == 0 { found } else { (3 * known + found).div_ceil(4) };
            self.record_bytes.store(learned, Ordering::Relaxed);
        }
    }

    /// The estimated number of records in `bytes`; `None` while unknown.
    pub(crate) fn records_in(&self, bytes: usize) -> Option<usize> {
        bytes.checked_div(self.record_bytes.load(Ordering::Relaxed))
    }

    /// The name of a record, capitalised: `Movie`.
    pub(crate) fn capitalised(&self) -> String {
        let mut characters = self.resource.name.chars();
        let first = characters.next().map(|first| first.to_uppercase().to_string());
        first.unwrap_or_default() + characters.as_str()
    }

    /// What is answered once a record was deleted.
    pub(crate) fn deleted_message(&self) -> String {
        format!("{} was deleted successfully.", self.capitalised())
    }

    /// The field of a constraint, by the names that PostgreSQL gives constraints: `TABLE_FIELD_key`, `_check` and
    /// `_fkey`, and `TABLE_pkey` for the key.
    pub(crate) fn field_of_constraint(&self, constraint: &str) -> Option<&'static str> {
        let rest = constraint.strip_prefix(self.resource.table)?.strip_prefix('_')?;
        if rest == "pkey" {
            return Some(self.resource.key.field.name);
        }
        let field = ["_key", "_check", "_fkey"].iter().find_map(|suffix| rest.strip_suffix(suffix))?;
        self.resource.fields.iter().map(|known| known.name).find(|name| *name == field)
    }
}

fn check(resource: &Resource, columns: &[Field]) -> Result<(), String> {
    let segments = resource.path.strip_prefix('/').unwrap_or_default().split('/');
    if !segments.clone().all(|segment| !segment.is_empty() && segment.bytes().all(is_path_byte)) {
        return Err(format!("the path {} is not like /api/movies", resource.path));
    }
    for name in columns.iter().map(|field| field.name).chain([resource.table]) {
        if !is_name(name) {
            return Err(format!("{name:?} is not a name of lower-case letters, digits and underscores"));
        }
    }
    let mut parameters: Vec<String> = RESERVED.iter().map(|name| (*name).to_owned()).collect();
    for (index, field) in columns.iter().enumerate() {
        if columns[..index].iter().any(|other| other.name == field.name) {
            return Err(format!("there are two fields {}", field.name));
        }
        if field.sortable && field.is_nullable() {
            return Err(format!("{} is sortable, so it must be required or have a default", field.name));
        }
        if let Some(default) = field.default {
            check_default(field, default)?;
        }
        if field.searchable || field.filterable {
            parameters.push(field.name.to_owned());
        }
        if field.has_ranges() {
            parameters.extend([format!("{}_from", field.name), format!("{}_to", field.name)]);
        }
        if field.sortable {
            parameters.push(format!("after_{}", field.name));
        }
    }
    let own = resource.parameters.iter().flat_map(Parameter::documented);
    parameters.extend(own.map(|(name, _)| name.to_owned()));
    parameters.sort();
    if let Lists::Counted { size } = resource.lists
        && !(1..=LIMIT_MAX).contains(&size)
    {
        return Err(format!("a page has 1 to {LIMIT_MAX} records, not {size}"));
    }
    match parameters.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("two query parameters are called {}", pair[0])),
        None => check_events(resource),
    }
}

fn check_events(resource: &Resource) -> Result<(), String> {
    let mut occasions = Vec::new();
    for event in resource.emits {
        let parts: Vec<_> = event.split('.').collect();
        let [name, occasion, version] = parts[..] else {
            return Err(format!("the event {event} is not like room.created.1"));
        };
        let is_number =
            version.parse::<u16>().is_ok_and(|number| number > 0 && !version.starts_with(['+', '0']));
        if !is_name(name) || !is_number || !["created", "updated", "deleted"].contains(&occasion) {
            return Err(format!("the event {event} is not like room.created.1"));
        }
        if occasions.contains(&occasion) {
            return Err(format!("two events are for records that were {occasion}"));
        }
        occasions.push(occasion);
    }
    Ok(())
}

fn check_default(field: &Field, default: &str) -> Result<(), String> {
    let problem = match field.kind {
        FieldType::Object(_) | FieldType::Array { .. } => {
            serde_json::from_str::<serde::de::IgnoredAny>(default).err().map(|error| error.to_string())
        }
        _ => crate::value::from_text(&field.kind, default).err().map(std::borrow::Cow::into_owned),
    };
    problem.map_or(Ok(()), |problem| Err(format!("the default of {} {problem}", field.name)))
}

/// A name that needs no escaping in SQL, JSON and a query string.
fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.len() < 64
        && name.bytes().all(is_allowed)
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Operation;

    fn problem(resource: Resource) -> String {
        Table::new(0, Box::leak(Box::new(resource))).unwrap_err().to_string()
    }

    fn things(fields: &'static [Field]) -> Resource {
        Resource::new("/things", ["thing", "things"], "things", fields)
    }

    #[test]
    fn a_description_that_makes_no_sense_is_refused() {
        const NULLABLE: &[Field] = &[Field::text("a").sortable()];
        const TWICE: &[Field] = &[Field::text("id")];
        const QUOTED: &[Field] = &[Field::text("a\"")];
        const RESERVED: &[Field] = &[Field::text("limit").filterable()];
        const SAME: &[Field] = &[Field::integer("a").filterable(), Field::text("a_from").filterable()];
        const DEFAULT: &[Field] = &[Field::integer("a").range(1..=2).default("3")];
        for (resource, part) in [
            (things(NULLABLE), "must be required"),
            (things(TWICE), "two fields id"),
            (things(QUOTED), "lower-case"),
            (things(RESERVED), "called limit"),
            (things(SAME), "called a_from"),
            (things(DEFAULT), "the default of a must be an integer from 1 to 2"),
            (Resource { path: "/a//b", ..things(&[]) }, "the path"),
            (Resource { path: "things", ..things(&[]) }, "the path"),
            (Resource { emits: &["created"], ..things(&[]) }, "the event created is not like"),
            (Resource { emits: &["thing.made.1"], ..things(&[]) }, "is not like room.created.1"),
            (Resource { emits: &["thing.created.0"], ..things(&[]) }, "is not like room.created.1"),
            (Resource { emits: &["a.created.1", "a.created.2"], ..things(&[]) }, "two events"),
        ] {
            let found = problem(resource);
            assert!(found.contains(part), "{found}");
        }
        let read: fn(&str) -> Result<String, &'static str> = |text| Ok(text.to_owned());
        let parameters: &'static [Parameter] = Box::leak(Box::new([Parameter {
            name: "after",
            condition: "",
            read,
            about: "",
            refined_by: None,
        }]));
        assert!(problem(Resource { parameters, ..things(&[]) }).contains("called after"));
    }

    #[test]
    fn the_size_of_records_is_learned() {
        static THINGS: Resource = Resource::new("/things", ["thing", "things"], "things", &[]);
        let table = Table::new(0, &THINGS).unwrap();
        assert_eq!(table.records_in(1_000), None);
        table.learn(0, 0);
        table.learn(10, 1_000);
        assert_eq!(table.records_in(1_000), Some(10));
        table.learn(1, 500);
        assert_eq!(table.records_in(1_000), Some(5));
    }

    #[test]
    fn a_constraint_names_its_field() {
        const FIELDS: &[Field] = &[Field::url("url").unique(), Field::text("a_key")];
        static THINGS: Resource = Resource {
            operations: Operation::SINGLE,
            ..Resource::new("/things", ["thing", "things"], "things", FIELDS)
        };
        let table = Table::new(0, &THINGS).unwrap();
        for (constraint, field) in [
            ("things_url_key", Some("url")),
            ("things_url_check", Some("url")),
            ("things_a_key_key", Some("a_key")),
            ("things_pkey", Some("id")),
            ("things_a_key", None),
            ("other_url_key", None),
        ] {
            assert_eq!(table.field_of_constraint(constraint), field, "{constraint}");
        }
        assert_eq!(table.capitalised(), "Thing");
    }
}
