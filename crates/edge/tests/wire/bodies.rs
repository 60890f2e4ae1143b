//! What bodies may cost.

use std::sync::atomic::Ordering;

use testkit::http::Connection;
use testkit::{patience, wait_until};

use edge::EdgeSettings;

use crate::server::{ECHO_MAX_BYTES, TestServer, settings};

/// Begins a request whose body is announced with `length` bytes and sends the first `sent` of them.
fn begin(server: &TestServer, length: usize, sent: usize) -> Connection {
    let mut connection = server.connect();
    let head = format!("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
    connection.send(head.as_bytes()).unwrap();
    connection.send(&vec![b'x'; sent]).unwrap();
    connection
}

fn post(server: &TestServer, length: usize) -> u16 {
    begin(server, length, length).response("POST").unwrap().status
}

#[test]
fn memory_is_spent_by_what_arrives_not_by_what_is_announced() {
    let server = TestServer::start(EdgeSettings { bodies_max_bytes: 256 << 10, ..settings() });
    let announced: Vec<_> = (0..20).map(|_| begin(&server, 200_000, 1_000)).collect();
    wait_until(patience(), "all are here", || server.connections.open() == 20);
    assert_eq!(post(&server, 150_000), 200);
    drop(announced);
}

#[test]
fn all_bodies_together_have_a_budget_that_is_given_back() {
    let server = TestServer::start(EdgeSettings { bodies_max_bytes: 256 << 10, ..settings() });
    let body = "x".repeat(100_000);
    let mut held: Vec<_> = (0..2).map(|_| server.connect()).collect();
    for connection in &mut held {
        let announcement =
            format!("POST /hold HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len());
        connection.send(&[announcement.as_bytes(), body.as_bytes()].concat()).unwrap();
    }
    wait_until(patience(), "both are in memory", || server.holding.load(Ordering::SeqCst) == 2);
    let answer = server.connect().request("POST", "/echo", &[], Some(&body)).unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    // Small bodies do without the budget.
    assert_eq!(post(&server, 4_000), 200);
    server.release.send(()).unwrap();
    wait_until(patience(), "a share is given back", || post(&server, 100_000) == 200);
    server.release.send(()).unwrap();
    for connection in &mut held {
        assert_eq!(connection.response("POST").unwrap().text(), "held");
    }
}

#[test]
fn a_body_of_any_framing_comes_back_as_it_was() {
    let server = TestServer::start(settings());
    let mut connection = server.connect();
    for length in [0, 1, 4_095, 4_096, 4_097, 100_000, usize::try_from(ECHO_MAX_BYTES).unwrap()] {
        let body: String = ('a'..='z').cycle().take(length).collect();
        let answer = connection.request("POST", "/echo", &[], Some(&body)).unwrap();
        assert!(answer.status == 200 && answer.text() == body, "{length} bytes");
        connection.send(b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        for chunk in body.as_bytes().chunks(10_000) {
            connection.send(format!("{:x}\r\n", chunk.len()).as_bytes()).unwrap();
            connection.send(&[chunk, b"\r\n"].concat()).unwrap();
        }
        connection.send(b"0\r\n\r\n").unwrap();
        assert!(connection.response("POST").unwrap().text() == body, "{length} bytes in chunks");
    }
}

#[test]
fn a_body_over_the_limit_is_413_in_any_framing() {
    let server = TestServer::start(settings());
    let mut connection = server.connect();
    connection
        .send(
            format!("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", ECHO_MAX_BYTES + 1)
                .as_bytes(),
        )
        .unwrap();
    assert_eq!(connection.response("POST").unwrap().status, 413);
    let mut connection = server.connect();
    connection.send(b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    connection.send(format!("{:x}\r\n", ECHO_MAX_BYTES + 1).as_bytes()).unwrap();
    connection.send(&vec![b'x'; usize::try_from(ECHO_MAX_BYTES).unwrap() + 1]).unwrap();
    assert_eq!(connection.response("POST").unwrap().status, 413);
}
