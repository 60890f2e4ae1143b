//! One function for each operation: reads the request, calls the store, and writes the response.

use edge::{Body, BodySize, Method, Request, Response};
use foundation::codes;
use foundation::json::is_json;
use postgres::Row;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::body;
use crate::field::{Caller, FieldType};
use crate::jobs::Change;
use crate::page;
use crate::preconditions::{Condition, is_known};
use crate::problem::{Problem, Unserved};
use crate::query::{self, Selection};
use crate::record;
use crate::resource::{Action, Call, Lists};
use crate::routes::{page_link, record_path};
use crate::store::Store;
use crate::table::Table;

/// How many bytes of a list are written at a time.
const WRITE_BYTES: usize = 14 << 10;

/// Handles one request for a table.
pub(crate) struct Handler<'h> {
    pub store: &'h Store,
    pub table: &'h Table,
    pub body_max_bytes: u64,
}

type Served = Result<(), Unserved>;

impl Handler<'_> {
    /// Sends a list, or a page of it.
    pub(crate) fn list(&self, query: &str, request: &Request<'_>, response: &mut Response<'_>) -> Served {
        let mut selection = Selection::parse(self.table.resource, query).map_err(Problem::from)?;
        if self.table.resource.lists == Lists::Plain {
            let total = self.total(&selection)?;
            return self.send_list(selection, None, total.as_deref(), request, response);
        }
        let counted = self.store.count(self.table, &selection).map_err(|failure| self.failed(&failure))?;
        let mut opening = page::opening(self.table, &selection, counted.records, request);
        if selection.offset > 0 && counted.before.is_none() {
            opening.extend_from_slice(b"[]");
            opening.extend_from_slice(page::CLOSING);
            return Ok(response.send_json(200, &[], &opening)?);
        }
        selection.after = counted.before;
        self.send_list(selection, Some(opening), None, request, response)
    }

    /// The value of `Total-Count`, if the client asks for it: how many records there are on all pages, as far as the
    /// client wants them counted; with a plus if there are more.
    fn total(&self, selection: &Selection) -> Result<Option<String>, Problem> {
        let Some(most) = selection.count_up_to else { return Ok(None) };
        let counted = self.store.count(self.table, selection).map_err(|failure| self.failed(&failure))?;
        let is_more = counted.records > most as u64;
        Ok(Some(if is_more { format!("{most}+") } else { counted.records.to_string() }))
    }

    /// Sends the records of a list, behind the opening of a page if there is one: whole if they fit into the first
    /// batch, else streamed.
    fn send_list(
        &self,
        selection: Selection,
        opening: Option<Vec<u8>>,
        total: Option<&str>,
        request: &Request<'_>,
        response: &mut Response<'_>,
    ) -> Served {
        let asked = selection.clone();
        let mut listing = self.store.list(self.table, selection).map_err(|failure| self.failed(&failure))?;
        let next_page = listing.next_page.as_ref().filter(|_| opening.is_none());
        let link = next_page.map(|last| page_link(self.table, &asked.next_query(self.table.resource, last)));
        let fields: Vec<_> = [("link", link.as_deref()), ("total-count", total)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        if listing.batch.is_last {
            let json = match opening {
                Some(opening) => [&opening, &*listing.batch.json, page::CLOSING].concat(),
                None => listing.batch.json,
            };
            return Ok(response.send_json(200, &fields, &json)?);
        }
        response.begin(200);
        response.field("content-type", b"application/json");
        for (name, value) in fields {
            response.field(name, value.as_bytes());
        }
        response.end_head(BodySize::Unknown);
        if request.method() == Method::Head {
            return Ok(response.finish()?);
        }
        if let Some(opening) = &opening {
            response.write(opening)?;
        }
        loop {
            listing.read_ahead();
            for part in listing.batch.json.chunks(WRITE_BYTES) {
                response.write(part)?;
            }
            if listing.batch.is_last {
                break;
            }
            listing.advance().map_err(|failure| self.failed(&failure))?;
        }
        if opening.is_some() {
            response.write(page::CLOSING)?;
        }
        Ok(response.finish()?)
    }

    /// Stores a new record.
    pub(crate) fn create(&self, request: &mut Request<'_>, response: &mut Response<'_>) -> Served {
        // Kept until the record is stored, so that it counts against the budget of all bodies.
        let body = self.read_body(request)?;
        let caller = Caller { find: &|name| joined(request, name) };
        let (key, members) = body::new_record(self.table.resource, &body, &caller).map_err(Problem::from)?;
        let key = match self.table.columns[0].kind {
            FieldType::Uuid => Some(uuid::Uuid::new_v4().to_string()),
            _ => key,
        };
        let row = self.store.insert(self.table, key, members).map_err(|failure| self.failed(&failure))?;
        let key = record::key(&row).map_err(|error| self.unreadable(&error))?;
        self.send(201, &row, Some(&record_path(self.table, key)), response)
    }

    /// Deletes all records.
    pub(crate) fn delete_all(&self, response: &mut Response<'_>) -> Served {
        #[derive(Serialize)]
        struct Deleted {
            message: String,
            deleted: u64,
        }
        let deleted = self.store.delete_all(self.table).map_err(|failure| self.failed(&failure))?;
        let message = format!("Successfully deleted all {deleted} {}.", self.table.resource.plural);
        Ok(response.send_json(200, &[], &json(&Deleted { message, deleted }))?)
    }

    /// Sends one record, or 304 if the client has it already.
    pub(crate) fn read(&self, key: String, request: &Request<'_>, response: &mut Response<'_>) -> Served {
        let row = self.store.find(self.table, key).map_err(|failure| self.failed(&failure))?;
        let row = row.ok_or_else(|| Problem::not_found(self.table))?;
        if request.has_field("if-none-match") {
            let tag = record::tag(&row).map_err(|error| self.unreadable(&error))?;
            if is_known(joined(request, "if-none-match").as_deref(), &tag) {
                return Ok(response.send(304, &[("etag", &tag)], b"")?);
            }
        }
        self.send(200, &row, None, response)
    }

    /// Changes a record.
    pub(crate) fn update(
        &self,
        key: String,
        request: &mut Request<'_>,
        response: &mut Response<'_>,
    ) -> Served {
        let body = self.read_body(request)?;
        let members = body::changes(self.table.resource, &body).map_err(Problem::from)?;
        let condition = condition(request)?;
        let change = self.store.update(self.table, key, members, condition);
        let row = self.made(change.map_err(|failure| self.failed(&failure))?)?;
        self.send(200, &row, None, response)
    }

    /// Deletes a record.
    pub(crate) fn delete(&self, key: String, request: &Request<'_>, response: &mut Response<'_>) -> Served {
        let condition = condition(request)?;
        let change = self.store.delete(self.table, key, condition);
        let row = self.made(change.map_err(|failure| self.failed(&failure))?)?;
        let key = record::key(&row).map_err(|error| self.unreadable(&error))?;
        let field = &self.table.columns[0];
        let key = if field.kind.is_string() { key.into() } else { number(key) };
        let mut deleted = serde_json::Map::new();
        deleted.insert("message".to_owned(), self.table.deleted_message().into());
        deleted.insert(field.name.to_owned(), key);
        Ok(response.send_json(200, &[], &json(&deleted))?)
    }

    /// Runs an action of the resource.
    pub(crate) fn act(
        &self,
        action: &'static Action,
        key: Option<String>,
        query: &str,
        request: &mut Request<'_>,
        response: &mut Response<'_>,
    ) -> Served {
        let query = query::parameters(query)
            .map_err(|problem| Problem::new(400, codes::REQUEST_MALFORMED, problem))?;
        let body = request.read_body(self.body_max_bytes)?;
        let body = if body.is_empty() { None } else { Some(read_json(&body, request)?) };
        let text = |bytes| std::str::from_utf8(bytes).ok().map(str::to_owned);
        let fields = request.fields().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect();
        let call = Call { key: key.unwrap_or_default(), query, body, fields };
        let reply = self.store.act(self.table, action, call).map_err(|failure| self.failed(&failure))?;
        if reply.json.is_empty() {
            return Ok(response.send(reply.status, &[], b"")?);
        }
        Ok(response.send_json(reply.status, &[], reply.json.as_bytes())?)
    }

    fn read_body(&self, request: &mut Request<'_>) -> Result<Body, Unserved> {
        check_media_type(request)?;
        Ok(request.read_body(self.body_max_bytes)?)
    }

    fn made(&self, change: Change) -> Result<Row, Problem> {
        match change {
            Change::Made(row) => Ok(row),
            Change::Gone => Err(Problem::not_found(self.table)),
            Change::Stale => Err(Problem::stale(self.table)),
        }
    }

    fn send(&self, status: u16, row: &Row, location: Option<&str>, response: &mut Response<'_>) -> Served {
        let mut text = Vec::with_capacity(256);
        record::write_json(&self.table.columns, row, &mut text).map_err(|error| self.unreadable(&error))?;
        let tag = record::tag(row).map_err(|error| self.unreadable(&error))?;
        let fields = [("etag", tag.as_str()), ("location", location.unwrap_or_default())];
        let fields = if location.is_some() { &fields[..] } else { &fields[..1] };
        Ok(response.send_json(status, fields, &text)?)
    }

    fn failed(&self, failure: &database::Failure) -> Problem {
        Problem::of_failure(self.table, failure)
    }

    fn unreadable(&self, error: &postgres::Error) -> Problem {
        self.failed(&database::Failure::of(error, false))
    }
}

/// All values of a field, joined by commas (RFC 9110 §5.3).
fn joined(request: &Request<'_>, name: &str) -> Option<String> {
    let values = request.fields().filter(|(sent, _)| sent.eq_ignore_ascii_case(name.as_bytes()));
    let values: Vec<_> = values.map(|(_, value)| String::from_utf8_lossy(value)).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

fn check_media_type(request: &Request<'_>) -> Result<(), Problem> {
    if request.field("content-type").is_some_and(is_json) {
        Ok(())
    } else {
        Err(Problem::new(415, codes::MEDIA_TYPE_UNSUPPORTED, "The body must be application/json"))
    }
}

fn read_json(body: &[u8], request: &Request<'_>) -> Result<Box<RawValue>, Unserved> {
    check_media_type(request)?;
    let malformed =
        |error| Problem::new(400, codes::BODY_MALFORMED, format!("the body is not valid JSON: {error}"));
    Ok(serde_json::from_slice(body).map_err(malformed)?)
}

fn condition(request: &Request<'_>) -> Result<Condition, Problem> {
    let (if_match, if_none_match) = (joined(request, "if-match"), joined(request, "if-none-match"));
    Condition::of_change(if_match.as_deref(), if_none_match.as_deref())
        .map_err(|problem| Problem::new(400, codes::FIELD_INVALID, problem))
}

fn number(key: &str) -> serde_json::Value {
    key.parse::<i64>().map_or_else(|_| key.into(), Into::into)
}

/// The JSON of a value whose keys are all text, so that serialising cannot fail.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
