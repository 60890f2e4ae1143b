//! Which request goes where, for every spelling of a path.

use crate::support::{Gateway, Inventory, gateway};

#[test]
fn what_is_under_api_movies_reaches_inventory_verbatim() {
    let (inventory, gateway) = gateway();
    let targets = [
        "/api/movies",
        "/api/movies/",
        "/api/movies?",
        "/api/movies/1?title=a%20b&x=+&y",
        "/api/movies?title=%25_%5C%2F&a=/../",
        "/api/movies/7/",
        "/api/movies/a/b/c",
        "/api/movies/%252e%252e/health",
        "/api/movies/caf%C3%A9?q={[^|]}",
    ];
    let mut client = gateway.connect();
    for target in targets {
        assert_eq!(client.get(target).status, 200, "{target}");
    }
    let seen: Vec<_> = inventory.requests().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(seen, targets);
}

#[test]
fn nothing_else_reaches_inventory_through_any_spelling() {
    let (inventory, gateway) = gateway();
    for (target, status) in [
        ("/api/movies/../../health", 400),
        ("/api/movies/%2e%2e/%2E./health", 400),
        ("//health", 400),
        ("/x/../health", 400),
        ("/%68ealth", 400),
        ("/%61pi/mov%69es/7/", 400),
        ("/health/", 200),
        ("http://inventory/health", 200),
        ("/api/movies/../secret", 400),
        ("/api/movies/../../etc/passwd", 400),
        ("/api/moviesx", 404),
        ("/api/movie", 404),
        ("/API/MOVIES", 404),
        ("/api", 404),
        ("/", 200),
        ("http://inventory", 200),
        ("http://inventory/metrics/x", 404),
        ("/api/movies%2f..%2f..%2fhealth", 400),
        ("/api%2fmovies", 400),
        ("/api/movies/%5c..%5c..%5chealth", 400),
        ("/api/movies/..\\..\\health", 400),
        ("/api/movies/%00", 400),
        ("/api/movies/1%0d%0aX:%20y", 400),
        ("/api/movies/%zz", 400),
        ("/api/movies/%ff", 400),
        ("/api/movies?title=%00", 400),
        ("/api/movies?title=%ff", 400),
        ("/api/movies?title=%", 400),
        ("/api/movies#fragment", 400),
        ("/api/movies?title=café", 400),
        // These would be movies after normalisation, but inventory would be given another path.
        ("/api/./movies", 400),
        ("/api/x/../movies", 400),
        ("//api/movies", 400),
        ("/api//movies/1", 400),
        ("/api/movies/1/..", 400),
        ("http://user@inventory/api/movies", 400),
        ("ftp://inventory/api/movies", 400),
        ("inventory/api/movies", 400),
        ("*", 400),
    ] {
        assert_eq!(gateway.get(target).status, status, "{target}");
    }
    assert_eq!(inventory.requests().len(), 0);
}

#[test]
fn an_absolute_target_is_passed_on_as_a_path() {
    let (inventory, gateway) = gateway();
    assert_eq!(gateway.get("http://other.example:81/api/movies/1?a=b").status, 200);
    let request = inventory.only_request();
    assert_eq!(request.target(), "/api/movies/1?a=b");
    assert_eq!(request.field("host"), Some(inventory.addr.to_string().as_str()));
}

#[test]
fn methods_that_a_route_does_not_have_are_405() {
    let (inventory, gateway) = gateway();
    let mut client = gateway.connect();
    for (target, methods, allow) in [
        ("/health", ["POST", "PUT", "DELETE", "get", "PURGE"], "GET, HEAD, OPTIONS"),
        ("/ready/", ["POST", "PUT", "PATCH", "DELETE", "CONNECT"], "GET, HEAD, OPTIONS"),
        ("/api/billing", ["GET", "PUT", "PATCH", "DELETE", "post"], "OPTIONS, POST"),
    ] {
        for method in methods {
            client.send(format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
            let answer = client.answer();
            assert_eq!((answer.status, answer.field("allow")), (405, Some(allow)), "{method} {target}");
            answer.error();
        }
        client.send(format!("OPTIONS {target} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        let answer = client.answer();
        assert_eq!((answer.status, answer.field("allow")), (204, Some(allow)));
        assert_eq!(answer.field("content-length"), None);
    }
    client.send(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.field("allow").is_some()), (204, true));
    assert_eq!(inventory.requests().len(), 0);
}

#[test]
fn which_methods_a_movie_has_is_up_to_inventory() {
    let (inventory, gateway) = gateway();
    let mut client = gateway.connect();
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "UPDATE"] {
        client.send(format!("{method} /api/movies/1 HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        assert_eq!(client.answer().status, 200, "{method}");
    }
    let lines: Vec<_> = inventory.requests().iter().map(|request| request.line().to_owned()).collect();
    assert_eq!(lines[4], "DELETE /api/movies/1 HTTP/1.1");
    assert_eq!(lines[6], "UPDATE /api/movies/1 HTTP/1.1");
    assert_eq!(lines.len(), 7);
    for method in ["TRACE", "CONNECT"] {
        client.send(format!("{method} /api/movies/1 HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        assert_eq!(client.answer().status, 405, "{method}");
    }
}

#[test]
fn readiness_names_what_is_missing() {
    let inventory = Inventory::answering(|request| match request.target() {
        "/ready" => crate::support::ok("{}"),
        _ => Vec::new(),
    });
    let gateway = Gateway::start(&inventory.url(), &[]);
    let answer = gateway.get("/ready");
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
    assert_eq!(answer.error(), "not ready: broker unreachable");
    assert!(answer.text().contains(r#""inventory":"ok""#), "{}", answer.text());
    inventory.stop();
    assert_eq!(gateway.get("/ready").error(), "not ready: inventory and broker unreachable");
    assert_eq!(gateway.get("/health").text(), r#"{"status":"ok"}"#);
}

#[test]
fn an_inventory_that_hangs_does_not_hold_up_readiness() {
    let inventory = Inventory::serving(|_, _| {
        std::thread::sleep(crate::support::PATIENCE);
        false
    });
    let gateway = Gateway::start(&inventory.url(), &[("GATEWAY_UPSTREAM_HEAD_TIMEOUT_MS", "600000")]);
    let started = std::time::Instant::now();
    assert_eq!(gateway.get("/ready").status, 503);
    assert!(started.elapsed() < crate::support::PATIENCE / 2);
}
