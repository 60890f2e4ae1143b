//! Measures single-row reads through the workers: `cargo run --release -p database --example reads [THREADS] [ASKERS]`.
//! Starts a PostgreSQL of its own, and runs pgbench against it for comparison.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measuring program reports to the terminal"
)]

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use database::{Connection, DatabaseSettings, Executor, Migration, Results, WorkerSettings, Workers};
use foundation::Environment;
use testkit::{Database, Postgres};

const ROWS: u64 = 100_000;
const TIME: Duration = Duration::from_secs(5);
const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "0001_rows",
    sql: "CREATE TABLE rows AS SELECT id, md5(id::text) AS title, 'text' AS description
            FROM generate_series(1::bigint, 100000) AS id;
          ALTER TABLE rows ADD PRIMARY KEY (id); ANALYZE rows;",
}];

struct Reads;

impl Executor for Reads {
    type Job = i64;
    type Answer = Option<(String, String)>;

    type Kind = ();

    fn kind(_: &i64) -> Option<()> {
        Some(())
    }

    fn is_write(_: &i64) -> bool {
        false
    }

    fn execute(&mut self, connection: &mut Connection, ids: &[i64]) -> Results<Self::Answer> {
        if let [id] = ids {
            let one = connection.prepared("SELECT title, description FROM rows WHERE id = $1")?;
            let row = connection.client.query_opt(&one, &[id])?;
            return Ok(vec![Ok(row.map(|row| (row.get(0), row.get(1))))]);
        }
        let several = connection.prepared("SELECT id, title, description FROM rows WHERE id = ANY($1)")?;
        let rows = connection.client.query(&several, &[&ids])?;
        let found: HashMap<i64, (String, String)> =
            rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
        Ok(ids.iter().map(|id| Ok(found.get(id).cloned())).collect())
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>().unwrap());
    let (threads, askers) = (arguments.next(), arguments.next().unwrap_or(32));
    let postgres = Postgres::start();
    let database = postgres.create_database();
    for threads in threads.map_or(vec![1, 2, 3, 4, 8], |threads| vec![threads]) {
        ours(&database, threads, askers);
    }
    pgbench(&database);
}

fn ours(database: &Database, threads: usize, askers: usize) {
    let environment = Environment::from_pairs(database.settings("DB"));
    let settings = DatabaseSettings::read(&environment, "DB", "reads").unwrap();
    let limits = WorkerSettings { threads, queue_max: 1_000 };
    let workers = Workers::start("reads", &settings, MIGRATIONS, limits, || Reads).unwrap();
    workers.ready(Instant::now() + Duration::from_secs(60)).unwrap();
    let (over, latencies) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for asker in 0..askers as u64 {
            let (workers, over, latencies) = (&workers, &over, &latencies);
            scope.spawn(move || {
                let mut own = Vec::new();
                let mut number = asker + 1;
                while !over.load(Ordering::Relaxed) {
                    number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(asker);
                    let id = i64::try_from((number >> 33) % ROWS + 1).unwrap();
                    let asked = Instant::now();
                    assert!(workers.ask(id, asked + Duration::from_secs(5)).unwrap().is_some());
                    own.push(asked.elapsed());
                }
                latencies.lock().unwrap().extend(own);
            });
        }
        thread::sleep(TIME);
        over.store(true, Ordering::Relaxed);
    });
    let mut latencies = latencies.into_inner().unwrap();
    latencies.sort_unstable();
    let stats = workers.stats();
    println!(
        "{threads} workers, {askers} askers: {:.0} reads/s, p50 {:?}, p99 {:?}, {:.1} reads a batch",
        latencies.len() as f64 / TIME.as_secs_f64(),
        latencies[latencies.len() / 2],
        latencies[latencies.len() * 99 / 100],
        stats.jobs.get() as f64 / stats.batches.get() as f64,
    );
    workers.stop(Duration::from_secs(5));
}

fn pgbench(database: &Database) {
    let script = testkit::Folder::new("pgbench");
    let path = script.path().join("read.sql");
    std::fs::write(
        &path,
        format!("\\set id random(1, {ROWS})\nSELECT id, title, description FROM rows WHERE id = :id;\n"),
    )
    .unwrap();
    let output = std::process::Command::new("pgbench")
        .args(["-n", "-M", "prepared", "-c", "8", "-T", "5", "-h", &database.host])
        .args(["-p", &database.port.to_string(), "-U", &database.user, "-f"])
        .arg(&path)
        .arg(&database.name)
        .env("PGPASSWORD", &database.password)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("pgbench -M prepared -c 8: {}", text.lines().find(|line| line.contains("tps")).unwrap_or(&text));
}
