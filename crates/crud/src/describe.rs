//! What `--describe` prints: the routes, fields and SQL of a service.

use std::fmt::Write as _;

use crate::application::Application;
use crate::field::{Field, FieldType, Source};
use crate::query::{COUNT_MAX, Cursor, LIMIT_MAX, OFFSET_MAX, Selection};
use crate::resource::{Action, Lists, Operation, Parameter, Resource};
use crate::routes::Routes;
use crate::statements;
use crate::table::Table;

/// The whole text.
pub(crate) fn text(application: &Application, tables: &[Table], routes: &Routes) -> String {
    let Application { name, version, about, .. } = application;
    let mut text = format!("{name} {version}: {about}\n\nRoutes\n");
    // Writing to a string cannot fail, here and below.
    for (path, methods) in routes.describe() {
        let _ = writeln!(text, "  {path:<28} {methods}");
    }
    text.push_str("\nMigrations\n");
    for migration in application.migrations {
        let _ = writeln!(text, "  {}", migration.name);
    }
    for table in tables {
        describe_resource(&mut text, table);
        describe_sql(&mut text, table);
    }
    text
}

fn describe_resource(text: &mut String, table: &Table) {
    let resource = table.resource;
    let _ = writeln!(text, "\n{}, in the table {}\n\n  Fields", resource.path, resource.table);
    for field in &table.columns {
        let _ = writeln!(text, "    {:<26} {}", field.name, rules(field));
    }
    if resource.check.is_some() {
        text.push_str("    Beside these rules, a check of its own holds for what clients send.\n");
    }
    if resource.allows(Operation::List) {
        text.push_str("\n  Query parameters of the list\n");
        for (name, about) in parameters(resource) {
            let _ = writeln!(text, "    {name:<26} {about}");
        }
    }
    if !resource.actions.is_empty() || !resource.aliases.is_empty() {
        text.push_str("\n  Further methods and actions\n");
    }
    for (alias, operation) in resource.aliases {
        let _ = writeln!(text, "    {alias:<26} means {}", method(*operation));
    }
    for Action { method, path, about, .. } in resource.actions {
        let _ = writeln!(text, "    {:<26} {about}", format!("{method} {}{path}", resource.path));
    }
    if !resource.emits.is_empty() {
        let _ = writeln!(text, "\n  Events\n    {}", resource.emits.join("\n    "));
    }
}

/// The method that HTTP has for an operation.
fn method(operation: Operation) -> &'static str {
    match operation {
        Operation::List | Operation::Read => "GET",
        Operation::Create => "POST",
        Operation::Update => "PUT",
        Operation::Delete | Operation::DeleteAll => "DELETE",
    }
}

/// The query parameters of a list, each with what it does.
fn parameters(resource: &Resource) -> Vec<(String, String)> {
    let mut parameters = vec![("limit=N".to_owned(), format!("a page of N records; N is 1 to {LIMIT_MAX}"))];
    match resource.lists {
        Lists::Plain => {
            parameters.push(("after=KEY".to_owned(), "go on behind the record with this key".to_owned()));
            let about = format!("tell how many there are on all pages, as far as N; N is 1 to {COUNT_MAX}");
            parameters.push(("count=N".to_owned(), about));
        }
        Lists::Counted { size } => {
            let _ = write!(parameters[0].1, ", otherwise {size}");
            parameters.push(("offset=N".to_owned(), format!("skip N records; N is 0 to {OFFSET_MAX}")));
        }
    }
    if resource.lists == Lists::Plain && resource.fields.iter().any(|field| field.sortable) {
        let about = "with sort=FIELD: that record's value of the field, beside after".to_owned();
        parameters.push(("after_FIELD=VALUE".to_owned(), about));
    }
    for field in resource.fields {
        let name = field.name;
        if field.searchable {
            parameters
                .push((format!("{name}=TEXT"), "contains this text, in upper or lower case".to_owned()));
        }
        if field.filterable {
            parameters.push((format!("{name}=VALUE"), "has this value".to_owned()));
        }
        if field.has_ranges() {
            parameters.push((format!("{name}_from=VALUE"), "has this value or a greater one".to_owned()));
            parameters.push((format!("{name}_to=VALUE"), "has this value or a smaller one".to_owned()));
        }
    }
    for name in resource.sortable() {
        let about = format!("sorted by {name}; sort=-{name} for the reverse order");
        parameters.push((format!("sort={name}"), about));
    }
    let own = resource.parameters.iter().flat_map(Parameter::documented);
    parameters.extend(own.map(|(name, about)| (format!("{name}=…"), about.to_owned())));
    parameters
}

fn describe_sql(text: &mut String, table: &Table) {
    let resource = table.resource;
    text.push_str("\n  SQL; $1, $2 … are values, sent apart from the statement\n");
    let mut statement = |occasion: &str, sql: &str| {
        let _ = writeln!(text, "    {occasion}\n      {sql};");
    };
    for (occasion, sql) in table.statements.described(resource.operations) {
        statement(occasion, sql);
    }
    if !resource.allows(Operation::List) {
        return;
    }
    for query in examples(table) {
        let Ok(selection) = Selection::parse(resource, &query) else { continue };
        if resource.lists != Lists::Plain {
            statement(&format!("GET ?{query}, its count"), &statements::count(resource, &selection).sql);
        }
        let place = Cursor { key: String::new(), value: selection.sort.field.map(|_| String::new()) };
        let (after, until) = match selection.limit {
            Some(limit) => {
                let end = statements::page_end(resource, &selection, limit);
                statement(
                    &format!("GET ?{query}, where the page ends, if it is longer than a batch"),
                    &end.sql,
                );
                (None, Some(&place))
            }
            None => (Some(&place), None),
        };
        let batch = statements::list(&table.columns, resource, &selection, after, until, 1);
        let which = if after.is_some() { "each batch behind the first" } else { "its first batch" };
        statement(&format!("GET ?{query}, {which}"), &batch.sql);
    }
}

/// Query strings that show each filter and each order.
fn examples(table: &Table) -> Vec<String> {
    let mut examples = vec![format!("limit={LIMIT_MAX}"), format!("sort=-{}", table.columns[0].name)];
    for field in table.resource.fields {
        if field.searchable || field.filterable {
            let value = example(&field.kind);
            examples.push(format!("{}={value}", field.name));
        }
        if field.sortable {
            examples.push(format!("sort=-{}", field.name));
        }
    }
    examples
}

/// A value that a field of this kind may have.
fn example(kind: &FieldType) -> String {
    match *kind {
        FieldType::Text { min, max, .. } => "text".chars().cycle().take(min.max(4).min(max)).collect(),
        FieldType::Url => "http://example.org".to_owned(),
        FieldType::Uuid => "00000000-0000-4000-8000-000000000000".to_owned(),
        FieldType::Integer { min, max } | FieldType::Decimal { bounds: Some((min, max)), .. } => {
            1.clamp(min, max).to_string()
        }
        FieldType::Decimal { precision, scale, bounds: None } => {
            if precision > scale {
                "1".to_owned()
            } else {
                "0".to_owned()
            }
        }
        FieldType::Boolean => "true".to_owned(),
        FieldType::Date => "2024-02-29".to_owned(),
        FieldType::Timestamp => "2024-02-29T12:30:00Z".to_owned(),
        FieldType::Word(words) => words[0].to_owned(),
        // Documents are neither searched nor filtered.
        FieldType::Object(_) | FieldType::Array { .. } => String::new(),
    }
}

/// The rules of a field in one line.
pub(crate) fn rules(field: &Field) -> String {
    let source = match field.source {
        Source::Client => None,
        Source::Database => Some("read-only".to_owned()),
        Source::Caller(_) => Some("taken from the header of the request that creates the record".to_owned()),
    };
    let default = field.default.map(|text| {
        if field.kind.is_string() { format!("default {text:?}") } else { format!("default {text}") }
    });
    let marks = [
        (field.required && field.is_writable(), "required"),
        (field.is_nullable(), "may be null"),
        (field.unique, "unique"),
        (field.searchable, "searchable"),
        (field.filterable, "filterable"),
        (field.sortable, "sortable"),
    ];
    let marks = marks.into_iter().filter(|(holds, _)| *holds).map(|(_, mark)| mark.to_owned());
    std::iter::once(values(&field.kind))
        .chain(source)
        .chain(default)
        .chain(marks)
        .collect::<Vec<_>>()
        .join(", ")
}

/// What a field of this kind may hold.
fn values(kind: &FieldType) -> String {
    match *kind {
        FieldType::Text { min, max, trimmed } => {
            let length = if min == 0 { format!("up to {max}") } else { format!("{min} to {max}") };
            format!("text of {length} characters{}", if trimmed { ", trimmed" } else { "" })
        }
        FieldType::Url => "URL".to_owned(),
        FieldType::Uuid => "UUID".to_owned(),
        FieldType::Integer { min: i64::MIN, max: i64::MAX } => "integer".to_owned(),
        FieldType::Integer { min, max: i64::MAX } => format!("integer from {min} up"),
        FieldType::Integer { min, max } => format!("integer from {min} to {max}"),
        FieldType::Decimal { precision, scale, bounds: None } => format!("decimal({precision}, {scale})"),
        FieldType::Decimal { precision, scale, bounds: Some((min, max)) } => {
            format!("decimal({precision}, {scale}) from {min} to {max}")
        }
        FieldType::Boolean => "boolean".to_owned(),
        FieldType::Date => "date".to_owned(),
        FieldType::Timestamp => "timestamp".to_owned(),
        FieldType::Word(words) => format!("one of {}", words.join(", ")),
        FieldType::Object(fields) => {
            let fields = fields.iter().map(|field| format!("{}: {}", field.name, rules(field)));
            format!("object {{{}}}", fields.collect::<Vec<_>>().join("; "))
        }
        FieldType::Array { element, max } => format!("array of at most {max}: {}", values(&element.kind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static RARE: Resource = Resource::new(
        "/rare",
        ["rarity", "rarities"],
        "rarities",
        &[
            Field::text("code").length(2..=3).required().filterable(),
            Field::text("place").length(6..=9).filterable(),
            Field::integer("year").range(1888..=2100).filterable(),
            Field::decimal("depth", 6, 2).range(-900..=-2).filterable(),
            Field::decimal("share", 3, 3).filterable(),
            Field::word("state", &["new", "old"]).filterable(),
        ],
    );

    #[test]
    fn every_filter_is_shown_whatever_values_its_field_may_have() {
        let table = Table::new(0, &RARE).unwrap();
        let mut text = String::new();
        describe_sql(&mut text, &table);
        for field in RARE.fields {
            let shown = format!("WHERE \"{}\" = $1", field.name);
            assert!(text.contains(&shown), "{shown} is not in:\n{text}");
        }
    }
}
