//! What the gateway tells about itself and the system: pages, the OpenAPI document, /api/status, and the private listeners.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::Value;
use testkit::http::{self, Connection, Response};
use testkit::{Platform, Postgres, patience, wait_until};

const ORDER: &str = r#"{"user_id": "3", "number_of_items": 5, "total_amount": 180}"#;

fn get(addr: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Response {
    Connection::open(addr).unwrap().request("GET", target, headers, None).unwrap()
}

fn json(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap()
}

fn status(platform: &Platform) -> Value {
    json(&get(platform.addr(), "/api/status", &[]))
}

/// The value of one sample, 0 if it is not there yet.
fn sample(addr: SocketAddr, series: &str) -> u64 {
    let text = get(addr, "/metrics", &[]).text();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

/// A request is counted once its answer is sent, which the client may see before the count.
#[track_caller]
fn settles(addr: SocketAddr, series: &str, value: u64) {
    wait_until(patience(), &format!("{series} is {value}"), || sample(addr, series) == value);
}

#[test]
fn every_path_of_the_openapi_document_has_the_methods_that_it_says() {
    let platform = Platform::start();
    let document = json(&get(platform.addr(), "/openapi.json", &[]));
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 10);
    for (path, item) in paths {
        let target =
            path.replace("{id}", "1").replace("{message_id}", "unknown").replace("{name}", "icon.svg");
        let mut described: BTreeSet<_> = item
            .as_object()
            .unwrap()
            .keys()
            .filter(|name| *name != "parameters")
            .map(|name| name.to_uppercase())
            .collect();
        // The document says this once for all paths.
        described.insert("OPTIONS".to_owned());
        if described.contains("GET") {
            described.insert("HEAD".to_owned());
        }
        for target in [target.clone(), format!("{}/", target.trim_end_matches('/'))] {
            let answer = http::request(platform.addr(), "OPTIONS", &target, None);
            assert_eq!(answer.status, 204, "{target}");
            let allowed: BTreeSet<_> =
                answer.header("allow").unwrap().split(", ").map(str::to_owned).collect();
            assert_eq!(allowed, described, "{target}");
        }
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PURGE", "get"] {
            if described.contains(method) {
                continue;
            }
            let refused = http::request(platform.addr(), method, &target, None);
            let allowed: BTreeSet<_> =
                refused.header("allow").unwrap_or_default().split(", ").map(str::to_owned).collect();
            assert_eq!((refused.status, &allowed), (405, &described), "{method} {target}");
            // The answer to HEAD has no body.
            if method != "HEAD" {
                assert_eq!(json(&refused)["code"], "method_not_allowed", "{method} {target}");
            }
        }
    }
}

#[test]
fn pages_come_compressed_or_not_and_are_not_sent_twice() {
    let platform = Platform::start();
    let addr = platform.addr();
    for (target, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/docs/", "text/html; charset=utf-8"),
        ("/openapi.yaml", "application/yaml"),
        ("/openapi.json", "application/json"),
        ("/assets/docs.js", "text/javascript; charset=utf-8"),
        ("/assets/asyncapi.json", "application/json"),
    ] {
        let plain = get(addr, target, &[]);
        assert_eq!((plain.status, plain.header("content-type")), (200, Some(media_type)), "{target}");
        assert_eq!(plain.header("content-encoding"), None);
        let policy = plain.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");

        let compressed = get(addr, target, &[("accept-encoding", "br, gzip;q=0.5")]);
        assert_eq!(compressed.header("content-encoding"), Some("gzip"));
        assert_eq!(compressed.header("vary"), Some("accept-encoding"));
        assert!(compressed.body.len() < plain.body.len());
        // The last four bytes of gzip are the length of what is in it (RFC 1952 §2.3.1).
        let length = compressed.body.last_chunk::<4>().copied().map(u32::from_le_bytes);
        assert_eq!(length.map(u64::from), Some(plain.body.len() as u64), "{target}");
        assert_ne!(compressed.header("etag"), plain.header("etag"));

        for (etag, coding) in [(plain.header("etag"), "identity"), (compressed.header("etag"), "gzip")] {
            let headers = [("if-none-match", etag.unwrap()), ("accept-encoding", coding)];
            let unchanged = get(addr, target, &headers);
            assert_eq!((unchanged.status, unchanged.header("etag")), (304, etag), "{target}");
        }
        let refused = get(addr, target, &[("accept-encoding", "gzip;q=0")]);
        assert_eq!(refused.header("content-encoding"), None);

        let head = http::request(addr, "HEAD", target, None);
        let length = plain.body.len().to_string();
        assert_eq!((head.status, head.header("content-length")), (200, Some(length.as_str())), "{target}");
    }
    assert_eq!(get(addr, "/assets/console.html", &[]).status, 404);
    // Another server might read this path differently.
    assert_eq!(get(addr, "/assets/../openapi.json", &[]).status, 400);
}

#[test]
fn every_part_says_what_it_is_and_a_database_that_stands_still_is_named() {
    let postgres = Postgres::start();
    let platform = Platform::start_on(&postgres);
    let known = |status: &Value| {
        let versions = ["gateway", "inventory", "billing", "broker", "postgresql", "billing_db"];
        let memory = ["gateway", "inventory", "billing"];
        versions.iter().all(|part| status[part]["version"].is_string())
            && memory.iter().all(|part| status[part]["memory_bytes"].as_u64() > Some(1 << 20))
    };
    wait_until(patience(), "every part says what it is", || known(&status(&platform)));
    postgres.pause();
    wait_until(patience(), "the database is named", || {
        let status = status(&platform);
        let cause = status["postgresql"]["cause"].as_str().unwrap_or_default();
        status["inventory"]["state"] == "ok" && cause == "PostgreSQL does not answer in time"
    });
    postgres.resume();
    wait_until(patience(), "it is well again", || status(&platform)["postgresql"]["state"] == "ok");
}

#[test]
fn an_order_is_followed_from_the_queue_to_the_database() {
    let mut platform = Platform::start();
    let addr = platform.addr();
    wait_until(patience(), "billing is heard", || status(&platform)["billing"]["state"] == "ok");
    platform.billing.terminate();
    let posted = json(&http::request(addr, "POST", "/api/billing", Some(ORDER)));
    let state_of_order = || {
        let target = format!("/api/status/orders/{}", posted["message_id"].as_str().unwrap());
        json(&get(addr, &target, &[]))["state"].clone()
    };
    wait_until(patience(), "the order waits", || status(&platform)["broker"]["messages_waiting"] == 1);
    assert_eq!(state_of_order(), "waiting");
    wait_until(patience(), "billing is missed", || status(&platform)["billing"]["state"] == "silent");

    platform.billing.start();
    wait_until(patience(), "the order is reported", || state_of_order() == "stored");
    assert_eq!(platform.count_orders(), 1);
    wait_until(patience(), "the status follows", || {
        let status = status(&platform);
        let stored: u64 = status["minutes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|minute| minute["stored"].as_u64().unwrap())
            .sum();
        status["billing"]["orders_stored"] == 1 && status["broker"]["messages_waiting"] == 0 && stored == 1
    });
}

#[test]
fn the_status_names_what_is_away() {
    let mut platform = Platform::start();
    let all_fine = |platform: &Platform| {
        let status = status(platform);
        ["gateway", "inventory", "postgresql", "broker", "billing"]
            .iter()
            .all(|part| status[part]["state"] == "ok")
    };
    wait_until(patience(), "everything is fine", || all_fine(&platform));
    platform.inventory.terminate();
    wait_until(patience(), "inventory is missed", || {
        status(&platform)["inventory"]["state"] == "unreachable"
    });
    assert_eq!(status(&platform)["postgresql"]["state"], "unknown");
    platform.broker.stop();
    wait_until(patience(), "the broker is missed", || status(&platform)["broker"]["state"] == "unreachable");
    assert_eq!(status(&platform)["broker"]["messages_waiting"], Value::Null);
    platform.broker.start_again();
    platform.inventory.start();
    wait_until(patience(), "everything is fine again", || all_fine(&platform));
}

#[test]
fn metrics_count_what_was_answered() {
    let mut platform = Platform::start();
    let gateway = platform.addr();
    let counted = platform.gateway.private_addr();
    let request = |route: &str, method: &str, status: u16| {
        format!("http_requests_total{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}}")
    };
    let movie = r#"{"title": "Alien"}"#;
    assert_eq!(http::request(gateway, "POST", "/api/movies", Some(movie)).status, 201);
    assert_eq!(get(gateway, "/api/movies/4711", &[]).status, 404);
    assert_eq!(get(gateway, "/nowhere", &[]).status, 404);
    assert_eq!(http::request(gateway, "POST", "/api/billing", Some(ORDER)).status, 200);
    for addr in [counted, platform.inventory.private_addr()] {
        settles(addr, &request("/api/movies", "POST", 201), 1);
        settles(addr, &request("/api/movies/{id}", "GET", 404), 1);
        let count = "http_request_duration_seconds_count{route=\"/api/movies\",method=\"POST\"}";
        settles(addr, count, 1);
        settles(addr, "http_requests_in_flight", 0);
    }
    settles(counted, &request("other", "GET", 404), 1);
    settles(counted, "orders_confirmed_total", 1);
    settles(counted, "broker_connected", 1);

    let mut nonsense = Connection::open(gateway).unwrap();
    nonsense.send(b"nonsense\r\n\r\n").unwrap();
    assert_eq!(nonsense.response("GET").unwrap().status, 400);
    settles(counted, &request("other", "other", 400), 1);

    platform.inventory.terminate();
    platform.broker.stop();
    assert_eq!(get(gateway, "/api/movies", &[]).status, 503);
    wait_until(patience(), "upstream_errors_total counts it", || {
        sample(counted, "upstream_errors_total{service=\"inventory\",kind=\"unavailable\"}") >= 1
    });
    settles(counted, "broker_connected", 0);
    assert_eq!(http::request(gateway, "POST", "/api/billing", Some(ORDER)).status, 503);
    wait_until(patience(), "broker_errors_total counts it", || {
        sample(counted, "broker_errors_total{kind=\"unavailable\"}") >= 1
    });
    settles(counted, &request("/api/billing", "POST", 503), 1);
}

#[test]
fn every_binary_tells_on_its_private_listener_what_keeps_it_from_working() {
    let mut platform = Platform::start();
    let ready = |service: &testkit::Service| http::request(service.private_addr(), "GET", "/ready", None);
    for service in [&platform.gateway, &platform.inventory, &platform.billing] {
        wait_until(patience(), &format!("{} is ready", service.name()), || ready(service).status == 200);
        let metrics = get(service.private_addr(), "/metrics", &[]).text();
        assert!(metrics.contains(&format!("build_info{{service=\"{}\"", service.name())), "{metrics}");
    }
    // Strangers see nothing of it.
    assert_eq!(get(platform.addr(), "/metrics", &[]).status, 404);
    assert_eq!(get(platform.inventory.addr(), "/metrics", &[]).status, 404);

    assert_eq!(http::request(platform.addr(), "POST", "/api/billing", Some(ORDER)).status, 200);
    let billing = platform.billing.private_addr();
    settles(billing, "orders_stored_total", 1);
    settles(billing, "broker_connected", 1);

    platform.inventory.terminate();
    platform.broker.stop();
    wait_until(patience(), "both are missed", || {
        let answer = ready(&platform.gateway);
        let dependencies = &json(&answer)["dependencies"];
        answer.status == 503 && dependencies["inventory"] != "ok" && dependencies["broker"] == "unreachable"
    });
    wait_until(patience(), "billing misses the broker", || {
        let answer = ready(&platform.billing);
        answer.status == 503 && json(&answer)["dependencies"]["postgresql"] == "ok"
    });
}
