//! The test kit itself: what other tests rely on.
#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::{Folder, Postgres, Service, patience, settings, wait_until};

/// A shell script in place of a binary.
fn service(script: &str) -> (Folder, Service) {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("script");
    let path = folder.path().join("script");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("write a script");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("make it executable");
    (folder, Service::new(path, settings([("PATH", "/usr/bin:/bin"), ("NAME", "it's")])))
}

#[test]
fn committed_rows_survive_every_way_of_stopping_postgresql() {
    let postgres = Postgres::start();
    let database = postgres.create_database();
    database.client().batch_execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)").unwrap();
    postgres.kill_9();
    postgres.start_again();
    database.client().batch_execute("INSERT INTO t VALUES (2)").unwrap();
    postgres.stop();
    postgres.start_again();
    let row = database.client().query_one("SELECT sum(n) FROM t", &[]).unwrap();
    assert_eq!(row.get::<_, i64>(0), 3);
}

#[test]
fn a_paused_postgresql_keeps_its_connections_and_says_nothing() {
    let postgres = Postgres::start();
    let mut client = postgres.create_database().client();
    postgres.pause();
    let (answered, answer) = std::sync::mpsc::channel();
    let asking = std::thread::spawn(move || answered.send(client.query_one("SELECT 1", &[]).is_ok()));
    assert!(answer.recv_timeout(Duration::from_millis(300)).is_err());
    postgres.resume();
    assert_eq!(answer.recv_timeout(patience()), Ok(true));
    asking.join().unwrap().unwrap();
}

#[test]
fn a_database_has_the_owner_that_its_settings_name() {
    let database = Postgres::shared().create_database();
    let settings = database.settings("INVENTORY_DB");
    assert_eq!(settings["INVENTORY_DB_PASSWORD"], database.password);
    let row =
        database.client().query_one("SELECT current_user::text, current_database()::text", &[]).unwrap();
    assert_eq!(row.get::<_, String>(0), database.user);
    assert_eq!(row.get::<_, String>(1), database.name);
}

#[test]
fn a_service_sees_its_settings_alone_and_its_lines_are_found() {
    let (_folder, mut service) =
        service("echo \"$NAME listening on 127.0.0.1:17 now\" >&2; env >&2; exec sleep 60");
    service.start();
    assert_eq!(service.addr().port(), 17);
    service.wait_for_line("NAME=it's");
    assert!(!service.log().contains("HOME="), "{}", service.log());
    service.signal("TERM");
    assert!(!service.wait().success());
    assert!(!service.is_running());
    service.start();
    service.kill_9();
    assert_eq!(service.log().matches("listening on").count(), 2);
}

#[test]
#[should_panic(expected = "ended instead of logging")]
fn a_service_that_ends_at_once_fails_the_test_at_once() {
    let (_folder, mut service) = service("exit 1");
    service.start();
}

/// The test below runs this one in a process of its own and kills that. Alone it has nothing to do.
#[test]
fn a_victim_of_the_guardian_test() {
    let Some(report) = std::env::var_os("HARNESS_VICTIM") else { return };
    let (folder, mut service) = service("echo listening on 127.0.0.1:17 >&2; exec sleep 600");
    service.start();
    let postgres = Postgres::start();
    let port = postgres.create_database().port;
    let lines = format!("{}\n{}\n{}\n", service.pid(), folder.path().display(), port);
    std::fs::write(&report, lines).unwrap();
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn the_guardian_cleans_up_behind_a_killed_test_process() {
    let folder = Folder::new("report");
    let report = folder.path().join("report");
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_victim_of_the_guardian_test"])
        .env("HARNESS_VICTIM", &report)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut text = String::new();
    wait_until(patience(), "the victim reports", || {
        text = std::fs::read_to_string(&report).unwrap_or_default();
        text.ends_with('\n')
    });
    victim.kill().unwrap();
    victim.wait().unwrap();
    let lines: Vec<_> = text.lines().collect();
    let port: u16 = lines[2].parse().unwrap();
    wait_until(patience(), "the service ends", || {
        // A killed process whose new parent has not reaped it yet is still listed, as a zombie.
        std::fs::read_to_string(format!("/proc/{}/stat", lines[0])).map_or(true, |stat| stat.contains(") Z "))
    });
    wait_until(patience(), "the folder goes", || !Path::new(lines[1]).exists());
    wait_until(patience(), "PostgreSQL ends", || std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
}
