//! Describes fields. The builders are `const`: a description is a constant, and one that contradicts itself does not
//! compile.
//!
//! HTTP and SQL do not belong here.
#![expect(
    clippy::missing_panics_doc,
    reason = "descriptions are constants, so that the compiler stops, not a service"
)]

use std::ops::RangeInclusive;

/// One field of a resource: a member of its JSON, and the column of the same name.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a mark of its own that a description sets or does not"
)]
pub struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: FieldType,
    pub(crate) source: Source,
    /// Whether a new record must have it.
    pub(crate) required: bool,
    /// Its value, as text, in a new record for which none was sent.
    pub(crate) default: Option<&'static str>,
    pub(crate) unique: bool,
    pub(crate) searchable: bool,
    pub(crate) filterable: bool,
    pub(crate) sortable: bool,
    /// One sentence for the documentation.
    pub(crate) about: &'static str,
}

/// The type of a field's values, with their limits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FieldType {
    /// Text without U+0000; lengths in characters.
    Text { min: usize, max: usize, trimmed: bool },
    /// An absolute `http` or `https` URL.
    Url,
    /// A UUID, such as the key of a record elsewhere.
    Uuid,
    /// A whole number.
    Integer { min: i64, max: i64 },
    /// A number of at most `precision` digits, `scale` of them behind the point; kept exactly. Bounds are in whole units.
    Decimal { precision: u32, scale: u32, bounds: Option<(i64, i64)> },
    /// `true` or `false`.
    Boolean,
    /// A day, as `2024-02-29`.
    Date,
    /// A point in time (RFC 3339).
    Timestamp,
    /// One of these words.
    Word(&'static [&'static str]),
    /// An object with fields of its own.
    Object(&'static [Field]),
    /// An array of at most `max` elements, all of the kind of `element`.
    Array { element: &'static Field, max: usize },
}

/// Who sets the value of a field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// The client, in the body.
    Client,
    /// The database: a column default, a trigger or an action.
    Database,
    /// This function, from the head of the request that creates the record; the client cannot set it in the body.
    Caller(fn(&Caller<'_>) -> Option<String>),
}

/// The head of a request that creates a record, for [`Field::from_caller`].
pub struct Caller<'r> {
    pub(crate) find: &'r dyn Fn(&str) -> Option<String>,
}

impl Caller<'_> {
    /// The value of a header field, if it was sent. To identify a user, trust only a field that the gateway sets itself
    /// and removes from clients' requests.
    pub fn header(&self, name: &str) -> Option<String> {
        (self.find)(name)
    }
}

impl Field {
    const fn new(name: &'static str, kind: FieldType) -> Self {
        Self {
            name,
            kind,
            source: Source::Client,
            required: false,
            default: None,
            unique: false,
            searchable: false,
            filterable: false,
            sortable: false,
            about: "",
        }
    }

    /// Text of up to 255 characters, unless [`Field::length`] says otherwise. Column: `text`.
    pub const fn text(name: &'static str) -> Self {
        Self::new(name, FieldType::Text { min: 0, max: 255, trimmed: false })
    }

    /// An absolute `http` or `https` URL of up to 2,048 characters. Column: `text`.
    pub const fn url(name: &'static str) -> Self {
        Self::new(name, FieldType::Url)
    }

    /// A UUID. Column: `uuid`.
    pub const fn uuid(name: &'static str) -> Self {
        Self::new(name, FieldType::Uuid)
    }

    /// A 64-bit integer. Column: `bigint` or `integer`; for `integer`, set the range.
    pub const fn integer(name: &'static str) -> Self {
        Self::new(name, FieldType::Integer { min: i64::MIN, max: i64::MAX })
    }

    /// A decimal number, kept exactly: at most `precision` digits (up to 36), `scale` of them behind the point. Column:
    /// `numeric(precision, scale)`.
    pub const fn decimal(name: &'static str, precision: u32, scale: u32) -> Self {
        assert!(precision <= 36 && scale <= precision, "a decimal has at most 36 digits");
        Self::new(name, FieldType::Decimal { precision, scale, bounds: None })
    }

    /// True or false. Column: `boolean`.
    pub const fn boolean(name: &'static str) -> Self {
        Self::new(name, FieldType::Boolean)
    }

    /// A day. Column: `date`.
    pub const fn date(name: &'static str) -> Self {
        Self::new(name, FieldType::Date)
    }

    /// A point in time, to the microsecond. Column: `timestamptz`.
    pub const fn timestamp(name: &'static str) -> Self {
        Self::new(name, FieldType::Timestamp)
    }

    /// One of several words. Column: `text`.
    pub const fn word(name: &'static str, words: &'static [&'static str]) -> Self {
        assert!(!words.is_empty(), "there is no word to choose");
        Self::new(name, FieldType::Word(words))
    }

    /// An object with fields of its own. Column: `jsonb`.
    pub const fn object(name: &'static str, fields: &'static [Field]) -> Self {
        Self::new(name, FieldType::Object(fields))
    }

    /// An array of at most `max` elements, each as `element` says (its name is not used). Column: `jsonb`.
    pub const fn array(name: &'static str, element: &'static Field, max: usize) -> Self {
        Self::new(name, FieldType::Array { element, max })
    }

    /// Limits the number of characters of a text, after trimming.
    #[must_use]
    pub const fn length(mut self, characters: RangeInclusive<usize>) -> Self {
        let FieldType::Text { trimmed, .. } = self.kind else {
            panic_in_description("only a text has a length")
        };
        self.kind = FieldType::Text { min: *characters.start(), max: *characters.end(), trimmed };
        self
    }

    /// Removes white space at both ends of a text.
    #[must_use]
    pub const fn trimmed(mut self) -> Self {
        let FieldType::Text { min, max, .. } = self.kind else {
            panic_in_description("only a text is trimmed")
        };
        self.kind = FieldType::Text { min, max, trimmed: true };
        self
    }

    /// Sets the smallest and the largest value of a number.
    #[must_use]
    pub const fn range(mut self, values: RangeInclusive<i64>) -> Self {
        let (min, max) = (*values.start(), *values.end());
        self.kind = match self.kind {
            FieldType::Integer { .. } => FieldType::Integer { min, max },
            FieldType::Decimal { precision, scale, .. } => {
                FieldType::Decimal { precision, scale, bounds: Some((min, max)) }
            }
            _ => panic_in_description("only a number has a range"),
        };
        self
    }

    /// Requires a value in a new record. Without this and without a default, the field may be absent or `null`.
    #[must_use]
    pub const fn required(mut self) -> Self {
        assert!(self.default.is_none(), "a required field needs no default");
        self.required = true;
        self
    }

    /// Sets the value, as text, for a new record without one: `""`, `"0"`, `"false"`, `"active"`.
    #[must_use]
    pub const fn default(mut self, text: &'static str) -> Self {
        assert!(!self.required, "a required field needs no default");
        self.default = Some(text);
        self
    }

    /// The database sets it (a default, a trigger, an action); values from clients are ignored. The column is `NOT
    /// NULL` if the field is also `required`.
    #[must_use]
    pub const fn read_only(mut self) -> Self {
        self.source = Source::Database;
        self
    }

    /// Set from the head of the request that creates the record, not from its body: the owner, for example. It never
    /// changes.
    #[must_use]
    pub const fn from_caller(mut self, find: fn(&Caller<'_>) -> Option<String>) -> Self {
        self.source = Source::Caller(find);
        self
    }

    /// No two records may have the same value; a second one is answered 409. The column needs a constraint named
    /// `TABLE_FIELD_key`, the name that `UNIQUE` in a column definition gives it.
    #[must_use]
    pub const fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    /// Lists can be searched for a part of it, ignoring case: `?title=part`. Should have an index with `gin_trgm_ops`.
    #[must_use]
    pub const fn searchable(mut self) -> Self {
        assert!(
            matches!(self.kind, FieldType::Text { .. } | FieldType::Url) && !self.filterable,
            "a text is either searched or filtered"
        );
        self.searchable = true;
        self
    }

    /// Lists can be filtered by a value of it: `?status=done`. Numbers and times can also be filtered by a range, both
    /// ends included: `?price_from=10&price_to=20`. Should have an index, on the field and the key if many records have
    /// the same value.
    #[must_use]
    pub const fn filterable(mut self) -> Self {
        assert!(
            !matches!(self.kind, FieldType::Object(_) | FieldType::Array { .. }) && !self.searchable,
            "a document cannot be filtered, and a text is either searched or filtered"
        );
        self.filterable = true;
        self
    }

    /// Lists can be sorted by it: `?sort=price`, `?sort=-price`. It must be required or have a default, and should have
    /// an index on itself and the key.
    #[must_use]
    pub const fn sortable(mut self) -> Self {
        assert!(
            !matches!(self.kind, FieldType::Object(_) | FieldType::Array { .. }),
            "a document has no order"
        );
        self.sortable = true;
        self
    }

    /// One sentence for the documentation.
    #[must_use]
    pub const fn about(mut self, sentence: &'static str) -> Self {
        self.about = sentence;
        self
    }

    /// Whether the value may be `null`.
    pub(crate) const fn is_nullable(&self) -> bool {
        !self.required && self.default.is_none()
    }

    /// Whether clients can set it.
    pub(crate) const fn is_writable(&self) -> bool {
        matches!(self.source, Source::Client)
    }

    /// Whether lists accept `?NAME_from=` and `?NAME_to=`.
    pub(crate) const fn has_ranges(&self) -> bool {
        self.filterable
            && matches!(
                self.kind,
                FieldType::Integer { .. }
                    | FieldType::Decimal { .. }
                    | FieldType::Date
                    | FieldType::Timestamp
            )
    }
}

impl FieldType {
    /// Whether its JSON is a string.
    pub(crate) const fn is_string(&self) -> bool {
        matches!(
            self,
            Self::Text { .. } | Self::Url | Self::Uuid | Self::Date | Self::Timestamp | Self::Word(_)
        )
    }
}

/// Stops the compilation of a description that contradicts itself.
#[expect(
    clippy::panic,
    reason = "descriptions are constants, so that this stops the compiler and not a service"
)]
const fn panic_in_description(reason: &'static str) -> ! {
    panic!("{}", reason)
}
