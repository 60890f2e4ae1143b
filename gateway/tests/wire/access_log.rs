//! The access log, and warnings that strangers can cause.

use testkit::free_port;

use crate::support::{Gateway, Inventory, eventually};

#[test]
fn every_request_has_one_line_on_standard_output() {
    let inventory = Inventory::fixed("inventory");
    let gateway = Gateway::start(&inventory.url(), &[("GATEWAY_ACCESS_LOG", "1"), ("LOG_LEVEL", "info")]);
    let mut client = gateway.connect();
    client.send(b"GET /api/movies/1?title=s3cret HTTP/1.1\r\nHost: h\r\nX-Request-Id: mine\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    assert_eq!(client.get("/nowhere").status, 404);
    client.send(b"nonsense\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    eventually("three lines are written", || gateway.access_log().lines().count() == 3);
    let log = gateway.access_log();
    let lines: Vec<&str> = log.lines().collect();
    for (line, expected) in lines.iter().zip([
        "[INFO ] client=127.0.0.1 method=GET path=/api/movies/1 status=200 bytes=9 ms=",
        "[INFO ] client=127.0.0.1 method=GET path=/nowhere status=404 bytes=45 ms=",
        "[INFO ] client=127.0.0.1 method=- path=- status=400 bytes=",
    ]) {
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{line}");
        assert!(rest.starts_with(expected), "{line}");
    }
    assert!(lines[0].ends_with(" request_id=mine") && !log.contains("s3cret"), "{log}");
    // Everything else is on standard error.
    assert!(gateway.log().contains("listening on") && !gateway.log().contains("path="), "{}", gateway.log());
}

#[test]
fn without_the_setting_standard_output_stays_empty() {
    let inventory = Inventory::fixed("inventory");
    let mut gateway = Gateway::start(&inventory.url(), &[]);
    assert_eq!(gateway.get("/api/movies").status, 200);
    gateway.signal("TERM");
    assert!(gateway.wait().0.success());
    assert_eq!(gateway.access_log(), "");
}

#[test]
fn what_a_stranger_can_cause_again_and_again_is_summed_up() {
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let gateway = Gateway::start(&nobody, &[("LOG_LEVEL", "info")]);
    let mut client = gateway.connect();
    for _ in 0..200 {
        assert_eq!(client.get("/api/movies").status, 503);
    }
    let log = || gateway.log();
    eventually("the warnings are summed up", || log().contains(" more warnings about requests that failed"));
    let written = log().matches("503 inventory is not reachable").count();
    // On a machine that is very busy, the requests may take more than one window.
    assert!((10..=60).contains(&written), "{written} in {}", log());
}
