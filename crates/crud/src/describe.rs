//! What `--describe` prints: the routes, fields and SQL of a service.

use std::fmt::Write as _;

use crate::field::{Field, FieldType, Source};
use crate::query::Selection;
use crate::routes::Routes;
use crate::server::Application;
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
    for table in tables {
        let _ = writeln!(text, "\nFields of a {}, table {}", table.resource.name, table.resource.table);
        for field in &table.columns {
            let _ = writeln!(text, "  {:<28} {}", field.name, rules(field));
        }
        let _ = writeln!(text, "\nSQL");
        for statement in table.statements.all() {
            let _ = writeln!(text, "  {statement};");
        }
        let _ = writeln!(
            text,
            "\nSQL of lists, planned for each request; with a condition for each filter that is given"
        );
        for query in examples(table) {
            if let Ok(selection) = Selection::parse(table.resource, &query) {
                let list = statements::list(&table.columns, table.resource, &selection, None, None, 64);
                let end = statements::page_end(table.resource, &selection, 100);
                let _ = writeln!(text, "  ?{query}\n    {};\n    {};", list.sql, end.sql);
            }
        }
    }
    text
}

/// Example query strings for each filter and each order.
fn examples(table: &Table) -> Vec<String> {
    let mut examples = vec!["limit=100".to_owned()];
    for field in table.resource.fields {
        if field.searchable || field.filterable {
            let value = match field.kind {
                FieldType::Word(words) => words[0],
                FieldType::Boolean => "true",
                FieldType::Date => "2024-02-29",
                FieldType::Timestamp => "2024-02-29T12:30:00Z",
                FieldType::Uuid => "00000000-0000-4000-8000-000000000000",
                FieldType::Url => "http://example.org",
                FieldType::Text { .. } => "text",
                _ => "1",
            };
            examples.push(format!("{}={value}", field.name));
        }
        if field.sortable {
            examples.push(format!("sort=-{}", field.name));
        }
    }
    examples
}

/// The rules of a field in one line.
pub(crate) fn rules(field: &Field) -> String {
    let kind = match field.kind {
        FieldType::Text { min, max, trimmed } => {
            format!("text of {min} to {max} characters{}", if trimmed { ", trimmed" } else { "" })
        }
        FieldType::Url => "URL".to_owned(),
        FieldType::Uuid => "UUID".to_owned(),
        FieldType::Integer { min: i64::MIN, max: i64::MAX } => "integer".to_owned(),
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
            format!("{{{}}}", fields.collect::<Vec<_>>().join("; "))
        }
        FieldType::Array { element, max } => format!("at most {max} of {}", rules(element)),
    };
    let source = match field.source {
        Source::Client => None,
        Source::Database => Some("set by the database".to_owned()),
        Source::Caller(_) => Some("found in the request's head".to_owned()),
    };
    let default = field.default.map(|text| format!("default {text:?}"));
    let marks = [
        (field.required, "required"),
        (field.unique, "unique"),
        (field.searchable, "searchable"),
        (field.filterable, "filterable"),
        (field.sortable, "sortable"),
    ];
    let marks = marks.into_iter().filter(|(holds, _)| *holds).map(|(_, mark)| mark.to_owned());
    std::iter::once(kind).chain(source).chain(default).chain(marks).collect::<Vec<_>>().join(", ")
}
