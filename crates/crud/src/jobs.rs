//! What is asked of PostgreSQL: jobs for the workers, executed several at a time where one statement can do them.
//!
//! Nothing here knows HTTP. The texts of the statements are made in `statements`.

use std::sync::Arc;

use database::{Connection, Executor};
use postgres::types::{ToSql, Type};
use postgres::{Row, Transaction};

use crate::field::Kind;
use crate::preconditions::Condition;
use crate::query::{Place, Selection};
use crate::record;
use crate::resource::{Action, Call, Reply};
use crate::statements::{self, Query};
use crate::table::Table;

/// New records that are larger together are stored alone, which bounds the memory of a batch. In bytes.
const JOINED_INSERT_MAX_BYTES: usize = 16 << 10;

/// One thing to be done, and on which table.
pub(crate) struct Job {
    pub table: usize,
    pub work: Work,
}

/// What is to be done.
pub(crate) enum Work {
    /// One record, by its key.
    Find(String),
    /// A new record: the parameters of the statement.
    Insert(Vec<Option<String>>),
    /// Changes of a record: its key, and the parameters behind it.
    Update(String, Vec<Option<String>>, Condition),
    Delete(String, Condition),
    DeleteAll,
    List(ListJob),
    Act(&'static Action, Call),
}

/// A part of a list.
pub(crate) struct ListJob {
    pub selection: Arc<Selection>,
    /// Only records behind this one.
    pub after: Option<Place>,
    /// None behind this one.
    pub until: Option<Place>,
    /// At most so many.
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
    pub last: Option<Place>,
    /// The last record of the page, when more follow it; told with its first batch.
    pub page_end: Option<Place>,
    /// Whether the list ends here.
    pub is_last: bool,
}

/// What a job is answered with.
pub(crate) enum Answer {
    Found(Option<Row>),
    Changed(Change),
    Deleted(u64),
    Listed(Batch),
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

/// Executes jobs; each worker has one.
pub(crate) struct Jobs {
    /// The tables that jobs name by their places.
    pub tables: Arc<[Table]>,
}

/// What came of a statement.
type Executed<T> = Result<T, postgres::Error>;

impl Executor for Jobs {
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

/// Stores all records in one statement. What row belongs to whom is never guessed from the order of the answer: generated
/// keys were drawn in the order of the jobs, and given keys are known.
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
    let place = |row: &Row| record::place(&table.columns, row, selection.sort);
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

fn find_page_end(
    table: &Table,
    connection: &mut Connection,
    selection: &Selection,
    limit: usize,
) -> Executed<Option<Place>> {
    let query = statements::page_end(table.resource, selection, limit);
    match query_once(connection, &query, 2)?.as_slice() {
        // The last of this page and the first of the next one.
        [last, _next] => {
            let value = selection.sort.map(|_| last.try_get(1)).transpose()?;
            Ok(Some(Place { key: last.try_get(0)?, value }))
        }
        _ => Ok(None),
    }
}

fn read_rows(
    table: &Table,
    connection: &mut Connection,
    job: &ListJob,
    until: Option<&Place>,
    rows: usize,
) -> Executed<Vec<Row>> {
    let ListJob { selection, after, .. } = job;
    if selection.filters.is_empty() && selection.sort.is_none() && until.is_none() {
        let statement = connection.prepared(&table.statements.select_next)?;
        let after = after.as_ref().map_or_else(|| first_key(table), |place| &place.key);
        return connection.client.query(&statement, &[&after, &rows.to_string()]);
    }
    let query = statements::list(&table.columns, table.resource, selection, after.as_ref(), until);
    query_once(connection, &query, rows)
}

/// A key that is before all others.
fn first_key(table: &Table) -> &'static str {
    match table.columns[0].kind {
        Kind::Integer { .. } => "0",
        Kind::Uuid => "00000000-0000-0000-0000-000000000000",
        _ => "",
    }
}

/// Executes a statement that is planned for its own values, and fetches its first rows. A statement that is kept would
/// sooner or later be planned for any values, which suits no search. PostgreSQL computes no row that is not fetched.
fn query_once(connection: &mut Connection, query: &Query, rows: usize) -> Executed<Vec<Row>> {
    let types = vec![Type::TEXT; query.parameters.len()];
    let mut transaction = connection.client.build_transaction().read_only(true).start()?;
    let statement = transaction.prepare_typed(&query.sql, &types)?;
    let parameters: Vec<_> = query.parameters.iter().map(|text| text as &(dyn ToSql + Sync)).collect();
    let portal = transaction.bind(&statement, &parameters)?;
    let found = transaction.query_portal(&portal, i32::try_from(rows).unwrap_or(i32::MAX))?;
    transaction.commit()?;
    Ok(found)
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
