//! Tokens across the whole platform: they let in whom they should, and are written nowhere.

use std::fmt::Write as _;

use testkit::http::Connection;
use testkit::{Platform, Postgres};

const ORDER: &str = r#"{"user_id": "3", "number_of_items": 5, "total_amount": 180}"#;
const SERVICE_TOKEN: &str = "service-secret-of-this-test";

/// A token of this role, and its line for the gateway.
fn new_token(platform: &Platform, role: &str) -> (String, String) {
    let output = platform.gateway.output(&["--new-token", &format!("{role}-client"), role]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    (lines[1].to_owned(), lines[3].to_owned())
}

#[test]
fn a_platform_with_tokens_works_and_writes_none_of_them() {
    let mut platform = Platform::stopped_on(Postgres::shared());
    let (tokens, lines): (Vec<_>, Vec<_>) =
        ["read", "write", "admin"].map(|role| new_token(&platform, role)).into_iter().unzip();
    platform.gateway.set("GATEWAY_TOKENS", &lines.join(","));
    for service in [&mut platform.gateway, &mut platform.inventory] {
        service.set("SERVICE_TOKEN", SERVICE_TOKEN);
        service.set("LOG_LEVEL", "trace");
    }
    for service in [&mut platform.inventory, &mut platform.billing, &mut platform.gateway] {
        service.start();
    }
    platform.wait_until_ready();

    let mut answers = String::new();
    let mut ask = |method: &str, target: &str, token: &str, body: Option<&str>| {
        let authorization = format!("Bearer {token}");
        let headers = [("Authorization", authorization.as_str()), ("Idempotency-Key", "key-1")];
        let mut connection = Connection::open(platform.addr()).unwrap();
        let answer = connection.request(method, target, &headers, body).unwrap();
        write!(answers, "{:?} {}", answer.headers, answer.text()).unwrap();
        answer.status
    };
    let [reader, writer, admin] = &tokens[..] else { panic!("three tokens") };
    let movie = Some(r#"{"title": "Alien"}"#);
    assert_eq!(ask("POST", "/api/movies", reader, movie), 403);
    assert_eq!(ask("POST", "/api/movies", writer, movie), 201);
    assert_eq!(ask("GET", "/api/movies", reader, None), 200);
    assert_eq!(ask("POST", "/api/billing", writer, Some(ORDER)), 200);
    assert_eq!(ask("DELETE", "/api/movies", writer, None), 403);
    assert_eq!(ask("GET", "/api/status", writer, None), 403);
    assert_eq!(ask("GET", "/api/status", admin, None), 200);
    assert_eq!(ask("DELETE", "/api/movies", admin, None), 200);
    assert_eq!(ask("DELETE", "/api/movies", &admin[1..], None), 401);
    for target in ["/", "/docs", "/openapi.json", "/ready", "/nowhere", "//"] {
        ask("GET", target, writer, None);
    }
    // Strangers do not get past the gateway either.
    let direct =
        Connection::open(platform.inventory.addr()).unwrap().request("GET", "/api/movies", &[], None);
    assert_eq!(direct.unwrap().status, 401);

    let logs = [platform.gateway.log(), platform.inventory.log(), platform.billing.log()].concat();
    assert!(logs.contains("/api/movies") && answers.len() > 1000);
    for secret in tokens.iter().map(String::as_str).chain([SERVICE_TOKEN]) {
        for text in [&logs, &answers] {
            assert!(!text.contains(secret), "a token is where it must not be");
        }
    }
}
