//! The whole contract of services made of resources, walked once more through the real gateway, and what only a gateway
//! adds to it.
#![expect(clippy::panic, reason = "a test stops at the first surprise")]

#[path = "../../../crates/crud/tests/wire/rooms.rs"]
mod rooms;
#[path = "../../../crates/crud/tests/wire/contract.rs"]
mod walk;

use std::net::SocketAddr;

use serde_json::json;
use testkit::http::{Connection, Response, request};
use testkit::{Postgres, Service, binary, free_port, patience, settings, wait_until};

use rooms::{document, room};

/// Where requests are sent: to a gateway in front of the service.
struct Front(Service);

impl Front {
    fn of(service: SocketAddr) -> Self {
        Self(gateway([service; 3], &[]))
    }

    fn addr(&self) -> SocketAddr {
        self.0.addr()
    }
}

/// A gateway in front of the services that have the rooms, the codes and the notes.
fn gateway(services: [SocketAddr; 3], more: &[(&str, &str)]) -> Service {
    let [rooms, codes, notes] = services.map(|addr| format!("http://{addr}"));
    let mut gateway = Service::new(
        binary("api-gateway"),
        settings([
            ("GATEWAY_HOST", "127.0.0.1"),
            ("GATEWAY_PORT", "0"),
            ("GATEWAY_SERVICES", "room=/room,codes=/api/codes,notes=/api/notes"),
            ("ROOM_URL", &rooms),
            ("CODES_URL", &codes),
            ("NOTES_URL", &notes),
            // Nothing here is about movies or orders.
            ("INVENTORY_PORT", &free_port().to_string()),
            ("RABBITMQ_PORT", &free_port().to_string()),
            ("RABBITMQ_USER", "nobody"),
            ("RABBITMQ_PASSWORD", "dummy"),
        ]),
    );
    for (name, value) in more {
        gateway.set(name, value);
    }
    gateway.start();
    gateway
}

fn ask(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Response {
    Connection::open(addr).unwrap().request(method, target, headers, body).unwrap()
}

/// How many requests for its resources a service has answered. Whether it is ready was asked before.
fn requests(service: &rooms::Service) -> u64 {
    let text = service.metrics();
    let counts =
        text.lines().filter(|line| line.starts_with("http_requests_total{") && !line.contains("\"/ready\""));
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// A request is counted once its answer is sent, which the client may see before the count.
#[track_caller]
fn was_asked(service: &rooms::Service, times: u64) {
    wait_until(patience(), &format!("{times} requests"), || requests(service) >= times);
    assert_eq!(requests(service), times);
}

#[test]
fn an_answer_is_the_service_s_own() {
    let service = rooms::Service::start(&[]);
    let gateway = gateway([service.addr; 3], &[]);
    let made: Vec<_> = (0..5).map(|number| service.post("/room", &room(number))).collect();
    let (path, tag) = (made[0].header("location").unwrap(), made[0].header("etag").unwrap());
    let (twin, valid) = (room(0).to_string(), room(9).to_string());
    let json = ("content-type", "application/json");
    for (method, target, header, body) in [
        ("GET", "/room", None, None),
        ("GET", "/room/?sort=-name&limit=2&price_from=1", None, None),
        ("GET", "/room?sort=beds", None, None),
        ("GET", "/room?name=%25", None, None),
        ("GET", "/room?name=%00", None, None),
        ("GET", path, None, None),
        ("GET", path, Some(("if-none-match", tag)), None),
        ("HEAD", path, None, None),
        ("HEAD", "/room", None, None),
        ("HEAD", "/api/codes/none", None, None),
        ("OPTIONS", path, None, None),
        ("OPTIONS", "/api/codes", None, None),
        ("UPDATE", path, Some(("if-match", "\"other\"")), Some("{\"beds\": 2}")),
        ("UPDATE", path, Some(json), Some("{}")),
        ("PURGE", path, None, None),
        ("DELETE", "/api/codes/none", None, None),
        ("GET", "/room/7", None, None),
        ("GET", "/room/caf%C3%A9", None, None),
        ("GET", "/room/a/b/c", None, None),
        ("POST", "/room", Some(json), Some(&twin)),
        ("POST", "/room", Some(json), Some("{\"name\": }")),
        ("POST", "/room", Some(json), Some("{}")),
        ("POST", "/room", Some(("content-type", "text/plain")), Some(&valid)),
        ("POST", "/room", None, None),
    ] {
        let told = |addr| {
            let mut answer = ask(addr, method, target, header.as_slice(), body);
            answer.headers.retain(|(name, _)| name != "date" && name != "x-request-id");
            answer.headers.sort();
            (answer.status, answer.headers.clone(), answer.text())
        };
        assert_eq!(told(gateway.addr()), told(service.addr), "{method} {target} {header:?}");
    }
}

#[test]
fn a_service_learns_who_asked_and_by_which_way() {
    let service = rooms::Service::start(&[]);
    let gateway = gateway([service.addr; 3], &[]);
    let sent = [
        ("x-request-id", "walk-7"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-host", "elsewhere"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("x-user", "ann"),
    ];
    let answer = ask(gateway.addr(), "GET", "/room/request", &sent, None);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = document(&answer);
    let host = gateway.addr().to_string();
    for (name, value) in [
        ("x-request-id", "walk-7"),
        ("via", "1.1 api-gateway"),
        ("x-forwarded-for", "203.0.113.9, 127.0.0.1"),
        ("x-forwarded-host", &host),
        ("x-forwarded-proto", "http"),
        ("x-user", "ann"),
    ] {
        assert_eq!(seen[name], value, "{name} in {seen}");
    }
    assert_eq!(seen.get("x-hop"), None, "{seen}");
    let ids = |answer: &Response| {
        let ids = answer.headers.iter().filter(|(name, _)| name == "x-request-id");
        ids.map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&answer), ["walk-7"]);

    // An id that could forge a line of the log is replaced, and a missing one is made.
    for sent in [&[("x-request-id", "a b\tc")][..], &[]] {
        let answer = ask(gateway.addr(), "GET", "/room/request", sent, None);
        let seen = document(&answer)["x-request-id"].as_str().unwrap().to_owned();
        assert!(seen.len() >= 8 && !seen.contains(['\t', ' ']), "{seen:?}");
        assert_eq!(ids(&answer), [seen]);
    }
}

#[test]
fn a_path_with_two_readings_reaches_no_service() {
    let service = rooms::Service::start(&[]);
    let gateway = gateway([service.addr; 3], &[]);
    for target in [
        "/%72oom",
        "/ro%6fm/",
        "//room",
        "/room//random",
        "/./room",
        "/x/../room",
        "/room/..",
        "/room/%2e%2e/ready",
        "/room/../openapi.json",
        "/room%2frandom",
        "/room/..%2fready",
        "/room/%5c..%5cready",
        "/room/%00",
        "/room/%zz",
        "/room?name=%ff",
    ] {
        let answer = ask(gateway.addr(), "GET", target, &[], None);
        assert_eq!(answer.status, 400, "{target}: {}", answer.text());
        assert!(document(&answer)["error"].is_string(), "{target}: {}", answer.text());
    }
    for target in ["/rooms", "/Room", "/api", "/api/code", "/openapi.json/x"] {
        assert_eq!(ask(gateway.addr(), "GET", target, &[], None).status, 404, "{target}");
    }
    was_asked(&service, 0);
    assert_eq!(ask(gateway.addr(), "GET", "/room", &[], None).status, 200);
    was_asked(&service, 1);
}

#[test]
fn a_body_over_the_limit_is_refused_by_whoever_has_the_lower_one() {
    let service = rooms::Service::start(&[("ROOMS_BODY_MAX_BYTES", "4000")]);
    let gateway = gateway([service.addr; 3], &[("GATEWAY_ROOM_BODY_MAX_BYTES", "1000")]);
    let post = |target: &str, length: usize| {
        let body = format!("{:length$}", r#"{"code": "c"}"#);
        ask(gateway.addr(), "POST", target, &[], Some(&body))
    };
    let refused = post("/room", 1001);
    assert_eq!(refused.status, 413, "{}", refused.text());
    was_asked(&service, 0);
    assert_eq!(post("/room", 1000).status, 400, "a room needs more than that");
    was_asked(&service, 1);
    // The other resources have the gateway's limit for movies, which is above the service's own.
    let refused = post("/api/codes", 4001);
    assert_eq!(refused.status, 413, "{}", refused.text());
    assert!(document(&refused)["error"].is_string());
    was_asked(&service, 2);
    assert_eq!(post("/api/codes", 4000).status, 201);
}

#[test]
fn one_of_several_services_is_down_and_the_others_serve() {
    let port = free_port().to_string();
    let (first, second) = (rooms::Service::start(&[]), rooms::Service::start(&[("ROOMS_PORT", &port)]));
    let database = Postgres::shared().create_database();
    let mut inventory = Service::new(binary("inventory-app"), database.settings("INVENTORY_DB"));
    inventory.set("INVENTORY_PORT", "0");
    inventory.start();
    let movies = format!("http://{}", inventory.addr());
    let mut gateway = gateway([first.addr, second.addr, second.addr], &[("INVENTORY_URL", &movies)]);
    let addr = gateway.addr();
    let create = |target: &str, body: &serde_json::Value| {
        request(addr, "POST", target, Some(&body.to_string())).status
    };
    wait_until(patience(), "inventory's schema", || request(addr, "GET", "/api/movies", None).status == 200);
    assert_eq!(create("/room", &room(1)), 201);
    assert_eq!(create("/api/codes", &json!({"code": "c"})), 201);
    assert_eq!(create("/api/notes", &json!({"code": "c"})), 201);
    assert_eq!(create("/api/movies", &json!({"title": "Alien"})), 201);
    assert_eq!(request(first.addr, "GET", "/api/codes", None).text(), "[]", "each has its own");
    assert_eq!(request(second.addr, "GET", "/room", None).text(), "[]", "each has its own");

    drop(second);
    for (target, name) in [("/api/codes/c", "codes"), ("/api/notes", "notes")] {
        let answer = ask(addr, "GET", target, &[("x-request-id", "walk-8")], None);
        assert_eq!(
            answer.text(),
            format!("{{\"code\":\"dependency_down\",\"error\":\"{name} is not reachable\"}}")
        );
        assert_eq!((answer.status, answer.header("x-request-id")), (503, Some("walk-8")));
        assert!(answer.header("retry-after").is_some(), "{:?}", answer.headers);
    }
    assert!(gateway.wait_for_line("walk-8").contains("codes"));
    assert_eq!(create("/api/codes", &json!({"code": "d"})), 503);
    for target in ["/room", "/api/movies/1"] {
        assert_eq!(request(addr, "GET", target, None).status, 200, "{target}");
    }
    let ready = document(&request(addr, "GET", "/ready", None));
    assert_eq!(
        ready["dependencies"],
        json!({"inventory": "ok", "room": "ok", "codes": "unreachable", "notes": "unreachable", "broker": "unreachable"})
    );

    let _back = rooms::Service::start(&[("ROOMS_PORT", &port)]);
    wait_until(patience(), "codes and notes are back", || {
        let found = |target| request(addr, "GET", target, None).status == 200;
        found("/api/codes") && found("/api/notes")
    });
}
