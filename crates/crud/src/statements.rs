//! The SQL of a resource, made from its description. Names come from the description and values are passed as
//! parameters: nothing that a client sent is ever part of a statement.
//!
//! Every value is passed as text: parameters are cast to their column's type, and columns are selected as text.

mod outbox;

use std::fmt::Write as _;

use crate::field::{Field, FieldType, Source};
use crate::query::{Cursor, Filter, FilterKind, Selection, Sort};
use crate::resource::{Operation, Parameter, Resource};
use outbox::Emitted;

/// The statements that are the same for every request.
#[derive(Debug)]
pub(crate) struct Statements {
    /// One record by its key.
    pub select_one: String,
    /// Several records by their keys.
    pub select_many: String,
    /// One record by its key, locked until the transaction ends.
    pub lock_one: String,
    /// Records in key order. Parameters: the key to start after, the number of records.
    pub select_next: String,
    /// Inserts one record. Parameters: the columns of [`Statements::inserted`].
    pub insert_one: String,
    /// Inserts several records; each parameter is an array. Generated keys ascend in the order of the arrays. The order
    /// of the returned rows is undefined.
    pub insert_many: String,
    /// Updates one record. Parameters: the key, then those of [`Statements::updated`].
    pub update: String,
    /// Deletes one record by its key.
    pub delete_one: String,
    /// Deletes all records; the number of rows is the number of records.
    pub delete_all: String,
    /// The column indexes of the parameters of an insert.
    pub inserted: Vec<usize>,
    /// The indexes of the columns that an update can change. A nullable one has two parameters: whether to change it,
    /// and the new value.
    pub updated: Vec<usize>,
}

impl Statements {
    /// The statements for a resource.
    pub(crate) fn new(resource: &Resource, columns: &[Field]) -> Self {
        let (table, key) = (quote(resource.table), &columns[0]);
        let key_name = quote(key.name);
        let select = format!("SELECT {} FROM {table}", selected(columns));
        let one = format!("WHERE {key_name} = {}", parameter(1, key));
        let is_generated = matches!(key.kind, FieldType::Integer { .. });
        let inserted: Vec<_> = (usize::from(is_generated)..columns.len())
            .filter(|index| *index == 0 || !matches!(columns[*index].source, Source::Database))
            .collect();
        let updated: Vec<_> = (1..columns.len()).filter(|index| columns[*index].is_writable()).collect();
        let emitted = |occasion| Emitted::find(resource, columns, occasion);
        let (created, changed, deleted) = (emitted("created"), emitted("updated"), emitted("deleted"));
        let select_next = format!(
            "{select} WHERE {key_name} > {} ORDER BY {table}.{key_name} LIMIT $2::text::bigint",
            parameter(1, key)
        );
        Self {
            select_many: format!("{select} WHERE {key_name} = ANY($1::text[]::{}[])", sql_type(key)),
            lock_one: format!("{select} {one} FOR UPDATE"),
            select_one: format!("{select} {one}"),
            select_next,
            insert_one: outbox::after(insert_one(&table, columns, &inserted), created),
            insert_many: outbox::after(insert_many(&table, columns, &inserted), created),
            update: outbox::after(update(&table, columns, &updated, &one), changed),
            delete_one: outbox::after(
                format!("DELETE FROM {table} {one} RETURNING {key_name}::text"),
                deleted,
            ),
            delete_all: outbox::after_all(format!("DELETE FROM {table}"), deleted),
            inserted,
            updated,
        }
    }

    /// Those that a resource with these operations runs, each with the occasion, for people.
    pub(crate) fn described(&self, operations: &[Operation]) -> Vec<(&'static str, &str)> {
        use Operation::{Create, Delete, DeleteAll, List, Read, Update};
        let all: [(&[Operation], &str, &str); 9] = [
            (&[Read], "GET of one", &self.select_one),
            (&[Read], "GETs of one that wait at the same time", &self.select_many),
            (&[List], "GET of the whole list, batch by batch", &self.select_next),
            (&[Create], "POST", &self.insert_one),
            (&[Create], "POSTs that wait at the same time", &self.insert_many),
            (&[Update, Delete], "before a change with If-Match or If-None-Match", &self.lock_one),
            (&[Update], "PUT, PATCH", &self.update),
            (&[Delete], "DELETE of one", &self.delete_one),
            (&[DeleteAll], "DELETE of all", &self.delete_all),
        ];
        let is_run = |needs: &[Operation]| needs.iter().any(|needed| operations.contains(needed));
        let run = all.into_iter().filter(|(needs, _, _)| is_run(needs));
        run.map(|(_, occasion, sql)| (occasion, sql)).collect()
    }
}

fn insert_one(table: &str, columns: &[Field], inserted: &[usize]) -> String {
    let names = names(columns, inserted);
    let values: Vec<_> =
        inserted.iter().enumerate().map(|(place, index)| parameter(place + 1, &columns[*index])).collect();
    format!("INSERT INTO {table} ({names}) VALUES ({}) RETURNING {}", values.join(", "), selected(columns))
}

/// `ORDER BY` makes generated keys ascend in the order of the arrays, because PostgreSQL generates them after sorting.
fn insert_many(table: &str, columns: &[Field], inserted: &[usize]) -> String {
    let arrays: Vec<_> = (1..=inserted.len()).map(|number| format!("${number}::text[]")).collect();
    let given: Vec<_> = (1..=inserted.len()).map(|number| format!("v{number}")).collect();
    let values: Vec<_> = inserted
        .iter()
        .zip(&given)
        .map(|(index, name)| match sql_type(&columns[*index]) {
            "text" => name.clone(),
            other => format!("{name}::{other}"),
        })
        .collect();
    format!(
        "INSERT INTO {table} ({}) SELECT {} FROM unnest({}) WITH ORDINALITY AS given ({}, place) ORDER BY place RETURNING {}",
        names(columns, inserted),
        values.join(", "),
        arrays.join(", "),
        given.join(", "),
        selected(columns)
    )
}

fn update(table: &str, columns: &[Field], updated: &[usize], one: &str) -> String {
    let mut number = 1;
    let assignments = updated.iter().map(|index| {
        let field = &columns[*index];
        let name = quote(field.name);
        number += 1;
        if field.is_nullable() {
            number += 1;
            let value = parameter(number, field);
            format!("{name} = CASE WHEN ${}::text::boolean THEN {value} ELSE {name} END", number - 1)
        } else {
            format!("{name} = coalesce({}, {name})", parameter(number, field))
        }
    });
    let assignments: Vec<_> = assignments.collect();
    format!("UPDATE {table} SET {} {one} RETURNING {}", assignments.join(", "), selected(columns))
}

/// A statement for one request, with its parameters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub sql: String,
    pub parameters: Vec<String>,
}

/// For how many rows lists are planned. With the real number, PostgreSQL would walk along the keys whenever it
/// overestimates how many records a search finds, and it estimates from a hundred sampled values; that can cost a hundred
/// times the search by its index.
const PLANNED_ROWS: usize = 10_000;

/// The first `rows` records of a list, in its order: those behind `after` and up to `until`. Made for each request because
/// it is planned for its own values anyway: whether an index serves a search depends on the text.
pub(crate) fn list(
    columns: &[Field],
    resource: &Resource,
    selection: &Selection,
    after: Option<&Cursor>,
    until: Option<&Cursor>,
    rows: usize,
) -> Query {
    let columns: Vec<_> = columns.iter().collect();
    let mut query = Query::select(resource, &columns);
    query.conditions(columns[0], selection, after, until);
    query.order(resource, selection.sort);
    query.first(rows, &columns)
}

/// The places of the last record of a page of `limit` and of the first behind it, if there is one: the first two rows.
pub(crate) fn page_end(resource: &Resource, selection: &Selection, limit: usize) -> Query {
    let key = &resource.key.field;
    let columns: Vec<_> = std::iter::once(key).chain(selection.sort.field).collect();
    let mut query = Query::select(resource, &columns);
    query.conditions(key, selection, selection.after.as_ref(), None);
    query.order(resource, selection.sort);
    let skipped = query.bind(limit.saturating_sub(1).to_string());
    let _ = write!(query.sql, " OFFSET ${skipped}::text::bigint");
    query.first(2, &columns)
}

/// How many records the filters leave. Of a count with a limit, PostgreSQL reads one record more than that, at most.
pub(crate) fn count(resource: &Resource, selection: &Selection) -> Query {
    let table = quote(resource.table);
    let (begin, end) = match selection.count_up_to {
        Some(most) => ("SELECT FROM ", format!(" LIMIT {}) AS counted", most + 1)),
        None => ("SELECT count(*)::text FROM ", String::new()),
    };
    let mut query = Query { sql: format!("{begin}{table}"), parameters: Vec::new() };
    query.conditions(&resource.key.field, selection, None, None);
    if selection.count_up_to.is_some() {
        query.sql = format!("SELECT count(*)::text FROM ({}{end}", query.sql);
    }
    query
}

impl Query {
    fn bind(&mut self, value: String) -> usize {
        self.parameters.push(value);
        self.parameters.len()
    }

    fn select(resource: &Resource, columns: &[&Field]) -> Self {
        let names: Vec<_> = columns.iter().map(|column| quote(column.name)).collect();
        let sql = format!("SELECT {} FROM {}", names.join(", "), quote(resource.table));
        Self { sql, parameters: Vec::new() }
    }

    /// The first `rows` rows, as text. PostgreSQL plans the inner statement apart from the outer one, which fetches its
    /// rows one by one and in their order, so that nothing beyond the last of them is computed. A search sorts all that
    /// it finds; only what is fetched is made into text.
    fn first(mut self, rows: usize, columns: &[&Field]) -> Self {
        let number = self.bind(rows.to_string());
        let texts: Vec<_> = columns.iter().map(|column| as_text(column)).collect();
        self.sql = format!(
            "WITH listed AS MATERIALIZED ({} LIMIT {PLANNED_ROWS}) SELECT {} FROM listed LIMIT ${number}::text::bigint",
            self.sql,
            texts.join(", ")
        );
        self
    }

    fn conditions(
        &mut self,
        key: &Field,
        selection: &Selection,
        after: Option<&Cursor>,
        until: Option<&Cursor>,
    ) {
        let mut conditions = Vec::new();
        for filter in &selection.filters {
            conditions.extend(self.filter(filter, selection));
        }
        let [forward, back] = if selection.sort.descending { ["<", ">="] } else { [">", "<="] };
        for (cursor, operator) in [(after, forward), (until, back)] {
            if let Some(cursor) = cursor {
                conditions.push(self.compare(key, selection.sort, cursor, operator));
            }
        }
        for (index, condition) in conditions.iter().enumerate() {
            let _ = write!(self.sql, " {} {condition}", if index == 0 { "WHERE" } else { "AND" });
        }
    }

    /// The condition of a filter; `None` if it is a part of another filter's condition.
    fn filter(&mut self, filter: &Filter, selection: &Selection) -> Option<String> {
        match filter.kind {
            FilterKind::Contains(name) => {
                let number = self.bind(like_pattern(&filter.value));
                Some(format!("{} ILIKE ${number}::text", quote(name)))
            }
            FilterKind::Compares(field, operator) => {
                let number = self.bind(filter.value.clone());
                Some(format!("{} {operator} {}", quote(field.name), parameter(number, field)))
            }
            FilterKind::Condition(parameter) => Some(self.condition(parameter, &filter.value, selection)),
            FilterKind::Refinement(_) => None,
        }
    }

    /// A condition of the resource's own, with parameters in the places of `$` and of `$NAME`, its refinement.
    fn condition(&mut self, own: &Parameter, value: &str, selection: &Selection) -> String {
        let number = self.bind(value.to_owned());
        let refinement = own.refined_by.map(|refinement| {
            let given = selection.filters.iter().find(|filter| filter.name == refinement.name);
            let value = given.map_or(refinement.default, |filter| &filter.value);
            (refinement.name, self.bind(value.to_owned()))
        });
        let mut parts = own.condition.split('$');
        let mut text = format!("({}", parts.next().unwrap_or_default());
        for part in parts {
            let refined = refinement.and_then(|(name, number)| Some((number, part.strip_prefix(name)?)));
            let (number, rest) = refined.unwrap_or((number, part));
            // Writing to a string cannot fail.
            let _ = write!(text, "${number}::text{rest}");
        }
        text + ")"
    }

    fn compare(&mut self, key: &Field, sort: Sort, cursor: &Cursor, operator: &str) -> String {
        let number = self.bind(cursor.key.clone());
        let key_value = parameter(number, key);
        match (sort.field, &cursor.value) {
            (Some(field), Some(value)) => {
                let number = self.bind(value.clone());
                let value = parameter(number, field);
                format!("({}, {}) {operator} ({value}, {key_value})", quote(field.name), quote(key.name))
            }
            _ => format!("{} {operator} {key_value}", quote(key.name)),
        }
    }

    /// Names the table, because a bare column name in `ORDER BY` would mean the selected text of that name.
    fn order(&mut self, resource: &Resource, sort: Sort) {
        let table = quote(resource.table);
        let direction = if sort.descending { " DESC" } else { "" };
        self.sql.push_str(" ORDER BY ");
        // Writing to a string cannot fail, here and below.
        if let Some(field) = sort.field {
            let _ = write!(self.sql, "{table}.{}{direction}, ", quote(field.name));
        }
        let _ = write!(self.sql, "{table}.{}{direction}", quote(resource.key.field.name));
    }
}

/// Quotes a name. Names need no escaping, but may be SQL keywords, such as `order`.
fn quote(name: &str) -> String {
    format!("\"{name}\"")
}

fn names(columns: &[Field], chosen: &[usize]) -> String {
    chosen.iter().map(|index| quote(columns[*index].name)).collect::<Vec<_>>().join(", ")
}

/// A SELECT of all columns for an action; `rest` follows the table's name.
pub(crate) fn selected_from(resource: &Resource, columns: &[Field], rest: &str) -> String {
    format!("SELECT {} FROM {} {rest}", selected(columns), quote(resource.table))
}

/// All columns of a record, as text.
fn selected(columns: &[Field]) -> String {
    columns.iter().map(as_text).collect::<Vec<_>>().join(", ")
}

/// Selects a column as the text that clients see, independent of the session's settings.
fn as_text(field: &Field) -> String {
    let name = quote(field.name);
    match field.kind {
        FieldType::Text { .. } | FieldType::Url | FieldType::Word(_) => name,
        FieldType::Date => format!("to_char({name}, 'YYYY-MM-DD')"),
        FieldType::Timestamp => {
            format!("to_char({name} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
        }
        _ => format!("{name}::text"),
    }
}

fn sql_type(field: &Field) -> &'static str {
    match field.kind {
        FieldType::Text { .. } | FieldType::Url | FieldType::Word(_) => "text",
        FieldType::Uuid => "uuid",
        FieldType::Integer { .. } => "bigint",
        FieldType::Decimal { .. } => "numeric",
        FieldType::Boolean => "boolean",
        FieldType::Date => "date",
        FieldType::Timestamp => "timestamptz",
        FieldType::Object(_) | FieldType::Array { .. } => "jsonb",
    }
}

fn parameter(number: usize, field: &Field) -> String {
    match sql_type(field) {
        "text" => format!("${number}::text"),
        other => format!("${number}::text::{other}"),
    }
}

/// A LIKE pattern that matches every text containing `text`, with `%`, `_` and `\` escaped.
fn like_pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Refinement;
    use crate::table::Table;

    static MOVIES: Resource = Resource::new(
        "/api/movies",
        ["movie", "movies"],
        "movies",
        &[
            Field::text("title").required().searchable(),
            Field::decimal("price", 8, 2).filterable(),
            Field::timestamp("made").read_only().required().sortable(),
        ],
    );

    static ROOMS: Resource = Resource {
        parameters: &[Parameter {
            name: "near",
            condition: "lat < $ AND is_near($, $within)",
            read: |text| Ok(text.to_owned()),
            about: "",
            refined_by: Some(Refinement {
                name: "within",
                default: "1",
                read: |text| Ok(text.to_owned()),
                about: "",
            }),
        }],
        ..Resource::new("/rooms", ["room", "rooms"], "rooms", &[])
    };

    #[test]
    fn what_like_would_interpret_is_escaped() {
        assert_eq!(like_pattern(""), "%%");
        assert_eq!(like_pattern(r"100%_\"), r"%100\%\_\\%");
    }

    #[test]
    fn statements_say_what_the_description_says() {
        let statements = Table::new(0, &MOVIES).unwrap().statements;
        assert!(statements.select_one.ends_with(r#"FROM "movies" WHERE "id" = $1::text::bigint"#));
        assert!(statements.select_many.ends_with(r#"WHERE "id" = ANY($1::text[]::bigint[])"#));
        assert!(statements.insert_one.starts_with(
            r#"INSERT INTO "movies" ("title", "price") VALUES ($1::text, $2::text::numeric) RETURNING "id"::text, "title""#
        ));
        assert!(statements.update.starts_with(
            r#"UPDATE "movies" SET "title" = coalesce($2::text, "title"), "price" = CASE WHEN $3::text::boolean THEN $4::text::numeric ELSE "price" END WHERE "id" = $1"#
        ));
    }

    #[test]
    fn a_list_is_asked_for_as_the_client_wants_it() {
        let columns = Table::new(0, &MOVIES).unwrap().columns;
        let selection = Selection::parse(
            &MOVIES,
            "title=a%25&price_from=2&sort=-made&after=7&after_made=2024-02-29T00:00:00Z&limit=2",
        )
        .unwrap();
        let query = list(&columns, &MOVIES, &selection, selection.after.as_ref(), None, 3);
        let (_, conditions) = query.sql.split_once(" WHERE ").unwrap();
        assert_eq!(
            conditions,
            r#""title" ILIKE $1::text AND "price" >= $2::text::numeric AND ("made", "id") < ($4::text::timestamptz, $3::text::bigint) ORDER BY "movies"."made" DESC, "movies"."id" DESC LIMIT 10000) SELECT "id"::text, "title", "price"::text, to_char("made" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') FROM listed LIMIT $5::text::bigint"#
        );
        assert_eq!(query.parameters, [r"%a\%%", "2.00", "7", "2024-02-29T00:00:00Z", "3"]);
        let refined = Selection::parse(&ROOMS, "near=1,2&within=5").unwrap();
        let query = list(&Table::new(0, &ROOMS).unwrap().columns, &ROOMS, &refined, None, None, 3);
        assert!(
            query.sql.contains("WHERE (lat < $1::text AND is_near($1::text, $2::text)) ORDER"),
            "{}",
            query.sql
        );
        assert_eq!(query.parameters, ["1,2", "5", "3"]);
        let plain = page_end(&MOVIES, &Selection::default(), 100);
        assert_eq!(
            plain.sql,
            r#"WITH listed AS MATERIALIZED (SELECT "id" FROM "movies" ORDER BY "movies"."id" OFFSET $1::text::bigint LIMIT 10000) SELECT "id"::text FROM listed LIMIT $2::text::bigint"#
        );
    }
}
