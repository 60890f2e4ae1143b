//! PostgreSQL goes away, hangs and comes back; inventory says so, and recovers by itself.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use foundation::{Environment, Shutdown};
use inventory::INVENTORY;

use crate::support::{Inventory, json};
use testkit::http::{request, try_request};
use testkit::{Postgres, Service, patience, wait_until};

fn assert_unavailable(inventory: SocketAddr) {
    let started = Instant::now();
    for (method, target, body) in [
        ("GET", "/api/movies", None),
        ("GET", "/api/movies/1", None),
        ("POST", "/api/movies", Some(r#"{"title":"x"}"#)),
        ("GET", "/ready", None),
    ] {
        let response = request(inventory, method, target, body);
        // A write that was begun may have been done; everything else has not.
        let is_unknown = method == "POST" && response.status == 504;
        assert!(response.status == 503 || is_unknown, "{method} {target}: {}", response.status);
        assert!(is_unknown || response.header("retry-after").is_some(), "{method} {target}");
        assert!(!response.text().contains("127.0.0.1"), "{}", response.text());
    }
    assert_eq!(request(inventory, "GET", "/health", None).status, 200);
    assert!(started.elapsed() < Duration::from_secs(45), "took {:?}", started.elapsed());
}

fn assert_recovers(inventory: SocketAddr) {
    wait_until(patience(), "recovery", || request(inventory, "GET", "/ready", None).status == 200);
    for _ in 0..20 {
        assert_eq!(request(inventory, "GET", "/api/movies/1", None).status, 200);
    }
    assert_eq!(request(inventory, "POST", "/api/movies", Some(r#"{"title":"after"}"#)).status, 201);
}

#[test]
fn a_postgresql_that_is_killed_is_told_as_503_and_its_return_is_noticed() {
    let postgres = Postgres::start();
    let inventory = Inventory::start_on(&postgres, &[]);
    inventory.create("before");
    postgres.kill_9();
    assert_unavailable(inventory.addr());
    postgres.start_again();
    assert_recovers(inventory.addr());
}

#[test]
fn a_postgresql_that_restarts_between_requests_is_not_noticed() {
    let postgres = Postgres::start();
    let inventory = Inventory::start_on(&postgres, &[("INVENTORY_WORKERS", "1")]);
    inventory.create("before");
    wait_until(patience(), "all workers to be connected", || {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'inventory-app'";
        let mut client = postgres.superuser("postgres").unwrap();
        client.query_one(query, &[]).unwrap().get::<_, i64>(0) == 1
    });
    postgres.stop();
    postgres.start_again();
    assert_eq!(inventory.get("/api/movies/1").status, 200);
}

#[test]
fn a_postgresql_that_hangs_is_told_as_503_within_the_deadline() {
    let postgres = Postgres::start();
    let database = postgres.create_database();
    let mut variables = database.settings("INVENTORY_DB");
    variables.extend(testkit::settings([
        ("INVENTORY_PORT", "0"),
        ("INVENTORY_PRIVATE_PORT", "0"),
        ("INVENTORY_WORKERS", "1"),
    ]));
    // Only in this process can the deadline be so short that the test is quick.
    let mut settings = inventory::settings(&Environment::from_pairs(variables)).unwrap();
    settings.deadline = Duration::from_secs(2);
    let shutdown = Shutdown::new();
    let running = INVENTORY.build(settings, shutdown.clone()).unwrap();
    let addr = running.addr();
    let thread = std::thread::spawn(move || running.run());
    wait_until(patience(), "the schema", || request(addr, "GET", "/ready", None).status == 200);
    assert_eq!(request(addr, "POST", "/api/movies", Some(r#"{"title":"before"}"#)).status, 201);
    postgres.pause();
    assert_unavailable(addr);
    postgres.resume();
    assert_recovers(addr);
    shutdown.request();
    thread.join().unwrap().unwrap();
}

#[test]
fn inventory_starts_before_postgresql() {
    let postgres = Postgres::start();
    let mut inventory = Inventory::stopped_on(&postgres, &[]);
    postgres.stop();
    inventory.service.start();
    assert_unavailable(inventory.addr());
    postgres.start_again();
    wait_until(patience(), "recovery", || inventory.get("/ready").status == 200);
    assert_eq!(inventory.create("first"), 1);
}

#[test]
fn a_database_newer_than_the_program_is_refused() {
    let mut inventory = Inventory::start();
    inventory.create("kept");
    inventory.service.terminate();
    let mut client = inventory.database.client();
    client.execute("INSERT INTO schema_migrations (version, name) VALUES (9999, 'future')", &[]).unwrap();
    inventory.service.spawn();
    assert!(!inventory.service.wait().success());
    assert!(inventory.service.log().contains("newer than"), "{}", inventory.service.log());
}

#[test]
fn two_that_start_at_once_migrate_once() {
    let postgres = Postgres::shared();
    let mut first = Inventory::stopped_on(postgres, &[]);
    let mut second =
        Service::new(env!("CARGO_BIN_EXE_inventory-app"), first.database.settings("INVENTORY_DB"));
    second.set("INVENTORY_PORT", "0");
    first.service.spawn();
    second.start();
    let line = first.service.wait_for_line("listening on ");
    assert!(!line.is_empty());
    wait_until(patience(), "the schema", || request(second.addr(), "GET", "/ready", None).status == 200);
    let mut client = first.database.client();
    let row = client.query_one("SELECT count(*) FROM schema_migrations", &[]).unwrap();
    assert_eq!(usize::try_from(row.get::<_, i64>(0)), Ok(INVENTORY.migrations.len()));
}

#[test]
fn a_statement_that_postgresql_cancels_is_told_as_503() {
    let inventory = Inventory::start();
    let id = inventory.create("locked");
    let mut client = inventory.database.client();
    let mut transaction = client.transaction().unwrap();
    transaction.execute("SELECT FROM movies WHERE id = $1 FOR UPDATE", &[&id]).unwrap();
    let response = inventory.send("PUT", &format!("/api/movies/{id}"), r#"{"title":"x"}"#);
    assert_eq!(response.status, 503, "{}", response.text());
    transaction.rollback().unwrap();
    assert_eq!(inventory.send("PUT", &format!("/api/movies/{id}"), r#"{"title":"x"}"#).status, 200);
}

#[test]
fn a_list_whose_database_fails_midway_does_not_look_whole() {
    let postgres = Postgres::start();
    let inventory = Inventory::start_on(&postgres, &[]);
    inventory
        .database
        .client()
        .batch_execute(
            "INSERT INTO movies (title, description)
             SELECT 'Movie ' || n, repeat('x', 9000) FROM generate_series(1, 5000) n",
        )
        .unwrap();
    let mut stream = TcpStream::connect(inventory.addr()).unwrap();
    stream.write_all(b"GET /api/movies HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    // 45 MB fit into no socket's buffers, so that the list cannot have been read to its end.
    postgres.kill_9();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < 44_000_000 && !rest.ends_with(b"0\r\n\r\n"), "{} bytes", rest.len());
}

#[test]
fn it_stops_at_once_when_told_and_finishes_what_runs() {
    for signal in ["TERM", "INT"] {
        let mut inventory = Inventory::start();
        inventory.create("kept");
        let _idle = testkit::http::Connection::open(inventory.addr()).unwrap();
        inventory.service.signal(signal);
        assert!(inventory.service.wait().success());
        assert!(try_request(inventory.addr(), "GET", "/health", None).is_err());
    }
}

#[test]
fn connections_that_come_at_once_are_all_served_while_all_stay_open() {
    let inventory = Inventory::start();
    for _ in 0..5 {
        let mut connections: Vec<_> =
            (0..64).map(|_| testkit::http::Connection::open(inventory.addr()).unwrap()).collect();
        for connection in &mut connections {
            connection.send(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        }
        let started = Instant::now();
        for connection in &mut connections {
            assert_eq!(connection.response("GET").unwrap().status, 200);
        }
        assert!(started.elapsed() < Duration::from_secs(45), "{:?}", started.elapsed());
    }
}

#[test]
fn silence_does_not_end_it() {
    let mut inventory = Inventory::start();
    let mut idle = testkit::http::Connection::open(inventory.addr()).unwrap();
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(500) {
        assert!(inventory.service.is_running());
        std::thread::yield_now();
    }
    assert_eq!(idle.request("GET", "/health", &[], None).unwrap().status, 200);
}

#[test]
fn settings_and_dependencies_can_be_checked() {
    let mut inventory = Inventory::stopped_on(Postgres::shared(), &[]);
    assert!(inventory.service.output(&["--check"]).status.success());
    assert!(inventory.service.output(&["--version"]).status.success());
    assert_eq!(inventory.service.output(&["--nonsense"]).status.code(), Some(2));
    inventory.service.set("INVENTORY_PORT", "eighty");
    let refused = inventory.service.output(&["--check"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("INVENTORY_PORT"));
    inventory.service.set("INVENTORY_PORT", "0");
    inventory.service.set("INVENTORY_DB_PASSWORD", "wrong");
    let refused = inventory.service.output(&["--check"]);
    assert!(!refused.status.success());
    assert!(!String::from_utf8_lossy(&refused.stderr).contains("wrong"));
}

#[test]
fn a_description_may_be_read_in_part_but_not_get_lost() {
    let describe = |output: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_inventory-app"));
        let child = command.arg("--describe").stdout(output).stderr(Stdio::piped()).spawn();
        let output = child.unwrap().wait_with_output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (status, text, _) = describe(Stdio::piped());
    assert!(
        status == Some(0) && text.contains("/api/movies/{id}") && text.contains("FROM \"movies\""),
        "{text}"
    );
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(describe(writer.into()), (Some(0), String::new(), String::new()));
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let (status, _, complaint) = describe(full.into());
    assert!(status == Some(1) && complaint.contains("print the answer"), "{status:?} {complaint}");
}

#[test]
fn errors_name_the_request() {
    let postgres = Postgres::start();
    let inventory = Inventory::start_on(&postgres, &[]);
    postgres.stop();
    let response = inventory.with("GET", "/api/movies/1", &[("x-request-id", "abc-123")], None);
    assert_eq!(response.status, 503);
    assert!(json(&response)["error"].is_string());
    assert!(inventory.service.log().contains("request_id=abc-123 GET /api/movies/1 503"));
}
