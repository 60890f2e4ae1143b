//! Connections: how long they live, and what else HTTP/1 asks of a server.

use crate::support::gateway;

#[test]
fn a_connection_serves_one_request_after_the_other() {
    let (inventory, gateway) = gateway();
    let mut client = gateway.connect();
    for _ in 0..3 {
        let answer = client.get("/api/movies");
        assert_eq!((answer.status, answer.closes()), (200, false));
    }
    assert_eq!((inventory.requests().len(), inventory.connections()), (3, 1));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (_inventory, gateway) = gateway();
    let mut client = gateway.connect();
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
    client.send(
        format!("{}{}{}\r\n{}", get("/health"), get("/nowhere"), get("/api/movies"), get("/health"))
            .as_bytes(),
    );
    let statuses: Vec<_> = (0..4).map(|_| client.answer().status).collect();
    assert_eq!(statuses, [200, 404, 200, 200]);
}

#[test]
fn a_request_may_arrive_byte_by_byte() {
    let (inventory, gateway) = gateway();
    let mut client = gateway.connect();
    let request =
        b"\r\nPUT /api/movies/1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nA: b\r\n\r\n";
    for byte in request {
        client.send(&[*byte]);
    }
    assert_eq!(client.answer().status, 200);
    assert_eq!(inventory.only_request().body, b"abc");
    assert_eq!(client.get("/health").status, 200);
}

#[test]
fn the_client_decides_whether_the_connection_goes_on() {
    let (_inventory, gateway) = gateway();
    for (request, goes_on) in [
        ("GET /health HTTP/1.1\r\nHost: h\r\n\r\n", true),
        ("GET /health HTTP/1.1\r\nHost: h\r\nConnection: Close\r\n\r\n", false),
        ("GET /health HTTP/1.1\r\nHost: h\r\nConnection: x, close\r\n\r\n", false),
        ("GET /health HTTP/1.0\r\n\r\n", false),
        ("GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
    ] {
        let mut client = gateway.connect();
        client.send(request.as_bytes());
        let answer = client.answer();
        assert_eq!((answer.status, answer.closes()), (200, !goes_on), "{request:?}");
        if goes_on {
            assert_eq!(client.get("/health").status, 200, "{request:?}");
        } else {
            client.assert_closed();
        }
    }
}

#[test]
fn head_has_the_fields_of_get_and_no_body() {
    let (_inventory, gateway) = gateway();
    let mut client = gateway.connect();
    for target in ["/health", "/nowhere", "/ready"] {
        let expected = client.get(target);
        client.send(format!("HEAD {target} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        let answer = client.answer_to_head();
        assert_eq!(answer.status, expected.status);
        assert_eq!(answer.field("content-length"), expected.field("content-length"));
        assert!(
            answer.field("date").is_some_and(|date| date.len() == 29 && date.ends_with(" GMT")),
            "{answer:?}"
        );
    }
    assert_eq!(client.get("/health").status, 200);
}

#[test]
fn a_body_is_asked_for_when_it_is_about_to_be_read() {
    let (inventory, gateway) = gateway();
    let mut client = gateway.connect();
    let head = "POST /api/movies HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\n";
    client.send(head.as_bytes());
    assert_eq!(client.answer().status, 100);
    client.send(b"abc");
    assert_eq!(client.answer().status, 200);
    // A client that does not wait is not told to go on.
    client.send(format!("{head}abc").as_bytes());
    assert_eq!(client.answer().status, 200);
    for request in inventory.requests() {
        assert_eq!((request.body.as_slice(), request.field("expect")), (&b"abc"[..], None));
    }
}

#[test]
fn a_body_that_nobody_wants_is_not_asked_for() {
    let (_inventory, gateway) = gateway();
    for (target, length, status) in [("/nowhere", 3, 404), ("/api/movies", 100 << 20, 413)] {
        let mut client = gateway.connect();
        client.send(
            format!("POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n")
                .as_bytes(),
        );
        let answer = client.answer();
        // Whether the body comes nevertheless cannot be known, therefore the connection cannot go on.
        assert_eq!((answer.status, answer.closes()), (status, true));
    }
}

#[test]
fn the_small_rest_of_an_unread_body_keeps_the_connection() {
    let (_inventory, gateway) = gateway();
    let mut client = gateway.connect();
    client.send(b"POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 50000\r\n\r\n");
    client.send(&vec![b'x'; 50_000]);
    let answer = client.answer();
    assert_eq!((answer.status, answer.closes()), (404, false));
    assert_eq!(client.get("/health").status, 200);
    client.send(b"POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 500000\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.closes()), (404, true));
}

#[test]
fn a_client_that_closes_its_side_still_gets_its_answer() {
    let (_inventory, gateway) = gateway();
    let mut client = gateway.connect();
    client.send(b"GET /api/movies HTTP/1.1\r\nHost: h\r\n\r\n");
    client.finish_sending();
    assert_eq!(client.answer().status, 200);
    client.assert_closed();
}

#[test]
fn a_client_that_leaves_within_a_request_is_not_answered() {
    let (inventory, gateway) = gateway();
    for part in ["GET /health HTT", "POST /api/movies HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345"]
    {
        let mut client = gateway.connect();
        client.send(part.as_bytes());
        client.finish_sending();
        client.assert_closed();
    }
    assert_eq!(inventory.connections(), 0);
}

#[test]
fn every_answer_carries_a_request_id() {
    let (inventory, gateway) = gateway();
    let mut client = gateway.connect();
    let first = client.get("/api/movies").field("x-request-id").unwrap().to_owned();
    let second = client.get("/nowhere").field("x-request-id").unwrap().to_owned();
    assert_ne!(first, second);
    assert_eq!(inventory.only_request().field("x-request-id"), Some(first.as_str()));
    let ask = |client: &mut crate::support::Client, fields: &str| {
        client.send(format!("GET /api/movies HTTP/1.1\r\nHost: h\r\n{fields}\r\n").as_bytes());
        client.answer().field("x-request-id").unwrap().to_owned()
    };
    assert_eq!(ask(&mut client, "X-Request-Id: mine-1\r\n"), "mine-1");
    assert_eq!(inventory.requests()[1].fields("x-request-id"), ["mine-1"]);
    let long = "a".repeat(129);
    for insane in ["a b", "a\"b", "", &long] {
        assert_ne!(ask(&mut client, &format!("X-Request-Id: {insane}\r\n")), insane);
    }
    let repeated = ask(&mut client, "X-Request-Id: a\r\nX-Request-Id: b\r\n");
    assert!(repeated != "a" && repeated != "b");
    crate::support::eventually("the log names the request", || gateway.log().contains("mine-1"));
}
