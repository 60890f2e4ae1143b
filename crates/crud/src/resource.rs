//! How a resource is described: its path, its table, its key, its fields, and what may be done with it.

use postgres::Transaction;
use serde_json::value::RawValue;

use crate::field::{Field, Kind};

/// A kind of records that clients can create, read, change and delete. A constant; see [`Resource::new`].
#[derive(Debug)]
pub struct Resource {
    /// Where the collection is, such as `/api/movies`; one record is at `/api/movies/7`.
    pub path: &'static str,
    /// What one record is called, in messages and documents: `movie`.
    pub name: &'static str,
    /// What several are called: `movies`.
    pub plural: &'static str,
    /// The table.
    pub table: &'static str,
    /// What tells records apart.
    pub key: Key,
    /// All other fields, in the order in which clients see them.
    pub fields: &'static [Field],
    /// What clients may do.
    pub operations: &'static [Operation],
    /// Further methods that mean the same as another one: `[("UPDATE", Operation::Update)]`.
    pub aliases: &'static [(&'static str, Operation)],
    /// What must hold beside the rules of the single fields.
    pub check: Option<Check>,
    /// Query parameters of lists beside those that fields give.
    pub parameters: &'static [Parameter],
    /// What can be done beside the operations.
    pub actions: &'static [Action],
}

impl Resource {
    /// A resource on which every operation is allowed, with a generated key `id`. Descriptions that want more say so:
    /// `Resource { operations: Operation::READ_ONLY, ..Resource::new(…) }`.
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
        }
    }

    /// The key, then the fields: what a record consists of, in this order.
    pub(crate) fn columns(&self) -> Vec<Field> {
        std::iter::once(self.key.field).chain(self.fields.iter().copied()).collect()
    }

    /// Whether clients may do this.
    pub(crate) fn allows(&self, operation: Operation) -> bool {
        self.operations.contains(&operation)
    }
}

/// What tells the records of a resource apart. It is a field like any other, except that it never changes.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub(crate) field: Field,
}

impl Key {
    /// The database counts upward from 1. Column: `bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY`.
    pub const fn generated(name: &'static str) -> Self {
        Self { field: Field::integer(name).range(1..=i64::MAX).read_only().required() }
    }

    /// A random UUID (version 4), made here. Column: `uuid PRIMARY KEY`.
    pub const fn uuid(name: &'static str) -> Self {
        Self { field: Field::uuid(name).read_only().required() }
    }

    /// A text that the client chooses when it creates the record. Column: `text PRIMARY KEY`.
    ///
    /// # Panics
    /// If it may be empty. Descriptions are constants, so that the compiler says so.
    pub const fn text(field: Field) -> Self {
        assert!(matches!(field.kind, Kind::Text { min: 1.., .. }), "a key is a text that is not empty");
        Self { field: field.required() }
    }
}

/// What can be done with the records of a resource.
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
    /// Everything.
    pub const ALL: &'static [Self] =
        &[Self::List, Self::Create, Self::DeleteAll, Self::Read, Self::Update, Self::Delete];
    /// Everything but deleting all records at once.
    pub const SINGLE: &'static [Self] = &[Self::List, Self::Create, Self::Read, Self::Update, Self::Delete];
    /// Records only become more.
    pub const APPEND_ONLY: &'static [Self] = &[Self::List, Self::Create, Self::Read];
    /// Records come from elsewhere.
    pub const READ_ONLY: &'static [Self] = &[Self::List, Self::Read];
}

/// Checks what a client sent beyond the rules of its fields: adds a complaint for each field that is to blame. On a
/// change it sees only what changes; what must hold between all fields at any time belongs into a `CHECK` constraint,
/// and one named `TABLE_FIELD_check` is told as a fault of that field.
pub type Check = fn(&Given<'_>, &mut Vec<(&'static str, &'static str)>);

/// What a client sent, checked field by field.
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

/// What was sent for one field.
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

/// A query parameter of lists that is more than a field: `near=48.2,16.37`, `q=words`.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// The name.
    pub name: &'static str,
    /// The SQL condition, with `$` where the value stands (as text): `search @@ websearch_to_tsquery('rooms', $)`.
    pub condition: &'static str,
    /// Checks a value and brings it into the form that the condition wants, or complains: "must be a number".
    pub read: fn(&str) -> Result<String, &'static str>,
    /// One sentence for the documentation.
    pub about: &'static str,
}

/// Something of its own that can be done: `POST /pizzas/7/like`, `GET /pizzas/random`.
#[derive(Clone, Copy, Debug)]
pub struct Action {
    /// The method. A GET must change nothing: it runs in a read-only transaction, and may be repeated.
    pub method: &'static str,
    /// The path behind that of the resource: `/random` for the collection, `/{id}/like` for a record.
    pub path: &'static str,
    /// One sentence for the documentation.
    pub about: &'static str,
    /// Does it. The transaction is committed if the reply is a success, and rolled back otherwise.
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

/// What an action is asked.
#[derive(Clone, Debug)]
pub struct Call {
    /// The key in the path, checked; empty when the path has none.
    pub key: String,
    /// The query parameters, decoded.
    pub query: Vec<(String, String)>,
    /// The body, valid JSON; `None` when there is none.
    pub body: Option<Box<RawValue>>,
    /// The header fields, names as they were sent; those that are not text are left out.
    pub fields: Vec<(String, String)>,
}

impl Call {
    /// The value of a header field that was sent. As with [`Caller::header`], only the gateway knows who somebody is.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter().filter(|(sent, _)| sent.eq_ignore_ascii_case(name));
        fields.next().map(|(_, value)| value.as_str())
    }
}

/// What an action answers.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body, JSON; empty with 204.
    pub json: String,
}

impl Reply {
    /// An error as all others look: `{"error": "…"}`.
    pub fn error(status: u16, message: &str) -> Self {
        Self { status, json: serde_json::json!({ "error": message }).to_string() }
    }
}

/// The request that creates a record, for fields that it says rather than its body.
pub struct Caller<'r> {
    pub(crate) find: &'r dyn Fn(&str) -> Option<String>,
}

impl Caller<'_> {
    /// The value of a header field, if it is there and text. Only a header that the gateway sets, and takes away from
    /// clients that send it themselves, says who somebody is.
    pub fn header(&self, name: &str) -> Option<String> {
        (self.find)(name)
    }
}
