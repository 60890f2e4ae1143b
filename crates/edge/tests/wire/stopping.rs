//! Stopping in good order.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use edge::EdgeSettings;
use foundation::Shutdown;
use testkit::http::Connection;
use testkit::{patience, wait_until};

use crate::server::{BoundServer, TestServer, connect_from, settings};

#[test]
fn requests_that_wait_in_the_kernels_queue_are_answered() {
    let bound = BoundServer::new(settings());
    let mut clients: Vec<Connection> = (0..20).map(|_| Connection::open(bound.addr()).unwrap()).collect();
    for client in &mut clients {
        client.send(b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    }
    let shutdown = Shutdown::new();
    shutdown.request();
    let server = bound.run(shutdown);
    for client in &mut clients {
        let answer = client.response("GET").unwrap();
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    }
    server.wait();
}

#[test]
fn a_connection_of_the_queue_has_a_moment_to_send_its_request() {
    let bound = BoundServer::new(settings());
    let mut client = Connection::open(bound.addr()).unwrap();
    let shutdown = Shutdown::new();
    shutdown.request();
    let server = bound.run(shutdown);
    wait_until(patience(), "it is accepted", || server.connections.open() == 1);
    std::thread::sleep(Duration::from_millis(50));
    client.send(b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!(client.response("GET").unwrap().status, 200);
    server.wait();
}

#[test]
fn what_is_being_written_is_finished() {
    let server = TestServer::start(settings());
    let mut client = server.connect();
    client.send(b"GET /large?32 HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    wait_until(patience(), "it is connected", || server.connections.open() == 1);
    // The kernel's buffers hold a part of it; the rest is written while the server stops.
    std::thread::sleep(Duration::from_millis(100));
    server.shutdown.request();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(server.connections.open(), 1, "the response was given up");
    assert_eq!(client.response("GET").unwrap().body.len(), 32 << 20);
    server.wait();
}

#[test]
fn a_request_that_runs_is_answered_and_a_stop_does_not_wait_for_the_silent() {
    let server = TestServer::start(settings());
    let mut held = server.connect();
    held.send(b"GET /hold HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut idle = server.connect();
    assert_eq!(idle.request("GET", "/hello", &[], None).unwrap().status, 200);
    let silent = connect_from(2, server.addr);
    wait_until(patience(), "all are connected", || server.connections.open() == 3);
    server.shutdown.request();
    wait_until(patience(), "only the running one is left", || server.connections.open() == 1);
    server.release.send(()).unwrap();
    let answer = held.response("GET").unwrap();
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("held", Some("close")));
    server.wait();
    drop(silent);
}

#[test]
fn the_stop_timeout_ends_the_wait() {
    let server = TestServer::start(EdgeSettings { stop_timeout: Duration::from_millis(300), ..settings() });
    let mut held = server.connect();
    held.send(b"GET /hold HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    wait_until(patience(), "it is running", || server.holding.load(Ordering::SeqCst) == 1);
    let (started, release) = (Instant::now(), server.release.clone());
    server.shutdown.request();
    server.wait();
    assert!(started.elapsed() >= Duration::from_millis(250));
    let _ = release.send(());
}
