//! Who may connect, who makes room, and what the numbers say about it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use edge::EdgeSettings;
use testkit::{patience, wait_until};

use crate::server::{TestServer, connect_from, settings};

const GET: &[u8] = b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n";

/// Sends a request and reads some of the answer, which is small enough to come at once.
fn ask(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.write_all(GET)?;
    let mut buffer = [0; 1024];
    let count = stream.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
}

fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 16]), Ok(0) | Err(_))
}

#[test]
fn the_connection_that_has_been_idle_longest_makes_room() {
    let server = TestServer::start(EdgeSettings { max_connections: 3, ..settings() });
    let mut open: Vec<TcpStream> = (0..3).map(|_| connect_from(1, server.addr)).collect();
    for index in [0, 1, 2, 0] {
        assert!(ask(&mut open[index]).unwrap().contains("200 OK"));
        // The connection is marked as idle only after the response was sent.
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut newcomer = connect_from(1, server.addr);
    assert!(ask(&mut newcomer).unwrap().contains("200 OK"));
    assert!(is_closed(&mut open[1]));
    for index in [0, 2] {
        assert!(ask(&mut open[index]).unwrap().contains("200 OK"), "connection {index}");
    }
    assert_eq!((server.connections.evicted(), server.connections.refused()[1].1), (1, 0));
}

#[test]
fn when_nobody_is_idle_the_newcomer_is_refused() {
    let server = TestServer::start(EdgeSettings { max_connections: 3, ..settings() });
    let mut open: Vec<TcpStream> = (0..3).map(|_| connect_from(1, server.addr)).collect();
    for stream in &mut open {
        // The beginning of the next request makes the connection busy.
        stream.write_all(&[GET, &GET[..10]].concat()).unwrap();
        assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
    }
    let answer = server.get("/hello");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(server.connections.refused()[1], ("total", 1));
    assert_eq!(*server.refused.lock().unwrap(), [503]);
    open[0].write_all(&GET[10..]).unwrap();
    assert!(open[0].read(&mut [0; 1024]).unwrap() > 0);
}

#[test]
fn heads_that_are_never_finished_make_room_when_nobody_is_idle() {
    let server = TestServer::start(EdgeSettings { max_connections: 3, ..settings() });
    let mut open: Vec<TcpStream> = (0..3).map(|_| connect_from(1, server.addr)).collect();
    for stream in &mut open {
        stream.write_all(&[GET, &GET[..10]].concat()).unwrap();
        assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
    }
    let started = Instant::now();
    wait_until(patience(), "a head has taken long enough", || server.get("/hello").status == 200);
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(server.connections.evicted(), 1);
}

#[test]
fn one_client_cannot_take_all_places() {
    let server = TestServer::start(EdgeSettings { max_connections_per_client: 2, ..settings() });
    let mut open: Vec<TcpStream> = (0..2).map(|_| connect_from(1, server.addr)).collect();
    for stream in &mut open {
        assert!(ask(stream).unwrap().contains("200 OK"));
    }
    assert_eq!(server.get("/hello").status, 429);
    assert!(ask(&mut connect_from(2, server.addr)).unwrap().contains("200 OK"));
    assert_eq!(server.connections.refused()[0], ("client", 1));
    drop(open);
    wait_until(patience(), "all connections are closed", || server.connections.open() == 0);
}

#[test]
fn silent_connections_from_many_addresses_shut_nobody_out() {
    let limits = EdgeSettings { max_connections: 64, max_connections_per_client: 16, ..settings() };
    let server = TestServer::start(limits);
    let silent: Vec<TcpStream> = (1..=4)
        .flat_map(|last| (0..16).map(move |_| last))
        .map(|last| connect_from(last, server.addr))
        .collect();
    wait_until(patience(), "all places are taken", || server.connections.open() == 64);
    for _ in 0..100 {
        let started = Instant::now();
        assert!(ask(&mut connect_from(5, server.addr)).unwrap().contains("200 OK"));
        assert!(started.elapsed() < Duration::from_secs(1));
    }
    assert!(server.connections.evicted() > 0 && server.connections.refused()[1].1 == 0);
    drop(silent);
}

#[test]
fn a_new_connection_has_less_time_for_its_first_byte_than_a_used_one_for_its_next() {
    let server =
        TestServer::start(EdgeSettings { first_byte_timeout: Duration::from_millis(200), ..settings() });
    let (mut used, mut fresh) = (connect_from(1, server.addr), connect_from(1, server.addr));
    assert!(ask(&mut used).unwrap().contains("200 OK"));
    let started = Instant::now();
    assert!(is_closed(&mut fresh));
    assert!(started.elapsed() >= Duration::from_millis(150));
    used.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    assert!(used.read(&mut [0; 1]).is_err(), "the used connection was closed");
    assert!(ask(&mut used).unwrap().contains("200 OK"));
}
