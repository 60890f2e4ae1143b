//! The fields that every response has, and how the edge handles a service's mistakes.

use testkit::{patience, wait_until};

use crate::server::{TestServer, settings};

#[test]
fn methods_that_http_does_not_define_reach_the_service() {
    let server = TestServer::start(settings());
    let mut connection = server.connect();
    for method in ["PURGE", "get", "UPDATE", "M-SEARCH"] {
        let answer = connection.request(method, "/hello", &[], None).unwrap();
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, POST")), "{method}");
    }
    connection.send(b"G(T /hello HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!(connection.response("GET").unwrap().status, 400);
}

#[test]
fn every_answer_has_a_date_and_a_request_id() {
    let server = TestServer::start(settings());
    for target in ["/hello", "/silent", "/panic", "/large?1", "/a//b", "*"] {
        let answer = server.get(target);
        let date = answer.header("date").unwrap_or_default();
        assert!(date.len() == 29 && date.ends_with(" GMT"), "{target}: {date:?}");
        for name in ["x-request-id", "server", "x-content-type-options"] {
            assert_eq!(
                answer.headers.iter().filter(|(other, _)| other == name).count(),
                1,
                "{target} {name}"
            );
        }
    }
    let mut connection = server.connect();
    connection.send(b"nonsense\r\n\r\n").unwrap();
    let answer = connection.response("GET").unwrap();
    assert!(answer.header("date").is_some());
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

#[test]
fn the_access_log_learns_of_every_request_once() {
    let server = TestServer::start(settings());
    let mut connection = server.connect();
    for (method, target) in
        [("GET", "/hello?a=b"), ("HEAD", "/hello"), ("GET", "/large?1"), ("GET", "/silent")]
    {
        connection.request(method, target, &[], None).unwrap();
    }
    connection.send(b"nonsense\r\n\r\n").unwrap();
    assert_eq!(connection.response("GET").unwrap().status, 400);
    drop(connection);
    let expected = [
        "GET /hello?a=b 200 17",
        "HEAD /hello 200 0",
        "GET /large?1 200 1048576",
        "GET /silent 500 50",
        "- - 400 44",
    ];
    wait_until(patience(), "all requests are noted", || {
        server.answered.lock().unwrap().len() == expected.len()
    });
    let answered = server.answered.lock().unwrap();
    assert_eq!(answered[..4], expected[..4]);
    assert!(answered[4].starts_with("- - 400 "), "{answered:?}");
}

#[test]
fn the_answer_to_head_has_the_fields_of_get_and_no_body() {
    let server = TestServer::start(settings());
    let mut connection = server.connect();
    for target in ["/hello", "/large?1"] {
        let get = connection.request("GET", target, &[], None).unwrap();
        let head = connection.request("HEAD", target, &[], None).unwrap();
        assert_eq!(head.header("content-length"), get.header("content-length"));
        assert_eq!(head.header("transfer-encoding"), get.header("transfer-encoding"));
        assert!(head.body.is_empty());
    }
    assert_eq!(connection.request("GET", "/hello", &[], None).unwrap().text(), r#"{"hello":"world"}"#);
}

#[test]
fn a_service_that_panics_or_stays_silent_costs_one_request() {
    let server = TestServer::start(settings());
    let mut connection = server.connect();
    for target in ["/panic", "/silent"] {
        let answer = connection.request("GET", target, &[], None).unwrap();
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (500, r#"{"code":"internal_error","error":"internal error"}"#)
        );
    }
    assert_eq!(connection.request("GET", "/hello", &[], None).unwrap().status, 200);
    assert_eq!(*server.refused.lock().unwrap(), [500, 500]);
}

#[test]
fn a_response_that_is_left_unfinished_is_visibly_cut_off() {
    let server = TestServer::start(settings());
    let error = server.connect().request("GET", "/cut", &[], None).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_line_break_in_a_value_makes_no_new_field() {
    let server = TestServer::start(settings());
    let answer = server.get("/split");
    assert_eq!(answer.header("x-text"), Some("a  Set-Cookie: b"));
    assert_eq!(answer.header("set-cookie"), None);
}
