//! Workers against a PostgreSQL that works: batches, deadlines, limits, constraints, bugs in jobs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Gate, Job, Things, figure, settings, soon, start, within};
use database::{Failure, Workers};
use testkit::{Postgres, patience, wait_until};

/// Waits until `count` jobs wait for a worker.
#[track_caller]
fn wait_for_waiting(workers: &Workers<Things>, count: usize) {
    wait_until(patience(), "the jobs wait", || figure(workers, "database_jobs_waiting") == count);
}

#[test]
fn what_waits_together_is_executed_together_and_everybody_gets_their_own_answer() {
    let database = Postgres::shared().create_database();
    let (workers, things) = start(&settings(&database), 1, 100);
    let mut gate = Gate::closed(&database);
    thread::scope(|scope| {
        scope.spawn(|| workers.ask(Job::WaitForGate, soon()).unwrap());
        gate.wait_for_worker();
        for id in 0..20 {
            let workers = &workers;
            scope.spawn(move || workers.ask(Job::Insert(id, format!("thing {id}")), soon()).unwrap());
        }
        wait_for_waiting(&workers, 20);
        gate.open();
    });
    assert_eq!(*things.batches.lock().unwrap(), [20], "one statement for all that waited");
    things.batches.lock().unwrap().clear();
    let mut gate = Gate::closed(&database);
    thread::scope(|scope| {
        scope.spawn(|| workers.ask(Job::WaitForGate, soon()).unwrap());
        gate.wait_for_worker();
        for id in 0..40 {
            let workers = &workers;
            scope.spawn(move || {
                let expected = (id < 20).then(|| format!("thing {id}"));
                assert_eq!(workers.ask(Job::Find(id), soon()).unwrap(), expected);
            });
        }
        wait_for_waiting(&workers, 40);
        gate.open();
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
    let mut gate = Gate::closed(&database);
    workers.ask(Job::Insert(1, "taken".to_owned()), soon()).unwrap();
    things.batches.lock().unwrap().clear();
    let refused = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| workers.ask(Job::WaitForGate, soon()).unwrap());
        gate.wait_for_worker();
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
        wait_for_waiting(&workers, 4);
        gate.open();
    });
    assert_eq!(refused.load(Ordering::Relaxed), 2);
    assert_eq!(*things.batches.lock().unwrap(), [4, 1, 1, 1, 1]);
}

#[test]
fn a_job_past_its_deadline_is_not_begun() {
    let database = Postgres::shared().create_database();
    let (workers, _) = start(&settings(&database), 1, 100);
    let mut gate = Gate::closed(&database);
    thread::scope(|scope| {
        scope.spawn(|| workers.ask(Job::WaitForGate, soon()).unwrap());
        gate.wait_for_worker();
        let asked = Instant::now();
        let answer = workers.ask(Job::Insert(1, "late".to_owned()), within(Duration::from_millis(50)));
        assert!(matches!(answer, Err(Failure::TimedOut)), "{answer:?}");
        assert!(asked.elapsed() < Duration::from_secs(5), "the asker must not wait for the worker");
        gate.open();
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
    let mut settings = settings(&database);
    settings.statement_timeout = Duration::from_millis(100);
    let (workers, _) = start(&settings, 1, 100);
    let answer = workers.ask(Job::SlowInsert(Duration::from_secs(5), 7), soon());
    assert!(matches!(answer, Err(Failure::TimedOut)), "{answer:?}");
    assert_eq!(workers.ask(Job::Find(7), soon()).unwrap(), None);
}

#[test]
fn a_full_queue_refuses_at_once() {
    let database = Postgres::shared().create_database();
    let (workers, _) = start(&settings(&database), 1, 2);
    let mut gate = Gate::closed(&database);
    thread::scope(|scope| {
        scope.spawn(|| workers.ask(Job::WaitForGate, soon()).unwrap());
        gate.wait_for_worker();
        for id in 0..2 {
            let workers = &workers;
            scope.spawn(move || workers.ask(Job::Find(id), soon()).unwrap());
        }
        wait_for_waiting(&workers, 2);
        let asked = Instant::now();
        let answer = workers.ask(Job::Find(3), soon());
        assert!(matches!(answer, Err(Failure::Overloaded)), "{answer:?}");
        assert!(asked.elapsed() < Duration::from_secs(5));
        gate.open();
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
    let mut gate = Gate::closed(&database);
    thread::scope(|scope| {
        scope.spawn(|| workers.ask(Job::WaitForGate, soon()).unwrap());
        gate.wait_for_worker();
        let waiting = scope.spawn(|| workers.ask(Job::Insert(1, "waits".to_owned()), soon()));
        wait_for_waiting(&workers, 1);
        assert!(!workers.stop(Duration::from_millis(1)), "a worker is busy");
        gate.open();
        assert!(workers.stop(patience()));
        assert!(waiting.join().unwrap().is_ok(), "what waited before the stop is done");
        let answer = workers.ask(Job::Find(1), soon());
        assert!(matches!(answer, Err(Failure::Unavailable(_))), "{answer:?}");
    });
    let row = database.client().query_one("SELECT count(*) FROM things", &[]).unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
}

#[test]
fn an_answer_can_be_waited_for_later_and_a_job_that_is_given_up_is_not_begun() {
    let database = Postgres::shared().create_database();
    let (workers, _things) = start(&settings(&database), 1, 100);
    let mut gate = Gate::closed(&database);
    thread::scope(|scope| {
        scope.spawn(|| workers.ask(Job::WaitForGate, soon()).unwrap());
        gate.wait_for_worker();
        // The second is given up before the only worker comes to it.
        let kept = workers.submit(Job::Insert(1, "kept".to_owned()), soon()).unwrap();
        drop(workers.submit(Job::Insert(2, "given up".to_owned()), soon()).unwrap());
        gate.open();
        kept.wait().unwrap();
    });
    assert_eq!(workers.ask(Job::Find(1), soon()).unwrap().as_deref(), Some("kept"));
    assert_eq!(workers.ask(Job::Find(2), soon()).unwrap(), None);
}
