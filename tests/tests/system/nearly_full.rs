//! A broker that takes no messages, because its disk is nearly full or for reasons of its own: the gateway says so, and
//! refuses orders at once instead of letting their senders wait for a confirm that will not come.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::http::{Response, request};
use testkit::orders::{assert_exactly_once, order, post_all};
use testkit::{Folder, Platform, Postgres, Service, Settings, binary, free_port, patience, wait_until};

const GIB: u64 = 1 << 30;
/// More than any disk has free.
const ALL: u64 = 1 << 50;
/// How soon an order that cannot be taken is refused, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A platform on a broker whose reserve can be chosen.
struct Narrow {
    platform: Platform,
    broker: Service,
    data: Folder,
}

impl Narrow {
    /// Everything but the gateway runs.
    fn start(reserve: u64) -> Self {
        let mut platform = Platform::stopped_on(Postgres::shared());
        let data = Folder::new("narrow");
        let mut settings: Settings = platform.broker.settings();
        let port = free_port().to_string();
        settings.extend([
            ("BROKER_PORT".to_owned(), port.clone()),
            ("BROKER_DATA_DIR".to_owned(), data.path().join("data").display().to_string()),
            ("BROKER_DISK_FREE_MIN_BYTES".to_owned(), reserve.to_string()),
        ]);
        let mut broker = Service::new(binary("broker"), settings);
        broker.start();
        for service in [&mut platform.gateway, &mut platform.billing] {
            service.set("RABBITMQ_PORT", &port);
        }
        platform.inventory.start();
        platform.billing.start();
        Self { platform, broker, data }
    }

    fn ballast(&self) -> PathBuf {
        self.data.path().join("ballast")
    }
}

fn free_bytes() -> u64 {
    let status = rustix::fs::statvfs(std::env::temp_dir()).unwrap();
    status.f_bavail * status.f_frsize
}

fn status(addr: SocketAddr) -> Value {
    serde_json::from_slice(&request(addr, "GET", "/api/status", None).body).unwrap()
}

fn wait_for_ready(addr: SocketAddr, status: u16) -> Response {
    let mut answer = None;
    wait_until(patience(), &format!("/ready is answered {status}"), || {
        let ready = request(addr, "GET", "/ready", None);
        let found = ready.status == status;
        answer = Some(ready);
        found
    });
    answer.unwrap()
}

/// Both views of the broker say that it takes no orders, and no more than that.
#[track_caller]
fn assert_blocked(addr: SocketAddr) {
    wait_until(patience(), "the gateway says that it takes no orders", || {
        request(addr, "GET", "/ready", None).text().contains("not ready: broker not accepting orders")
    });
    let ready: Value = serde_json::from_slice(&wait_for_ready(addr, 503).body).unwrap();
    assert_eq!(ready["dependencies"], serde_json::json!({ "inventory": "ok", "broker": "blocked" }));
    wait_until(patience(), "the status says so", || status(addr)["broker"]["state"] == "blocked");
    assert_eq!(status(addr)["broker"]["messages_waiting"], Value::Null);
    assert_eq!(request(addr, "GET", "/api/movies", None).status, 200);
}

#[track_caller]
fn assert_refused_at_once(addr: SocketAddr) {
    let start = Instant::now();
    let answer = request(addr, "POST", "/api/billing", Some(&order(1_000)));
    assert!(start.elapsed() < AT_ONCE, "the order was refused after {:?}", start.elapsed());
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(answer.text().contains("message_id"), "the client can try again with it: {}", answer.text());
}

#[test]
fn below_the_reserve_orders_are_refused_at_once_until_there_is_room() {
    let mut narrow = Narrow::start(free_bytes().saturating_sub(GIB));
    narrow.platform.gateway.start();
    let addr = narrow.platform.addr();
    wait_for_ready(addr, 200);
    assert_eq!(post_all(addr, 0..5), 0);

    // Space is allocated, not written, so this is quick.
    let ballast = std::fs::File::create(narrow.ballast()).unwrap();
    rustix::fs::fallocate(&ballast, rustix::fs::FallocateFlags::empty(), 0, 2 * GIB).unwrap();
    assert_blocked(addr);
    assert_refused_at_once(addr);
    let line = narrow.platform.gateway.wait_for_line("takes no orders for now");
    assert!(line.contains("flow"), "{line}");
    // What was stored before is delivered, and can be acknowledged.
    assert_exactly_once(&narrow.platform, 0..5);

    drop(ballast);
    std::fs::remove_file(narrow.ballast()).unwrap();
    wait_for_ready(addr, 200);
    narrow.platform.gateway.wait_for_line("takes orders again");
    assert_eq!(post_all(addr, 5..10), 0);
    assert_exactly_once(&narrow.platform, 0..10);
    let log = narrow.platform.gateway.log();
    assert!(!log.contains("lost the broker"), "the connection stays: {log}");
}

#[test]
fn a_gateway_that_starts_below_the_reserve_knows_it_before_the_first_order() {
    let mut narrow = Narrow::start(ALL);
    narrow.broker.wait_for_line("nearly full");
    narrow.platform.gateway.start();
    let addr = narrow.platform.addr();
    assert_blocked(addr);
    assert_refused_at_once(addr);
    let check = narrow.platform.gateway.output(&["--check"]);
    let complaint = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(!check.status.success() && complaint.contains("takes no orders"), "{complaint}");

    narrow.broker.set("BROKER_DISK_FREE_MIN_BYTES", "0");
    narrow.broker.restart();
    wait_for_ready(addr, 200);
    assert_eq!(post_all(addr, 0..5), 0);
    assert_exactly_once(&narrow.platform, 0..5);
}

/// Stands between the gateway and its broker. While it is held, nothing that the gateway sends arrives, and the broker is
/// heard: so RabbitMQ behaves towards publishers while an alarm is raised.
struct Throttled {
    port: u16,
    held: Arc<AtomicBool>,
}

impl Throttled {
    fn start(broker: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let port = listener.local_addr().unwrap().port();
        let held = Arc::new(AtomicBool::new(false));
        let gate = held.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(broker) else { continue };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let gate = gate.clone();
                thread::spawn(move || pass(from, to, &gate));
                thread::spawn(move || pass(server, client, &AtomicBool::new(false)));
            }
        });
        Self { port, held }
    }

    fn hold(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, held: &AtomicBool) {
    from.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut buffer = [0; 4096];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(count) if count > 0 => count,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
            _ => break,
        };
        while held.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

#[test]
fn a_broker_that_takes_nothing_and_does_not_say_so_is_found_out() {
    let mut platform = Platform::stopped_on(Postgres::shared());
    let throttled = Throttled::start(([127, 0, 0, 1], platform.broker.port).into());
    platform.gateway.set("RABBITMQ_PORT", &throttled.port.to_string());
    platform.inventory.start();
    platform.billing.start();
    platform.gateway.start();
    let addr = platform.addr();
    wait_for_ready(addr, 200);
    assert_eq!(post_all(addr, 0..5), 0);

    throttled.hold(true);
    // The first one waits for its confirm, as long as a slow disk may take.
    let first = request(addr, "POST", "/api/billing", Some(&order(5)));
    assert_eq!(first.status, 503, "{}", first.text());
    assert_blocked(addr);
    assert_refused_at_once(addr);

    throttled.hold(false);
    wait_for_ready(addr, 200);
    assert_eq!(post_all(addr, 6..10), 0);
    // The order whose outcome was not known has waited on its way.
    assert_exactly_once(&platform, 0..10);
}
