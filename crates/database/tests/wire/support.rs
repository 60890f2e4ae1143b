//! A small table and the jobs that these tests do with it.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use database::{Connection, DatabaseSettings, Executor, Migration, Results, WorkerSettings, Workers};
use foundation::Environment;
use foundation::metrics::Exposition;
use testkit::{Database, patience, wait_until};

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "0001_things",
    sql: "CREATE TABLE things (id bigint PRIMARY KEY, name text NOT NULL UNIQUE CHECK (name <> ''))",
}];

pub(crate) enum Job {
    /// The name of a thing.
    Find(i64),
    /// Stores a thing.
    Insert(i64, String),
    /// Lets PostgreSQL sleep, then stores a thing.
    SlowInsert(Duration, i64),
    /// Lets PostgreSQL sleep.
    Sleep(Duration),
    /// Keeps a worker busy until a [`Gate`] opens.
    WaitForGate,
    /// Ends the connection that it is executed on.
    EndConnection,
    Panic,
}

/// Executes jobs and notes how large the batches of `Find` and `Insert` were.
#[derive(Clone, Default)]
pub(crate) struct Things {
    pub(crate) batches: Arc<Mutex<Vec<usize>>>,
}

impl Executor for Things {
    type Job = Job;
    type Answer = Option<String>;

    type Kind = Discriminant<Job>;

    fn kind(job: &Job) -> Option<Self::Kind> {
        matches!(job, Job::Find(_) | Job::Insert(..)).then(|| discriminant(job))
    }

    fn is_write(job: &Job) -> bool {
        matches!(job, Job::Insert(..) | Job::SlowInsert(..))
    }

    fn execute(&mut self, connection: &mut Connection, jobs: &[Job]) -> Results<Option<String>> {
        match &jobs[0] {
            Job::Find(_) => self.find(connection, jobs),
            Job::Insert(..) => self.insert(connection, jobs),
            Job::SlowInsert(time, id) => {
                let sql = "WITH slept AS MATERIALIZED (SELECT pg_sleep($1))
                           INSERT INTO things SELECT $2::bigint, 'slow' FROM slept";
                let statement = connection.prepared(sql)?;
                connection.client.execute(&statement, &[&time.as_secs_f64(), id])?;
                Ok(vec![Ok(None)])
            }
            Job::Sleep(time) => {
                let statement = connection.prepared("SELECT pg_sleep($1)")?;
                connection.client.execute(&statement, &[&time.as_secs_f64()])?;
                Ok(vec![Ok(None)])
            }
            Job::WaitForGate => {
                let sql = "SELECT pg_advisory_lock_shared(1), pg_advisory_unlock_shared(1)";
                connection.client.execute(sql, &[])?;
                Ok(vec![Ok(None)])
            }
            Job::EndConnection => {
                connection.client.execute("SELECT pg_terminate_backend(pg_backend_pid())", &[])?;
                Ok(vec![Ok(None)])
            }
            Job::Panic => panic!("a job that panics"),
        }
    }
}

impl Things {
    fn find(&self, connection: &mut Connection, jobs: &[Job]) -> Results<Option<String>> {
        self.batches.lock().unwrap().push(jobs.len());
        let ids: Vec<i64> =
            jobs.iter().filter_map(|job| if let Job::Find(id) = job { Some(*id) } else { None }).collect();
        let statement = connection.prepared("SELECT id, name FROM things WHERE id = ANY($1)")?;
        let rows = connection.client.query(&statement, &[&ids])?;
        let names: HashMap<i64, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        Ok(ids.iter().map(|id| Ok(names.get(id).cloned())).collect())
    }

    fn insert(&self, connection: &mut Connection, jobs: &[Job]) -> Results<Option<String>> {
        self.batches.lock().unwrap().push(jobs.len());
        let (ids, names): (Vec<i64>, Vec<&str>) = jobs
            .iter()
            .filter_map(|job| if let Job::Insert(id, name) = job { Some((*id, name.as_str())) } else { None })
            .unzip();
        let statement =
            connection.prepared("INSERT INTO things SELECT * FROM unnest($1::bigint[], $2::text[])")?;
        connection.client.execute(&statement, &[&ids, &names])?;
        Ok(jobs.iter().map(|_| Ok(None)).collect())
    }
}

/// Holds up [`Job::WaitForGate`] until it opens.
pub(crate) struct Gate(postgres::Client);

impl Gate {
    pub(crate) fn closed(database: &Database) -> Self {
        let mut client = database.client();
        client.execute("SELECT pg_advisory_lock(1)", &[]).unwrap();
        Self(client)
    }

    /// Waits until a worker has come to the gate, which keeps it from everything else.
    pub(crate) fn wait_for_worker(&mut self) {
        let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        wait_until(patience(), "a worker is busy", || {
            self.0.query_one(sql, &[]).unwrap().get::<_, i64>(0) == 1
        });
    }

    pub(crate) fn open(&mut self) {
        self.0.execute("SELECT pg_advisory_unlock(1)", &[]).unwrap();
    }
}

/// Settings whose statements may wait for a gate, and for a machine that is busy with other tests.
pub(crate) fn settings(database: &Database) -> DatabaseSettings {
    let environment = Environment::from_pairs(database.settings("TEST_DB"));
    let mut settings = DatabaseSettings::read(&environment, "TEST_DB", "test").unwrap();
    settings.statement_timeout = Duration::from_secs(60);
    settings.connect_timeout = Duration::from_secs(60);
    settings
}

/// Workers that have all connected.
pub(crate) fn start(
    settings: &DatabaseSettings,
    threads: usize,
    queue_max: usize,
) -> (Workers<Things>, Things) {
    let things = Things::default();
    let executor = things.clone();
    let limits = WorkerSettings { threads, queue_max };
    let workers = Workers::start("test", settings, MIGRATIONS, limits, move || executor.clone()).unwrap();
    wait_until(patience(), "all workers are connected", || {
        figure(&workers, "database_connections") == threads
    });
    (workers, things)
}

/// A figure of the workers' metrics.
pub(crate) fn figure(workers: &Workers<Things>, name: &str) -> usize {
    let mut text = Exposition::new();
    workers.write_metrics(&mut text);
    let text = text.finish();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap().parse().unwrap()
}

/// A deadline that nothing should reach.
pub(crate) fn soon() -> Instant {
    Instant::now() + patience()
}

pub(crate) fn within(limit: Duration) -> Instant {
    Instant::now() + limit
}
