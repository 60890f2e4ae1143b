//! The records, for handlers: each call submits a job to the workers and waits for its answer until the deadline.
//!
//! HTTP and SQL do not belong here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use database::{Failure, Workers};
use foundation::metrics::Exposition;
use postgres::Row;

use crate::jobs::{Answer, Change, Job, Jobs, ListJob, PageEnd, Work};
use crate::preconditions::Condition;
use crate::query::{Cursor, Selection};
use crate::record;
use crate::resource::{Action, Call, Member, Reply};
use crate::table::Table;

/// Target size of a batch of a list, in bytes. A slow client keeps one batch in memory while it reads.
const BATCH_BYTES: usize = 64 << 10;
/// The same for a filtered or sorted list, where each batch repeats the whole search.
const SEARCHED_BATCH_BYTES: usize = 128 << 10;
/// Rows in the first batch, while the size of a row is unknown.
const FIRST_BATCH_ROWS: usize = 64;
/// Fewest and most rows in a batch.
const BATCH_ROWS: std::ops::RangeInclusive<usize> = 8..=1_000;
/// Gives handlers access to the records of a service.
#[derive(Clone)]
pub(crate) struct Store {
    workers: Workers<Jobs>,
    pub(crate) deadline: Duration,
}

impl Store {
    pub(crate) fn new(workers: Workers<Jobs>, deadline: Duration) -> Self {
        Self { workers, deadline }
    }

    fn ask(&self, table: &Table, work: Work) -> Result<Answer, Failure> {
        self.workers.ask(Job { table: table.index, work }, Instant::now() + self.deadline)
    }

    /// Checks within `timeout` that PostgreSQL works.
    pub(crate) fn ready(&self, timeout: Duration) -> Result<(), Failure> {
        self.workers.ready(Instant::now() + timeout)
    }

    /// Adds the workers' metrics.
    pub(crate) fn write_metrics(&self, text: &mut Exposition) {
        self.workers.write_metrics(text);
    }

    /// Finds one record.
    pub(crate) fn find(&self, table: &Table, key: String) -> Result<Option<Row>, Failure> {
        match self.ask(table, Work::Find(key))? {
            Answer::Found(row) => Ok(row),
            _ => Err(mixed_up()),
        }
    }

    /// Stores a new record and returns it. `key` is `None` if the database generates it.
    pub(crate) fn insert(
        &self,
        table: &Table,
        key: Option<String>,
        members: Vec<Member>,
    ) -> Result<Row, Failure> {
        let mut values: Vec<_> =
            std::iter::once(key).chain(members.into_iter().map(Member::into_text)).collect();
        let parameters = table.statements.inserted.iter().map(|column| values[*column].take()).collect();
        match self.ask(table, Work::Insert(parameters))? {
            Answer::Found(Some(row)) => Ok(row),
            _ => Err(mixed_up()),
        }
    }

    /// Changes a record, if `condition` holds.
    pub(crate) fn update(
        &self,
        table: &Table,
        key: String,
        members: Vec<Member>,
        condition: Condition,
    ) -> Result<Change, Failure> {
        let mut parameters = Vec::with_capacity(2 * members.len());
        for (index, member) in members.into_iter().enumerate() {
            if table.statements.updated.contains(&(index + 1)) {
                if table.columns[index + 1].is_nullable() {
                    parameters.push(Some((member != Member::Absent).to_string()));
                }
                parameters.push(member.into_text());
            }
        }
        self.change(table, Work::Update(key, parameters, condition))
    }

    /// Deletes a record, if `condition` holds.
    pub(crate) fn delete(&self, table: &Table, key: String, condition: Condition) -> Result<Change, Failure> {
        self.change(table, Work::Delete(key, condition))
    }

    fn change(&self, table: &Table, work: Work) -> Result<Change, Failure> {
        match self.ask(table, work)? {
            Answer::Changed(change) => Ok(change),
            _ => Err(mixed_up()),
        }
    }

    /// Deletes all records; returns how many.
    pub(crate) fn delete_all(&self, table: &Table) -> Result<u64, Failure> {
        match self.ask(table, Work::DeleteAll)? {
            Answer::Deleted(count) => Ok(count),
            _ => Err(mixed_up()),
        }
    }

    /// Runs an action of the resource.
    pub(crate) fn act(&self, table: &Table, action: &'static Action, call: Call) -> Result<Reply, Failure> {
        match self.ask(table, Work::Act(action, call))? {
            Answer::Acted(reply) => Ok(reply),
            _ => Err(mixed_up()),
        }
    }

    /// Reads the first batch of a list.
    pub(crate) fn list<'t>(&self, table: &'t Table, selection: Selection) -> Result<Listing<'t>, Failure> {
        let listing = Listing {
            store: self.clone(),
            table,
            after: selection.after.clone(),
            left: selection.limit,
            selection: Arc::new(selection),
            next_page: None,
            rows: Vec::new(),
            is_last: false,
        };
        listing.begin()
    }
}

fn mixed_up() -> Failure {
    Failure::Internal("a job was answered with the answer to another one".to_owned())
}

/// A list that is read in batches. Each batch starts after the last record of the one before (keyset pagination) and
/// sees the table as it is then. A record that exists throughout appears exactly once, and no transaction is open while
/// the client reads.
pub(crate) struct Listing<'t> {
    store: Store,
    table: &'t Table,
    selection: Arc<Selection>,
    /// The cursor of the last record that was read.
    after: Option<Cursor>,
    /// How many records the page still lacks; `None` if it has no limit or its end is known.
    left: Option<usize>,
    /// The cursor of the page's last record, if more records follow.
    pub next_page: Option<Cursor>,
    /// The current batch.
    pub rows: Vec<Row>,
    /// Whether the current batch is the last one.
    pub is_last: bool,
}

impl Listing<'_> {
    /// Reads the first batch, so that most failures occur before the response begins, and finds the end of the page.
    fn begin(mut self) -> Result<Self, Failure> {
        let rows = self.table.records_in(self.batch_bytes()).unwrap_or(FIRST_BATCH_ROWS);
        let rows = rows.clamp(*BATCH_ROWS.start(), *BATCH_ROWS.end());
        let Some(limit) = self.left else {
            self.fetch(rows, false)?;
            return Ok(self);
        };
        if limit < rows {
            // Fetch one row more than the page has, to find out whether others follow.
            self.fetch(limit + 1, false)?;
            self.is_last = true;
            if self.rows.len() > limit {
                self.rows.truncate(limit);
                self.next_page = self.last_cursor()?;
            }
        } else if let PageEnd::At(cursor) = self.fetch(rows, true)? {
            // From now on the page ends at this record, not after a number: records that are inserted meanwhile must
            // not push others out.
            (self.next_page, self.left) = (Some(cursor), None);
            self.is_last = self.rows.len() < rows;
        }
        Ok(self)
    }

    fn batch_bytes(&self) -> usize {
        let Selection { filters, sort, .. } = &*self.selection;
        if filters.is_empty() && sort.is_none() { BATCH_BYTES } else { SEARCHED_BATCH_BYTES }
    }

    /// Reads the next batch. `bytes` is the size of the current one, from which the number of rows for the next is
    /// estimated.
    pub(crate) fn advance(&mut self, bytes: usize) -> Result<(), Failure> {
        let rows = self.batch_bytes() * self.rows.len() / bytes.max(1);
        let rows = rows.clamp(*BATCH_ROWS.start(), *BATCH_ROWS.end());
        self.after = self.last_cursor()?;
        self.fetch(self.left.map_or(rows, |left| rows.min(left)), false).map(drop)
    }

    fn fetch(&mut self, rows: usize, finds_end: bool) -> Result<PageEnd, Failure> {
        let job = ListJob {
            selection: self.selection.clone(),
            after: self.after.clone(),
            until: self.next_page.clone(),
            rows,
            finds_end,
        };
        let Answer::Listed(found, end) = self.store.ask(self.table, Work::List(job))? else {
            return Err(mixed_up());
        };
        self.left = self.left.map(|left| left.saturating_sub(found.len()));
        self.is_last = found.len() < rows || self.left == Some(0);
        self.rows = found;
        Ok(end)
    }

    fn last_cursor(&self) -> Result<Option<Cursor>, Failure> {
        let cursor = |row| record::cursor(&self.table.columns, row, self.selection.sort);
        self.rows.last().map(cursor).transpose().map_err(|error| Failure::of(&error, false))
    }
}

impl Member {
    fn into_text(self) -> Option<String> {
        match self {
            Self::Value(text) => Some(text),
            Self::Absent | Self::Null => None,
        }
    }
}
