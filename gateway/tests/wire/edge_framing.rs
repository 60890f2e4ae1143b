//! Strict framing at the wire (RFC 9112 §6): whatever two parsers could read differently is refused, and the
//! connection with it.

use crate::support::{Gateway, Inventory};

/// Asserts that each request is answered with `status`, that the connection is closed, and that inventory never
/// hears of it.
fn refused(status: u16, requests: &[String]) {
    let inventory = Inventory::fixed("[]");
    let gateway = Gateway::start(&inventory.url(), &[]);
    for request in requests {
        let mut client = gateway.connect();
        // What is smuggled would come after it; it must not be answered.
        client.send(format!("{request}GET /health HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        let answer = client.answer();
        assert_eq!(answer.status, status, "{request:?}");
        assert!(!answer.error().is_empty() && answer.closes(), "{request:?}: {answer:?}");
        client.assert_closed();
    }
    assert_eq!(inventory.requests().len(), 0);
}

fn post(fields: &str) -> String {
    format!("POST /api/movies HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

#[test]
fn contradicting_lengths_are_refused() {
    refused(
        400,
        &[
            post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n",
            post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n") + "0\r\n\r\n",
            post("Content-Length: 4\r\nContent-Length: 5\r\n"),
            post("Content-Length: 4\r\nContent-Length: 4\r\n"),
            post("Content-Length: 4, 4\r\n"),
            post("Content-Length: +4\r\n"),
            post("Content-Length: -4\r\n"),
            post("Content-Length: 0x4\r\n"),
            post("Content-Length: 4 4\r\n"),
            post("Content-Length:\r\n"),
            post("Content-Length: a\r\n"),
        ],
    );
}

#[test]
fn any_transfer_coding_but_chunked_is_refused() {
    refused(
        400,
        &[
            post("Transfer-Encoding: identity\r\n"),
            post("Transfer-Encoding: gzip, chunked\r\n"),
            post("Transfer-Encoding: chunked, identity\r\n"),
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            post("Transfer-Encoding: xchunked\r\n"),
            post("Transfer-Encoding: \"chunked\"\r\n"),
            post("Transfer-Encoding:\r\n"),
            "POST /api/movies HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        ],
    );
}

#[test]
fn malformed_chunks_are_refused() {
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n") + body;
    refused(
        400,
        &[
            chunked("g\r\n"),
            chunked("-1\r\n"),
            chunked("0x1\r\na\r\n0\r\n\r\n"),
            chunked(" 1\r\na\r\n0\r\n\r\n"),
            chunked("1 \r\na\r\n0\r\n\r\n"),
            chunked("1\na\n0\n\n"),
            chunked("1\r\nab\r\n0\r\n\r\n"),
            chunked("ffffffffffffffff\r\n"),
            chunked("00000000000000001\r\na\r\n0\r\n\r\n"),
            chunked("1;\x00\r\na\r\n0\r\n\r\n"),
            chunked("0\r\n folded\r\n\r\n"),
            chunked("0\r\n\n"),
        ],
    );
}

#[test]
fn malformed_fields_are_refused() {
    refused(
        400,
        &[
            post("Content-Length : 4\r\n"),
            post("X-A: 1\r\n folded\r\n"),
            post("X-A: 1\r\n\tfolded\r\n"),
            post(" X-A: 1\r\n"),
            post("X-A: a\x00b\r\n"),
            post("X-A: a\x0bb\r\n"),
            post("X-A: a\x7fb\r\n"),
            post("X-A: a\rb\r\n"),
            post("X-A: a\nContent-Length: 4\r\n"),
            post("X A: 1\r\n"),
            post("X(A): 1\r\n"),
            post(": 1\r\n"),
            post("nothing\r\n"),
        ],
    );
}

#[test]
fn a_missing_repeated_or_invalid_host_is_refused() {
    refused(
        400,
        &[
            "GET /health HTTP/1.1\r\n\r\n".to_owned(),
            "GET /health HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".to_owned(),
            "GET /health HTTP/1.1\r\nHost:\r\n\r\n".to_owned(),
            "GET /health HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(),
            "GET /health HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned(),
            "GET /health HTTP/1.1\r\nHost: a@b\r\n\r\n".to_owned(),
            "GET http://a/health HTTP/1.1\r\n\r\n".to_owned(),
        ],
    );
}

#[test]
fn malformed_request_lines_are_refused() {
    refused(
        400,
        &[
            "GET  /health HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            "GET /health  HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            "GET /health\tHTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            "GET /health HTTP/1.1 \r\nHost: h\r\n\r\n".to_owned(),
            " GET /health HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            "GET /health\r\nHost: h\r\n\r\n".to_owned(),
            "GET /health http/1.1\r\nHost: h\r\n\r\n".to_owned(),
            "GET /health HTTP/1.1\nHost: h\n\n".to_owned(),
            "G@T /health HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            "\r\n\r\nGET /health HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            "\x16\x03\x01\x02\r\n\r\n".to_owned(),
        ],
    );
}

#[test]
fn versions_and_expectations_that_are_not_spoken_have_their_own_status() {
    refused(
        505,
        &[
            "GET /health HTTP/2.0\r\nHost: h\r\n\r\n".to_owned(),
            "GET /health HTTP/1.2\r\nHost: h\r\n\r\n".to_owned(),
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        ],
    );
    refused(417, &[post("Expect: 200-ok\r\nContent-Length: 1\r\n")]);
}

#[test]
fn a_request_in_the_body_of_another_is_not_seen() {
    let inventory = Inventory::fixed("{}");
    let gateway = Gateway::start(&inventory.url(), &[]);
    let smuggled = "GET /api/movies/666 HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut client = gateway.connect();
    for framing in [
        format!("Content-Length: {}\r\n\r\n{smuggled}", smuggled.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len()),
    ] {
        client.send(format!("PUT /api/movies/1 HTTP/1.1\r\nHost: h\r\n{framing}").as_bytes());
        assert_eq!(client.answer().status, 200);
    }
    assert_eq!(client.get("/health").status, 200);
    let requests = inventory.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| request.body == smuggled.as_bytes()));
}
