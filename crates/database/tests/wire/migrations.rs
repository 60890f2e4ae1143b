//! Migrations: applied once, in order, by one program at a time, and never edited afterwards.

use std::thread;

use crate::support::settings;
use database::{Error, Migration};
use testkit::Postgres;

const FIRST: Migration =
    Migration { version: 1, name: "0001_first", sql: "CREATE TABLE first (id bigint PRIMARY KEY)" };
const SECOND: Migration =
    Migration { version: 2, name: "0002_second", sql: "ALTER TABLE first ADD COLUMN name text" };
const EDITED: Migration =
    Migration { version: 1, name: "0001_first", sql: "CREATE TABLE first (id integer PRIMARY KEY)" };

const HISTORY: &[Migration] = &[FIRST, SECOND];

#[test]
fn programs_that_start_together_apply_each_step_once() {
    let database = Postgres::shared().create_database();
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| settings(&database).connect(HISTORY).unwrap());
        }
    });
    let mut client = database.client();
    let rows =
        client.query("SELECT name, length(digest) FROM schema_migrations ORDER BY version", &[]).unwrap();
    let found: Vec<(String, i32)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(found, [("0001_first".to_owned(), 64), ("0002_second".to_owned(), 64)]);
}

#[test]
fn an_edited_file_is_refused_by_its_name_and_changes_nothing() {
    let database = Postgres::shared().create_database();
    settings(&database).connect(&[FIRST]).unwrap();
    for edited in [&[EDITED] as &'static [Migration], &[EDITED, SECOND]] {
        let error = settings(&database).connect(edited).unwrap_err();
        assert!(matches!(error, Error::Edited { .. }) && error.is_permanent(), "{error}");
        assert!(error.to_string().contains("0001_first"), "{error}");
    }
    settings(&database).connect(HISTORY).unwrap();
}

#[test]
fn a_database_of_a_newer_program_is_refused() {
    let database = Postgres::shared().create_database();
    settings(&database).connect(HISTORY).unwrap();
    let error = settings(&database).connect(&[FIRST]).unwrap_err();
    assert!(matches!(error, Error::TooNew { found: 2, known: 1 }), "{error}");
}

#[test]
fn a_database_without_digests_gets_them_and_is_checked_from_then_on() {
    let database = Postgres::shared().create_database();
    let mut client = database.client();
    client
        .batch_execute(
            "CREATE TABLE first (id bigint PRIMARY KEY);
             CREATE TABLE schema_migrations (
                 version integer PRIMARY KEY,
                 name text NOT NULL,
                 applied_at timestamptz NOT NULL DEFAULT now()
             );
             INSERT INTO schema_migrations (version, name) VALUES (1, '0001_first');",
        )
        .unwrap();
    settings(&database).connect(HISTORY).unwrap();
    let row = client.query_one("SELECT count(digest) FROM schema_migrations", &[]).unwrap();
    assert_eq!(row.get::<_, i64>(0), 2);
    assert!(matches!(settings(&database).connect(&[EDITED, SECOND]), Err(Error::Edited { .. })));
}

#[test]
fn a_step_that_fails_leaves_the_database_as_it_was() {
    const BROKEN: Migration =
        Migration { version: 2, name: "0002_broken", sql: "ALTER TABLE nothing ADD x text" };
    let database = Postgres::shared().create_database();
    assert!(settings(&database).connect(&[FIRST, BROKEN]).is_err());
    let mut client = database.client();
    let row = client.query_one("SELECT to_regclass('first') IS NULL", &[]).unwrap();
    assert!(row.get::<_, bool>(0));
}

/// The index of the movies' titles was once changed in the file that had made it, so there are databases of both kinds.
#[test]
fn both_kinds_of_movie_databases_end_with_the_same_index() {
    const MOVIES: &[Migration] = &[
        Migration {
            version: 1,
            name: "0001_movies",
            sql: include_str!("../../../../sql/movies/0001_movies.sql"),
        },
        Migration {
            version: 2,
            name: "0002_title_index",
            sql: include_str!("../../../../sql/movies/0002_title_index.sql"),
        },
    ];
    for options in [None, Some("gin_pending_list_limit = 256"), Some("fastupdate = off")] {
        let database = Postgres::shared().create_database();
        let mut client = database.client();
        if let Some(options) = options {
            client
                .batch_execute(&format!(
                    "CREATE EXTENSION pg_trgm;
                     CREATE TABLE movies (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text NOT NULL);
                     CREATE INDEX movies_title_trigrams ON movies USING gin (title gin_trgm_ops) WITH ({options});
                     CREATE TABLE schema_migrations (
                         version integer PRIMARY KEY,
                         name text NOT NULL,
                         applied_at timestamptz NOT NULL DEFAULT now()
                     );
                     INSERT INTO schema_migrations (version, name) VALUES (1, '0001_movies');"
                ))
                .unwrap();
        }
        settings(&database).connect(MOVIES).unwrap();
        let sql = "SELECT array(SELECT unnest(reloptions) ORDER BY 1)::text FROM pg_class
                    WHERE relname = 'movies_title_trigrams'";
        let found: String = client.query_one(sql, &[]).unwrap().get(0);
        assert_eq!(found, "{fastupdate=on,gin_pending_list_limit=256}", "before: {options:?}");
    }
}
