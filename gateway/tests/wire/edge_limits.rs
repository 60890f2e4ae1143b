//! Every size has a limit, and exceeding it costs the client an error, never the gateway its memory.

use std::net::TcpStream;

use crate::support::{Client, Gateway, Inventory, eventually, gateway};

#[test]
fn a_request_line_over_the_limit_is_414() {
    let (_inventory, gateway) = gateway();
    let mut client = gateway.connect();
    let line = format!("GET /api/movies?{} HTTP/1.1\r\n", "a".repeat(8192 - 27));
    assert_eq!(line.len(), 8192);
    client.send(format!("{line}Host: h\r\n\r\n").as_bytes());
    assert_eq!(client.answer().status, 200);
    client.send(format!("GET /api/movies?a{}", line.split_at(16).1).as_bytes());
    let answer = client.answer();
    assert_eq!((answer.status, answer.closes()), (414, true));
    assert!(answer.error().contains("8192"));
    // Nor does the gateway wait for the end of a line that is too long already.
    let mut client = gateway.connect();
    client.send("a".repeat(8193).as_bytes());
    assert_eq!(client.answer().status, 414);
}

#[test]
fn a_header_block_over_the_limit_is_431() {
    let (inventory, gateway) = gateway();
    let mut client = gateway.connect();
    let request =
        |filler: usize| format!("GET /api/movies HTTP/1.1\r\nHost: h\r\nX-A: {}\r\n\r\n", "a".repeat(filler));
    let fits = 16_384 - "Host: h\r\nX-A: \r\n\r\n".len();
    client.send(request(fits).as_bytes());
    assert_eq!(client.answer().status, 200);
    assert_eq!(inventory.only_request().field("x-a").unwrap().len(), fits);
    client.send(request(fits + 1).as_bytes());
    let answer = client.answer();
    assert_eq!((answer.status, answer.closes()), (431, true));
    // Nor does the gateway wait for the end of a block that is too large already.
    let mut client = gateway.connect();
    client.send(format!("GET / HTTP/1.1\r\nX-A: {}", "a".repeat(16_384)).as_bytes());
    assert_eq!(client.answer().status, 431);
}

#[test]
fn more_than_64_fields_are_431() {
    let (_inventory, gateway) = gateway();
    for (count, status) in [(63, 200), (64, 431), (200, 431)] {
        let fields = "X-A: b\r\n".repeat(count);
        let answer = gateway.ask(&format!("GET /api/movies HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
        assert_eq!(answer.status, status, "{count} fields and Host");
    }
}

#[test]
fn a_declared_length_over_the_limit_is_413_at_once() {
    let (inventory, gateway) = gateway();
    for (target, limit) in [("/api/movies", 256 << 10), ("/api/billing", 16 << 10)] {
        for length in [(limit + 1).to_string(), "1125899906842624".to_owned(), "9".repeat(30)] {
            let answer = gateway.ask(&format!(
                "POST {target} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
            ));
            // A body of up to 64 KiB is read and dropped, so that the connection goes on.
            let closes = length.parse::<u64>().map_or(true, |length| length > 64 << 10);
            assert_eq!((answer.status, answer.closes()), (413, closes), "{target} {length}");
            assert!(answer.error().contains(&limit.to_string()));
        }
    }
    assert_eq!(inventory.requests().len(), 0);
    assert_eq!(gateway.get("/health").status, 200);
}

#[test]
fn a_huge_declared_length_costs_nothing_even_where_no_body_is_expected() {
    let (_inventory, gateway) = gateway();
    let before = gateway.resident_kib();
    for _ in 0..20 {
        let answer =
            gateway.ask("GET /health HTTP/1.1\r\nHost: h\r\nContent-Length: 1125899906842624\r\n\r\n");
        assert_eq!((answer.status, answer.closes()), (200, true));
    }
    assert!(gateway.resident_kib() < before + 4096);
}

#[test]
fn a_client_that_is_still_sending_sees_the_413() {
    let (_inventory, gateway) = gateway();
    let mut client = gateway.connect();
    let length = 30 << 20;
    client
        .send(format!("POST /api/movies HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n").as_bytes());
    let block = vec![b'x'; 1 << 20];
    for _ in 0..30 {
        client.send(&block);
    }
    assert_eq!(client.answer().status, 413);
}

#[test]
fn a_chunked_body_that_grows_over_the_limit_is_413() {
    let inventory = Inventory::fixed("[]");
    let gateway = Gateway::start(&inventory.url(), &[("GATEWAY_MOVIES_BODY_MAX_BYTES", "100000")]);
    for chunk in [60_000, 100_001] {
        let mut client = gateway.connect();
        client.send(b"POST /api/movies HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..2 {
            client.try_send(format!("{chunk:x}\r\n{}\r\n", "x".repeat(chunk)).as_bytes());
        }
        let answer = client.answer();
        assert_eq!((answer.status, answer.closes()), (413, true));
    }
    assert_eq!(inventory.requests().len(), 0, "no request was completed");
}

#[test]
fn responses_that_are_not_read_do_not_pile_up_in_memory() {
    let (_inventory, gateway) = gateway();
    let mut client = gateway.connect();
    client.stream.set_write_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    let before = gateway.resident_kib();
    let requests = "GET /health HTTP/1.1\r\nHost: h\r\n\r\n".repeat(10_000);
    // The kernel's buffers fill up, and then the gateway reads no more.
    let mut sent = 0;
    while client.try_send(requests.as_bytes()) {
        sent += 1;
        assert!(sent < 1_000, "the gateway takes requests without end");
    }
    assert!(gateway.resident_kib() < before + 4096, "{} KiB", gateway.resident_kib());
    assert_eq!(gateway.get("/health").status, 200);
}

#[test]
fn too_many_connections_of_one_client_are_429() {
    let inventory = Inventory::fixed("[]");
    let gateway = Gateway::start(&inventory.url(), &[("GATEWAY_MAX_CONNECTIONS_PER_CLIENT", "3")]);
    let mut open: Vec<Client> = (0..3).map(|_| gateway.connect()).collect();
    for client in &mut open {
        assert_eq!(client.get("/health").status, 200);
    }
    let answer = gateway.get("/health");
    assert_eq!((answer.status, answer.closes(), answer.field("retry-after")), (429, true, Some("1")));
    answer.error();
    drop(open.pop());
    eventually("a place is free again", || gateway.get("/health").status == 200);
    assert_eq!(open[0].get("/health").status, 200);
}

#[test]
fn too_many_busy_connections_in_total_are_503() {
    let inventory = Inventory::fixed("[]");
    let gateway = Gateway::start(&inventory.url(), &[("GATEWAY_MAX_CONNECTIONS", "3")]);
    let mut open: Vec<Client> = (0..3).map(|_| gateway.connect()).collect();
    for client in &mut open {
        // An idle connection would make room; one that has sent a part of its next request is not idle.
        client.send(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\nGET /health HTTP/1.1\r\n");
        assert_eq!(client.answer().status, 200);
    }
    let answer = gateway.get("/health");
    assert_eq!((answer.status, answer.closes(), answer.field("retry-after")), (503, true, Some("1")));
    // A flood of refused connections is turned away without taking the places of those that are served.
    let flood: Vec<_> = (0..200).map(|_| TcpStream::connect(gateway.addr).unwrap()).collect();
    open[0].send(b"Host: h\r\n\r\n");
    assert_eq!(open[0].answer().status, 200);
    drop(flood);
    drop(open.pop());
    // While the most refusals at a time are being sent, further connections are closed without an answer.
    eventually("a place is free again", || {
        let mut client = gateway.connect();
        client.try_send(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
            && client.try_answer(false).is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn running_out_of_descriptors_stops_nothing_for_good() {
    let inventory = Inventory::fixed("[]");
    let gateway = Gateway::start_with_descriptors(40, &inventory.url(), &[]);
    let mut first = gateway.connect();
    assert_eq!(first.get("/health").status, 200);
    let crowd: Vec<_> = (0..100).map(|_| TcpStream::connect(gateway.addr).unwrap()).collect();
    eventually("it ran out", || gateway.log().contains("cannot accept connections"));
    assert_eq!(first.get("/health").status, 200);
    drop(crowd);
    eventually("it serves new connections", || {
        let mut client = gateway.connect();
        client.try_send(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n");
        client.try_answer(false).is_ok_and(|answer| answer.status == 200)
    });
    let complaints = gateway.log().matches("cannot accept connections").count();
    assert!(complaints < 10, "{complaints} complaints");
}
