//! Limits for how much one client may ask, and who a client is behind a proxy.

use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Instant;

use crate::support::{Answer, Gateway, Inventory, eventually};

/// The digest of `a long enough secret of shop`, whose base64 with the client's name is `SHOP`.
const TOKENS: (&str, &str) =
    ("GATEWAY_TOKENS", "shop:write:22b0da76e0a8d4936a2be1f065920746e03e84d5d166bb78751127d2f93ab625");
const SHOP: &str = "Authorization: Bearer c2hvcDphIGxvbmcgZW5vdWdoIHNlY3JldCBvZiBzaG9w\r\n";
/// So slow that no token comes back while a test runs.
const SLOW: [(&str, &str); 3] =
    [("GATEWAY_RATE_PER_S", "1"), ("GATEWAY_RATE_BURST", "3000"), ("GATEWAY_TRUSTED_PROXIES", "127.0.0.0/8")];

/// How many requests are sent in a row, more than there are seconds in a test.
const COUNT: u64 = 200;

fn ask(gateway: &Gateway, method: &str, fields: &str) -> Answer {
    gateway.ask(&format!("{method} /api/movies/1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{fields}\r\n"))
}

/// As if the request came from this address through a trusted proxy.
fn from(address: &str) -> String {
    format!("X-Forwarded-For: {address}\r\n")
}

#[test]
fn who_asks_too_much_is_429_and_others_do_not_notice() {
    let inventory = Inventory::fixed("[]");
    let variables = [SLOW[2], TOKENS, ("GATEWAY_RATE_PER_S", "1"), ("GATEWAY_RATE_BURST", "3")];
    let gateway = Gateway::start(&inventory.url(), &variables);
    let greedy = from("192.0.2.1");
    let first = ask(&gateway, "GET", &greedy);
    assert_eq!(first.field("ratelimit-policy"), Some("\"requests\";q=3;w=3"));
    assert_eq!((first.status, first.field("ratelimit")), (200, Some("\"requests\";r=2;t=1")));
    // On a machine that is very busy, tokens may come back meanwhile.
    let mut served = 1;
    let refused = loop {
        let answer = ask(&gateway, "GET", &greedy);
        if answer.status != 200 {
            break answer;
        }
        served += 1;
    };
    assert!(served >= 3, "{served}");
    assert_eq!((refused.status, refused.field("retry-after")), (429, Some("1")));
    assert_eq!(refused.error(), "too many requests; slow down");
    assert!(refused.field("ratelimit").unwrap().starts_with("\"requests\";r=0;"));
    assert_eq!(inventory.served(), served);
    for other in [&from("192.0.2.2"), &from("2001:db8::1"), &format!("{greedy}{SHOP}")] {
        for _ in 0..3 {
            assert_eq!(ask(&gateway, "GET", other).status, 200, "{other}");
        }
    }
}

/// Sends `COUNT` requests; returns what `RateLimit` then says is left of all requests and of writes.
fn spend(gateway: &Gateway, method: &str, fields: &str) -> Vec<u64> {
    let mut client = gateway.connect();
    let mut state = String::new();
    for _ in 0..COUNT {
        client.send(format!("{method} /api/movies/1 HTTP/1.1\r\nHost: h\r\n{fields}\r\n").as_bytes());
        client.answer().field("ratelimit").unwrap().clone_into(&mut state);
    }
    let left = state.split(", ").map(|item| item.split(";r=").nth(1).unwrap().split(';').next().unwrap());
    left.map(|left| left.parse().unwrap()).collect()
}

/// Checks that so many times `COUNT` requests were taken from each bucket. Each regains one token in a second.
#[track_caller]
fn assert_spent(left: &[u64], times: &[u64], started: Instant) {
    assert_eq!(left.len(), times.len());
    for (left, times) in left.iter().zip(times) {
        let least = 3000 - times * COUNT;
        let most = least + started.elapsed().as_secs() + 1;
        assert!((least..=most).contains(left), "{left} of {least} to {most}");
    }
}

#[test]
fn writes_have_a_limit_of_their_own_and_a_name_has_one_wherever_it_comes_from() {
    let inventory = Inventory::fixed("[]");
    // The bucket for writes holds as many seconds' worth, so it is as large.
    let variables = [&SLOW[..], &[TOKENS, ("GATEWAY_WRITE_RATE_PER_S", "1")]].concat();
    let gateway = Gateway::start(&inventory.url(), &variables);
    let started = Instant::now();
    for (method, fields, spent) in [
        ("DELETE", format!("{}{SHOP}", from("192.0.2.1")), [1, 1]),
        ("GET", format!("{}{SHOP}", from("192.0.2.2")), [2, 1]),
        ("DELETE", format!("{}{SHOP}", from("192.0.2.3")), [3, 2]),
        // Without the token it is somebody else. Who is not let in is charged, too.
        ("DELETE", from("192.0.2.3"), [1, 1]),
        ("GET", format!("{}Authorization: Bearer wrong\r\n", from("192.0.2.3")), [2, 1]),
    ] {
        assert_spent(&spend(&gateway, method, &fields), &spent, started);
    }
}

#[test]
fn only_a_trusted_proxy_is_believed_and_only_about_its_own_clients() {
    let inventory = Inventory::fixed("[]");
    let trusting = Gateway::start(&inventory.url(), &SLOW);
    let started = Instant::now();
    for (fields, spent) in [
        (from("192.0.2.1"), 1),
        // What a client claims in front of what the proxy says means nothing, and proxies may be in a row.
        (from("203.0.113.9, 192.0.2.1"), 2),
        (from("192.0.2.1, 127.0.0.5"), 3),
        ("X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 192.0.2.1:4711\r\n".to_owned(), 4),
        (from("203.0.113.9"), 1),
        (from("nonsense"), 1),
    ] {
        assert_spent(&spend(&trusting, "GET", &fields), &[spent], started);
    }
    ask(&trusting, "GET", "X-Forwarded-Proto: https\r\n");
    assert_eq!(inventory.requests().last().unwrap().field("x-forwarded-proto"), Some("https"));

    let distrusting = Gateway::start(&inventory.url(), &SLOW[..2]);
    let started = Instant::now();
    for (address, spent) in [("192.0.2.1", 1), ("192.0.2.2", 2), ("192.0.2.3", 3)] {
        assert_spent(&spend(&distrusting, "GET", &from(address)), &[spent], started);
    }
    ask(&distrusting, "GET", "X-Forwarded-Proto: https\r\n");
    assert_eq!(inventory.requests().last().unwrap().field("x-forwarded-proto"), Some("http"));
}

#[test]
fn without_limits_nothing_is_said_about_them() {
    let inventory = Inventory::fixed("[]");
    let gateway = Gateway::start(&inventory.url(), &[]);
    let answer = ask(&gateway, "GET", "");
    assert_eq!((answer.field("ratelimit"), answer.field("ratelimit-policy")), (None, None));
}

#[test]
fn the_lists_that_are_streamed_to_one_client_are_bounded() {
    let (release, held) = channel::<()>();
    let held = Mutex::new(held);
    let inventory = Inventory::serving(move |mut stream, request| {
        if request.target() != "/api/movies" {
            return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]").is_ok();
        }
        let begun = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n";
        let _ = stream.write_all(begun);
        if request.line().starts_with("DELETE") {
            return stream.write_all(b"0\r\n\r\n").is_ok();
        }
        let _ = held.lock().unwrap().recv();
        stream.write_all(b"1\r\n]\r\n0\r\n\r\n").is_ok()
    });
    let gateway = Gateway::start(&inventory.url(), &SLOW);
    let list = |address: &str| {
        let mut client = gateway.connect();
        let fields = from(address);
        client.send(format!("GET /api/movies HTTP/1.1\r\nHost: h\r\n{fields}\r\n").as_bytes());
        client
    };
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut client = list("192.0.2.1");
        assert_eq!(client.head().unwrap().status, 200);
        streams.push(client);
    }
    let refused = list("192.0.2.1").answer();
    assert_eq!((refused.status, refused.field("retry-after")), (429, Some("1")));
    // What is done is not refused afterwards.
    let fields = from("192.0.2.1");
    let deleted = gateway.ask(&format!("DELETE /api/movies HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
    assert_eq!((deleted.status, deleted.text()), (200, "["));
    // Single records are served as before, and so are the lists of others.
    assert_eq!(ask(&gateway, "GET", &from("192.0.2.1")).status, 200);
    assert_eq!(list("192.0.2.2").head().unwrap().status, 200);
    drop(release);
    eventually("the first client may stream again", || list("192.0.2.1").answer().status == 200);
}
