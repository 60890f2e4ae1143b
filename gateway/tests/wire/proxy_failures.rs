//! What a client sees when inventory is down, slow, garbled or cut off, and what the gateway tries before.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::free_port;

use crate::support::{Gateway, Inventory, LocalGateway, eventually, ok};

#[test]
fn an_inventory_that_is_down_is_503_until_it_is_back() {
    let addr = format!("127.0.0.1:{}", free_port()).parse().unwrap();
    let gateway = Gateway::start(&format!("http://{addr}"), &[]);
    let mut client = gateway.connect();
    for method in ["GET", "POST", "DELETE"] {
        client.send(format!("{method} /api/movies HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        let answer = client.answer();
        assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
        assert!(!answer.error().contains("127.0.0.1"));
    }
    let _inventory = Inventory::fixed_at(addr, "[]");
    assert_eq!(client.get("/api/movies").status, 200);
    eventually("the log says so", || gateway.log().contains("is reachable again"));
}

#[test]
fn an_inventory_that_does_not_answer_is_504() {
    let inventory = Inventory::serving(|_, _| {
        thread::sleep(crate::support::PATIENCE);
        false
    });
    let gateway = Gateway::start(&inventory.url(), &[("GATEWAY_UPSTREAM_HEAD_TIMEOUT_MS", "200")]);
    let mut client = gateway.connect();
    let answer = client.get("/api/movies");
    assert_eq!((answer.status, answer.closes()), (504, false));
    answer.error();
    assert_eq!(client.get("/health").status, 200);
    eventually("inventory has the request", || !inventory.requests().is_empty());
    assert_eq!(inventory.served(), 1, "a request that may still be worked on is not repeated");
}

#[test]
fn a_head_that_trickles_does_not_extend_the_deadline() {
    let inventory = Inventory::serving(|mut stream, _| {
        let mut line = "HTTP/1.1 200 OK\r\nX-A: ".bytes().chain(std::iter::repeat(b'a'));
        while line.next().is_some_and(|byte| stream.write_all(&[byte]).is_ok()) {
            thread::sleep(Duration::from_millis(20));
        }
        false
    });
    let gateway = Gateway::start(&inventory.url(), &[("GATEWAY_UPSTREAM_HEAD_TIMEOUT_MS", "300")]);
    assert_eq!(gateway.get("/api/movies").status, 504);
}

#[test]
fn a_body_that_stalls_cuts_the_answer_off() {
    let inventory = Inventory::serving(|mut stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345").unwrap();
        thread::sleep(crate::support::PATIENCE);
        false
    });
    let gateway = LocalGateway::start(&inventory.url(), |settings| {
        settings.upstream.body_timeout = Duration::from_millis(200);
    });
    let mut client = gateway.connect();
    client.send(b"GET /api/movies HTTP/1.1\r\nHost: h\r\nX-Request-Id: stalled\r\n\r\n");
    assert!(client.try_answer(false).is_err());
    eventually("the log tells why", || {
        LocalGateway::has_logged("stalled 504 inventory did not answer in time")
    });
}

#[test]
fn answers_that_are_not_http_are_502() {
    for garbage in [
        "garbage\r\n\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "HTTP/1.1 200 OK\r\nX: \0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200",
        "",
    ] {
        let inventory = Inventory::serving(move |mut stream, _| {
            stream.write_all(garbage.as_bytes()).unwrap();
            false
        });
        let gateway = Gateway::start(&inventory.url(), &[]);
        let answer = gateway.get("/api/movies");
        assert_eq!(answer.status, 502, "{garbage:?}");
        assert_eq!(answer.error(), "inventory sent an invalid answer");
        let id = answer.field("x-request-id").unwrap();
        eventually("the log names the request", || gateway.log().contains(id));
    }
    let huge = format!("HTTP/1.1 200 OK\r\nX-A: {}\r\n\r\n", "a".repeat(100_000));
    let inventory = Inventory::answering(move |_| huge.clone().into_bytes());
    let gateway = Gateway::start(&inventory.url(), &[]);
    assert_eq!(gateway.get("/api/movies").status, 502);
}

#[test]
fn a_body_that_is_cut_short_never_looks_complete() {
    let long = "x".repeat(200_000);
    for (answer, complete_head) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345".to_owned(), true),
        (format!("HTTP/1.1 200 OK\r\nContent-Length: 200001\r\n\r\n{long}"), true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n".to_owned(), true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123".to_owned(), true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\nzz\r\n".to_owned(), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n".to_owned(), false),
    ] {
        let inventory = Inventory::serving(move |mut stream, _| {
            stream.write_all(answer.as_bytes()).unwrap();
            false
        });
        let gateway = Gateway::start(&inventory.url(), &[]);
        for version in ["1.1", "1.0"] {
            let mut client = gateway.connect();
            client.send(format!("GET /api/movies HTTP/{version}\r\nHost: h\r\n\r\n").as_bytes());
            match client.try_answer(false) {
                Err(_) => {}
                // What has not been passed on yet can still be replaced by an honest answer.
                Ok(answer) => assert_eq!(answer.status, 502, "{complete_head} {version}"),
            }
            eventually("the log tells why", || {
                gateway.log().contains("502 inventory sent an invalid answer")
            });
        }
    }
}

#[test]
fn a_connection_is_not_used_again_after_an_incomplete_answer() {
    // Each answer is followed by bytes that would be taken for the next answer.
    let stray = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong";
    let inventory = Inventory::answering(move |_| [ok("right"), stray.as_bytes().to_vec()].concat());
    let gateway = Gateway::start(&inventory.url(), &[]);
    let mut client = gateway.connect();
    for _ in 0..5 {
        assert_eq!(client.get("/api/movies").text(), "right");
    }
    // Nor after a client left in the middle of an answer.
    let body: &'static str = "y".repeat(8 << 20).leak();
    let inventory = Inventory::fixed(body);
    let gateway = Gateway::start(&inventory.url(), &[]);
    for _ in 0..3 {
        let mut client = gateway.connect();
        client.send(b"GET /api/movies HTTP/1.1\r\nHost: h\r\n\r\n");
        client.head().unwrap();
    }
    assert!(gateway.get("/api/movies").text() == body);
}

#[test]
fn an_idempotent_request_survives_a_restart_of_inventory() {
    let inventory = Inventory::fixed("[]");
    let gateway = Gateway::start(&inventory.url(), &[]);
    let mut client = gateway.connect();
    for request in [
        "GET /api/movies HTTP/1.1\r\nHost: h\r\n\r\n",
        "PUT /api/movies/1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
        "POST /api/movies HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
    ] {
        assert_eq!(client.get("/api/movies").status, 200);
        inventory.drop_connections();
        // A connection that is closed visibly is not used in the first place, so that even POST is safe.
        client.send(request.as_bytes());
        assert_eq!(client.answer().status, 200, "{request:?}");
    }
    assert_eq!(inventory.requests().len(), 6);
}

/// An inventory that reads the second request on each connection and closes without an answer, as one that is stopped
/// at the worst moment does.
fn treacherous() -> Inventory {
    let served = AtomicUsize::new(0);
    Inventory::answering(move |request| {
        let first_on_connection =
            served.fetch_max(request.connection + 1, Ordering::SeqCst) <= request.connection;
        if first_on_connection { ok("[]") } else { Vec::new() }
    })
}

#[test]
fn an_idempotent_request_on_a_dead_connection_is_repeated_once() {
    for (method, body) in [("GET", ""), ("HEAD", ""), ("OPTIONS", ""), ("PUT", "{}"), ("DELETE", "")] {
        let inventory = treacherous();
        let gateway = Gateway::start(&inventory.url(), &[]);
        let mut client = gateway.connect();
        assert_eq!(client.get("/api/movies").status, 200);
        let length = body.len();
        client.send(
            format!("{method} /api/movies/1 HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}")
                .as_bytes(),
        );
        assert_eq!(client.try_answer(method == "HEAD").unwrap().status, 200, "{method}");
        let requests = inventory.requests();
        assert_eq!(requests.len(), 3, "{method}");
        assert_eq!((requests[1].line(), &requests[1].body), (requests[2].line(), &requests[2].body));
    }
}

#[test]
fn a_post_is_never_repeated_once_it_was_sent() {
    for method in ["POST", "PATCH"] {
        let inventory = treacherous();
        let gateway = Gateway::start(&inventory.url(), &[]);
        let mut client = gateway.connect();
        assert_eq!(client.get("/api/movies").status, 200);
        client.send(
            format!("{method} /api/movies HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{{}}").as_bytes(),
        );
        assert_eq!(client.answer().status, 502);
        assert_eq!(inventory.requests().len(), 2, "{method}");
    }
}

#[test]
fn a_fresh_connection_that_dies_is_no_reason_to_repeat() {
    let inventory = Inventory::answering(|_| Vec::new());
    let gateway = Gateway::start(&inventory.url(), &[]);
    assert_eq!(gateway.get("/api/movies").status, 502);
    assert_eq!(inventory.requests().len(), 1);
}

#[test]
fn an_answer_that_comes_before_the_body_is_read_is_passed_on() {
    let inventory = Inventory::serving_heads(|mut stream| {
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").unwrap();
    });
    let gateway = Gateway::start(&inventory.url(), &[]);
    let mut client = gateway.connect();
    client.send(b"POST /api/movies HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n");
    client.send(&vec![b'x'; 200_000]);
    // Whether the answer gets through is a race between it and the reset; nothing else may come of it.
    assert!(matches!(client.answer().status, 403 | 502));
}

#[test]
fn requests_are_spread_and_a_dead_instance_is_left_out() {
    let (first, second) = (Inventory::fixed("1"), Inventory::fixed("2"));
    let gateway = Gateway::start(&format!("{},{}", first.url(), second.url()), &[]);
    let mut client = gateway.connect();
    let mut ask = || client.get("/api/movies").text().to_owned();
    let answers: Vec<_> = (0..4).map(|_| ask()).collect();
    assert!(answers == ["1", "2", "1", "2"] || answers == ["2", "1", "2", "1"], "{answers:?}");
    let addr = first.stop();
    for _ in 0..20 {
        assert_eq!(ask(), "2");
    }
    eventually("the log says so once", || gateway.log().matches("is not reachable").count() == 1);
    // Even a POST goes to the next instance when no connection could be made.
    assert_eq!(gateway.ask("POST /api/movies HTTP/1.1\r\nHost: h\r\n\r\n").text(), "2");
    let _first = Inventory::fixed_at(addr, "1");
    eventually("the instance takes part again", || ask() == "1");
}

#[test]
fn an_address_that_swallows_connections_costs_no_more_than_the_connect_timeout() {
    // Once its queue is full, a listener that does not accept lets further connections wait for ever.
    let deaf = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    deaf.bind(&any.into()).unwrap();
    deaf.listen(0).unwrap();
    let addr = deaf.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(100)) {
        waiting.push(stream);
    }
    let inventory = Inventory::fixed("[]");
    let urls = format!("http://{addr},{}", inventory.url());
    let gateway = Gateway::start(&urls, &[]);
    let started = Instant::now();
    for _ in 0..4 {
        assert_eq!(gateway.get("/api/movies").status, 200);
    }
    assert!(started.elapsed() < crate::support::PATIENCE / 2);
}
