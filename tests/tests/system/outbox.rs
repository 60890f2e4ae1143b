//! Orders while the broker is away and everything else fails, too: each is answered 200 soon, and stored once.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::http::{Connection, request};
use testkit::orders::{assert_exactly_once, order, post_all};
use testkit::{Folder, Platform, Postgres, patience, wait_until};

/// Connections that post at the same time.
const CLIENTS: usize = 16;
/// More than any disk has free.
const ALL: &str = "1000000000000000";

/// A platform whose gateway has an outbox; nothing but the broker runs yet.
fn platform_with_outbox() -> (Platform, Folder) {
    let mut platform = Platform::stopped_on(Postgres::shared());
    let folder = Folder::new("outbox");
    platform.gateway.set("GATEWAY_OUTBOX_DIR", &folder.path().join("outbox").display().to_string());
    platform.gateway.set("GATEWAY_OUTBOX_DISK_FREE_MIN_BYTES", "0");
    (platform, folder)
}

fn started() -> (Platform, Folder) {
    let (mut platform, folder) = platform_with_outbox();
    platform.inventory.start();
    platform.billing.start();
    platform.gateway.start();
    platform.wait_until_ready();
    (platform, folder)
}

/// What has become of many orders.
#[derive(Default)]
struct Posted {
    accepted: AtomicUsize,
    repeated: AtomicUsize,
    /// Of those that were answered 200.
    slowest: Mutex<Duration>,
}

/// Posts orders over many connections; repeats one under its key until it is answered 200.
fn post_many(addr: SocketAddr, numbers: Range<usize>, posted: &Posted) {
    let next = AtomicUsize::new(numbers.start);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut connection = None;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end {
                        return;
                    }
                    while !post(addr, number, &mut connection, posted) {
                        posted.repeated.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(Duration::from_millis(20));
                    }
                    posted.accepted.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
}

/// Whether the order was answered 200.
fn post(addr: SocketAddr, number: usize, connection: &mut Option<Connection>, posted: &Posted) -> bool {
    let (key, body) = (format!("order-{number}"), order(number));
    let start = Instant::now();
    let Ok(mut open) = connection.take().map_or_else(|| Connection::open(addr), Ok) else { return false };
    let Ok(answer) = open.request("POST", "/api/billing", &[("idempotency-key", &key)], Some(&body)) else {
        return false;
    };
    if answer.header("connection") != Some("close") {
        *connection = Some(open);
    }
    if answer.status == 200 {
        let mut slowest = posted.slowest.lock().unwrap();
        *slowest = start.elapsed().max(*slowest);
    }
    assert!([200, 503].contains(&answer.status), "order {number}: {} {}", answer.status, answer.text());
    answer.status == 200
}

fn outbox(addr: SocketAddr) -> Value {
    let status: Value = serde_json::from_slice(&request(addr, "GET", "/api/status", None).body).unwrap();
    status["outbox"].clone()
}

fn wait_until_empty(addr: SocketAddr) {
    wait_until(patience(), "the outbox is empty", || outbox(addr)["orders_waiting"] == 0);
}

#[test]
fn orders_placed_without_a_broker_and_through_crashes_of_the_gateway_are_stored_once() {
    const ORDERS: usize = 2_000;
    let (mut platform, _folder) = started();
    let addr = platform.addr();
    platform.broker.stop();
    let posted = Posted::default();
    thread::scope(|scope| {
        let posting = scope.spawn(|| post_many(addr, 0..ORDERS, &posted));
        for round in 1..=2 {
            wait_until(patience(), "orders are taken", || {
                posted.accepted.load(Ordering::Relaxed) >= round * ORDERS / 4
            });
            assert!(!posting.is_finished(), "the kill must come in the middle");
            platform.gateway.kill_9();
            platform.gateway.start();
        }
    });
    assert!(*posted.slowest.lock().unwrap() < Duration::from_secs(5), "{:?}", posted.slowest);
    let waiting = outbox(addr)["orders_waiting"].as_u64().unwrap();
    assert!(waiting >= ORDERS as u64, "{waiting} wait");
    assert_eq!(platform.count_orders(), 0);
    let metrics = request(platform.gateway.private_addr(), "GET", "/metrics", None).text();
    assert!(metrics.contains(&format!("\noutbox_orders {waiting}\n")), "{metrics}");
    eprintln!("slowest {:?}, {} repeated", posted.slowest, posted.repeated.load(Ordering::Relaxed));

    platform.broker.start_again();
    assert_exactly_once(&platform, 0..ORDERS);
    wait_until_empty(addr);
    // And on as ever.
    platform.wait_until_ready();
    assert_eq!(post_all(addr, ORDERS..ORDERS + 10), 0);
    assert_exactly_once(&platform, 0..ORDERS + 10);
}

#[test]
fn a_broker_that_stands_still_dies_and_comes_back_gets_every_order_once() {
    const ORDERS: usize = 4_000;
    let (mut platform, _folder) = started();
    let addr = platform.addr();
    let posted = Posted::default();
    let reaches = |count: usize| {
        wait_until(patience(), "orders are taken", || posted.accepted.load(Ordering::Relaxed) >= count);
    };
    thread::scope(|scope| {
        scope.spawn(|| post_many(addr, 0..ORDERS, &posted));
        reaches(ORDERS / 10);
        platform.broker.pause();
        reaches(ORDERS * 3 / 10);
        platform.broker.resume();
        reaches(ORDERS * 4 / 10);
        platform.broker.kill_9();
        reaches(ORDERS * 5 / 10);
        platform.gateway.kill_9();
        platform.gateway.start();
        reaches(ORDERS * 6 / 10);
        platform.broker.start_again();
        reaches(ORDERS * 8 / 10);
        platform.billing.kill_9();
        platform.gateway.kill_9();
        platform.gateway.start();
        platform.billing.start();
    });
    assert_exactly_once(&platform, 0..ORDERS);
    wait_until_empty(addr);
}

#[test]
fn a_full_disk_of_the_outbox_means_503_and_no_end() {
    let (mut platform, _folder) = platform_with_outbox();
    platform.gateway.set("GATEWAY_OUTBOX_DISK_FREE_MIN_BYTES", ALL);
    platform.inventory.start();
    platform.billing.start();
    platform.gateway.start();
    platform.wait_until_ready();
    let addr = platform.addr();
    assert_eq!(post_all(addr, 0..5), 0, "the broker takes them");
    platform.broker.stop();
    let answer = request(addr, "POST", "/api/billing", Some(&order(100)));
    wait_until(patience(), "nothing is stored", || {
        let answer = request(addr, "POST", "/api/billing", Some(&order(100)));
        answer.status == 503 && answer.text().contains("was not stored")
    });
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(outbox(addr)["orders_waiting"], 0);
    assert_eq!(request(addr, "GET", "/api/movies", None).status, 200);
    platform.broker.start_again();
    post_all(addr, 5..10);
    assert_exactly_once(&platform, 0..10);
}

#[test]
fn a_broker_whose_disk_is_nearly_full_fills_the_outbox_instead() {
    let (mut platform, _folder) = platform_with_outbox();
    let data = Folder::new("narrow");
    let port = testkit::free_port().to_string();
    let mut settings = platform.broker.settings();
    settings.extend([
        ("BROKER_PORT".to_owned(), port.clone()),
        ("BROKER_DATA_DIR".to_owned(), data.path().join("data").display().to_string()),
        ("BROKER_DISK_FREE_MIN_BYTES".to_owned(), ALL.to_owned()),
    ]);
    let mut broker = testkit::Service::new(testkit::binary("broker"), settings);
    broker.start();
    broker.wait_for_line("nearly full");
    for service in [&mut platform.gateway, &mut platform.billing] {
        service.set("RABBITMQ_PORT", &port);
    }
    platform.inventory.start();
    platform.billing.start();
    platform.gateway.start();
    let addr = platform.addr();
    assert_eq!(post_all(addr, 0..100), 0);
    assert_eq!(outbox(addr)["orders_waiting"], 100);
    broker.set("BROKER_DISK_FREE_MIN_BYTES", "0");
    broker.restart();
    assert_exactly_once(&platform, 0..100);
    wait_until_empty(addr);
}
