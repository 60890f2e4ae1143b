//! Workers against a PostgreSQL that works: batches, deadlines, limits, constraints, bugs in jobs.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use database::Failure;
use support::{Job, figure, settings, settings_with, soon, start, within};
use testkit::{Postgres, patience, wait_until};

/// Waits until `count` sessions of this database execute a `pg_sleep`.
fn wait_for_sleepers(client: &mut postgres::Client, count: i64) {
    wait_until(patience(), "the workers are busy", || {
        let sql = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event = 'PgSleep'";
        client.query_one(sql, &[]).unwrap().get::<_, i64>(0) == count
    });
}

#[test]
fn what_waits_together_is_executed_together_and_everybody_gets_their_own_answer() {
    let database = Postgres::shared().create_database();
    let (workers, things) = start(&settings(&database), 1, 100);
    let mut observer = database.client();
    thread::scope(|scope| {
        scope.spawn(|| workers.ask(Job::Sleep(Duration::from_millis(300)), soon()).unwrap());
        wait_for_sleepers(&mut observer, 1);
        for id in 0..20 {
            let workers = &workers;
            scope.spawn(move || workers.ask(Job::Insert(id, format!("thing {id}")), soon()).unwrap());
        }
    });
    assert_eq!(*things.batches.lock().unwrap(), [20], "one statement for all that waited");
    things.batches.lock().unwrap().clear();
    thread::scope(|scope| {
        scope.spawn(|| workers.ask(Job::Sleep(Duration::from_millis(300)), soon()).unwrap());
        wait_for_sleepers(&mut observer, 1);
        for id in 0..40 {
            let workers = &workers;
            scope.spawn(move || {
                let expected = (id < 20).then(|| format!("thing {id}"));
                assert_eq!(workers.ask(Job::Find(id), soon()).unwrap(), expected);
            });
        }
    });
    assert_eq!(*things.batches.lock().unwrap(), [40]);
    assert!(workers.stop(patience()));
}

#[test]
fn a_lone_job_does_not_wait_for_company() {
    let database = Postgres::shared().create_database();
    let (workers, things) = start(&settings(&database), 4, 100);
    for id in 0..100 {
        assert_eq!(workers.ask(Job::Find(id), soon()).unwrap(), None);
    }
    assert!(things.batches.lock().unwrap().iter().all(|size| *size == 1));
}

#[test]
fn a_refused_row_fails_alone_and_names_its_constraint() {
    let database = Postgres::shared().create_database();
    let (workers, things) = start(&settings(&database), 1, 100);
    let mut observer = database.client();
    workers.ask(Job::Insert(1, "taken".to_owned()), soon()).unwrap();
    things.batches.lock().unwrap().clear();
    let refused = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| workers.ask(Job::Sleep(Duration::from_millis(300)), soon()).unwrap());
        wait_for_sleepers(&mut observer, 1);
        for (id, name) in [(2, "two"), (3, "taken"), (4, ""), (5, "five")] {
            let (workers, refused) = (&workers, &refused);
            scope.spawn(move || match workers.ask(Job::Insert(id, name.to_owned()), soon()) {
                Ok(_) => assert!(matches!(id, 2 | 5)),
                Err(Failure::Refused(report)) => {
                    let expected = if id == 3 { "things_name_key" } else { "things_name_check" };
                    assert_eq!(report.constraint(), Some(expected));
                    refused.fetch_add(1, Ordering::Relaxed);
                }
                Err(other) => panic!("{other}"),
            });
        }
    });
    assert_eq!(refused.load(Ordering::Relaxed), 2);
    assert_eq!(*things.batches.lock().unwrap(), [4, 1, 1, 1, 1]);
}

#[test]
fn a_job_past_its_deadline_is_not_begun() {
    let database = Postgres::shared().create_database();
    let (workers, _) = start(&settings(&database), 1, 100);
    let mut observer = database.client();
    thread::scope(|scope| {
        scope.spawn(|| workers.ask(Job::Sleep(Duration::from_millis(500)), soon()).unwrap());
        wait_for_sleepers(&mut observer, 1);
        let asked = Instant::now();
        let answer = workers.ask(Job::Insert(1, "late".to_owned()), within(Duration::from_millis(50)));
        assert!(matches!(answer, Err(Failure::TimedOut)), "{answer:?}");
        assert!(asked.elapsed() < Duration::from_millis(400), "the asker must not wait for the worker");
    });
    // The worker has passed the late job by now, or will do so before this one.
    assert_eq!(workers.ask(Job::Find(1), soon()).unwrap(), None);
}

#[test]
fn a_write_that_outlasts_its_deadline_is_unknown_and_a_read_is_not() {
    let database = Postgres::shared().create_database();
    let (workers, _) = start(&settings(&database), 2, 100);
    let slow = Duration::from_millis(500);
    let answer = workers.ask(Job::Sleep(slow), within(Duration::from_millis(100)));
    assert!(matches!(answer, Err(Failure::TimedOut)), "{answer:?}");
    let answer = workers.ask(Job::SlowInsert(slow, 7), within(Duration::from_millis(100)));
    assert!(matches!(answer, Err(Failure::Unknown(_))), "{answer:?}");
    wait_until(patience(), "the write was done after all", || {
        workers.ask(Job::Find(7), soon()).unwrap().is_some()
    });
}

#[test]
fn a_statement_that_postgresql_cancels_was_not_done() {
    let database = Postgres::shared().create_database();
    let settings = settings_with(&database, &[("TEST_DB_STATEMENT_TIMEOUT_MS", "100")]);
    let (workers, _) = start(&settings, 1, 100);
    let answer = workers.ask(Job::SlowInsert(Duration::from_secs(5), 7), soon());
    assert!(matches!(answer, Err(Failure::TimedOut)), "{answer:?}");
    assert_eq!(workers.ask(Job::Find(7), soon()).unwrap(), None);
}

#[test]
fn a_full_queue_refuses_at_once() {
    let database = Postgres::shared().create_database();
    let (workers, _) = start(&settings(&database), 1, 2);
    let mut observer = database.client();
    thread::scope(|scope| {
        scope.spawn(|| workers.ask(Job::Sleep(Duration::from_millis(500)), soon()).unwrap());
        wait_for_sleepers(&mut observer, 1);
        for id in 0..2 {
            let workers = &workers;
            scope.spawn(move || workers.ask(Job::Find(id), soon()).unwrap());
        }
        wait_until(patience(), "two jobs wait", || figure(&workers, "database_jobs_waiting") == 2);
        let asked = Instant::now();
        let answer = workers.ask(Job::Find(3), soon());
        assert!(matches!(answer, Err(Failure::Overloaded)), "{answer:?}");
        assert!(asked.elapsed() < Duration::from_millis(100));
    });
}

#[test]
fn a_job_that_panics_costs_nobody_else_their_worker() {
    let database = Postgres::shared().create_database();
    let (workers, _) = start(&settings(&database), 1, 100);
    for _ in 0..3 {
        let answer = workers.ask(Job::Panic, soon());
        assert!(matches!(answer, Err(Failure::Internal(_))), "{answer:?}");
        assert_eq!(workers.ask(Job::Find(1), soon()).unwrap(), None);
    }
}

#[test]
fn stopping_answers_what_waits_and_takes_no_more() {
    let database = Postgres::shared().create_database();
    let (workers, _) = start(&settings(&database), 1, 100);
    let mut observer = database.client();
    thread::scope(|scope| {
        scope.spawn(|| workers.ask(Job::Sleep(Duration::from_millis(300)), soon()).unwrap());
        wait_for_sleepers(&mut observer, 1);
        let waiting = scope.spawn(|| workers.ask(Job::Insert(1, "waits".to_owned()), soon()));
        wait_until(patience(), "a job waits", || figure(&workers, "database_jobs_waiting") == 1);
        assert!(workers.stop(patience()));
        assert!(waiting.join().unwrap().is_ok(), "what waited before the stop is done");
        let answer = workers.ask(Job::Find(1), soon());
        assert!(matches!(answer, Err(Failure::Unavailable(_))), "{answer:?}");
    });
    let row = observer.query_one("SELECT count(*) FROM things", &[]).unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
}
