//! Clients that are slow, in each way that there is.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use edge::EdgeSettings;
use testkit::{patience, wait_until};

use crate::server::{TestServer, connect_from, settings};

const MOMENT: Duration = Duration::from_millis(20);
/// A limit that is short enough to wait for, and what is surely no less.
const SHORT: Duration = Duration::from_millis(300);
const AT_LEAST: Duration = Duration::from_millis(250);

/// Sends `piece` again and again until the server has answered; returns the answer and how long it took.
fn trickle(stream: &mut TcpStream, piece: &[u8]) -> (String, Duration) {
    let started = Instant::now();
    stream.set_read_timeout(Some(MOMENT)).unwrap();
    let mut buffer = [0; 1024];
    loop {
        assert!(started.elapsed() < patience(), "no answer");
        let _ = stream.write_all(piece);
        match stream.read(&mut buffer) {
            Ok(count) => return (String::from_utf8_lossy(&buffer[..count]).into_owned(), started.elapsed()),
            Err(e) => assert!(matches!(e.kind(), std::io::ErrorKind::WouldBlock), "{e}"),
        }
    }
}

fn upload(server: &TestServer, sent: usize) -> TcpStream {
    let mut stream = connect_from(1, server.addr);
    stream.write_all(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n").unwrap();
    stream.write_all(&vec![b'x'; sent]).unwrap();
    stream
}

#[test]
fn a_head_that_is_not_finished_in_time_is_408_even_if_it_never_pauses() {
    let server = TestServer::start(EdgeSettings { head_timeout: SHORT, ..settings() });
    for piece in [&b""[..], b"a"] {
        let mut stream = connect_from(1, server.addr);
        stream.write_all(b"GET /hello HTTP/1.1\r\nHost: h\r\nX-A: ").unwrap();
        let (answer, took) = trickle(&mut stream, piece);
        assert!(answer.contains("408 ") && answer.contains("Connection: close"), "{answer}");
        assert!((AT_LEAST..Duration::from_secs(3)).contains(&took), "{took:?}");
    }
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let server = TestServer::start(EdgeSettings { idle_timeout: SHORT, ..settings() });
    let (mut fresh, mut used) = (connect_from(1, server.addr), connect_from(1, server.addr));
    used.write_all(b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let started = Instant::now();
    let mut answer = String::new();
    used.read_to_string(&mut answer).unwrap();
    assert!(started.elapsed() >= AT_LEAST);
    assert!(answer.contains("200 OK") && answer.ends_with(r#"{"hello":"world"}"#), "{answer}");
    assert_eq!(fresh.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_body_that_stands_still_is_408_in_any_framing() {
    let server = TestServer::start(EdgeSettings { body_timeout: SHORT, min_rate: 1_000, ..settings() });
    for (framing, sent) in [
        ("Content-Length: 10\r\n\r\n", 5),
        ("Content-Length: 200000\r\n\r\n", 100_000),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\n", 3),
    ] {
        let mut stream = connect_from(1, server.addr);
        stream.write_all(format!("POST /echo HTTP/1.1\r\nHost: h\r\n{framing}").as_bytes()).unwrap();
        stream.write_all(&vec![b'x'; sent]).unwrap();
        let started = Instant::now();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("408 ") && answer.contains("Connection: close"), "{framing:?}: {answer}");
        assert!(started.elapsed() >= AT_LEAST);
    }
}

#[test]
fn a_body_may_not_trickle_even_if_it_began_fast() {
    let server = TestServer::start(EdgeSettings { body_timeout: SHORT, min_rate: 1_000, ..settings() });
    // On average, the second is 100 times the minimum rate for as long as the test waits.
    for sent in [0, 500_000] {
        let (answer, took) = trickle(&mut upload(&server, sent), b"x");
        assert!(answer.contains("408 "), "{answer}");
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
}

#[test]
fn a_slow_but_steady_body_is_waited_for() {
    let server = TestServer::start(EdgeSettings {
        body_timeout: Duration::from_secs(1),
        min_rate: 1_000,
        ..settings()
    });
    let mut stream = connect_from(1, server.addr);
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 15000\r\n\r\n")
        .unwrap();
    // Longer than the timeout in total, and much faster than the minimum rate.
    for _ in 0..15 {
        std::thread::sleep(Duration::from_millis(100));
        stream.write_all(&[b'x'; 1_000]).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("200 OK") && answer.ends_with(&"x".repeat(15_000)), "{answer}");
}

#[test]
fn a_steady_body_has_a_deadline() {
    let server = TestServer::start(EdgeSettings {
        body_deadline: Duration::from_millis(500),
        min_rate: 100,
        ..settings()
    });
    let (answer, took) = trickle(&mut upload(&server, 0), &[b'x'; 100]);
    assert!(answer.contains("408 "), "{answer}");
    assert!(took >= Duration::from_millis(400), "{took:?}");
}

/// Reads `step` bytes at a time, with a pause between, until the connection ends; returns how many there were.
fn read_slowly(stream: &mut TcpStream, step: usize, pause: Duration) -> usize {
    let mut buffer = vec![0; step];
    let mut read = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return read,
            Ok(count) => read += count,
        }
        std::thread::sleep(pause);
    }
}

#[test]
fn a_response_that_is_read_steadily_has_a_deadline() {
    let server =
        TestServer::start(EdgeSettings { response_deadline: Duration::from_millis(500), ..settings() });
    let mut stream = connect_from(1, server.addr);
    let started = Instant::now();
    stream.write_all(b"GET /large?1024 HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let read = read_slowly(&mut stream, 256 << 10, Duration::from_millis(5));
    assert!(read < 1 << 30, "the whole response was read");
    assert!(started.elapsed() >= Duration::from_millis(400));
    wait_until(patience(), "the connection is gone", || server.connections.open() == 0);
}

#[test]
fn a_reader_that_takes_nothing_loses_its_connection() {
    let server = TestServer::start(EdgeSettings { write_timeout: SHORT, ..settings() });
    let mut stream = connect_from(1, server.addr);
    stream.write_all(b"GET /large?256 HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    wait_until(patience(), "it is served", || server.connections.open() == 1);
    wait_until(patience(), "the connection is gone", || server.connections.open() == 0);
    // What fitted into the buffers of the kernel is there, the rest is not.
    assert!(read_slowly(&mut stream, 1 << 20, Duration::ZERO) < 256 << 20);
}

#[test]
fn a_reader_that_takes_too_little_loses_its_connection() {
    let server = TestServer::start(EdgeSettings { write_timeout: SHORT, min_rate: 1 << 30, ..settings() });
    let mut stream = connect_from(1, server.addr);
    stream.write_all(b"GET /large?256 HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    // A steady reader, but slower than the minimum rate, which is absurd here so that the test is quick.
    let read = read_slowly(&mut stream, 20_000, Duration::from_millis(5));
    assert!(read < 256 << 20, "the whole response was read");
    wait_until(patience(), "the connection is gone", || server.connections.open() == 0);
}

#[test]
fn a_response_that_is_read_fast_at_first_may_not_stall_later() {
    let server = TestServer::start(EdgeSettings { write_timeout: SHORT, min_rate: 1 << 20, ..settings() });
    let mut stream = connect_from(1, server.addr);
    stream.write_all(b"GET /large?256 HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut begun = vec![0; 16 << 20];
    stream.read_exact(&mut begun).unwrap();
    let read = std::thread::spawn(move || read_slowly(&mut stream, 1 << 10, MOMENT));
    let started = Instant::now();
    wait_until(patience(), "the connection is gone", || server.connections.open() == 0);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    drop(read);
}

#[test]
fn a_silent_client_is_forgotten_after_the_farewell() {
    let server = TestServer::start(settings());
    let mut stream = connect_from(1, server.addr);
    stream.write_all(b"nonsense\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    // The server has closed its side; ours stays open, and must not keep a thread there.
    wait_until(patience(), "the connection is gone", || server.connections.open() == 0);
}
