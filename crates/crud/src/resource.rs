//! Describes resources: path, table, key, fields and operations.

use postgres::Transaction;
use serde_json::value::RawValue;

use crate::field::{Field, FieldType};

/// A kind of records that clients can create, read, change and delete. A constant; see [`Resource::new`].
#[derive(Debug)]
pub struct Resource {
    /// The path of the collection, such as `/api/movies`; one record is at `/api/movies/7`.
    pub path: &'static str,
    /// The name of one record in messages and documents: `movie`.
    pub name: &'static str,
    /// The plural of `name`: `movies`.
    pub plural: &'static str,
    /// The table's name.
    pub table: &'static str,
    /// The key that identifies a record.
    pub key: Key,
    /// All other fields, in the order in which clients see them.
    pub fields: &'static [Field],
    /// The operations that clients may use.
    pub operations: &'static [Operation],
    /// Further methods for an operation: `[("UPDATE", Operation::Update)]`.
    pub aliases: &'static [(&'static str, Operation)],
    /// A check beyond the rules of single fields.
    pub check: Option<Check>,
    /// Query parameters of lists, in addition to those of fields.
    pub parameters: &'static [Parameter],
    /// Further operations of the resource's own.
    pub actions: &'static [Action],
    /// The events that changes of records become: `["room.created.1", "room.deleted.1"]`. The second part of a name is
    /// `created`, `updated` or `deleted`; the third is the version of the event's body, which never changes its
    /// meaning. The body is the record, of a deleted one its key alone.
    ///
    /// An event is written to the table `outbox` in the transaction of its change, except for changes by actions. The
    /// schema needs the migration `sql/events/0001_outbox.sql`; publishing is up to the crate `events`.
    pub emits: &'static [&'static str],
    /// The topic exchange that the events are published to. All resources of a service have the same one.
    pub exchange: &'static str,
    /// How lists are paged, and the form of their JSON.
    pub lists: Lists,
    /// The form of error responses.
    pub errors: Errors,
}

impl Resource {
    /// A resource with all operations and a generated key `id`. Events would go to an exchange of the table's name. Override what differs: `Resource { operations:
    /// Operation::READ_ONLY, ..Resource::new(…) }`.
    pub const fn new(
        path: &'static str,
        [name, plural]: [&'static str; 2],
        table: &'static str,
        fields: &'static [Field],
    ) -> Self {
        Self {
            path,
            name,
            plural,
            table,
            key: Key::generated("id"),
            fields,
            operations: Operation::ALL,
            aliases: &[],
            check: None,
            parameters: &[],
            actions: &[],
            emits: &[],
            exchange: table,
            lists: Lists::Plain,
            errors: Errors::Plain,
        }
    }

    /// The key, then the fields, in the order of a record's columns.
    pub(crate) fn columns(&self) -> Vec<Field> {
        std::iter::once(self.key.field).chain(self.fields.iter().copied()).collect()
    }

    /// The names of the fields that lists can be sorted by, the key first.
    pub(crate) fn sortable(&self) -> impl Iterator<Item = &'static str> {
        let sortable = self.fields.iter().filter(|field| field.sortable).map(|field| field.name);
        std::iter::once(self.key.field.name).chain(sortable)
    }

    /// Whether clients may use this operation.
    pub(crate) fn allows(&self, operation: Operation) -> bool {
        self.operations.contains(&operation)
    }
}

/// How the lists of a resource are paged, and the form of their JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lists {
    /// An array of all records, or a page of it with `?limit=N&after=KEY`; the header field `Link` leads to the next
    /// page. A page costs the same wherever it is. With `?count=N` the header field `Total-Count` tells how many there
    /// are, as far as N.
    Plain,
    /// Always a page, chosen by `?limit=N&offset=N`: `{"count": 1023, "next": URL, "previous": null, "results": […]}`.
    /// For clients that expect this form: counting reads all records that the filters leave, an offset all that it
    /// skips, and what is created or deleted meanwhile moves the pages.
    Counted {
        /// The number of records on a page when the client gives no limit.
        size: usize,
    },
}

/// The form of the error responses of a resource. What the HTTP server itself refuses, such as a body over the limit,
/// always has the plain form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errors {
    /// `{"error": "title is required", "code": "field_invalid", "fields": {"title": "is required"}}`.
    Plain,
    /// `{"detail": "title is required", "code": "field_invalid", "fields": {"title": "is required"}}`.
    Detail,
}

impl Errors {
    /// The name of the member with the text.
    pub(crate) const fn member(self) -> &'static str {
        match self {
            Self::Plain => "error",
            Self::Detail => "detail",
        }
    }
}

/// The key of a resource: a field that identifies a record and never changes.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub(crate) field: Field,
}

impl Key {
    /// The database counts upward from 1. Column: `bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY`.
    pub const fn generated(name: &'static str) -> Self {
        Self { field: Field::integer(name).range(1..=i64::MAX).read_only().required() }
    }

    /// A random UUID (version 4), generated by the service. Column: `uuid PRIMARY KEY`.
    pub const fn uuid(name: &'static str) -> Self {
        Self { field: Field::uuid(name).read_only().required() }
    }

    /// A text that the client chooses when it creates the record. Column: `text PRIMARY KEY`.
    ///
    /// # Panics
    /// If the text may be empty. Descriptions are constants, so this stops the compiler.
    pub const fn text(field: Field) -> Self {
        assert!(matches!(field.kind, FieldType::Text { min: 1.., .. }), "a key is a text that is not empty");
        Self { field: field.required() }
    }
}

/// An operation on the records of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// GET and HEAD on the collection.
    List,
    /// POST on the collection.
    Create,
    /// DELETE on the collection.
    DeleteAll,
    /// GET and HEAD on a record.
    Read,
    /// PUT and PATCH on a record; both replace the members that are given and keep the others.
    Update,
    /// DELETE on a record.
    Delete,
}

impl Operation {
    /// All operations.
    pub const ALL: &'static [Self] =
        &[Self::List, Self::Create, Self::DeleteAll, Self::Read, Self::Update, Self::Delete];
    /// All operations except deleting all records at once.
    pub const SINGLE: &'static [Self] = &[Self::List, Self::Create, Self::Read, Self::Update, Self::Delete];
    /// Records can be created and read, but not changed or deleted.
    pub const APPEND_ONLY: &'static [Self] = &[Self::List, Self::Create, Self::Read];
    /// Records can only be read; something else creates them.
    pub const READ_ONLY: &'static [Self] = &[Self::List, Self::Read];
}

/// Checks what a client sent beyond the rules of single fields: adds a complaint for each field that is wrong. For an
/// update it sees only the changed fields. A rule between fields that must always hold belongs in a `CHECK` constraint;
/// if it is named `TABLE_FIELD_check`, the error response names that field.
pub type Check = fn(&Given<'_>, &mut Vec<(&'static str, &'static str)>);

/// What a client sent; each field has been checked.
pub struct Given<'g> {
    pub(crate) fields: &'static [Field],
    pub(crate) members: &'g [Member],
}

impl Given<'_> {
    /// The value of a field as text, JSON if it is a document; `None` when it is absent or null.
    pub fn get(&self, name: &str) -> Option<&str> {
        let index = self.fields.iter().position(|field| field.name == name)?;
        self.members.get(index)?.text()
    }
}

/// The value that was sent for one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Member {
    /// Nothing.
    Absent,
    /// `null`.
    Null,
    /// A valid value, as text.
    Value(String),
}

impl Member {
    /// The value, if there is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Value(text) => Some(text),
            Self::Absent | Self::Null => None,
        }
    }
}

/// A query parameter of lists that is no field: `near=48.2,16.37`, `q=words`.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// The name.
    pub name: &'static str,
    /// The SQL condition, with `$` where the value stands (as text): `search @@ websearch_to_tsquery('rooms', $)`.
    pub condition: &'static str,
    /// Checks a value and converts it for the condition, or returns a complaint: "must be a number".
    pub read: fn(&str) -> Result<String, &'static str>,
    /// One sentence for the documentation.
    pub about: &'static str,
    /// A second query parameter, whose value the condition uses as `$NAME`.
    pub refined_by: Option<Refinement>,
}

/// A query parameter that is only given beside another one: `within_km=5` beside `near=48.2,16.37`.
#[derive(Clone, Copy, Debug)]
pub struct Refinement {
    /// The name.
    pub name: &'static str,
    /// The value, converted for the condition, when none is given.
    pub default: &'static str,
    /// Like [`Parameter::read`].
    pub read: fn(&str) -> Result<String, &'static str>,
    /// One sentence for the documentation.
    pub about: &'static str,
}

impl Parameter {
    /// This parameter and the one that refines it, each with the sentence for the documentation.
    pub(crate) fn documented(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let refinement = self.refined_by.map(|refinement| (refinement.name, refinement.about));
        std::iter::once((self.name, self.about)).chain(refinement)
    }
}

/// An operation of the resource's own: `POST /pizzas/7/like`, `GET /pizzas/random`.
#[derive(Clone, Copy, Debug)]
pub struct Action {
    /// The method. A GET must change nothing: it runs in a read-only transaction, and may be repeated.
    pub method: &'static str,
    /// The path after that of the resource: `/random` for the collection, `/{id}/like` for a record.
    pub path: &'static str,
    /// One sentence for the documentation.
    pub about: &'static str,
    /// Executes it. The transaction is committed if the status of the reply is below 400, else rolled back.
    pub run: fn(&mut Transaction<'_>, &Call) -> Result<Reply, postgres::Error>,
}

impl Action {
    /// Whether the path names a record.
    pub(crate) fn has_key(&self) -> bool {
        self.path.starts_with("/{")
    }

    /// The last segment of the path, behind the key if there is one.
    pub(crate) fn segment(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// The request for an action.
#[derive(Clone, Debug)]
pub struct Call {
    /// The key in the path, checked; empty when the path has none.
    pub key: String,
    /// The query parameters, decoded.
    pub query: Vec<(String, String)>,
    /// The body, valid JSON; `None` when there is none.
    pub body: Option<Box<RawValue>>,
    /// The header fields, with names as they were sent; those that are not UTF-8 are left out.
    pub fields: Vec<(String, String)>,
}

impl Call {
    /// The value of a header field. See [`crate::Caller::header`] for which ones can be trusted.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter().filter(|(sent, _)| sent.eq_ignore_ascii_case(name));
        fields.next().map(|(_, value)| value.as_str())
    }
}

/// The response of an action.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body, JSON; empty with 204.
    pub json: String,
}

impl Reply {
    /// An error in the usual form: `{"error": MESSAGE, "code": CODE}`. The code is the error's stable name, for programs:
    /// one of [`foundation::codes`], or one of the resource's own, such as `room_not_found`.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        Self { status, json: serde_json::json!({ "error": message, "code": code }).to_string() }
    }

    /// An error of a resource whose errors have the form [`Errors::Detail`].
    pub fn detail(status: u16, code: &str, message: &str) -> Self {
        Self { status, json: serde_json::json!({ "detail": message, "code": code }).to_string() }
    }
}
