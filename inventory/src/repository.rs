//! The movies in PostgreSQL. Only this file contains SQL.
//!
//! Each worker thread owns one repository, and with it one connection, which comes back by itself after a failure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use database::{DatabaseSettings, Migration};
use postgres::error::SqlState;
use postgres::{Client, Portal, Row, Statement, Transaction};

use crate::error::Error;
use crate::movie::{Movie, MovieChanges, MovieView, NewMovie};
use crate::reconnection::Reconnection;

/// The schema's history, applied in order at every first connection.
const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "0001_movies", sql: include_str!("../../sql/movies/0001_movies.sql") },
    Migration {
        version: 2,
        name: "0002_title_index",
        sql: include_str!("../../sql/movies/0002_title_index.sql"),
    },
];

/// How much of a list is in memory at a time, by which the rows that are fetched together are counted.
const BATCH_BYTES: usize = 128 << 10;
/// Rows that are fetched first, when nothing is known of their size; most of what clients ask for fits.
const FIRST_BATCH_ROWS: usize = 64;
/// Most rows that are fetched together.
const BATCH_ROWS_MAX: usize = 1_000;
/// What a row takes beside its text.
const ROW_OVERHEAD_BYTES: usize = 64;

/// A connection that has rested longer than this is tried before something is changed through it, because a change
/// cannot be repeated when it is unclear whether the first attempt took place.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// Which movies a list holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Only titles that contain this text, whatever the case; empty for all.
    pub title: String,
    /// Only ids above this one.
    pub after: i64,
    /// At most so many.
    pub limit: Option<i64>,
}

/// One worker's access to the movies.
pub(crate) struct Repository {
    database: DatabaseSettings,
    reconnection: Arc<Reconnection>,
    connected: Option<Connected>,
}

/// A connection with its prepared statements.
struct Connected {
    client: Client,
    last_used: Instant,
    select_one: Statement,
    lock_one: Statement,
    insert: Statement,
    update: Statement,
    delete_one: Statement,
    delete_all: Statement,
    select_list: Statement,
    select_search: Statement,
    page_end: Statement,
}

impl Connected {
    fn prepare(mut client: Client) -> Result<Self, postgres::Error> {
        Ok(Self {
            select_one: client.prepare("SELECT id, title, description FROM movies WHERE id = $1")?,
            lock_one: client.prepare("SELECT id, title, description FROM movies WHERE id = $1 FOR UPDATE")?,
            insert: client.prepare("INSERT INTO movies (title, description) VALUES ($1, $2) RETURNING id")?,
            update: client.prepare(
                "UPDATE movies SET title = coalesce($2, title), description = coalesce($3, description)
                 WHERE id = $1 RETURNING id, title, description",
            )?,
            delete_one: client.prepare("DELETE FROM movies WHERE id = $1")?,
            delete_all: client.prepare("DELETE FROM movies")?,
            select_list: client
                .prepare("SELECT id, title, description FROM movies WHERE id > $1 ORDER BY id LIMIT $2")?,
            select_search: client.prepare(
                "SELECT id, title, description FROM movies
                 WHERE title ILIKE $3 AND id > $1 ORDER BY id LIMIT $2",
            )?,
            page_end: client.prepare(
                "SELECT id FROM movies WHERE title ILIKE $3 AND id > $1 ORDER BY id OFFSET $2::bigint - 1 LIMIT 2",
            )?,
            last_used: Instant::now(),
            client,
        })
    }
}

impl Repository {
    /// A repository that connects when it is first used.
    pub(crate) fn new(database: DatabaseSettings, reconnection: Arc<Reconnection>) -> Self {
        Self { database, reconnection, connected: None }
    }

    /// Makes sure that there is a working connection to an up-to-date schema.
    pub(crate) fn check(&mut self) -> Result<(), Error> {
        self.with_client(Access::Read, |connected| connected.client.simple_query("").map(|_| ()))
    }

    /// The movie `id`.
    pub(crate) fn find(&mut self, id: i64) -> Result<Option<Movie>, Error> {
        self.with_client(Access::Read, |connected| {
            let row = connected.client.query_opt(&connected.select_one, &[&id])?;
            row.map(|row| movie(&row)).transpose()
        })
    }

    /// Stores a movie and gives it its id.
    pub(crate) fn insert(&mut self, new: &NewMovie) -> Result<Movie, Error> {
        self.with_client(Access::Write, |connected| {
            let row = connected.client.query_one(&connected.insert, &[&new.title, &new.description])?;
            Ok(Movie { id: row.try_get(0)?, title: new.title.clone(), description: new.description.clone() })
        })
    }

    /// Changes the movie `id` if `condition` holds for it. `None` when there is no such movie; otherwise the movie,
    /// and whether the condition held.
    pub(crate) fn update(
        &mut self,
        id: i64,
        changes: &MovieChanges,
        condition: Option<&dyn Fn(&Movie) -> bool>,
    ) -> Result<Option<(Movie, bool)>, Error> {
        self.with_client(Access::Write, |connected| {
            let parameters: [&(dyn postgres::types::ToSql + Sync); 3] =
                [&id, &changes.title, &changes.description];
            let Some(condition) = condition else {
                let row = connected.client.query_opt(&connected.update, &parameters)?;
                return row.map(|row| Ok((movie(&row)?, true))).transpose();
            };
            let mut transaction = connected.client.transaction()?;
            let Some(current) = transaction.query_opt(&connected.lock_one, &[&id])? else { return Ok(None) };
            let current = movie(&current)?;
            if !condition(&current) {
                return Ok(Some((current, false)));
            }
            let updated = movie(&transaction.query_one(&connected.update, &parameters)?)?;
            transaction.commit()?;
            Ok(Some((updated, true)))
        })
    }

    /// Deletes the movie `id` if `condition` holds for it. `None` when there is no such movie; otherwise whether the
    /// condition held.
    pub(crate) fn delete(
        &mut self,
        id: i64,
        condition: Option<&dyn Fn(&Movie) -> bool>,
    ) -> Result<Option<bool>, Error> {
        self.with_client(Access::Write, |connected| {
            let Some(condition) = condition else {
                let deleted = connected.client.execute(&connected.delete_one, &[&id])?;
                return Ok((deleted > 0).then_some(true));
            };
            let mut transaction = connected.client.transaction()?;
            let Some(current) = transaction.query_opt(&connected.lock_one, &[&id])? else { return Ok(None) };
            if !condition(&movie(&current)?) {
                return Ok(Some(false));
            }
            transaction.execute(&connected.delete_one, &[&id])?;
            transaction.commit()?;
            Ok(Some(true))
        })
    }

    /// Deletes all movies and tells how many there were.
    pub(crate) fn delete_all(&mut self) -> Result<u64, Error> {
        self.with_client(Access::Write, |connected| connected.client.execute(&connected.delete_all, &[]))
    }

    /// Starts to read a list, in id order, all of it as it is at this moment.
    pub(crate) fn list(&mut self, filter: &Filter) -> Result<MovieRows<'_>, Error> {
        // A borrowed result cannot be returned from a closure that is tried twice, so the connection is tried first.
        if self.connected.as_ref().is_none_or(|connected| connected.last_used.elapsed() > TRUSTED_FOR) {
            self.check()?;
        }
        let connected = self.connected()?;
        connected.last_used = Instant::now();
        MovieRows::open(connected, filter).map_err(|error| classify(&error))
    }

    /// Runs `work` on the connection. What only reads is tried once more on a new connection when the old one
    /// turns out to be dead; a change is not, since it may have been made.
    fn with_client<T>(
        &mut self,
        access: Access,
        mut work: impl FnMut(&mut Connected) -> Result<T, postgres::Error>,
    ) -> Result<T, Error> {
        let was_connected = self.connected.is_some();
        let connected = self.connected()?;
        let rested = connected.last_used.elapsed() > TRUSTED_FOR;
        if access == Access::Write && rested && connected.client.simple_query("").is_err() {
            self.connected = None;
        }
        let connected = self.connected()?;
        let outcome = work(connected);
        connected.last_used = Instant::now();
        let Err(error) = outcome else { return outcome.map_err(|error| classify(&error)) };
        if !connected.client.is_closed() {
            return Err(classify(&error));
        }
        self.connected = None;
        if access == Access::Read && was_connected {
            return work(self.connected()?).map_err(|error| classify(&error));
        }
        Err(classify(&error))
    }

    fn connected(&mut self) -> Result<&mut Connected, Error> {
        let usable = self.connected.take().filter(|connected| !connected.client.is_closed());
        let connected = match usable {
            Some(connected) => connected,
            None => self.connect()?,
        };
        Ok(self.connected.insert(connected))
    }

    fn connect(&self) -> Result<Connected, Error> {
        if !self.reconnection.may_try() {
            return Err(Error::Unavailable("the last attempt to connect failed a moment ago".to_owned()));
        }
        let connected = self.database.connect(MIGRATIONS).map_err(Error::from).and_then(|connection| {
            Connected::prepare(connection.client).map_err(|source| {
                database::Error::Postgres { action: "prepare the statements", source }.into()
            })
        });
        self.reconnection.report(connected.is_ok());
        connected
    }
}

/// Whether an operation can be repeated without harm.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// A list that is read in batches, inside a transaction that sees one state of the table.
pub(crate) struct MovieRows<'a> {
    transaction: Transaction<'a>,
    portal: Portal,
    /// The last id of this page, when more movies follow it.
    pub next_after: Option<i64>,
    batch: Batch,
    position: u64,
}

impl<'a> MovieRows<'a> {
    /// Begins the transaction and reads the first batch, so that most failures show before anything is answered.
    fn open(connected: &'a mut Connected, filter: &Filter) -> Result<Self, postgres::Error> {
        let Connected { client, select_list, select_search, page_end, .. } = connected;
        let mut transaction =
            client.build_transaction().read_only(true).isolation_level(ISOLATION).start()?;
        let pattern = like_pattern(&filter.title);
        if !filter.title.is_empty() {
            // Whether the index serves depends on the text, so each search is planned for its own.
            transaction.batch_execute("SET LOCAL plan_cache_mode = force_custom_plan")?;
        }
        let next_after = match filter.limit {
            Some(limit) => {
                let ends = transaction.query(page_end, &[&filter.after, &limit, &pattern])?;
                // Two rows: the last of this page and the first of the next one.
                if let [last, _next] = ends.as_slice() { Some(last.try_get(0)?) } else { None }
            }
            None => None,
        };
        let portal = if filter.title.is_empty() {
            transaction.bind(select_list, &[&filter.after, &filter.limit])?
        } else {
            transaction.bind(select_search, &[&filter.after, &filter.limit, &pattern])?
        };
        let batch = Batch { rows: Vec::new(), next: 0, bytes: 0, is_last: false };
        let mut rows = Self { transaction, portal, next_after, batch, position: 0 };
        rows.fetch(FIRST_BATCH_ROWS)?;
        Ok(rows)
    }

    fn fetch(&mut self, rows: usize) -> Result<(), postgres::Error> {
        let most = i32::try_from(rows).unwrap_or(i32::MAX);
        let fetched = self.transaction.query_portal(&self.portal, most)?;
        self.batch = Batch { is_last: fetched.len() < rows, rows: fetched, next: 0, bytes: 0 };
        Ok(())
    }

    /// The next movie, or `None` at the end of the list.
    pub(crate) fn next_movie(&mut self) -> Result<Option<MovieView<'_>>, Error> {
        if self.batch.next == self.batch.rows.len() && !self.batch.is_last {
            self.fetch(self.batch.size_of_next()).map_err(|error| classify(&error))?;
        }
        let Some(row) = self.batch.rows.get(self.batch.next) else { return Ok(None) };
        let view = movie_view(row).map_err(|error| classify(&error))?;
        self.batch.next += 1;
        self.batch.bytes += ROW_OVERHEAD_BYTES + view.title.len() + view.description.len();
        self.position += 1;
        Ok(Some(view))
    }

    /// How many movies have been read.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }
}

/// The rows that were fetched last.
struct Batch {
    rows: Vec<Row>,
    /// The next one to be read.
    next: usize,
    /// Roughly what those that were read take.
    bytes: usize,
    /// Whether no rows follow this batch.
    is_last: bool,
}

impl Batch {
    /// So many rows as will probably take `BATCH_BYTES`: few round trips for small movies, little memory for large
    /// ones.
    fn size_of_next(&self) -> usize {
        (BATCH_BYTES * self.rows.len() / self.bytes.max(1)).clamp(FIRST_BATCH_ROWS / 4, BATCH_ROWS_MAX)
    }
}

/// One snapshot for the page's end and its rows.
const ISOLATION: postgres::IsolationLevel = postgres::IsolationLevel::RepeatableRead;

/// A pattern that matches every title that contains `text`. `%`, `_` and `\` stand for themselves.
fn like_pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

fn movie(row: &Row) -> Result<Movie, postgres::Error> {
    Ok(Movie { id: row.try_get(0)?, title: row.try_get(1)?, description: row.try_get(2)? })
}

fn movie_view(row: &Row) -> Result<MovieView<'_>, postgres::Error> {
    Ok(MovieView { id: row.try_get(0)?, title: row.try_get(1)?, description: row.try_get(2)? })
}

/// What a failed statement means for the client (PostgreSQL, appendix A, error codes).
fn classify(error: &postgres::Error) -> Error {
    let text = database::describe(error);
    match error.code() {
        Some(&SqlState::QUERY_CANCELED) => Error::TooSlow,
        Some(code) => match &code.code()[..2] {
            // Connection exceptions, insufficient resources, operator intervention, rolled-back transactions and
            // system errors pass; so does a server that was set to read-only.
            "08" | "53" | "57" | "40" | "58" | "25" => Error::Unavailable(text),
            _ => Error::Internal(text),
        },
        None if error.is_closed() || source_is_io(error) => Error::Unavailable(text),
        None => Error::Internal(text),
    }
}

fn source_is_io(error: &postgres::Error) -> bool {
    let source = std::error::Error::source(error);
    source.and_then(|source| source.downcast_ref::<std::io::Error>()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_like_would_interpret_is_escaped() {
        assert_eq!(like_pattern(""), "%%");
        assert_eq!(like_pattern(r"100%_\"), r"%100\%\_\\%");
    }
}
