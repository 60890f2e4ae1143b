//! POST /api/billing: what is accepted, what is put on the queue, and what the client is told when it is not.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use edge::EdgeSettings;
use serde_json::Value;
use testkit::free_port;

use crate::support::{Answer, Broker, BrokerAnswer, Client, Gateway, authorization, eventually, new_token};

const ORDER: &str = r#"{"user_id": "20", "number_of_items": 5, "total_amount": 180.10}"#;

fn gateway(broker: &Broker, variables: &[(&str, &str)]) -> Gateway {
    let addr = broker.addr.to_string();
    let mut all = vec![("RABBITMQ_HOST", addr.as_str())];
    all.extend_from_slice(variables);
    let gateway = Gateway::start(&format!("http://127.0.0.1:{}", free_port()), &all);
    connected(&gateway);
    gateway
}

fn connected(gateway: &Gateway) {
    eventually("the broker is connected", || gateway.get("/ready").text().contains(r#""broker":"ok""#));
}

fn post(client: &mut Client, fields: &str, body: &str) -> Answer {
    let length = body.len();
    client.send(
        format!(
            "POST /api/billing HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             {fields}\r\n{body}"
        )
        .as_bytes(),
    );
    client.answer()
}

fn member(answer: &Answer, name: &str) -> String {
    let json: Value = serde_json::from_slice(&answer.body).unwrap();
    json[name].as_str().unwrap_or_else(|| panic!("{name}: {json}")).to_owned()
}

#[test]
fn a_confirmed_order_is_200_and_on_the_queue_as_it_was_sent() {
    let broker = Broker::start(|_| BrokerAnswer::Confirm);
    let gateway = gateway(&broker, &[]);
    let mut client = gateway.connect();
    let answer = post(&mut client, "", ORDER);
    assert_eq!((answer.status, answer.closes()), (200, false), "{}", answer.text());
    assert_eq!(member(&answer, "message"), "Message posted");
    let messages = broker.messages();
    let [message] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!(message.body, r#"{"user_id":"20","number_of_items":5,"total_amount":180.10}"#);
    assert_eq!(message.message_id, member(&answer, "message_id"));
    assert_eq!((message.routing_key.as_str(), message.mandatory), ("billing_queue", true));
    assert_eq!((message.delivery_mode, message.content_type.as_str()), (2, "application/json"));
    assert_eq!(message.app_id, "api-gateway");
    assert!(message.headers.contains("schema") && message.headers.contains("order.v1"), "{message:?}");
    assert!(message.timestamp > 1_700_000_000);
    // A random UUID of version 4.
    assert!(message.message_id.len() == 36 && message.message_id.as_bytes()[14] == b'4', "{message:?}");
    assert_ne!(member(&post(&mut client, "", ORDER), "message_id"), message.message_id);
}

#[test]
fn an_idempotency_key_becomes_the_message_id() {
    let broker = Broker::start(|_| BrokerAnswer::Confirm);
    let gateway = gateway(&broker, &[("BILLING_QUEUE", "other")]);
    let mut client = gateway.connect();
    let longest = "k".repeat(128);
    for key in ["order-1", "order-1", &longest] {
        let answer = post(&mut client, &format!("Idempotency-Key: {key}\r\n"), ORDER);
        assert_eq!((answer.status, member(&answer, "message_id").as_str()), (200, key));
    }
    let ids: Vec<_> = broker.messages().into_iter().map(|message| message.message_id).collect();
    assert_eq!(ids, ["order-1", "order-1", &longest]);
    assert_eq!(broker.messages()[0].routing_key, "other");
    for bad in
        ["Idempotency-Key:\r\n", "Idempotency-Key: a b\r\n", "Idempotency-Key: a\r\nIdempotency-Key: a\r\n"]
    {
        assert_eq!(post(&mut client, bad, ORDER).status, 400, "{bad:?}");
    }
    let too_long = format!("Idempotency-Key: {longest}k\r\n");
    assert_eq!(post(&mut client, &too_long, ORDER).status, 400);
    assert_eq!(broker.messages().len(), 3);
}

#[test]
fn a_key_stands_for_one_order_and_can_be_asked_for() {
    let broker = Broker::start(|_| BrokerAnswer::Confirm);
    let gateway = gateway(&broker, &[]);
    let mut client = gateway.connect();
    let field = "Idempotency-Key: a/../b.c#?&%+\"\r\n";
    assert_eq!(post(&mut client, field, ORDER).status, 200);
    let target = "/api/status/orders?message_id=a%2F..%2Fb.c%23%3F%26%25+%22";
    let mut told: Value = serde_json::from_slice(&client.get(target).body).unwrap();
    let stages = told.as_object_mut().unwrap().remove("stages").unwrap();
    assert_eq!(told, serde_json::json!({ "message_id": "a/../b.c#?&%+\"", "state": "waiting" }));
    assert_eq!((&stages[0]["stage"], &stages[1]["stage"]), (&"placed".into(), &"confirmed".into()));
    assert!(stages[0]["at"].as_str() <= stages[1]["at"].as_str() && stages[0]["at"].is_string(), "{stages}");
    assert_eq!(client.get("/api/status/orders").status, 400);
    assert_eq!(client.get("/api/status/orders?message_id=a&message_id=b").status, 400);
    // Another order, or the same with other white space.
    let other = post(&mut client, field, &ORDER.replace("180.10", "180.11"));
    assert_eq!(
        (other.status, other.error().as_str()),
        (422, "the Idempotency-Key was used for another order")
    );
    assert_eq!(member(&other, "message_id"), "a/../b.c#?&%+\"");
    let contested = client.get(target);
    assert_eq!(member(&contested, "state"), "waiting");
    assert_eq!(member(&contested, "reason"), "another order under this message_id was refused");
    assert_eq!(post(&mut client, field, &ORDER.replace(' ', "")).status, 200);
    assert_eq!(broker.messages().len(), 2);
}

#[test]
fn a_key_belongs_to_the_client_that_uses_it() {
    let broker = Broker::start(|_| BrokerAnswer::Confirm);
    let clients = [("shop@a.example", "write"), ("bob", "write"), ("root", "admin")];
    let (fields, lines): (Vec<_>, Vec<_>) = clients
        .iter()
        .map(|(name, role)| new_token(name, role))
        .map(|(token, line)| (authorization(&token), line))
        .unzip();
    let [shop, bob, root] = &fields[..] else { panic!("{fields:?}") };
    let gateway = gateway(&broker, &[("GATEWAY_TOKENS", &lines.join(","))]);
    let mut client = gateway.connect();
    let mut place = |who: &str, key: &str, amount: u32| {
        let order = ORDER.replace("180.10", &amount.to_string());
        let answer = post(&mut client, &format!("{who}Idempotency-Key: {key}\r\n"), &order);
        (answer.status, member(&answer, "message_id"))
    };
    assert_eq!(place(shop, "key", 1), (200, "shop@a.example~key".to_owned()));
    assert_eq!(place(bob, "key", 2), (200, "bob~key".to_owned()));
    // Nor can one client take another one's key by its whole id, which is as good as the key for its owner.
    assert_eq!(place(bob, "shop@a.example~key", 3), (200, "bob~shop@a.example~key".to_owned()));
    assert_eq!(place(shop, "shop@a.example~key", 1), (200, "shop@a.example~key".to_owned()));
    assert_eq!(place(shop, "shop@a.example~key", 4), (422, "shop@a.example~key".to_owned()));
    let (longest, name) = ("k".repeat(128), "n".repeat(64));
    assert_eq!(place(bob, &longest, 5), (200, format!("bob~{longest}")));
    assert_eq!(place(bob, &format!("bob~{longest}"), 5).0, 200);
    let ids: Vec<_> = broker.messages().into_iter().map(|message| message.message_id).collect();
    assert_eq!(ids[..2], ["shop@a.example~key", "bob~key"]);
    assert_eq!(ids[4], format!("bob~{longest}"));
    // Without a key, the random id can be repeated as it is.
    let random = member(&post(&mut client, bob, ORDER), "message_id");
    assert!(random.starts_with("bob~") && random.len() == 4 + 36, "{random}");
    let again = post(&mut client, &format!("{bob}Idempotency-Key: {random}\r\n"), ORDER);
    assert_eq!(member(&again, "message_id"), random);

    let mut state = |who: &str, target: &str| {
        client.send(format!("GET /api/status/orders{target} HTTP/1.1\r\nHost: h\r\n{who}\r\n").as_bytes());
        let answer = client.answer();
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        (member(&answer, "message_id"), member(&answer, "state"))
    };
    let found = ("shop@a.example~key".to_owned(), "waiting".to_owned());
    for target in ["/key", "?message_id=key", "/shop@a.example~key", "?message_id=shop%40a.example~key"] {
        assert_eq!(state(shop, target), found, "{target}");
    }
    assert_eq!(state(bob, "/key").0, "bob~key");
    assert_eq!(state(bob, &format!("/{random}")).1, "waiting");
    assert_eq!(state(bob, &format!("/bob~{longest}")).1, "waiting");
    // Only an administrator sees the orders of others.
    assert_eq!(state(root, "/shop@a.example~key"), found);
    assert_eq!(state(bob, "?message_id=root~key"), ("bob~root~key".to_owned(), "unknown".to_owned()));
    assert_eq!(state(root, "/none"), ("none".to_owned(), "unknown".to_owned()));
    let too_long = format!("/{name}~{longest}k");
    let request = format!("GET /api/status/orders{too_long} HTTP/1.1\r\nHost: h\r\n{root}\r\n");
    assert_eq!(gateway.ask(&request).status, 400);
}

#[test]
fn an_order_that_may_be_stored_from_an_earlier_attempt_is_never_told_as_not_stored() {
    let refuses = Arc::new(AtomicBool::new(false));
    let broker_refuses = refuses.clone();
    let broker = Broker::start(move |_| {
        if broker_refuses.load(Ordering::SeqCst) { BrokerAnswer::Refuse } else { BrokerAnswer::Disconnect }
    });
    let gateway = gateway(&broker, &[]);
    let mut client = gateway.connect();
    let field = "Idempotency-Key: key\r\n";
    let unknown =
        "the order is not confirmed: it may have been stored; repeat it with Idempotency-Key key".to_owned();
    assert_eq!(post(&mut client, field, ORDER).error(), unknown);
    refuses.store(true, Ordering::SeqCst);
    eventually("the broker refuses it", || {
        assert_eq!(post(&mut client, field, ORDER).error(), unknown);
        broker.messages().len() > 1
    });
    assert_eq!(post(&mut client, field, &ORDER.replace("180.10", "1")).status, 422);
    // An order that was tried once and refused is certainly not there.
    let other = post(&mut client, "Idempotency-Key: other\r\n", ORDER);
    assert_eq!(
        other.error(),
        "the order was not stored by this request; repeat it with Idempotency-Key other"
    );
}

#[test]
fn what_is_no_order_is_refused_and_says_why() {
    let broker = Broker::start(|_| BrokerAnswer::Confirm);
    let gateway = gateway(&broker, &[]);
    let mut client = gateway.connect();
    for (body, fields) in [
        ("", vec![]),
        ("order", vec![]),
        ("[1]", vec![]),
        ("{\"user_id\": ", vec![]),
        ("{}", vec!["number_of_items", "total_amount", "user_id"]),
        (r#"{"user_id": "", "number_of_items": 1, "total_amount": 1}"#, vec!["user_id"]),
        (
            r#"{"user_id": 1, "number_of_items": 0, "total_amount": -1}"#,
            vec!["number_of_items", "total_amount"],
        ),
        (r#"{"user_id": 1, "number_of_items": 1, "total_amount": 1.001}"#, vec!["total_amount"]),
    ] {
        let answer = post(&mut client, "", body);
        assert_eq!((answer.status, answer.closes()), (400, false), "{body}");
        answer.error();
        let json: Value = serde_json::from_slice(&answer.body).unwrap();
        let found: Vec<_> = json["fields"].as_object().into_iter().flat_map(|fields| fields.keys()).collect();
        assert_eq!(found, fields, "{body}");
    }
    for content_type in
        ["", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"]
    {
        let length = ORDER.len();
        client.send(
            format!("POST /api/billing HTTP/1.1\r\nHost: h\r\n{content_type}Content-Length: {length}\r\n\r\n{ORDER}")
                .as_bytes(),
        );
        assert_eq!(client.answer().status, 415, "{content_type:?}");
    }
    assert_eq!(broker.messages().len(), 0);
}

#[test]
fn json_of_every_declared_kind_and_framing_is_accepted() {
    let broker = Broker::start(|_| BrokerAnswer::Confirm);
    let gateway = gateway(&broker, &[]);
    let mut client = gateway.connect();
    for content_type in ["application/json", "APPLICATION/JSON; charset=utf-8", "application/order+json"] {
        client.send(
            format!(
                "POST /api/billing/ HTTP/1.1\r\nHost: h\r\nContent-Type: {content_type}\r\n\
                 Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{ORDER}\r\n0\r\n\r\n",
                ORDER.len()
            )
            .as_bytes(),
        );
        assert_eq!(client.answer().status, 200, "{content_type}");
    }
}

#[test]
fn an_order_over_the_limit_is_413_however_it_is_framed() {
    let broker = Broker::start(|_| BrokerAnswer::Confirm);
    let gateway = gateway(&broker, &[("GATEWAY_BILLING_BODY_MAX_BYTES", "100")]);
    let fitting = format!("{ORDER:<100}");
    assert_eq!(post(&mut gateway.connect(), "", &fitting).status, 200);
    assert_eq!(post(&mut gateway.connect(), "", &format!("{fitting} ")).status, 413);
    for (first, status) in [(100, 200), (101, 413)] {
        let mut client = gateway.connect();
        let body = format!("{ORDER:<first$}");
        client.send(
            format!(
                "POST /api/billing HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
                 Transfer-Encoding: chunked\r\n\r\n{first:x}\r\n{body}\r\n"
            )
            .as_bytes(),
        );
        // The end of the body comes later, and is awaited.
        thread::sleep(Duration::from_millis(50));
        client.try_send(b"0\r\n\r\n");
        assert_eq!(client.answer().status, status);
    }
}

#[test]
fn without_a_confirm_there_is_no_200() {
    for (broker_answer, reason) in [
        (BrokerAnswer::Refuse, "refused"),
        (BrokerAnswer::Return, "returned"),
        (BrokerAnswer::Ignore, "in time"),
        (BrokerAnswer::Disconnect, "closed"),
    ] {
        let broker = Broker::start(move |_| broker_answer);
        let gateway = gateway(&broker, &[]);
        let mut client = gateway.connect();
        let answer = post(&mut client, "Idempotency-Key: the-key\r\n", ORDER);
        assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")), "{answer:?}");
        // Only a refusal says that the order is not there.
        let expected = if matches!(broker_answer, BrokerAnswer::Refuse | BrokerAnswer::Return) {
            "the order was not stored by this request; repeat it with Idempotency-Key the-key"
        } else {
            "the order is not confirmed: it may have been stored; repeat it with Idempotency-Key the-key"
        };
        assert_eq!(answer.error(), expected);
        assert_eq!(member(&answer, "message_id"), "the-key");
        eventually("the log tells why", || gateway.log().contains(reason));
        // The connection to the client is none the worse for it.
        assert_eq!(client.get("/health").status, 200);
    }
}

#[test]
fn orders_wait_for_their_confirms_side_by_side() {
    // No order is ever confirmed, and nevertheless all of them get there: none waits for the one before it. One after
    // the other, they would take longer than this test waits.
    let broker = Broker::start(|_| BrokerAnswer::Ignore);
    let gateway = gateway(&broker, &[]);
    let addr = gateway.addr;
    let clients: Vec<_> =
        (0..32).map(|_| thread::spawn(move || post(&mut Client::connect(addr), "", ORDER).status)).collect();
    eventually("all orders are at the broker", || broker.messages().len() == 32);
    let ids: HashSet<_> = broker.messages().into_iter().map(|message| message.message_id).collect();
    assert_eq!(ids.len(), 32);
    for client in clients {
        assert_eq!(client.join().unwrap(), 503);
    }
}

#[test]
fn a_connection_on_which_nothing_is_confirmed_is_given_up_although_its_heartbeats_go_on() {
    let first = AtomicBool::new(true);
    let broker = Broker::start(move |_| {
        if first.swap(false, Ordering::SeqCst) { BrokerAnswer::Ignore } else { BrokerAnswer::Confirm }
    });
    let gateway = gateway(&broker, &[]);
    let mut client = gateway.connect();
    assert_eq!(post(&mut client, "", ORDER).status, 503);
    eventually("orders are taken again", || post(&mut client, "", ORDER).status == 200);
    assert!(broker.connections() > 1);
    assert!(gateway.log().contains("confirmed nothing for"), "{}", gateway.log());
}

#[test]
fn the_gateway_serves_without_a_broker_and_finds_it_when_it_is_back() {
    let addr = format!("127.0.0.1:{}", free_port()).parse().unwrap();
    let gateway = Gateway::start("http://127.0.0.1:1", &[("RABBITMQ_HOST", &format!("{addr}"))]);
    let mut client = gateway.connect();
    assert_eq!(client.get("/health").status, 200);
    for _ in 0..2 {
        let answer = post(&mut client, "", ORDER);
        assert_eq!(answer.status, 503);
        assert!(!member(&answer, "message_id").is_empty());
        let broker = Broker::confirming_at(addr);
        // Readiness may still be that of the connection before.
        eventually("orders are taken", || post(&mut client, "", ORDER).status == 200);
        broker.stop();
        eventually("the loss is noticed", || post(&mut client, "", ORDER).status == 503);
    }
}

#[test]
fn a_broker_that_ends_every_connection_is_asked_less_and_less() {
    let broker = Broker::ending_connections();
    let started = Instant::now();
    let addr = broker.addr.to_string();
    let _gateway = Gateway::start("http://127.0.0.1:1", &[("RABBITMQ_HOST", &addr)]);
    eventually("it has come back five times", || broker.connections() == 6);
    // The delays before it came back were at least half of 100, 200, 400, 800 and 1600 ms.
    assert!(started.elapsed() >= Duration::from_millis(1550), "{:?}", started.elapsed());
}

#[test]
fn a_gateway_that_stops_finishes_its_orders_and_says_goodbye() {
    let broker = Broker::start(|_| {
        thread::sleep(Duration::from_millis(300));
        BrokerAnswer::Confirm
    });
    let mut gateway = gateway(&broker, &[]);
    let addr = gateway.addr;
    let order = thread::spawn(move || post(&mut Client::connect(addr), "", ORDER));
    eventually("the order is at the broker", || broker.messages().len() == 1);
    gateway.signal("TERM");
    let answer = order.join().unwrap();
    assert_eq!((answer.status, answer.closes()), (200, true));
    let (status, took) = gateway.wait();
    assert!(status.success(), "{status}");
    assert!(took < EdgeSettings::default().stop_timeout, "{took:?}");
}
