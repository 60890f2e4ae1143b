//! Adds to a statement that changes records the part that writes their events to the table `outbox`. It is one
//! statement, so one transaction, without a further round trip.

use crate::field::Field;
use crate::resource::Resource;

use super::quote;

/// The event of a change.
#[derive(Clone, Copy)]
pub(super) struct Emitted<'r> {
    /// Its name, such as `room.created.1`.
    name: &'static str,
    table: &'static str,
    /// The columns that the change returns, all of them as text, key first.
    columns: &'r [Field],
}

impl<'r> Emitted<'r> {
    /// The event of a resource for records that were `created`, `updated` or `deleted`, if it has one.
    pub(super) fn find(resource: &Resource, columns: &'r [Field], occasion: &str) -> Option<Self> {
        let name = resource.emits.iter().find(|name| name.split('.').nth(1) == Some(occasion))?;
        let columns = if occasion == "deleted" { &columns[..1] } else { columns };
        Some(Self { name, table: resource.table, columns })
    }

    /// `WITH changed (…) AS (change)`, where `change` returns the columns.
    fn with(self, change: &str) -> String {
        let names: Vec<_> = self.columns.iter().map(|field| quote(field.name)).collect();
        format!("WITH changed ({}) AS ({change})", names.join(", "))
    }

    /// Inserts an event for each changed record. Its body is the JSON that clients of the service get: what is no
    /// string there is taken as it is. No field can be called `Body`, because names of fields are in lower case.
    fn insert(self) -> String {
        let values: Vec<_> = self
            .columns
            .iter()
            .map(|field| {
                let name = quote(field.name);
                if field.kind.is_string() { name } else { format!("{name}::json AS {name}") }
            })
            .collect();
        format!(
            "INSERT INTO outbox (event, record, body) SELECT '{}', '{}/' || {}, \
             row_to_json((SELECT \"Body\" FROM (SELECT {}) AS \"Body\"))::text FROM changed",
            self.name,
            self.table,
            quote(self.columns[0].name),
            values.join(", ")
        )
    }
}

/// A change that returns the event's columns, as a statement that returns the same rows and writes the event.
pub(super) fn after(change: String, event: Option<Emitted<'_>>) -> String {
    let Some(event) = event else { return change };
    format!("{}, emitted AS ({}) SELECT * FROM changed", event.with(&change), event.insert())
}

/// A change of many records that returns nothing, as a statement that writes an event for each of them.
pub(super) fn after_all(change: String, event: Option<Emitted<'_>>) -> String {
    let Some(event) = event else { return change };
    let key = quote(event.columns[0].name);
    format!("{} {}", event.with(&format!("{change} RETURNING {key}::text")), event.insert())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;

    #[test]
    fn a_change_and_its_event_are_one_statement() {
        static ROOMS: Resource = Resource {
            emits: &["room.created.1", "room.deleted.2"],
            ..Resource::new("/rooms", ["room", "rooms"], "rooms", &[Field::text("name").required()])
        };
        let statements = Table::new(0, &ROOMS).unwrap().statements;
        assert_eq!(
            statements.insert_one,
            r#"WITH changed ("id", "name") AS (INSERT INTO "rooms" ("name") VALUES ($1::text) RETURNING "id"::text, "name"), emitted AS (INSERT INTO outbox (event, record, body) SELECT 'room.created.1', 'rooms/' || "id", row_to_json((SELECT "Body" FROM (SELECT "id"::json AS "id", "name") AS "Body"))::text FROM changed) SELECT * FROM changed"#
        );
        assert!(statements.update.starts_with("UPDATE"), "updates have no event");
        assert!(statements.delete_one.contains("'room.deleted.2'"));
        assert_eq!(
            statements.delete_all,
            r#"WITH changed ("id") AS (DELETE FROM "rooms" RETURNING "id"::text) INSERT INTO outbox (event, record, body) SELECT 'room.deleted.2', 'rooms/' || "id", row_to_json((SELECT "Body" FROM (SELECT "id"::json AS "id") AS "Body"))::text FROM changed"#
        );
    }
}
