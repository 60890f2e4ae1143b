//! Every wait has an end: slow heads, slow bodies and slow readers lose their connection, patient ones do not.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Gateway, Inventory};

/// Short enough to wait for, long enough to distinguish from no wait.
const SHORT: &str = "300";
const AT_LEAST: Duration = Duration::from_millis(250);

fn gateway(inventory: &Inventory, variable: &str) -> Gateway {
    Gateway::start(&inventory.url(), &[(variable, SHORT), ("GATEWAY_MIN_RATE_BYTES_PER_S", "1000")])
}

#[test]
fn a_head_that_is_never_finished_is_408() {
    let inventory = Inventory::fixed("[]");
    let gateway = gateway(&inventory, "GATEWAY_HEAD_TIMEOUT_MS");
    let mut client = gateway.connect();
    let started = Instant::now();
    client.send(b"GET /health HTTP/1.1\r\nHo");
    let answer = client.answer();
    assert_eq!((answer.status, answer.closes()), (408, true));
    assert!(started.elapsed() >= AT_LEAST);
    client.assert_closed();
}

#[test]
fn a_head_that_trickles_does_not_extend_its_deadline() {
    let inventory = Inventory::fixed("[]");
    let gateway = gateway(&inventory, "GATEWAY_HEAD_TIMEOUT_MS");
    let mut client = gateway.connect();
    let mut trickle = client.stream.try_clone().unwrap();
    let sender = thread::spawn(move || {
        use std::io::Write;
        let head = format!("GET /health HTTP/1.1\r\nHost: h\r\nX-A: {}", "a".repeat(1_000));
        let sent = head.bytes().take_while(|byte| {
            thread::sleep(Duration::from_millis(20));
            trickle.write_all(&[*byte]).is_ok()
        });
        sent.count()
    });
    assert_eq!(client.answer().status, 408);
    client.assert_closed();
    drop(client);
    assert!(sender.join().unwrap() < 500);
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let inventory = Inventory::fixed("[]");
    // Long enough to send a request in.
    let gateway = Gateway::start(&inventory.url(), &[("GATEWAY_IDLE_TIMEOUT_MS", "2000")]);
    let mut fresh = gateway.connect();
    let mut used = gateway.connect();
    let started = Instant::now();
    assert_eq!(used.get("/health").status, 200);
    used.assert_closed();
    assert!(started.elapsed() >= AT_LEAST);
    fresh.assert_closed();
}

#[test]
fn a_body_that_stands_still_is_408_and_never_reaches_inventory() {
    let inventory = Inventory::fixed("[]");
    let gateway = gateway(&inventory, "GATEWAY_BODY_TIMEOUT_MS");
    for framing in ["Content-Length: 10\r\n\r\n12345", "Transfer-Encoding: chunked\r\n\r\n5\r\n123"] {
        let mut client = gateway.connect();
        let started = Instant::now();
        client.send(format!("POST /api/movies HTTP/1.1\r\nHost: h\r\n{framing}").as_bytes());
        let answer = client.answer();
        assert_eq!((answer.status, answer.closes()), (408, true), "{framing:?}");
        assert!(started.elapsed() >= AT_LEAST);
        client.assert_closed();
    }
    assert_eq!(inventory.connections(), 0);
}

#[test]
fn a_streamed_body_that_stands_still_is_408() {
    let inventory = Inventory::fixed("[]");
    let gateway = gateway(&inventory, "GATEWAY_BODY_TIMEOUT_MS");
    let mut client = gateway.connect();
    client.send(b"POST /api/movies HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n");
    client.send(&vec![b'x'; 100_000]);
    assert_eq!(client.answer().status, 408);
    assert_eq!(inventory.requests().len(), 0);
}

#[test]
fn a_body_that_trickles_below_the_minimum_rate_is_408() {
    let inventory = Inventory::fixed("[]");
    let gateway = gateway(&inventory, "GATEWAY_BODY_TIMEOUT_MS");
    let mut client = gateway.connect();
    client.send(b"POST /api/movies HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n");
    let mut trickle = client.stream.try_clone().unwrap();
    let sender = thread::spawn(move || {
        use std::io::Write;
        // 100 bytes per second, never standing still.
        while trickle.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(10));
        }
    });
    assert_eq!(client.answer().status, 408);
    drop(client);
    sender.join().unwrap();
}

#[test]
fn a_slow_but_steady_body_is_waited_for() {
    let inventory = Inventory::fixed("[]");
    let settings = [("GATEWAY_BODY_TIMEOUT_MS", "2000"), ("GATEWAY_MIN_RATE_BYTES_PER_S", "1000")];
    let gateway = Gateway::start(&inventory.url(), &settings);
    let mut client = gateway.connect();
    client.send(b"POST /api/movies HTTP/1.1\r\nHost: h\r\nContent-Length: 25000\r\n\r\n");
    // Longer than the timeout in total, and much faster than the minimum rate.
    for _ in 0..25 {
        thread::sleep(Duration::from_millis(100));
        client.send(&[b'x'; 1_000]);
    }
    assert_eq!(client.answer().status, 200);
    assert_eq!(inventory.only_request().body.len(), 25_000);
}

#[test]
fn a_reader_that_takes_nothing_loses_its_connection() {
    let body: &'static str = "x".repeat(32 << 20).leak();
    let inventory = Inventory::fixed(body);
    let gateway = gateway(&inventory, "GATEWAY_WRITE_TIMEOUT_MS");
    let mut client = gateway.connect();
    client.send(b"GET /api/movies HTTP/1.1\r\nHost: h\r\n\r\n");
    crate::support::eventually("the gateway gave up", || gateway.log().contains("client gone"));
    // What fitted into the buffers of the kernel is there, the rest is not.
    assert!(client.try_answer(false).is_err());
}

#[test]
fn a_reader_that_takes_too_little_loses_its_connection() {
    let body: &'static str = "x".repeat(32 << 20).leak();
    let inventory = Inventory::fixed(body);
    let gateway = Gateway::start(
        &inventory.url(),
        &[("GATEWAY_WRITE_TIMEOUT_MS", "500"), ("GATEWAY_MIN_RATE_BYTES_PER_S", "1000000000")],
    );
    let mut client = gateway.connect();
    client.send(b"GET /api/movies HTTP/1.1\r\nHost: h\r\n\r\n");
    // A steady reader, but slower than the minimum rate, which is absurd here so that the test is quick.
    let cut = (0..2_000).any(|_| {
        thread::sleep(Duration::from_millis(5));
        client.take(20_000).is_err()
    });
    assert!(cut);
    crate::support::eventually("the gateway gave up", || gateway.log().contains("client gone"));
}
