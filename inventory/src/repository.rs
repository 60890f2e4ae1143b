//! The movies in PostgreSQL. Only this file contains SQL.
//!
//! Each worker thread owns one repository, and with it one connection, which comes back by itself after a failure.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::Backoff;
use common::database::{DatabaseSettings, Migration};
use postgres::error::SqlState;
use postgres::{Client, Portal, Row, Statement, Transaction};

use crate::error::Error;
use crate::movie::{Movie, MovieChanges, NewMovie};

/// The schema's history, applied in order at every first connection.
const MIGRATIONS: &[Migration] =
    &[Migration { version: 1, name: "0001_movies", sql: include_str!("../../sql/movies/0001_movies.sql") }];

/// Rows fetched at a time while a list is streamed: enough to make the round trips cheap, and few enough that the
/// longest movies do not make memory grow.
const ROWS_PER_BATCH: i32 = 256;

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

/// When the next attempt to connect may be made. Shared by all repositories of the process, so that one success lets
/// all of them try at once, and a database that is away is asked by one thread at a time.
pub(crate) struct Reconnection {
    state: Mutex<(Backoff, Instant)>,
}

impl Reconnection {
    /// A first attempt is free; failures wait for 50 ms at first and a second at most.
    pub(crate) fn new() -> Arc<Self> {
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        Arc::new(Self { state: Mutex::new((backoff, Instant::now())) })
    }

    fn may_try(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 <= Instant::now()
    }

    fn report(&self, success: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if success {
            state.0.reset();
            state.1 = Instant::now();
        } else {
            state.1 = Instant::now() + state.0.next_delay();
        }
    }
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
        let connected = self.database.connect(MIGRATIONS).map_err(Error::from).and_then(|client| {
            Connected::prepare(client)
                .map_err(|source| common::Error::Postgres { action: "prepare the statements", source }.into())
        });
        self.reconnection.report(connected.is_ok());
        connected.map_err(|error| match error {
            Error::Common(error @ common::Error::Postgres { .. }) => Error::Unavailable(error.to_string()),
            other => other,
        })
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
    batch: std::vec::IntoIter<Row>,
    /// Whether `batch` is the last one.
    last_batch: bool,
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
        let batch = Vec::new().into_iter();
        let mut rows = Self { transaction, portal, next_after, batch, last_batch: false, position: 0 };
        rows.fetch()?;
        Ok(rows)
    }

    fn fetch(&mut self) -> Result<(), postgres::Error> {
        let rows = self.transaction.query_portal(&self.portal, ROWS_PER_BATCH)?;
        self.last_batch = rows.len() < usize::try_from(ROWS_PER_BATCH).unwrap_or(usize::MAX);
        self.batch = rows.into_iter();
        Ok(())
    }

    /// The next movie, or `None` at the end of the list.
    pub(crate) fn next_movie(&mut self) -> Result<Option<Movie>, Error> {
        if self.batch.len() == 0 && !self.last_batch {
            self.fetch().map_err(|error| classify(&error))?;
        }
        let Some(row) = self.batch.next() else { return Ok(None) };
        self.position += 1;
        movie(&row).map(Some).map_err(|error| classify(&error))
    }

    /// How many movies have been read.
    pub(crate) fn position(&self) -> u64 {
        self.position
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

/// What a failed statement means for the client (PostgreSQL, appendix A, error codes).
fn classify(error: &postgres::Error) -> Error {
    let text = common::database::describe(error);
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

    #[test]
    fn a_failure_closes_the_way_to_the_database_for_a_moment() {
        let reconnection = Reconnection::new();
        assert!(reconnection.may_try());
        reconnection.report(false);
        assert!(!reconnection.may_try());
        reconnection.report(true);
        assert!(reconnection.may_try());
    }
}
