//! What the proxy changes, and above all what it does not.

use std::io::Write;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use crate::support::{Gateway, Inventory};

fn with_answer(answer: &'static str) -> (Inventory, Gateway) {
    let inventory = Inventory::answering(move |_| answer.as_bytes().to_vec());
    let gateway = Gateway::start(&inventory.url(), &[]);
    (inventory, gateway)
}

#[test]
fn end_to_end_fields_are_passed_on_and_hop_by_hop_fields_are_not() {
    let (inventory, gateway) = with_answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let fields = "User-Agent: test\r\nAccept: a/b, c/d;q=0.1\r\nIf-None-Match: \"1\"\r\nX-Twice: 1\r\nX-Twice: 2\r\n\
                  Cookie: a=b; c=d\r\nAuthorization: Basic eA==\r\nX-Empty:\r\n\
                  Connection: keep-alive, X-Named, te\r\nX-Named: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\n\
                  Trailer: X-T\r\nUpgrade: websocket\r\nProxy-Authorization: x\r\nProxy-Connection: keep-alive\r\n";
    let answer = gateway.ask(&format!("GET /api/movies HTTP/1.1\r\nHost: shop.test:81\r\n{fields}\r\n"));
    assert_eq!(answer.status, 200);
    let request = inventory.only_request();
    for (name, value) in [
        ("user-agent", "test"),
        ("accept", "a/b, c/d;q=0.1"),
        ("if-none-match", "\"1\""),
        ("cookie", "a=b; c=d"),
        ("authorization", "Basic eA=="),
        ("x-empty", ""),
        ("host", &inventory.addr.to_string()),
        ("x-forwarded-host", "shop.test:81"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-for", "127.0.0.1"),
    ] {
        assert_eq!(request.field(name), Some(value), "{name}");
    }
    assert_eq!(request.fields("x-twice"), ["1", "2"]);
    for name in [
        "connection",
        "x-named",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "proxy-authorization",
        "proxy-connection",
        "content-length",
        "transfer-encoding",
    ] {
        assert_eq!(request.fields(name), [""; 0], "{name}");
    }
}

#[test]
fn nothing_is_added_that_the_client_did_not_say() {
    let (inventory, gateway) = with_answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    gateway.ask("GET /api/movies HTTP/1.1\r\nHost: h\r\n\r\n");
    let head = inventory.only_request().head;
    let mut names: Vec<_> =
        head.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["host", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id"]
    );
}

#[test]
fn forwarding_is_appended_to_and_cannot_be_faked() {
    let (inventory, gateway) = with_answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    gateway.ask(
        "GET /api/movies HTTP/1.1\r\nHost: real\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\n\
         Via: 1.1 edge.test\r\nX-Forwarded-Host: fake\r\nX-Forwarded-Proto: fake\r\nConnection: X-Forwarded-Proto, X-Request-Id\r\n\r\n",
    );
    let request = inventory.only_request();
    assert_eq!(request.field("x-forwarded-for"), Some("192.0.2.1, 192.0.2.2, 127.0.0.1"));
    assert_eq!(request.field("x-forwarded-host"), Some("real"));
    assert_eq!(request.field("x-forwarded-proto"), Some("http"));
    assert!(request.field("x-request-id").is_some());
    assert_eq!(request.fields("via"), ["1.1 edge.test", "1.1 api-gateway"]);
    gateway.ask("GET /api/movies HTTP/1.0\r\n\r\n");
    assert_eq!(inventory.requests()[1].field("via"), Some("1.0 api-gateway"));
}

#[test]
fn the_answer_is_exactly_what_inventory_said() {
    let (_inventory, gateway) = with_answer(
        "HTTP/1.1 418 Whatever\r\nETag: \"x\"\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2; Path=/\r\nX-Latin: \u{fc}\r\n\
         Location: /api/movies/5\r\nLink: </api/movies?after=5>; rel=\"next\"\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\
         Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=1\r\nUpgrade: x\r\nProxy-Authenticate: x\r\n\
         X-Request-Id: theirs\r\nContent-Length: 4\r\n\r\n\u{e9}\u{e9}",
    );
    let mut client = gateway.connect();
    for _ in 0..2 {
        let answer = client.get("/api/movies");
        assert_eq!((answer.status, answer.text()), (418, "\u{e9}\u{e9}"));
        for (name, value) in [
            ("etag", "\"x\""),
            ("location", "/api/movies/5"),
            ("link", "</api/movies?after=5>; rel=\"next\""),
            ("date", "Mon, 01 Jan 2024 00:00:00 GMT"),
            ("content-length", "4"),
            ("x-latin", "\u{fc}"),
        ] {
            assert_eq!(answer.field(name), Some(value), "{name}");
        }
        assert_eq!(answer.fields("set-cookie"), ["a=1", "b=2; Path=/"]);
        assert_ne!(answer.field("x-request-id"), Some("theirs"));
        for name in ["connection", "x-hop", "keep-alive", "upgrade", "proxy-authenticate", "content-type"] {
            assert_eq!(answer.fields(name), [""; 0], "{name}");
        }
    }
}

#[test]
fn redirects_and_errors_are_answers_like_any_other() {
    for status in [301, 302, 307, 400, 404, 412, 500, 503] {
        let line = format!("HTTP/1.1 {status} X\r\nLocation: /api/movies/2\r\nContent-Length: 1\r\n\r\nx");
        let (inventory, gateway) = with_answer(line.leak());
        let answer = gateway.get("/api/movies/1");
        assert_eq!((answer.status, answer.field("location")), (status, Some("/api/movies/2")));
        assert_eq!(inventory.requests().len(), 1);
    }
}

#[test]
fn answers_without_a_body_have_none() {
    for (method, answer, length) in [
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None),
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nContent-Length: 10\r\n\r\n", Some("10")),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Some("0")),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", Some("10")),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
    ] {
        let (inventory, gateway) = with_answer(answer);
        let mut client = gateway.connect();
        for _ in 0..2 {
            client.send(format!("{method} /api/movies/1 HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
            let answer = client.try_answer(method == "HEAD").unwrap();
            assert_eq!(answer.field("content-length"), length, "{answer:?}");
            assert!(!answer.closes());
        }
        assert_eq!(inventory.connections(), 1, "{answer:?}");
    }
}

#[test]
fn interim_answers_are_not_mistaken_for_the_final_one() {
    let (_inventory, gateway) = with_answer(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let answer = gateway.get("/api/movies");
    assert_eq!((answer.status, answer.text()), (200, "ok"));
}

#[test]
fn chunked_answers_are_passed_on_piece_by_piece() {
    let (proceed, wait) = channel();
    let wait = Arc::new(Mutex::new(wait));
    let inventory = Inventory::serving(move |mut stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n").unwrap();
        wait.lock().unwrap().recv().unwrap();
        stream.write_all(b"3;x\r\ntwo\r\n0\r\nT: t\r\n\r\n").is_ok()
    });
    let gateway = Gateway::start(&inventory.url(), &[]);
    let mut client = gateway.connect();
    for _ in 0..2 {
        client.send(b"GET /api/movies HTTP/1.1\r\nHost: h\r\n\r\n");
        let head = client.head().unwrap();
        assert_eq!((head.field("transfer-encoding"), head.field("content-length")), (Some("chunked"), None));
        // The first piece is here although inventory has not sent the second.
        assert_eq!(client.take(8).unwrap(), b"3\r\none\r\n");
        proceed.send(()).unwrap();
        assert_eq!(client.take(13).unwrap(), b"3\r\ntwo\r\n0\r\n\r\n");
    }
    // HTTP/1.0 has no chunks: the body ends with the connection.
    client.send(b"GET /api/movies HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    proceed.send(()).unwrap();
    let answer = client.answer();
    assert_eq!((answer.text(), answer.closes()), ("onetwo", true));
    assert_eq!(inventory.connections(), 1);
}

#[test]
fn an_answer_that_ends_with_the_connection_is_passed_on() {
    let inventory = Inventory::serving(|mut stream, _| {
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nuntil the end").unwrap();
        false
    });
    let gateway = Gateway::start(&inventory.url(), &[]);
    let mut client = gateway.connect();
    for _ in 0..2 {
        assert_eq!(client.get("/api/movies").text(), "until the end");
    }
}

#[test]
fn large_bodies_pass_both_ways() {
    let body: &'static str = "0123456789abcdef".repeat(1 << 20).leak();
    let inventory = Inventory::fixed(body);
    let gateway = Gateway::start(&inventory.url(), &[("GATEWAY_MOVIES_BODY_MAX_BYTES", "10000000")]);
    let mut client = gateway.connect();
    for chunked in [false, true] {
        let upload = &body.as_bytes()[..8 << 20];
        client.send(b"POST /api/movies HTTP/1.1\r\nHost: h\r\n");
        if chunked {
            client.send(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in upload.chunks(100_000) {
                client.send(format!("{:x}\r\n", chunk.len()).as_bytes());
                client.send(chunk);
                client.send(b"\r\n");
            }
            client.send(b"0\r\n\r\n");
        } else {
            client.send(format!("Content-Length: {}\r\n\r\n", upload.len()).as_bytes());
            client.send(upload);
        }
        assert!(client.answer().text() == body);
        let requests = inventory.requests();
        let request = requests.last().unwrap();
        assert!(request.body == upload);
        // The gateway has the whole body before it asks inventory, and thus knows its length.
        assert_eq!(request.field("content-length"), Some(upload.len().to_string().as_str()));
    }
}

#[test]
fn a_small_chunked_body_is_sent_on_with_its_length() {
    let (inventory, gateway) = with_answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let mut client = gateway.connect();
    client.send(
        b"PATCH /api/movies/1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n",
    );
    client.answer();
    // An empty body is announced as well, where one is usual or the client did.
    client.send(b"POST /api/movies HTTP/1.1\r\nHost: h\r\n\r\n");
    client.answer();
    client.send(b"DELETE /api/movies HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    client.answer();
    client.send(b"DELETE /api/movies HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}");
    client.answer();
    let seen: Vec<_> = inventory
        .requests()
        .iter()
        .map(|request| (request.field("content-length").map(str::to_owned), request.body.clone()))
        .collect();
    let expected = [("4", "abcd"), ("0", ""), ("0", ""), ("2", "{}")];
    assert_eq!(seen, expected.map(|(length, body)| (Some(length.to_owned()), body.as_bytes().to_vec())));
}
