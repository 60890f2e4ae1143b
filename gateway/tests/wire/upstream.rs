//! Which instance is asked when some of them are frozen, half dead or busy, and what that costs the requests of others.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, Gateway, Inventory, LocalGateway, PATIENCE, eventually, ok};

const GET: &[u8] = b"GET /api/movies HTTP/1.1\r\nHost: h\r\n\r\n";
const POST: &[u8] = b"POST /api/movies HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}";

fn gateway_of(inventories: [&Inventory; 2], variables: &[(&str, &str)]) -> Gateway {
    Gateway::start(&inventories.map(Inventory::url).join(","), variables)
}

#[test]
fn of_two_instances_one_of_which_is_frozen_only_the_requests_that_found_out_wait() {
    let (frozen, freezer) = Inventory::freezable("1");
    let fine = Inventory::fixed("2");
    let gateway = gateway_of([&frozen, &fine], &[]);
    let mut client = gateway.connect();
    for _ in 0..4 {
        assert_eq!(client.get("/api/movies").status, 200);
    }
    let before = frozen.served();
    freezer.freeze();
    // No request waits for the head timeout of 10 s, and each of these clients finds out at most once.
    let waited: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = gateway.connect();
                    let durations = (0..20).map(|_| {
                        let started = Instant::now();
                        assert_eq!(client.get("/api/movies").text(), "2");
                        started.elapsed()
                    });
                    durations.inspect(|took| assert!(*took < Duration::from_secs(6), "{took:?}")).count()
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert_eq!(waited, 160);
    assert!(frozen.served() - before <= 8, "{} requests found out", frozen.served() - before);
    eventually("the log says so", || gateway.log().contains("is not reachable"));
    // From then on nobody asks it but the gateway itself.
    let found_out = frozen.served();
    for _ in 0..50 {
        assert_eq!(client.get("/api/movies").text(), "2");
    }
    assert_eq!(frozen.served(), found_out);
    freezer.thaw();
    eventually("the instance takes part again", || client.get("/api/movies").text() == "1");
}

#[test]
fn a_post_to_a_frozen_instance_is_504_and_is_sent_to_nobody_else() {
    let (frozen, freezer) = Inventory::freezable("1");
    let fine = Inventory::fixed("2");
    let gateway = gateway_of([&frozen, &fine], &[("GATEWAY_UPSTREAM_HEAD_TIMEOUT_MS", "2500")]);
    freezer.freeze();
    let statuses: Vec<_> = (0..2)
        .map(|_| {
            let mut client = gateway.connect();
            client.send(POST);
            client
        })
        .map(|mut client| client.answer().status)
        .collect();
    assert!(statuses == [200, 504] || statuses == [504, 200], "{statuses:?}");
    assert_eq!((frozen.served(), fine.served()), (1, 1));
}

#[test]
fn an_only_instance_that_is_frozen_is_503_at_once_and_is_found_when_it_is_back() {
    let (inventory, freezer) = Inventory::freezable("[]");
    let gateway = Gateway::start(&inventory.url(), &[("GATEWAY_UPSTREAM_HEAD_TIMEOUT_MS", "2000")]);
    let mut client = gateway.connect();
    freezer.freeze();
    assert_eq!(client.get("/api/movies").status, 504);
    eventually("it is left out", || gateway.log().contains("is not reachable"));
    let started = Instant::now();
    for _ in 0..10 {
        client.send(POST);
        let answer = client.answer();
        assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
        assert_eq!(answer.error(), "inventory is not reachable");
    }
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(inventory.served(), 1);
    freezer.thaw();
    let started = Instant::now();
    eventually("it is found", || client.get("/api/movies").status == 200);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[test]
fn an_instance_that_only_answers_health_is_tried_less_and_less() {
    let half_dead = Inventory::serving(|mut stream, request| {
        use std::io::Write;
        if request.target() != "/health" {
            thread::sleep(PATIENCE);
        }
        stream.write_all(&ok("1")).is_ok()
    });
    let fine = Inventory::fixed("2");
    let gateway = gateway_of([&half_dead, &fine], &[("GATEWAY_UPSTREAM_HEAD_TIMEOUT_MS", "200")]);
    let mut client = gateway.connect();
    let (started, mut answered, mut failed) = (Instant::now(), 0, 0);
    while started.elapsed() < Duration::from_secs(4) {
        match client.get("/api/movies").status {
            200 => answered += 1,
            504 => failed += 1,
            other => panic!("{other}"),
        }
    }
    assert!((1..=8).contains(&failed) && answered > 10 * failed, "{answered} answered, {failed} not");
}

#[test]
fn one_slow_request_does_not_keep_others_from_an_only_instance() {
    let inventory = Inventory::serving(|mut stream, request| {
        use std::io::Write;
        if request.target() == "/api/movies/slow" {
            thread::sleep(PATIENCE);
        }
        stream.write_all(&ok("[]")).is_ok()
    });
    let gateway = Gateway::start(&inventory.url(), &[("GATEWAY_UPSTREAM_HEAD_TIMEOUT_MS", "300")]);
    let mut client = gateway.connect();
    for _ in 0..3 {
        assert_eq!(gateway.get("/api/movies/slow").status, 504);
        for _ in 0..10 {
            assert_eq!(client.get("/api/movies").status, 200);
        }
    }
}

#[test]
fn what_waits_for_a_service_is_bounded_and_the_next_instance_helps_out() {
    let (frozen, freezer) = Inventory::freezable("1");
    let gateway = LocalGateway::start(&frozen.url(), |settings| settings.upstream.max_in_flight = 2);
    freezer.freeze();
    let mut waiting: Vec<Client> = (0..2).map(|_| gateway.connect()).collect();
    for client in &mut waiting {
        client.send(GET);
    }
    eventually("both wait", || frozen.served() == 2);
    let answer = gateway.get("/api/movies");
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
    assert_eq!(answer.error(), "too many requests wait for inventory");
    freezer.thaw();
    for client in &mut waiting {
        assert_eq!(client.answer().status, 200);
    }
    assert_eq!(gateway.get("/api/movies").status, 200);
}

#[test]
fn where_one_instance_has_all_that_it_may_have_the_next_one_is_asked() {
    let (slow, slow_freezer) = Inventory::freezable("1");
    let (other, other_freezer) = Inventory::freezable("2");
    let urls = [slow.url(), other.url()].join(",");
    let gateway = LocalGateway::start(&urls, |settings| settings.upstream.max_in_flight = 2);
    slow_freezer.freeze();
    other_freezer.freeze();
    let mut waiting: Vec<Client> = (0..4).map(|_| gateway.connect()).collect();
    for client in &mut waiting {
        client.send(POST);
    }
    eventually("all places are taken", || (slow.served(), other.served()) == (2, 2));
    assert_eq!(gateway.get("/api/movies").error(), "too many requests wait for inventory");
    other_freezer.thaw();
    eventually("the other has answered", || other.served() == 2 && gateway.get("/api/movies").status == 200);
    for _ in 0..20 {
        assert_eq!(gateway.get("/api/movies").text(), "2");
    }
    slow_freezer.thaw();
    for client in &mut waiting {
        assert_eq!(client.answer().status, 200);
    }
}

#[test]
fn running_out_of_descriptors_is_not_the_fault_of_an_instance() {
    // It closes after each answer, so that each request needs a descriptor.
    let inventory = Inventory::serving(|mut stream, _| {
        use std::io::Write;
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap();
        false
    });
    let gateway = Gateway::start_with_descriptors(40, &inventory.url(), &[]);
    let mut client = gateway.connect();
    assert_eq!(client.get("/health").status, 200);
    let others: Vec<_> = (0..60).map(|_| gateway.connect()).collect();
    eventually("no descriptor is left", || {
        let answer = client.get("/api/movies");
        if answer.status == 503 {
            assert_eq!(answer.field("retry-after"), Some("1"));
            assert_eq!(answer.error(), "the gateway has too much to do");
        }
        answer.status == 503
    });
    drop(others);
    eventually("there are descriptors again", || client.get("/api/movies").status == 200);
    assert!(!gateway.log().contains("is not reachable"), "{}", gateway.log());
}
