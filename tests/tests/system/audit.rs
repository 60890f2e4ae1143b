//! The walk through the whole platform that its user makes first: movies, an order, an order while billing is stopped.

use testkit::http::{self, Connection};
use testkit::{Platform, patience, wait_until};

/// The columns of a table, in their order.
fn columns(client: &mut postgres::Client, table: &str) -> Vec<String> {
    let rows = client
        .query(
            "SELECT column_name::text FROM information_schema.columns WHERE table_name = $1 ORDER BY ordinal_position",
            &[&table],
        )
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// The orders of one customer: items and amount, as a user of psql sees them.
fn orders_of(platform: &Platform, user: &str) -> Vec<(String, String)> {
    let rows = platform
        .billing_db
        .client()
        .query(
            "SELECT number_of_items::text, total_amount::text FROM orders WHERE user_id = $1 ORDER BY id",
            &[&user],
        )
        .unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[test]
fn movies_are_created_listed_found_changed_and_deleted() {
    let platform = Platform::start();
    let addr = platform.addr();
    let movie = r#"{"title": "A new movie", "description": "Very short description"}"#;
    let created = http::request(addr, "POST", "/api/movies/", Some(movie));
    assert_eq!(created.status, 201, "{}", created.text());
    let location = created.header("location").unwrap().to_owned();
    assert!(location.ends_with("/api/movies/1"), "{location}");

    let listed = http::request(addr, "GET", "/api/movies/", None);
    assert_eq!(listed.status, 200);
    assert_eq!(listed.text(), format!("[{}]", created.text()));
    let found = http::request(addr, "GET", "/api/movies?title=NEW", None);
    assert_eq!(found.text(), listed.text());
    let changed = http::request(addr, "PUT", "/api/movies/1", Some(r#"{"title": "Another"}"#));
    assert_eq!(changed.status, 200);
    assert!(changed.text().contains("Very short description"), "{}", changed.text());

    let mut client = platform.movies_db.client();
    assert_eq!(columns(&mut client, "movies"), ["id", "title", "description"]);
    let row = client.query_one("SELECT title, description FROM movies", &[]).unwrap();
    assert_eq!((row.get(0), row.get(1)), ("Another", "Very short description"));

    assert_eq!(http::request(addr, "DELETE", "/api/movies/1", None).status, 200);
    assert_eq!(http::request(addr, "GET", "/api/movies/1", None).status, 404);
    assert_eq!(http::request(addr, "DELETE", "/api/movies", None).status, 200);
    assert_eq!(http::request(addr, "GET", "/api/movies", None).text(), "[]");
}

#[test]
fn the_gateway_answers_exactly_what_inventory_answers() {
    let platform = Platform::start();
    let movie = r#"{"title": "Amélie", "description": "\u0001 \"quoted\""}"#;
    assert_eq!(http::request(platform.addr(), "POST", "/api/movies", Some(movie)).status, 201);
    let large = "x".repeat(300);
    let requests = [
        ("GET", "/api/movies", None),
        ("GET", "/api/movies?title=am%C3%A9", None),
        ("GET", "/api/movies?limit=1", None),
        ("GET", "/api/movies?limit=none", None),
        ("GET", "/api/movies/1", None),
        ("HEAD", "/api/movies/1", None),
        ("GET", "/api/movies/2", None),
        ("GET", "/api/movies/one", None),
        ("OPTIONS", "/api/movies", None),
        ("PATCH", "/api/movies", Some("{}")),
        ("POST", "/api/movies", Some("{}")),
        ("POST", "/api/movies", Some(r#"{"title": 7}"#)),
        ("PUT", "/api/movies/1", Some(large.as_str())),
    ];
    for (method, target, body) in requests {
        let [direct, through] = [platform.inventory.addr(), platform.addr()].map(|addr| {
            let mut answer = http::request(addr, method, target, body);
            // What belongs to a connection or to a single request may differ; everything else may not.
            let own = ["date", "connection", "keep-alive", "server", "transfer-encoding", "x-request-id"];
            answer.headers.retain(|(name, _)| !own.contains(&name.as_str()));
            // A response without content must not have a length (RFC 9110 §8.6); the gateway sees to it.
            answer.headers.retain(|(name, _)| answer.status != 204 || name != "content-length");
            answer.headers.sort();
            answer
        });
        assert_eq!(through.status, direct.status, "{method} {target}");
        assert_eq!(through.headers, direct.headers, "{method} {target}");
        assert_eq!(through.text(), direct.text(), "{method} {target}");
    }
}

#[test]
fn an_order_waits_while_billing_is_stopped_and_arrives_when_it_is_started() {
    let mut platform = Platform::start();
    let order = |user: &str| {
        let body = format!(r#"{{"user_id": "{user}", "number_of_items": "99", "total_amount": "250"}}"#);
        let answer = http::request(platform.gateway.addr(), "POST", "/api/billing/", Some(&body));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains("Message posted"), "{}", answer.text());
    };
    let expected = [("99".to_owned(), "250.00".to_owned())];
    order("20");
    wait_until(patience(), "order 20 is stored", || orders_of(&platform, "20") == expected);
    assert!(platform.billing.terminate().success());
    order("22");
    // Nobody is there who could store it, so there is nothing to wait for.
    assert!(orders_of(&platform, "22").is_empty());
    platform.billing.start();
    wait_until(patience(), "order 22 is stored", || orders_of(&platform, "22") == expected);
    assert_eq!(orders_of(&platform, "20"), expected);

    let mut client = platform.billing_db.client();
    assert_eq!(columns(&mut client, "orders"), ["id", "user_id", "number_of_items", "total_amount"]);
}

#[test]
fn the_same_idempotency_key_twice_is_one_order() {
    let mut platform = Platform::start();
    let mut connection = Connection::open(platform.addr()).unwrap();
    let mut post = |key: &str, user: &str| {
        let body = format!(r#"{{"user_id": "{user}", "number_of_items": 1, "total_amount": 2.5}}"#);
        let answer =
            connection.request("POST", "/api/billing", &[("Idempotency-Key", key)], Some(&body)).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains(key), "{}", answer.text());
    };
    post("key-1", "a");
    post("key-1", "a");
    wait_until(patience(), "the first is stored", || platform.count_orders() == 1);
    // Once more when the first has long been acknowledged, and by another process.
    platform.billing.restart();
    post("key-1", "a");
    post("key-2", "b");
    // Messages are stored in the order of the queue: when the last is there, the repetition has been dealt with.
    wait_until(patience(), "the last is stored", || orders_of(&platform, "b").len() == 1);
    assert_eq!(orders_of(&platform, "a").len(), 1);
    assert_eq!(platform.count_orders(), 2);
}

#[test]
fn every_binary_tells_its_version_and_checks_its_settings() {
    let mut platform = Platform::start();
    for service in [&mut platform.gateway, &mut platform.inventory, &mut platform.billing] {
        let version = service.output(&["--version"]);
        let expected = format!("{} {}\n", service.name(), env!("CARGO_PKG_VERSION"));
        assert_eq!(String::from_utf8_lossy(&version.stdout), expected);
        assert!(service.output(&["--help"]).status.success());
        let check = service.output(&["--check"]);
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
        assert_eq!(service.output(&["--chekc"]).status.code(), Some(2));
    }
    platform.billing.set("BILLING_DB_PASSWORD", "wrong");
    let check = platform.billing.output(&["--check"]);
    assert_eq!(check.status.code(), Some(1));
    assert!(!String::from_utf8_lossy(&check.stderr).contains("wrong"), "a password must not be shown");
    platform.gateway.set("RABBITMQ_PASSWORD", "");
    let check = platform.gateway.output(&["--check"]);
    assert!(
        String::from_utf8_lossy(&check.stderr).contains("RABBITMQ_PASSWORD"),
        "the missing setting is named"
    );
}
