//! Parts that are away, hang, or start in the wrong order: a clear answer in time, and recovery without a restart.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use testkit::http::{Response, request};
use testkit::orders::{assert_exactly_once, order, post_all};
use testkit::{Platform, Postgres, patience, wait_until};

/// Longer than every deadline of the platform together. Without deadlines a hanging part would hang its clients for ever.
const ANSWER_LIMIT: Duration = Duration::from_secs(40);

/// A request that has to be refused as unavailable, in time and as JSON.
#[track_caller]
fn assert_unavailable(addr: SocketAddr, method: &str, target: &str, body: Option<&str>) -> Response {
    let start = Instant::now();
    let answer = request(addr, method, target, body);
    assert!(start.elapsed() < ANSWER_LIMIT, "{method} {target} was answered after {:?}", start.elapsed());
    assert!(matches!(answer.status, 503 | 504), "{method} {target}: {} {}", answer.status, answer.text());
    assert!(answer.text().contains("\"error\":"), "{method} {target}: {}", answer.text());
    if answer.status == 503 {
        assert!(answer.header("retry-after").is_some(), "{method} {target}: {:?}", answer.headers);
    }
    answer
}

#[track_caller]
fn wait_for_status(addr: SocketAddr, target: &str, status: u16) {
    wait_until(patience(), &format!("{target} is answered {status}"), || {
        request(addr, "GET", target, None).status == status
    });
}

#[test]
fn services_started_in_the_wrong_order_find_each_other() {
    let postgres = Postgres::start();
    let mut platform = Platform::stopped_on(&postgres);
    platform.broker.stop();
    postgres.stop();

    platform.gateway.start();
    let addr = platform.addr();
    assert_eq!(request(addr, "GET", "/health", None).status, 200);
    let ready = assert_unavailable(addr, "GET", "/ready", None);
    assert!(ready.text().contains("inventory"), "{}", ready.text());
    assert_unavailable(addr, "GET", "/api/movies", None);
    assert_unavailable(addr, "POST", "/api/billing", Some(&order(0)));

    platform.inventory.start();
    platform.billing.spawn();
    assert_unavailable(addr, "GET", "/api/movies/1", None);
    assert_unavailable(addr, "GET", "/ready", None);

    postgres.start_again();
    wait_for_status(addr, "/api/movies", 200);
    let ready = assert_unavailable(addr, "GET", "/ready", None);
    assert!(ready.text().contains("broker"), "{}", ready.text());

    platform.broker.start_again();
    platform.wait_until_ready();
    post_all(addr, 0..10);
    assert_exactly_once(&platform, 0..10);
}

#[test]
fn without_its_broker_the_gateway_serves_movies_and_refuses_orders() {
    let mut platform = Platform::start();
    let addr = platform.addr();
    post_all(addr, 0..5);
    platform.broker.stop();
    let answer = assert_unavailable(addr, "POST", "/api/billing", Some(&order(5)));
    assert!(answer.text().contains("message_id"), "the client can try again with it: {}", answer.text());
    assert_eq!(request(addr, "GET", "/api/movies", None).status, 200);
    platform.broker.start_again();
    platform.wait_until_ready();
    assert_eq!(post_all(addr, 5..10), 0);
    assert_exactly_once(&platform, 0..10);
}

#[test]
fn without_postgresql_orders_are_taken_and_movies_are_unavailable() {
    let postgres = Postgres::start();
    let platform = Platform::start_on(&postgres);
    let addr = platform.addr();
    post_all(addr, 0..5);
    assert_exactly_once(&platform, 0..5);
    postgres.stop();
    assert_unavailable(addr, "GET", "/api/movies", None);
    assert_unavailable(addr, "POST", "/api/movies", Some(r#"{"title": "Alien"}"#));
    assert_eq!(post_all(addr, 5..10), 0);
    postgres.start_again();
    wait_for_status(addr, "/api/movies", 200);
    assert_exactly_once(&platform, 0..10);
    platform.wait_until_ready();
}

#[test]
fn a_postgresql_that_hangs_costs_no_client_more_than_the_deadlines() {
    let postgres = Postgres::start();
    let platform = Platform::start_on(&postgres);
    let addr = platform.addr();
    assert_eq!(request(addr, "GET", "/api/movies", None).status, 200);
    postgres.pause();
    // More than there are connections to the database.
    std::thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| assert_unavailable(addr, "GET", "/api/movies/1", None));
            scope.spawn(|| assert_unavailable(addr, "GET", "/api/movies", None));
        }
    });
    assert_eq!(post_all(addr, 0..5), 0);
    assert_eq!(request(addr, "GET", "/health", None).status, 200);
    postgres.resume();
    wait_for_status(addr, "/api/movies/1", 404);
    assert_exactly_once(&platform, 0..5);
}

#[test]
fn an_inventory_that_hangs_is_told_as_a_timeout_and_forgiven() {
    let platform = Platform::start();
    let addr = platform.addr();
    assert_eq!(request(addr, "GET", "/api/movies", None).status, 200);
    platform.inventory.signal("STOP");
    assert_unavailable(addr, "GET", "/api/movies", None);
    assert_unavailable(addr, "GET", "/ready", None);
    assert_eq!(post_all(addr, 0..5), 0);
    platform.inventory.signal("CONT");
    wait_for_status(addr, "/api/movies", 200);
    platform.wait_until_ready();
}

#[test]
fn a_broker_that_hangs_is_no_confirm_and_loses_nothing() {
    let platform = Platform::start();
    let addr = platform.addr();
    post_all(addr, 0..5);
    platform.broker.pause();
    assert_unavailable(addr, "POST", "/api/billing", Some(&order(5)));
    assert_eq!(request(addr, "GET", "/api/movies", None).status, 200);
    platform.broker.resume();
    platform.wait_until_ready();
    assert_eq!(request(addr, "POST", "/api/billing", Some(&order(6))).status, 200);
    // The order that was not confirmed may have been stored, but only once.
    wait_until(patience(), "the confirmed orders are stored", || platform.count_orders() >= 6);
    let mut client = platform.billing_db.client();
    let repeated =
        client.query("SELECT user_id FROM orders GROUP BY user_id HAVING count(*) > 1", &[]).unwrap();
    assert!(repeated.is_empty());
}

#[test]
fn inventory_killed_under_load_is_an_error_only_while_it_is_away() {
    let mut platform = Platform::start();
    let addr = platform.addr();
    assert_eq!(request(addr, "POST", "/api/movies", Some(r#"{"title": "Alien"}"#)).status, 201);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let answer = request(addr, "GET", "/api/movies/1", None);
                    // 502 is for the requests that inventory took with it.
                    assert!(matches!(answer.status, 200 | 502 | 503), "{} {}", answer.status, answer.text());
                }
            });
        }
        for _ in 0..3 {
            platform.inventory.kill_9();
            platform.inventory.start();
            wait_for_status(addr, "/api/movies/1", 200);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
