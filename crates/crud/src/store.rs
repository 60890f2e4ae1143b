//! The records, for handlers: each call submits a job to the workers and waits for its answer until the deadline.
//!
//! HTTP and SQL do not belong here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use database::{Failure, Pending, Workers};
use foundation::metrics::Exposition;
use postgres::Row;

use crate::jobs::{Answer, Batch, Change, Counted, Job, Jobs, ListJob, Work};
use crate::preconditions::Condition;
use crate::query::{Cursor, Selection};
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

    /// Counts the records that a list selects, as far as it asks, and finds where its page begins.
    pub(crate) fn count(&self, table: &Table, selection: &Selection) -> Result<Counted, Failure> {
        match self.ask(table, Work::Count(Arc::new(selection.clone())))? {
            Answer::Counted(counted) => Ok(counted),
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

    /// Begins to read a list: reads its first batch, so that most failures show before anything is answered.
    pub(crate) fn list<'t>(&self, table: &'t Table, selection: Selection) -> Result<Listing<'t>, Failure> {
        let mut listing = Listing {
            store: self.clone(),
            table,
            left: selection.limit,
            selection: Arc::new(selection),
            next_page: None,
            batch: Batch::default(),
            ahead: None,
        };
        let rows = table.records_in(listing.batch_bytes()).unwrap_or(FIRST_BATCH_ROWS);
        let rows = rows.clamp(*BATCH_ROWS.start(), *BATCH_ROWS.end());
        let after = listing.selection.after.clone();
        let job = listing.job(after, rows, true);
        let answer = listing.store.ask(table, job)?;
        listing.accept(answer)?;
        if let Some(end) = listing.batch.page_end.take() {
            // From now on the place counts, not the number: what is inserted meanwhile must push nothing out.
            (listing.next_page, listing.left) = (Some(end), None);
        }
        Ok(listing)
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
    /// How many records the page may still hold, unless it is known where it ends.
    left: Option<usize>,
    /// The last record of this page, when more follow it.
    pub next_page: Option<Cursor>,
    /// The batch that was read last.
    pub batch: Batch,
    /// The batch behind that one, which a worker reads while the client is sent this one.
    ahead: Option<Pending<Answer>>,
}

impl Listing<'_> {
    fn batch_bytes(&self) -> usize {
        if self.selection.is_whole() { BATCH_BYTES } else { SEARCHED_BATCH_BYTES }
    }

    /// Has the next batch read while the client is sent this one, unless this is the last.
    pub(crate) fn read_ahead(&mut self) {
        if !self.batch.is_last {
            let job = Job { table: self.table.index, work: self.next_job() };
            // What cannot be begun now is asked for again when it is needed.
            self.ahead = self.store.workers.submit(job, Instant::now() + self.store.deadline).ok();
        }
    }

    /// Goes on to the next batch.
    pub(crate) fn advance(&mut self) -> Result<(), Failure> {
        let ahead = self.ahead.take().and_then(|pending| pending.wait().ok());
        let answer = match ahead {
            Some(answer) => answer,
            // PostgreSQL may have been away for a moment that the client's slowness has outlasted.
            None => self.store.ask(self.table, self.next_job())?,
        };
        self.accept(answer)
    }

    /// The job that reads the batch behind this one, which will probably take what a batch may, if the records are like
    /// those before.
    fn next_job(&self) -> Work {
        let Batch { records, json, last, .. } = &self.batch;
        let rows = self.batch_bytes() * records / json.len().max(1);
        self.job(last.clone(), rows.clamp(*BATCH_ROWS.start(), *BATCH_ROWS.end()), false)
    }

    fn job(&self, after: Option<Cursor>, rows: usize, is_first: bool) -> Work {
        let (selection, until, left) = (self.selection.clone(), self.next_page.clone(), self.left);
        Work::List(ListJob { selection, after, until, rows, left, is_first })
    }

    fn accept(&mut self, answer: Answer) -> Result<(), Failure> {
        let Answer::Listed(batch) = answer else { return Err(mixed_up()) };
        self.table.learn(batch.records, batch.json.len());
        self.left = self.left.map(|left| left.saturating_sub(batch.records));
        self.batch = batch;
        Ok(())
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
