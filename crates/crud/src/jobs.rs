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
    /// Whether to find the end of the page first.
    pub finds_end: bool,
}

/// The answer to a job.
pub(crate) enum Answer {
    Found(Option<Row>),
    Changed(Change),
    Deleted(u64),
    Listed(Vec<Row>, PageEnd),
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

/// Where a page ends.
pub(crate) enum PageEnd {
    /// At this record, and more follow.
    At(Cursor),
    /// At the end of the list, or it was not looked for.
    Open,
}

/// Executes jobs; each worker has one.
pub(crate) struct Jobs {
    /// The tables; jobs refer to them by index.
    pub tables: Arc<[Table]>,
}

/// The result of a statement.
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

fn list(table: &Table, connection: &mut Connection, job: &ListJob) -> Executed<Answer> {
    let ListJob { selection, after, until, rows, finds_end } = job;
    let (mut end, mut until) = (PageEnd::Open, until.clone());
    if *finds_end {
        let query = statements::page_end(table.resource, selection, selection.limit.unwrap_or(*rows));
        let cursors = query_once(connection, &query)?;
        // Two rows: the last one of this page and the first one of the next.
        end = match cursors.as_slice() {
            [last, _next] => {
                let value = selection.sort.map(|_| last.try_get(1)).transpose()?;
                let cursor = Cursor { key: last.try_get(0)?, value };
                until = Some(cursor.clone());
                PageEnd::At(cursor)
            }
            _ => PageEnd::Open,
        };
    }
    let is_plain = selection.filters.is_empty() && selection.sort.is_none() && until.is_none();
    let found = if is_plain {
        let statement = connection.prepared(&table.statements.select_next)?;
        let after = after.as_ref().map_or_else(|| first_key(table), |cursor| &cursor.key);
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

/// A key that sorts before all others.
fn first_key(table: &Table) -> &'static str {
    match table.columns[0].kind {
        FieldType::Integer { .. } => "0",
        FieldType::Uuid => "00000000-0000-0000-0000-000000000000",
        _ => "",
    }
}

/// Executes a statement that is planned for its parameter values, in one round trip. PostgreSQL would sooner or later
/// give a prepared statement a generic plan, which is bad for searches.
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
