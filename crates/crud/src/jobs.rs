//! The jobs for the database workers, executed in batches where one statement can do several.
//!
//! HTTP does not belong here, and the texts of the statements are in `statements`.

use std::sync::Arc;

use database::{Connection, Executor};
use postgres::types::{ToSql, Type};
use postgres::{Row, Transaction};

use crate::field::FieldType;
use crate::preconditions::Condition;
use crate::query::{Cursor, Selection};
use crate::record;
use crate::resource::{Action, Call, Reply};
use crate::statements::{self, Query};
use crate::table::Table;

/// Largest new record that may be inserted in a batch with others, in bytes; this bounds the memory of a batch.
const JOINED_INSERT_MAX_BYTES: usize = 16 << 10;

/// A job on one table.
pub(crate) struct Job {
    pub table: usize,
    pub work: Work,
}

/// What a job does.
pub(crate) enum Work {
    /// Find a record by its key.
    Find(String),
    /// Insert a record: the parameters of the statement.
    Insert(Vec<Option<String>>),
    /// Update a record: its key, and the further parameters.
    Update(String, Vec<Option<String>>, Condition),
    Delete(String, Condition),
    DeleteAll,
    List(ListJob),
    /// Count the records that a list selects, and find where its page begins.
    Count(Arc<Selection>),
    Act(&'static Action, Call),
}

/// A part of a list.
pub(crate) struct ListJob {
    pub selection: Arc<Selection>,
    /// Only records after this one.
    pub after: Option<Cursor>,
    /// Only records up to this one.
    pub until: Option<Cursor>,
    /// At most this many.
    pub rows: usize,
    /// How many records the page may still hold.
    pub left: Option<usize>,
    /// Whether the list begins here, so that the end of its page is to be found.
    pub is_first: bool,
}

/// Some records of a list.
#[derive(Default)]
pub(crate) struct Batch {
    /// Their part of the array: with the bracket or the comma in front, and the bracket behind the last record of all.
    pub json: Vec<u8>,
    /// How many they are.
    pub records: usize,
    /// The place of the last one.
    pub last: Option<Cursor>,
    /// The last record of the page, when more follow it; told with its first batch.
    pub page_end: Option<Cursor>,
    /// Whether the list ends here.
    pub is_last: bool,
}

/// How long a list is, and where a page of it begins.
pub(crate) struct Counted {
    /// How many records the filters leave; of a count with a limit, at most one more than that.
    pub records: u64,
    /// The last record that the page skips.
    pub before: Option<Cursor>,
}

/// The answer to a job.
pub(crate) enum Answer {
    Found(Option<Row>),
    Changed(Change),
    Deleted(u64),
    Listed(Batch),
    Counted(Counted),
    Acted(Reply),
}

/// The outcome of a change.
pub(crate) enum Change {
    /// It was made; the record after the update, or before its deletion.
    Made(Row),
    /// There is no such record.
    Gone,
    /// The client's precondition does not hold.
    Stale,
}

/// Executes jobs; each worker has one.
pub(crate) struct Jobs {
    /// The tables; jobs refer to them by index.
    pub tables: Arc<[Table]>,
}

/// Jobs on one table that one statement executes together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Finds(usize),
    Inserts(usize),
}

/// The result of a statement.
type Executed<T> = Result<T, postgres::Error>;

impl Executor for Jobs {
    type Job = Job;
    type Answer = Answer;
    type Kind = Kind;

    fn kind(job: &Job) -> Option<Kind> {
        match &job.work {
            Work::Find(_) => Some(Kind::Finds(job.table)),
            Work::Insert(parameters) if size(parameters) <= JOINED_INSERT_MAX_BYTES => {
                Some(Kind::Inserts(job.table))
            }
            _ => None,
        }
    }

    fn is_write(job: &Job) -> bool {
        match &job.work {
            Work::Find(_) | Work::List(_) | Work::Count(_) => false,
            Work::Act(action, _) => action.method != "GET",
            Work::Insert(_) | Work::Update(..) | Work::Delete(..) | Work::DeleteAll => true,
        }
    }

    fn execute(&mut self, connection: &mut Connection, jobs: &[Job]) -> Executed<Vec<Executed<Answer>>> {
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

fn execute_one(table: &Table, connection: &mut Connection, work: &Work) -> Executed<Answer> {
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
        Work::Count(selection) => count(table, connection, selection),
        Work::Act(action, call) => {
            let builder = connection.client.build_transaction().read_only(action.method == "GET");
            act(builder.start()?, action, call)
        }
    }
}

fn texts(parameters: &[Option<String>]) -> Vec<&(dyn ToSql + Sync)> {
    parameters.iter().map(|text| text as &(dyn ToSql + Sync)).collect()
}

fn find_many(table: &Table, connection: &mut Connection, jobs: &[Job]) -> Executed<Vec<Executed<Answer>>> {
    let key_of = |job: &Job| if let Work::Find(key) = &job.work { key.clone() } else { String::new() };
    let keys: Vec<_> = jobs.iter().map(key_of).collect();
    let statement = connection.prepared(&table.statements.select_many)?;
    let rows = connection.client.query(&statement, &[&keys])?;
    let found = |key: &String| rows.iter().find(|row| record::key(row).is_ok_and(|found| found == key));
    Ok(keys.iter().map(|key| Ok(Answer::Found(found(key).cloned()))).collect())
}

/// Inserts all records in one statement. The order of the returned rows is undefined, so they are matched by key:
/// generated keys ascend in the order of the jobs, other keys are known.
fn insert_many(table: &Table, connection: &mut Connection, jobs: &[Job]) -> Executed<Vec<Executed<Answer>>> {
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
    if let FieldType::Integer { .. } = table.columns[0].kind {
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

/// Updates or deletes one record. Checks a condition while the record is locked.
fn change(
    table: &Table,
    connection: &mut Connection,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
    condition: &Condition,
) -> Executed<Answer> {
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

/// Reads a batch. A page that fits into the first one is read with one record more, which tells whether others follow; a
/// longer page looks for its end first.
fn list(table: &Table, connection: &mut Connection, job: &ListJob) -> Executed<Answer> {
    let ListJob { selection, left, is_first, .. } = job;
    let (mut rows, mut until, mut page_end) = (job.rows, job.until.clone(), None);
    let one_more = left.filter(|left| *is_first && *left < rows);
    if let Some(limit) = one_more {
        rows = limit + 1;
    } else if let Some(left) = left {
        if *is_first {
            page_end = find_page_end(table, connection, selection, *left)?;
            until.clone_from(&page_end);
        }
        if until.is_none() {
            rows = rows.min(*left);
        }
    }
    let mut found = read_rows(table, connection, job, until.as_ref(), rows)?;
    let place = |row: &Row| record::cursor(&table.columns, row, selection.sort);
    let is_last = match (one_more, left) {
        (Some(limit), _) => {
            if found.len() > limit {
                found.truncate(limit);
                page_end = found.last().map(place).transpose()?;
            }
            true
        }
        (None, left) => found.len() < rows || (until.is_none() && *left == Some(found.len())),
    };
    let mut json = Vec::with_capacity(256);
    for (index, row) in found.iter().enumerate() {
        json.push(if index == 0 && *is_first { b'[' } else { b',' });
        record::write_json(&table.columns, row, &mut json)?;
    }
    if is_last {
        json.extend_from_slice(if *is_first && found.is_empty() { b"[]" } else { b"]" });
    }
    let last = found.last().map(place).transpose()?;
    Ok(Answer::Listed(Batch { json, records: found.len(), last, page_end, is_last }))
}

fn count(table: &Table, connection: &mut Connection, selection: &Selection) -> Executed<Answer> {
    let found = query_once(connection, &statements::count(table.resource, selection))?;
    let records = found.first().map(|row| row.try_get::<_, &str>(0)).transpose()?;
    let records = records.and_then(|count| count.parse().ok()).unwrap_or(0);
    let before = match selection.offset {
        0 => None,
        // Nothing is left to skip.
        offset if offset as u64 >= records => None,
        offset => find_page_end(table, connection, selection, offset)?,
    };
    Ok(Answer::Counted(Counted { records, before }))
}

fn find_page_end(
    table: &Table,
    connection: &mut Connection,
    selection: &Selection,
    limit: usize,
) -> Executed<Option<Cursor>> {
    let query = statements::page_end(table.resource, selection, limit);
    match query_once(connection, &query)?.as_slice() {
        // The last of this page and the first of the next one.
        [last, _next] => {
            let value = selection.sort.field.map(|_| last.try_get(1)).transpose()?;
            Ok(Some(Cursor { key: last.try_get(0)?, value }))
        }
        _ => Ok(None),
    }
}

fn read_rows(
    table: &Table,
    connection: &mut Connection,
    job: &ListJob,
    until: Option<&Cursor>,
    rows: usize,
) -> Executed<Vec<Row>> {
    let ListJob { selection, after, .. } = job;
    if selection.is_whole() && until.is_none() {
        let statement = connection.prepared(&table.statements.select_next)?;
        let after = after.as_ref().map_or_else(|| first_key(table), |place| &place.key);
        return connection.client.query(&statement, &[&after, &rows.to_string()]);
    }
    let query = statements::list(&table.columns, table.resource, selection, after.as_ref(), until, rows);
    query_once(connection, &query)
}

/// A key that sorts before all others.
fn first_key(table: &Table) -> &'static str {
    match table.columns[0].kind {
        FieldType::Integer { .. } => "0",
        FieldType::Uuid => "00000000-0000-0000-0000-000000000000",
        _ => "",
    }
}

/// Executes a statement that is planned for its own values, in one round trip. A statement that is kept would sooner or
/// later be planned for any values, which suits no search.
fn query_once(connection: &mut Connection, query: &Query) -> Executed<Vec<Row>> {
    let parameters: Vec<_> =
        query.parameters.iter().map(|text| (text as &(dyn ToSql + Sync), Type::TEXT)).collect();
    connection.client.query_typed(&query.sql, &parameters)
}

fn act(mut transaction: Transaction<'_>, action: &Action, call: &Call) -> Executed<Answer> {
    let reply = (action.run)(&mut transaction, call)?;
    if reply.status < 400 {
        transaction.commit()?;
    } else {
        transaction.rollback()?;
    }
    Ok(Answer::Acted(reply))
}
