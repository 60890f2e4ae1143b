//! Workers and connecting, while PostgreSQL is killed, frozen, restarted, or not PostgreSQL at all.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Job, MIGRATIONS, settings, soon, start, within};
use database::{DatabaseSettings, Error, Failure};
use foundation::Environment;
use testkit::{Postgres, patience, wait_until};

/// Within this time after PostgreSQL is back, work is done again.
const RECOVERY_LIMIT: Duration = Duration::from_secs(3);

fn settings_for(port: u16, connect_timeout: Duration) -> DatabaseSettings {
    let pairs = [
        ("TEST_DB_PORT", port.to_string()),
        ("TEST_DB_NAME", "n".to_owned()),
        ("TEST_DB_USER", "u".to_owned()),
        ("TEST_DB_PASSWORD", "p".to_owned()),
    ];
    let mut settings = DatabaseSettings::read(&Environment::from_pairs(pairs), "TEST_DB", "test").unwrap();
    settings.connect_timeout = connect_timeout;
    settings
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_an_error_within_the_deadline() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = settings_for(silent.local_addr().unwrap().port(), Duration::from_millis(200));
    // More often than attempts may hang: none of these leaves a thread behind.
    for _ in 0..20 {
        let begun = Instant::now();
        let error = settings.connect(MIGRATIONS).unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}

#[test]
fn a_server_that_hangs_after_its_first_word_leaves_few_threads_behind() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = settings_for(listener.local_addr().unwrap().port(), Duration::from_millis(50));
    thread::spawn(move || {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept() {
            // The probe is answered; a real start-up message is not.
            let mut request = [0; 8];
            if stream.read_exact(&mut request).is_ok() && request[4..] == [0x04, 0xd2, 0x16, 0x2f] {
                let _ = stream.write_all(b"N");
            }
            kept.push(stream);
        }
    });
    // On a busy machine the probe may time out, too; such an attempt leaves no thread behind and does not count.
    let timed_out = |error: &Error| matches!(error, Error::TimedOut { .. });
    let mut errors = std::iter::repeat_with(|| settings.connect(MIGRATIONS).unwrap_err());
    let attempts = errors.by_ref().take(200).take_while(timed_out).count();
    assert!((8..200).contains(&attempts), "{attempts} attempts timed out");
    for error in errors.take(4) {
        assert!(matches!(error, Error::Hanging { attempts: 8, .. }), "{error}");
    }
}

#[test]
fn a_session_has_settings_of_its_own() {
    let database = Postgres::shared().create_database();
    let mut connection = settings(&database).connect(MIGRATIONS).unwrap();
    for (setting, value) in [
        ("statement_timeout", "1min"),
        ("tcp_keepalives_idle", "10"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "2"),
        ("tcp_user_timeout", "20000"),
        ("max_parallel_workers_per_gather", "0"),
        ("jit", "off"),
    ] {
        let row = connection.client.query_one(&format!("SHOW {setting}"), &[]).unwrap();
        assert_eq!(row.get::<_, String>(0), value, "{setting}");
    }
}

#[test]
fn without_a_server_everybody_is_told_at_once_until_it_comes() {
    let postgres = Postgres::start();
    let database = postgres.create_database();
    postgres.stop();
    let limits = database::WorkerSettings { threads: 4, queue_max: 100 };
    let workers = database::Workers::start(
        "test",
        &settings(&database),
        MIGRATIONS,
        limits,
        crate::support::Things::default,
    )
    .unwrap();
    for _ in 0..50 {
        let asked = Instant::now();
        let answer = workers.ask(Job::Find(1), soon());
        assert!(matches!(answer, Err(Failure::Unavailable(_))), "{answer:?}");
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    }
    assert!(matches!(workers.ready(soon()), Err(Failure::Unavailable(_))));
    postgres.start_again();
    wait_until(RECOVERY_LIMIT, "a job is done", || workers.ask(Job::Find(1), soon()).is_ok());
    workers.ready(soon()).unwrap();
}

#[test]
fn attempts_to_reach_a_server_that_is_away_are_few() {
    let (workers, _) = {
        let postgres = Postgres::start();
        let database = postgres.create_database();
        start(&settings(&database), 8, 100)
    };
    let begun = Instant::now();
    wait_until(patience(), "two seconds pass", || {
        let _ = workers.ask(Job::Find(1), soon());
        begun.elapsed() > Duration::from_secs(2)
    });
    let failed = workers.stats().failed_connects.get();
    // 50 ms, 100 ms, … 1 s: eight workers make no more attempts than one would.
    assert!((2..=12).contains(&failed), "{failed} attempts");
}

#[test]
fn a_restarted_server_costs_no_read_and_no_write_that_was_not_begun() {
    let postgres = Postgres::start();
    let database = postgres.create_database();
    let (workers, _) = start(&settings(&database), 4, 100);
    workers.ask(Job::Insert(0, "zero".to_owned()), soon()).unwrap();
    for round in 1..=3 {
        // All connections are used, so that each of them has to be found dead.
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| workers.ask(Job::Sleep(Duration::from_millis(50)), soon()).unwrap());
            }
        });
        postgres.stop();
        postgres.start_again();
        if round == 2 {
            // A write first: a connection that has rested for a second is tried before.
            let restarted = Instant::now();
            wait_until(patience(), "a second passes", || restarted.elapsed() > Duration::from_secs(1));
            workers.ask(Job::Insert(round, format!("thing {round}")), soon()).unwrap();
        }
        for _ in 0..8 {
            assert_eq!(workers.ask(Job::Find(0), soon()).unwrap().as_deref(), Some("zero"));
        }
        workers.ask(Job::Insert(round + 10, format!("thing {}", round + 10)), soon()).unwrap();
    }
}

#[test]
fn a_write_whose_connection_is_lost_is_unknown_and_a_read_is_repeated() {
    let postgres = Postgres::start();
    let database = postgres.create_database();
    let (workers, _) = start(&settings(&database), 2, 100);
    let mut observer = database.client();
    thread::scope(|scope| {
        let write = scope.spawn(|| workers.ask(Job::SlowInsert(Duration::from_secs(3), 1), soon()));
        let read = scope.spawn(|| workers.ask(Job::Sleep(Duration::from_secs(3)), soon()));
        wait_until(patience(), "both are executed", || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
            observer.query_one(sql, &[]).unwrap().get::<_, i64>(0) == 2
        });
        postgres.kill_9();
        let write = write.join().unwrap();
        assert!(matches!(write, Err(Failure::Unknown(_))), "{write:?}");
        postgres.start_again();
        let read = read.join().unwrap();
        // The attempt that follows the loss at once finds nobody, and everybody who waits is told so.
        assert!(matches!(read, Ok(_) | Err(Failure::Unavailable(_))), "{read:?}");
    });
    wait_until(RECOVERY_LIMIT, "a job is done", || workers.ask(Job::Find(1), soon()).is_ok());
}

#[test]
fn a_read_is_repeated_once_and_no_more() {
    let database = Postgres::shared().create_database();
    let (workers, _) = start(&settings(&database), 1, 100);
    // This one ends every connection that it is executed on.
    let answer = workers.ask(Job::EndConnection, soon());
    assert!(matches!(answer, Err(Failure::Unavailable(_))), "{answer:?}");
    assert_eq!(workers.stats().lost.get(), 2);
    assert_eq!(workers.ask(Job::Find(1), soon()).unwrap(), None);
}

#[test]
fn a_frozen_server_costs_nobody_more_than_their_deadline() {
    let postgres = Postgres::start();
    let database = postgres.create_database();
    let (workers, _) = start(&settings(&database), 2, 100);
    postgres.pause();
    let limit = Duration::from_millis(300);
    thread::scope(|scope| {
        for id in 0..20 {
            let workers = &workers;
            scope.spawn(move || {
                let asked = Instant::now();
                let is_write = id % 2 == 0;
                let job = if is_write { Job::Insert(id, format!("thing {id}")) } else { Job::Find(id) };
                let failure = workers.ask(job, within(limit)).unwrap_err();
                // A write may have been sent to a server that goes on later.
                let expected = matches!(failure, Failure::TimedOut)
                    || (is_write && matches!(failure, Failure::Unknown(_)));
                assert!(expected, "{failure}");
                assert!(asked.elapsed() < limit * 3, "{:?}", asked.elapsed());
            });
        }
    });
    wait_until(patience(), "it is not ready", || workers.ready(within(limit)).is_err());
    postgres.resume();
}

#[test]
fn a_server_that_goes_on_is_used_again_soon() {
    let postgres = Postgres::start();
    let database = postgres.create_database();
    let mut settings = settings(&database);
    settings.connect_timeout = Duration::from_millis(500);
    let (workers, _) = start(&settings, 2, 100);
    postgres.pause();
    for id in 0..4 {
        assert!(workers.ask(Job::Find(id), within(Duration::from_millis(100))).is_err());
    }
    postgres.resume();
    wait_until(RECOVERY_LIMIT, "a job is done", || {
        workers.ask(Job::Find(1), within(Duration::from_secs(1))).is_ok()
    });
}

#[test]
fn stopping_leaves_a_worker_behind_that_hangs() {
    let postgres = Postgres::start();
    let database = postgres.create_database();
    let (workers, _) = start(&settings(&database), 1, 100);
    postgres.pause();
    assert!(workers.ask(Job::Find(1), within(Duration::from_millis(100))).is_err());
    let begun = Instant::now();
    assert!(!workers.stop(Duration::from_millis(300)));
    assert!(begun.elapsed() < Duration::from_secs(2));
}
