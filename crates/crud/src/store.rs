//! What is asked of PostgreSQL, and how: jobs for the workers, several of one kind in one statement where that can be.
//!
//! Nothing here knows HTTP. The statements' texts are made in `statements`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use database::{Connection, Executor, Failure, Workers};
use foundation::metrics::Exposition;
use postgres::types::{ToSql, Type};
use postgres::{Row, Transaction};

use crate::field::Kind;
use crate::preconditions::Condition;
use crate::query::{Place, Selection};
use crate::record;
use crate::resource::{Action, Call, Member, Reply};
use crate::statements::{self, Query};
use crate::table::Table;

/// How much of a list is in memory at a time, by which the rows that are fetched together are counted. A client that
/// reads slowly holds it all the while.
const BATCH_BYTES: usize = 64 << 10;
/// Rows that are fetched first, when nothing is known of their size; most of what clients ask for fits.
const FIRST_BATCH_ROWS: usize = 64;
/// Fewest and most rows that are fetched together later.
const BATCH_ROWS: std::ops::RangeInclusive<usize> = 8..=1_000;
/// New records that are larger together are stored alone, which bounds the memory of a batch. In bytes.
const JOINED_INSERT_MAX_BYTES: usize = 16 << 10;

/// The records of a service, for threads that serve clients: every call waits for its answer no longer than the
/// deadline.
#[derive(Clone)]
pub(crate) struct Store {
    workers: Workers<Statements>,
    deadline: Duration,
}

/// One thing to be done, and on which table.
pub(crate) struct Job {
    table: usize,
    work: Work,
}

enum Work {
    Find(String),
    /// The parameters of the statement.
    Insert(Vec<Option<String>>),
    /// The key, and the parameters behind it.
    Update(String, Vec<Option<String>>, Condition),
    Delete(String, Condition),
    DeleteAll,
    List(ListJob),
    Act(&'static Action, Call),
}

/// A part of a list.
struct ListJob {
    selection: Arc<Selection>,
    after: Option<Place>,
    until: Option<Place>,
    rows: usize,
    /// Whether to look first where the page ends.
    finds_end: bool,
}

pub(crate) enum Answer {
    Found(Option<Row>),
    Changed(Change),
    Deleted(u64),
    Listed(Vec<Row>, PageEnd),
    Acted(Reply),
}

/// What became of a change.
pub(crate) enum Change {
    /// It was made; the record as it is now, or as it was before it was deleted.
    Made(Row),
    /// There is no such record.
    Gone,
    /// The record is not as the client's condition wants it.
    Stale,
}

/// Where a page ends.
pub(crate) enum PageEnd {
    /// At this record, and more follow.
    At(Place),
    /// With the list itself, or nobody has looked.
    Open,
}

impl Store {
    pub(crate) fn new(workers: Workers<Statements>, deadline: Duration) -> Self {
        Self { workers, deadline }
    }

    fn ask(&self, table: &Table, work: Work) -> Result<Answer, Failure> {
        self.workers.ask(Job { table: table.index, work }, Instant::now() + self.deadline)
    }

    /// Whether PostgreSQL works.
    pub(crate) fn ready(&self) -> Result<(), Failure> {
        self.workers.ready(Instant::now() + self.deadline)
    }

    /// Adds what the workers count to a text for Prometheus.
    pub(crate) fn write_metrics(&self, text: &mut Exposition) {
        self.workers.write_metrics(text);
    }

    /// One record.
    pub(crate) fn find(&self, table: &Table, key: String) -> Result<Option<Row>, Failure> {
        match self.ask(table, Work::Find(key))? {
            Answer::Found(row) => Ok(row),
            _ => Err(mixed_up()),
        }
    }

    /// Stores a new record and returns it. `key` is `None` when the database makes it.
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

    /// Changes a record, if it is as `condition` wants it.
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

    /// Deletes a record, if it is as `condition` wants it.
    pub(crate) fn delete(&self, table: &Table, key: String, condition: Condition) -> Result<Change, Failure> {
        self.change(table, Work::Delete(key, condition))
    }

    fn change(&self, table: &Table, work: Work) -> Result<Change, Failure> {
        match self.ask(table, work)? {
            Answer::Changed(change) => Ok(change),
            _ => Err(mixed_up()),
        }
    }

    /// Deletes all records and tells how many there were.
    pub(crate) fn delete_all(&self, table: &Table) -> Result<u64, Failure> {
        match self.ask(table, Work::DeleteAll)? {
            Answer::Deleted(count) => Ok(count),
            _ => Err(mixed_up()),
        }
    }

    /// Does something of the resource's own.
    pub(crate) fn act(&self, table: &Table, action: &'static Action, call: Call) -> Result<Reply, Failure> {
        match self.ask(table, Work::Act(action, call))? {
            Answer::Acted(reply) => Ok(reply),
            _ => Err(mixed_up()),
        }
    }

    /// Begins to read a list.
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

/// A list that is read batch by batch. Each batch goes on behind the last record of the one before (keyset), as the table
/// is by then: a record that exists throughout appears once, and nothing is held open while the client reads.
pub(crate) struct Listing<'t> {
    store: Store,
    table: &'t Table,
    selection: Arc<Selection>,
    /// The last record that was read.
    after: Option<Place>,
    /// How many records the page may still hold, unless it is known where it ends.
    left: Option<usize>,
    /// The last record of this page, when more follow it.
    pub next_page: Option<Place>,
    /// The batch that was read last.
    pub rows: Vec<Row>,
    /// Whether it ends the list.
    pub is_last: bool,
}

impl Listing<'_> {
    /// Reads the first batch, so that most failures show before anything is answered, and finds where the page ends.
    fn begin(mut self) -> Result<Self, Failure> {
        let Some(limit) = self.left else {
            self.fetch(FIRST_BATCH_ROWS, false)?;
            return Ok(self);
        };
        if limit < FIRST_BATCH_ROWS {
            // One row more than the page holds tells whether others follow.
            self.fetch(limit + 1, false)?;
            self.is_last = true;
            if self.rows.len() > limit {
                self.rows.truncate(limit);
                self.next_page = self.last_place()?;
            }
        } else if let PageEnd::At(place) = self.fetch(FIRST_BATCH_ROWS, true)? {
            // From now on the place counts, not the number: what is inserted meanwhile must push nothing out.
            (self.next_page, self.left) = (Some(place), None);
            self.is_last = self.rows.len() < FIRST_BATCH_ROWS;
        }
        Ok(self)
    }

    /// Reads the next batch. `bytes` is what the one before took; the next will probably take `BATCH_BYTES`.
    pub(crate) fn advance(&mut self, bytes: usize) -> Result<(), Failure> {
        let rows = BATCH_BYTES * self.rows.len() / bytes.max(1);
        let rows = rows.clamp(*BATCH_ROWS.start(), *BATCH_ROWS.end());
        self.after = self.last_place()?;
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

    fn last_place(&self) -> Result<Option<Place>, Failure> {
        let place = |row| record::place(&self.table.columns, row, self.selection.sort);
        self.rows.last().map(place).transpose().map_err(|error| Failure::of(&error, false))
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

/// Executes jobs; each worker has one.
pub(crate) struct Statements {
    pub tables: Arc<[Table]>,
}

type Outcome<T> = Result<T, postgres::Error>;

impl Executor for Statements {
    type Job = Job;
    type Answer = Answer;

    fn joins(&self, first: &Job, next: &Job) -> bool {
        first.table == next.table
            && match (&first.work, &next.work) {
                (Work::Find(_), Work::Find(_)) => true,
                (Work::Insert(first), Work::Insert(next)) => {
                    size(first) <= JOINED_INSERT_MAX_BYTES && size(next) <= JOINED_INSERT_MAX_BYTES
                }
                _ => false,
            }
    }

    fn is_write(&self, job: &Job) -> bool {
        match &job.work {
            Work::Find(_) | Work::List(_) => false,
            Work::Act(action, _) => action.method != "GET",
            Work::Insert(_) | Work::Update(..) | Work::Delete(..) | Work::DeleteAll => true,
        }
    }

    fn execute(&mut self, connection: &mut Connection, jobs: &[Job]) -> Outcome<Vec<Outcome<Answer>>> {
        match jobs {
            [job] => Ok(vec![Ok(execute_one(&self.tables[job.table], connection, &job.work)?)]),
            [Job { table, work: Work::Find(_) }, ..] => find_many(&self.tables[*table], connection, jobs),
            [Job { table, .. }, ..] => insert_many(&self.tables[*table], connection, jobs),
            [] => Ok(Vec::new()),
        }
    }
}

fn size(parameters: &[Option<String>]) -> usize {
    parameters.iter().flatten().map(String::len).sum()
}

fn execute_one(table: &Table, connection: &mut Connection, work: &Work) -> Outcome<Answer> {
    let statements = &table.statements;
    match work {
        Work::Find(key) => {
            let statement = connection.prepared(&statements.select_one)?;
            Ok(Answer::Found(connection.client.query_opt(&statement, &[key])?))
        }
        Work::Insert(parameters) => {
            let statement = connection.prepared(&statements.insert_one)?;
            Ok(Answer::Found(Some(connection.client.query_one(&statement, &texts(parameters))?)))
        }
        Work::Update(key, parameters, condition) => {
            let mut values: Vec<&(dyn ToSql + Sync)> = vec![key];
            values.extend(texts(parameters));
            change(table, connection, &statements.update, &values, condition)
        }
        Work::Delete(key, condition) => change(table, connection, &statements.delete_one, &[key], condition),
        Work::DeleteAll => Ok(Answer::Deleted(connection.client.execute(&statements.delete_all, &[])?)),
        Work::List(job) => list(table, connection, job),
        Work::Act(action, call) => {
            let builder = connection.client.build_transaction().read_only(action.method == "GET");
            act(builder.start()?, action, call)
        }
    }
}

fn texts(parameters: &[Option<String>]) -> Vec<&(dyn ToSql + Sync)> {
    parameters.iter().map(|text| text as &(dyn ToSql + Sync)).collect()
}

fn find_many(table: &Table, connection: &mut Connection, jobs: &[Job]) -> Outcome<Vec<Outcome<Answer>>> {
    let key_of = |job: &Job| if let Work::Find(key) = &job.work { key.clone() } else { String::new() };
    let keys: Vec<_> = jobs.iter().map(key_of).collect();
    let statement = connection.prepared(&table.statements.select_many)?;
    let rows = connection.client.query(&statement, &[&keys])?;
    let found = |key: &String| rows.iter().find(|row| record::key(row).is_ok_and(|found| found == key));
    Ok(keys.iter().map(|key| Ok(Answer::Found(found(key).cloned()))).collect())
}

/// Stores all records in one statement. What row belongs to whom is never guessed from the order of the answer: generated
/// keys were drawn in the order of the jobs, and given keys are known.
fn insert_many(table: &Table, connection: &mut Connection, jobs: &[Job]) -> Outcome<Vec<Outcome<Answer>>> {
    let records: Vec<_> = jobs
        .iter()
        .filter_map(|job| if let Work::Insert(parameters) = &job.work { Some(parameters) } else { None })
        .collect();
    let columns = 0..table.statements.inserted.len();
    let arrays: Vec<Vec<Option<&str>>> = columns
        .map(|column| records.iter().map(|parameters| parameters[column].as_deref()).collect())
        .collect();
    let arrays: Vec<_> = arrays.iter().map(|array| array as &(dyn ToSql + Sync)).collect();
    let statement = connection.prepared(&table.statements.insert_many)?;
    let mut rows = connection.client.query(&statement, &arrays)?;
    if let Kind::Integer { .. } = table.columns[0].kind {
        rows.sort_by_key(|row| record::key(row).ok().and_then(|key| key.parse::<i64>().ok()));
    } else {
        let place = |row: &Row| {
            let key = record::key(row).ok();
            records.iter().position(|parameters| parameters[0].as_deref() == key)
        };
        rows.sort_by_key(place);
    }
    Ok(rows.into_iter().map(|row| Ok(Answer::Found(Some(row)))).collect())
}

/// Updates or deletes one record. A condition is compared with the record while it is locked.
fn change(
    table: &Table,
    connection: &mut Connection,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
    condition: &Condition,
) -> Outcome<Answer> {
    let statement = connection.prepared(sql)?;
    if condition.is_empty() {
        let row = connection.client.query_opt(&statement, parameters)?;
        return Ok(Answer::Changed(row.map_or(Change::Gone, Change::Made)));
    }
    let lock = connection.prepared(&table.statements.lock_one)?;
    let mut transaction = connection.client.transaction()?;
    let Some(current) = transaction.query_opt(&lock, &parameters[..1])? else {
        return Ok(Answer::Changed(Change::Gone));
    };
    if !condition.holds(&record::tag(&current)?) {
        return Ok(Answer::Changed(Change::Stale));
    }
    let row = transaction.query_opt(&statement, parameters)?;
    transaction.commit()?;
    Ok(Answer::Changed(row.map_or(Change::Gone, Change::Made)))
}

fn list(table: &Table, connection: &mut Connection, job: &ListJob) -> Outcome<Answer> {
    let ListJob { selection, after, until, rows, finds_end } = job;
    let (mut end, mut until) = (PageEnd::Open, until.clone());
    if *finds_end {
        let query = statements::page_end(table.resource, selection, selection.limit.unwrap_or(*rows));
        let places = query_once(connection, &query)?;
        // Two rows: the last of this page and the first of the next one.
        end = match places.as_slice() {
            [last, _next] => {
                let value = selection.sort.map(|_| last.try_get(1)).transpose()?;
                let place = Place { key: last.try_get(0)?, value };
                until = Some(place.clone());
                PageEnd::At(place)
            }
            _ => PageEnd::Open,
        };
    }
    let is_plain = selection.filters.is_empty() && selection.sort.is_none() && until.is_none();
    let found = if is_plain {
        let statement = connection.prepared(&table.statements.select_next)?;
        let after = after.as_ref().map_or_else(|| first_key(table), |place| &place.key);
        connection.client.query(&statement, &[&after, &rows.to_string()])?
    } else {
        let query = statements::list(
            &table.columns,
            table.resource,
            selection,
            after.as_ref(),
            until.as_ref(),
            *rows,
        );
        query_once(connection, &query)?
    };
    Ok(Answer::Listed(found, end))
}

/// A key that is before all others.
fn first_key(table: &Table) -> &'static str {
    match table.columns[0].kind {
        Kind::Integer { .. } => "0",
        Kind::Uuid => "00000000-0000-0000-0000-000000000000",
        _ => "",
    }
}

/// Executes a statement that is planned for its own values, in one round trip. A prepared one would sooner or later be
/// planned for any values, which suits no search.
fn query_once(connection: &mut Connection, query: &Query) -> Outcome<Vec<Row>> {
    let parameters: Vec<_> =
        query.parameters.iter().map(|text| (text as &(dyn ToSql + Sync), Type::TEXT)).collect();
    connection.client.query_typed(&query.sql, &parameters)
}

fn act(mut transaction: Transaction<'_>, action: &Action, call: &Call) -> Outcome<Answer> {
    let reply = (action.run)(&mut transaction, call)?;
    if reply.status < 400 {
        transaction.commit()?;
    } else {
        transaction.rollback()?;
    }
    Ok(Answer::Acted(reply))
}
