//! What has become of an order can be told at any time, however many there are and whatever was restarted.

use std::collections::HashSet;
use std::net::SocketAddr;

use serde_json::Value;
use testkit::http::{Response, request};
use testkit::orders::order;
use testkit::{Platform, patience, wait_until};

fn get(addr: SocketAddr, target: &str) -> Response {
    request(addr, "GET", target, None)
}

fn json(answer: &Response) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

fn post(addr: SocketAddr, number: usize) -> String {
    let answer = json(&request(addr, "POST", "/api/billing", Some(&order(number))));
    answer["message_id"].as_str().unwrap().to_owned()
}

fn state(addr: SocketAddr, message_id: &str) -> String {
    let answer = json(&get(addr, &format!("/api/status/orders/{message_id}")));
    answer["state"].as_str().unwrap().to_owned()
}

/// The stages of an order with their times.
fn stages(order: &Value) -> Vec<(&str, Option<&str>)> {
    let stages = order["stages"].as_array().unwrap().iter();
    stages.map(|stage| (stage["stage"].as_str().unwrap(), stage["at"].as_str())).collect()
}

fn status(addr: SocketAddr) -> Value {
    json(&get(addr, "/api/status"))
}

/// Those of the orders that are in another state.
fn others<'o>(addr: SocketAddr, orders: &'o [String], expected: &str) -> Vec<(&'o str, String)> {
    let states = orders.iter().map(|id| (id.as_str(), state(addr, id)));
    states.filter(|(_, state)| state != expected).collect()
}

#[test]
fn every_order_of_a_backlog_waits_and_is_then_stored_also_after_restarts() {
    const ORDERS: usize = 450;
    let mut platform = Platform::start();
    let addr = platform.addr();
    wait_until(patience(), "billing is heard", || status(addr)["billing"]["state"] == "ok");
    platform.billing.terminate();
    let orders: Vec<_> = (0..ORDERS).map(|number| post(addr, number)).collect();
    assert_eq!(others(addr, &orders, "waiting"), []);
    let asked = |addr, path: &str| json(&get(addr, &format!("{path}/{}", orders[ORDERS - 1])));
    let waiting = asked(addr, "/api/status/orders");
    let [("placed", Some(placed)), ("confirmed", Some(confirmed))] = stages(&waiting)[..] else {
        panic!("{waiting}");
    };
    assert!(placed <= confirmed, "{waiting}");
    assert_eq!(status(addr)["billing"]["orders_stored"], Value::Null);

    platform.billing.start();
    wait_until(patience(), "all are stored", || platform.count_orders() == ORDERS);
    wait_until(patience(), "all are said to be stored", || others(addr, &orders, "stored").is_empty());
    let stored = asked(addr, "/api/status/orders");
    let [before @ .., ("stored", Some(stored_at))] = &stages(&stored)[..] else { panic!("{stored}") };
    assert_eq!((before, confirmed < *stored_at), (&stages(&waiting)[..], true), "{stored}");
    assert_eq!(stages(&asked(addr, "/api/orders")), stages(&stored));
    assert_eq!(stages(&json(&get(addr, "/api/orders?limit=1&order=newest"))[0]), stages(&stored));
    platform.gateway.restart();
    platform.billing.restart();
    let addr = platform.addr();
    wait_until(patience(), "billing answers", || state(addr, &orders[0]) == "stored");
    assert_eq!(others(addr, &orders, "stored"), []);
    // Only billing still knows when.
    let known = [("placed", None), ("confirmed", None), ("stored", Some(*stored_at))];
    for told in [asked(addr, "/api/status/orders"), asked(addr, "/api/orders")] {
        assert_eq!(stages(&told), known);
    }
    assert_eq!(stages(&json(&get(addr, "/api/orders?limit=1&order=newest"))[0]), known);
    assert_eq!(state(addr, "never-placed"), "unknown");
    let status = status(addr);
    assert_eq!(
        (&status["billing"]["orders_stored"], &status["billing_db"]["state"]),
        (&ORDERS.into(), &"ok".into())
    );

    let (mut listed, mut next) = (HashSet::new(), Some("/api/orders?limit=200".to_owned()));
    while let Some(target) = next {
        let answer = get(addr, &target);
        for order in json(&answer).as_array().unwrap() {
            assert!(listed.insert(order["message_id"].as_str().unwrap().to_owned()));
        }
        next = answer.header("link").map(|link| link[1..link.find('>').unwrap()].to_owned());
    }
    assert_eq!(listed, orders.into_iter().collect());
}

#[test]
fn a_dead_letter_is_seen_with_its_reason_sent_back_and_discarded() {
    let platform = Platform::start();
    let addr = platform.addr();
    let settings = amqp::AmqpSettings::read(&foundation::Environment::from_pairs(platform.broker.settings()));
    let connection = amqp::Connection::open(&settings.unwrap(), "by-hand").unwrap();
    let properties = amqp::Properties::persistent_json("by-hand", "no-order");
    connection.publish("billing_queue", properties, b"{}".to_vec(), patience()).unwrap();
    wait_until(patience(), "it is dead", || state(addr, "no-order") == "dead");
    // The reason is asked for, and billing may be slow to answer for the first time.
    let told = || json(&get(addr, "/api/status/orders/no-order"))["reason"].clone();
    wait_until(patience(), "the reason is told", || told().is_string());
    assert!(told().as_str().unwrap().contains("user_id is required"), "{}", told());
    let record = json(&get(addr, "/api/orders/no-order"));
    let [("placed", None), ("confirmed", None), ("dead", Some(dead_at))] = stages(&record)[..] else {
        panic!("{record}");
    };
    assert!(dead_at.ends_with('Z'));
    assert_eq!((&record["state"], &record["order"]), (&"dead".into(), &Value::Null));
    assert_eq!(get(addr, "/api/orders/never-placed").status, 404);

    let letters = || json(&get(addr, "/api/dead-letters")).as_array().unwrap().clone();
    wait_until(patience(), "it is listed", || letters().len() == 1);
    let letter = &letters()[0];
    assert_eq!((&letter["message_id"], &letter["body"]), (&"no-order".into(), &"{}".into()));
    let target = format!("/api/dead-letters/{}", letter["id"].as_str().unwrap());
    assert_eq!(request(addr, "POST", &target, None).status, 200);
    // It comes back, since it is no order.
    wait_until(patience(), "it is dead again", || letters().len() == 1);
    assert_eq!(request(addr, "DELETE", &target, None).status, 200);
    assert_eq!(letters(), [] as [Value; 0]);
    assert_eq!(request(addr, "DELETE", &target, None).status, 404);
}

#[test]
fn billings_database_has_a_line_of_its_own() {
    let postgres = testkit::Postgres::start();
    let platform = Platform::start_on(&postgres);
    let addr = platform.addr();
    wait_until(patience(), "all is well", || status(addr)["billing_db"]["state"] == "ok");
    postgres.stop();
    wait_until(patience(), "the loss is seen", || status(addr)["billing_db"]["state"] == "unreachable");
    let answer = get(addr, "/api/orders");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("billing_db is not reachable"), "{}", answer.text());
    postgres.start_again();
    wait_until(patience(), "it is back", || status(addr)["billing_db"]["state"] == "ok");
}
