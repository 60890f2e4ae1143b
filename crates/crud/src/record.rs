//! A stored record, which is a row whose columns were selected as text, key first: its JSON, entity tag and cursor.

use postgres::types::ToSql;
use postgres::{Row, Transaction};

use crate::field::Field;
use crate::preconditions::entity_tag;
use crate::query::{Cursor, Sort};
use crate::resource::Resource;
use crate::statements::selected_from;

/// The record's key.
pub(crate) fn key(row: &Row) -> Result<&str, postgres::Error> {
    row.try_get(0)
}

/// Its strong entity tag, quotes included.
pub(crate) fn tag(row: &Row) -> Result<String, postgres::Error> {
    let values: Vec<Option<&str>> =
        (1..row.len()).map(|index| row.try_get(index)).collect::<Result<_, _>>()?;
    Ok(entity_tag(key(row)?, values.into_iter()))
}

/// Its position in a list with that order.
pub(crate) fn cursor(columns: &[Field], row: &Row, sort: Sort) -> Result<Cursor, postgres::Error> {
    let column = sort.field.and_then(|sorted| columns.iter().position(|field| field.name == sorted.name));
    let value = column.map(|column| row.try_get::<_, Option<String>>(column)).transpose()?.flatten();
    Ok(Cursor { key: key(row)?.to_owned(), value })
}

/// Appends it as JSON.
pub(crate) fn write_json(columns: &[Field], row: &Row, json: &mut Vec<u8>) -> Result<(), postgres::Error> {
    for (index, field) in columns.iter().enumerate() {
        json.extend_from_slice(if index == 0 { b"{\"" } else { b",\"" });
        json.extend_from_slice(field.name.as_bytes());
        json.extend_from_slice(b"\":");
        match row.try_get::<_, Option<&str>>(index)? {
            None => json.extend_from_slice(b"null"),
            // Serialising text into a vector cannot fail.
            Some(text) if field.kind.is_string() => drop(serde_json::to_writer(&mut *json, text)),
            Some(text) => json.extend_from_slice(text.as_bytes()),
        }
    }
    json.push(b'}');
    Ok(())
}

impl Resource {
    /// For actions: the records that `rest` chooses, as a JSON array. `rest` is the statement from `WHERE` or `ORDER
    /// BY` on, and needs a `LIMIT`; pass values as `parameters`.
    pub fn records(
        &self,
        transaction: &mut Transaction<'_>,
        rest: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<String, postgres::Error> {
        let columns = self.columns();
        let rows = transaction.query(&selected_from(self, &columns, rest), parameters)?;
        let mut json = vec![b'['];
        for (index, row) in rows.iter().enumerate() {
            if index > 0 {
                json.push(b',');
            }
            write_json(&columns, row, &mut json)?;
        }
        json.push(b']');
        // It consists of UTF-8 texts.
        Ok(String::from_utf8(json).unwrap_or_default())
    }
}
