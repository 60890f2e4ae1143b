//! The host names under which the gateway serves, and the pages of other origins that may call it.

use crate::support::{Answer, Gateway, Inventory};

/// A hash of 64 zeros belongs to no token; it is there so that tokens are required.
const TOKENS: (&str, &str) =
    ("GATEWAY_TOKENS", "nobody:read:0000000000000000000000000000000000000000000000000000000000000000");
const PAGE: &str = "https://shop.example";

fn ask(gateway: &Gateway, request_line: &str, fields: &str) -> Answer {
    gateway.ask(&format!("{request_line} HTTP/1.1\r\nConnection: close\r\n{fields}\r\n"))
}

fn status(gateway: &Gateway, host: &str) -> u16 {
    ask(gateway, "GET /api/movies", &format!("Host: {host}\r\n")).status
}

#[test]
fn a_page_elsewhere_does_not_reach_an_open_gateway_through_its_own_name() {
    let inventory = Inventory::fixed("[]");
    // An empty value means the default.
    let gateway = Gateway::start(&inventory.url(), &[("GATEWAY_ALLOWED_HOSTS", "")]);
    let port = gateway.addr.port();
    for own in ["localhost", "127.0.0.1", "[::1]", "192.0.2.7"] {
        assert_eq!(status(&gateway, &format!("{own}:{port}")), 200, "{own}");
    }
    let before = inventory.served();
    for target in ["/api/movies", "/", "/health", "/nowhere", "//", "/api/billing"] {
        let answer = ask(&gateway, &format!("DELETE {target}"), "Host: rebound.evil.example\r\n");
        assert_eq!(answer.status, 421, "{target}");
        assert!(answer.error().contains("GATEWAY_ALLOWED_HOSTS"));
    }
    // The authority of the target replaces Host.
    assert_eq!(ask(&gateway, "GET http://evil.example/api/movies", "Host: localhost\r\n").status, 421);
    assert_eq!(ask(&gateway, "GET http://localhost/api/movies", "Host: evil.example\r\n").status, 200);
    assert_eq!(ask(&gateway, "OPTIONS *", "Host: evil.example\r\n").status, 421);
    assert_eq!(inventory.served(), before + 1);
    // Without a name nobody is misled; HTTP/1.0 does not need one.
    assert_eq!(gateway.ask("GET /health HTTP/1.0\r\n\r\n").status, 200);
}

#[test]
fn with_tokens_any_name_is_served_unless_they_are_listed() {
    let inventory = Inventory::fixed("[]");
    let any = Gateway::start(&inventory.url(), &[("GATEWAY_ALLOWED_HOSTS", ""), TOKENS]);
    assert_eq!(status(&any, "whatever.example"), 200);
    let variables = [("GATEWAY_ALLOWED_HOSTS", "shop.example, 127.0.0.1"), TOKENS];
    let listed = Gateway::start(&inventory.url(), &variables);
    for (host, expected) in
        [("shop.example", 200), ("Shop.Example.:8443", 200), ("127.0.0.1:1", 200), ("localhost", 421)]
    {
        assert_eq!(status(&listed, host), expected, "{host}");
    }
}

#[test]
fn a_preflight_request_is_answered_by_the_gateway_and_needs_no_token() {
    let inventory = Inventory::fixed("[]");
    let gateway = Gateway::start(&inventory.url(), &[("GATEWAY_CORS_ORIGINS", PAGE), TOKENS]);
    let preflight = |origin: &str| {
        let fields = format!("Host: h\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: DELETE\r\n");
        ask(&gateway, "OPTIONS /api/movies/1", &fields)
    };
    let answer = preflight(PAGE);
    assert_eq!(answer.status, 204);
    assert_eq!(answer.field("access-control-allow-origin"), Some(PAGE));
    assert!(answer.field("access-control-allow-methods").unwrap().contains("DELETE"));
    assert!(answer.field("access-control-allow-headers").unwrap().contains("Authorization"));
    assert_eq!(answer.field("vary"), Some("Origin"));
    assert_eq!(inventory.served(), 0);
    for other in ["https://evil.example", "https://shop.example.evil.example", "http://shop.example", "null"]
    {
        let answer = preflight(other);
        assert_eq!(answer.field("access-control-allow-origin"), None, "{other}");
        assert_eq!(answer.field("access-control-allow-methods"), None, "{other}");
    }
}

#[test]
fn a_page_that_may_call_can_read_every_answer() {
    let inventory = Inventory::answering(|_| {
        b"HTTP/1.1 200 OK\r\nServer: other\r\nAccess-Control-Allow-Origin: *\r\nX-Content-Type-Options: x\r\n\
          Content-Length: 2\r\n\r\n[]"
            .to_vec()
    });
    let gateway = Gateway::start(&inventory.url(), &[("GATEWAY_CORS_ORIGINS", PAGE), TOKENS]);
    for (request_line, expected) in [
        ("GET /api/movies", 200),
        ("POST /api/movies", 401),
        ("GET /nowhere", 404),
        ("GET //", 400),
        ("GET /", 200),
    ] {
        let answer = ask(&gateway, request_line, &format!("Host: h\r\nOrigin: {PAGE}\r\n"));
        assert_eq!(answer.status, expected, "{request_line}");
        assert_eq!(answer.field("access-control-allow-origin"), Some(PAGE), "{request_line}");
        assert!(answer.field("access-control-expose-headers").unwrap().contains("WWW-Authenticate"));
        assert!(answer.fields("vary").contains(&"Origin"), "{request_line}");
        for (name, value) in [("server", "crud-master"), ("x-content-type-options", "nosniff")] {
            assert_eq!(answer.field(name), Some(value), "{request_line}");
        }
        assert!(answer.field("date").is_some());
    }
    let answer = ask(&gateway, "GET /api/movies", "Host: h\r\nOrigin: https://evil.example\r\n");
    assert_eq!((answer.status, answer.field("access-control-allow-origin")), (200, None));
    // Without the setting, what a service says about it is passed on.
    let plain = Gateway::start(&inventory.url(), &[]);
    let answer = ask(&plain, "GET /api/movies", &format!("Host: h\r\nOrigin: {PAGE}\r\n"));
    assert_eq!(answer.field("access-control-allow-origin"), Some("*"));
    assert_eq!(
        ask(&plain, "GET /", &format!("Host: h\r\nOrigin: {PAGE}\r\n")).fields("vary"),
        ["accept-encoding"]
    );
}
