//! Orders that the broker does not take: kept in the gateway's own folder, and passed on when it does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Folder, free_port};

use crate::support::{Answer, Broker, BrokerAnswer, Client, Gateway, Inventory, NO_SETTINGS, eventually};

/// How soon an order is answered while the broker is away, on a busy machine.
const SOON: Duration = Duration::from_secs(5);

/// A gateway's folder, and where its broker is or would be.
struct Scene {
    folder: Folder,
    broker: std::net::SocketAddr,
}

impl Scene {
    fn new() -> Self {
        let broker = format!("127.0.0.1:{}", free_port()).parse().unwrap();
        Self { folder: Folder::new("outbox"), broker }
    }

    fn gateway(&self, variables: &[(&str, &str)]) -> Gateway {
        self.gateway_before("http://127.0.0.1:1", variables)
    }

    fn gateway_before(&self, inventory: &str, variables: &[(&str, &str)]) -> Gateway {
        let folder = self.folder.path().join("outbox").display().to_string();
        let broker = self.broker.to_string();
        let mut all = vec![
            ("RABBITMQ_HOST", broker.as_str()),
            ("GATEWAY_OUTBOX_DIR", &folder),
            ("GATEWAY_OUTBOX_DISK_FREE_MIN_BYTES", "0"),
        ];
        all.extend_from_slice(variables);
        Gateway::start(inventory, &all)
    }
}

fn order(number: usize) -> String {
    format!(r#"{{"user_id":"{number}","number_of_items":1,"total_amount":1}}"#)
}

fn post(client: &mut Client, key: &str, body: &str) -> Answer {
    let length = body.len();
    client.send(
        format!(
            "POST /api/billing HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Idempotency-Key: {key}\r\n\r\n{body}"
        )
        .as_bytes(),
    );
    client.answer()
}

fn json(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|e| panic!("{e}: {}", answer.text()))
}

fn outbox(gateway: &Gateway) -> Value {
    json(&gateway.get("/api/status"))["outbox"].clone()
}

fn state(gateway: &Gateway, key: &str) -> String {
    json(&gateway.get(&format!("/api/status/orders/{key}")))["state"].as_str().unwrap().to_owned()
}

/// The stages of an order with their times.
fn stages(gateway: &Gateway, key: &str) -> Vec<(String, Option<String>)> {
    let status = json(&gateway.get(&format!("/api/status/orders/{key}")));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let stages = status["stages"].as_array().unwrap().iter();
    stages.map(|stage| (text(&stage["stage"]).unwrap(), text(&stage["at"]))).collect()
}

/// The name of each stage and whether its time is known; the times are in order.
fn reached(stages: &[(String, Option<String>)]) -> Vec<(&str, bool)> {
    assert!(stages.iter().filter_map(|(_, at)| at.as_ref()).is_sorted(), "{stages:?}");
    stages.iter().map(|(name, at)| (name.as_str(), at.is_some())).collect()
}

fn ids(broker: &Broker) -> Vec<String> {
    broker.messages().into_iter().map(|message| message.message_id).collect()
}

#[test]
fn orders_wait_while_the_broker_is_away_and_are_passed_on_oldest_first() {
    let scene = Scene::new();
    let gateway = scene.gateway(&[]);
    assert_eq!(outbox(&gateway)["orders_waiting"], 0);
    let mut client = gateway.connect();
    for number in 0..20 {
        let started = Instant::now();
        let answer = post(&mut client, &format!("key-{number}"), &order(number));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    }
    eventually("the status counts them", || outbox(&gateway)["orders_waiting"] == 20);
    assert_eq!(outbox(&gateway)["state"], "ok");
    eventually("it tells for how long", || outbox(&gateway)["oldest_s"].as_u64() >= Some(1));
    assert_eq!((state(&gateway, "key-3"), state(&gateway, "key-99")), ("outbox".into(), "unknown".into()));
    let waiting = stages(&gateway, "key-3");
    assert_eq!(reached(&waiting), [("placed", true), ("outbox", true)]);
    assert_eq!(stages(&gateway, "key-99"), []);

    let broker = Broker::confirming_at(scene.broker);
    eventually("all are passed on", || broker.messages().len() == 20);
    let expected: Vec<_> = (0..20).map(|number| format!("key-{number}")).collect();
    assert_eq!(ids(&broker), expected);
    let message = &broker.messages()[7];
    assert_eq!((message.body.as_str(), message.delivery_mode), (order(7).as_str(), 2));
    assert!(message.mandatory && message.headers.contains("order.v1"), "{message:?}");
    eventually("nothing waits any more", || outbox(&gateway)["orders_waiting"] == 0);
    assert_eq!(state(&gateway, "key-3"), "waiting");
    let confirmed = stages(&gateway, "key-3");
    assert_eq!(reached(&confirmed), [("placed", true), ("outbox", true), ("confirmed", true)]);
    assert_eq!(confirmed[..2], waiting);
    // New orders go to the broker again.
    assert_eq!(post(&mut client, "later", &order(1)).status, 200);
    assert_eq!(broker.messages().len(), 21);
}

#[test]
fn what_was_stored_survives_the_gateway() {
    let scene = Scene::new();
    let mut gateway = scene.gateway(&[]);
    let mut client = gateway.connect();
    for number in 0..10 {
        assert_eq!(post(&mut client, &format!("key-{number}"), &order(number)).status, 200);
    }
    let before = stages(&gateway, "key-3");
    gateway.signal("KILL");
    gateway.wait();
    let gateway = scene.gateway(&[]);
    assert_eq!(outbox(&gateway)["orders_waiting"], 10);
    assert_eq!(state(&gateway, "key-3"), "outbox");
    // The outbox knows its own time, to the second; nobody knows any more when the order was placed.
    let after = stages(&gateway, "key-3");
    assert_eq!(reached(&after), [("placed", false), ("outbox", true)]);
    assert!(after[1].1.as_ref().unwrap().strip_suffix(".000Z").is_some(), "{after:?}");
    let seconds = |stage: &(String, Option<String>)| stage.1.clone().unwrap()[..19].to_owned();
    assert!(
        seconds(&after[1]) <= seconds(&before[1]) && seconds(&after[1])[..16] >= seconds(&before[0])[..16]
    );
    // The same order under the same key is the same order, and another one is not.
    assert_eq!(post(&mut gateway.connect(), "key-3", &order(3)).status, 200);
    assert_eq!(post(&mut gateway.connect(), "key-3", &order(4)).status, 422);
    let broker = Broker::confirming_at(scene.broker);
    eventually("all are passed on", || broker.messages().len() == 11);
    assert_eq!(ids(&broker)[..2], ["key-0", "key-1"]);
    eventually("nothing waits any more", || outbox(&gateway)["orders_waiting"] == 0);
    assert_eq!(
        reached(&stages(&gateway, "key-9")),
        [("placed", false), ("outbox", true), ("confirmed", true)]
    );
    // A stop in good order forgets nothing and repeats nothing.
    let mut gateway = gateway;
    gateway.signal("TERM");
    assert!(gateway.wait().0.success());
    let gateway = scene.gateway(&[]);
    eventually("it is connected", || json(&gateway.get("/api/status"))["broker"]["state"] == "ok");
    assert_eq!(outbox(&gateway)["orders_waiting"], 0);
    assert_eq!(broker.messages().len(), 11);
}

#[test]
fn a_broker_that_confirms_nothing_is_waited_for_once_and_not_by_every_order() {
    let mut scene = Scene::new();
    let confirms = Arc::new(AtomicBool::new(false));
    let answers = confirms.clone();
    let broker = Broker::start(move |_| {
        if answers.load(Ordering::SeqCst) { BrokerAnswer::Confirm } else { BrokerAnswer::Ignore }
    });
    scene.broker = broker.addr;
    let gateway = scene.gateway(&[]);
    eventually("the broker is connected", || gateway.get("/ready").text().contains(r#""broker":"ok""#));
    let started = Instant::now();
    let mut client = gateway.connect();
    for number in 0..30 {
        assert_eq!(post(&mut client, &format!("key-{number}"), &order(number)).status, 200);
    }
    // If each had waited, it would have been 15 seconds.
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    eventually("the log tells it", || gateway.log().contains("orders go to the outbox"));
    confirms.store(true, Ordering::SeqCst);
    eventually("all are passed on", || outbox(&gateway)["orders_waiting"] == 0);
    let mut found = ids(&broker);
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 30);
    eventually("the broker is trusted again", || gateway.log().contains("orders go to the broker again"));
    let before = broker.messages().len();
    assert_eq!(post(&mut client, "direct", &order(0)).status, 200);
    assert_eq!(ids(&broker)[before..], ["direct"]);
}

#[test]
fn a_broker_that_refuses_or_returns_an_order_does_not_lose_it() {
    for wrong in [BrokerAnswer::Refuse, BrokerAnswer::Return, BrokerAnswer::Disconnect] {
        let mut scene = Scene::new();
        let done = Arc::new(AtomicBool::new(false));
        let first = done.clone();
        let broker =
            Broker::start(
                move |_| if first.swap(true, Ordering::SeqCst) { BrokerAnswer::Confirm } else { wrong },
            );
        scene.broker = broker.addr;
        let gateway = scene.gateway(&[]);
        eventually("the broker is connected", || gateway.get("/ready").text().contains(r#""broker":"ok""#));
        assert_eq!(post(&mut gateway.connect(), "key", &order(1)).status, 200, "{wrong:?}");
        eventually("it is passed on", || ids(&broker) == ["key", "key"]);
        eventually("nothing waits any more", || outbox(&gateway)["orders_waiting"] == 0);
    }
}

#[test]
fn a_full_outbox_is_503_and_says_that_nothing_was_stored() {
    let scene = Scene::new();
    let gateway = scene.gateway(&[("GATEWAY_OUTBOX_MAX_ORDERS", "2")]);
    let mut client = gateway.connect();
    assert_eq!(post(&mut client, "one", &order(1)).status, 200);
    assert_eq!(post(&mut client, "two", &order(2)).status, 200);
    let answer = post(&mut client, "three", &order(3));
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
    assert_eq!(
        answer.error(),
        "the order was not stored by this request; repeat it with Idempotency-Key three"
    );
    eventually("the log tells why", || gateway.log().contains("as many messages as are allowed"));
    assert_eq!(state(&gateway, "three"), "unknown");
    // Its key was not used.
    let broker = Broker::confirming_at(scene.broker);
    eventually("there is room", || post(&mut client, "three", &order(4)).status == 200);
    eventually("all are passed on", || broker.messages().len() >= 3);
}

#[test]
fn a_gateway_whose_outbox_takes_orders_is_ready_without_a_broker() {
    let scene = Scene::new();
    let inventory = Inventory::fixed("[]");
    let gateway = scene.gateway_before(&inventory.url(), &[("GATEWAY_OUTBOX_MAX_ORDERS", "1")]);
    let ready = || {
        let answer = gateway.get("/ready");
        (answer.status, json(&answer))
    };
    let away = |outbox: &str| json!({ "inventory": "ok", "broker": "unreachable", "outbox": outbox });
    assert_eq!(ready(), (200, json!({ "status": "ready", "dependencies": away("ok") })));
    assert_eq!(post(&mut gateway.connect(), "key", &order(1)).status, 200);
    let full = json!({ "error": "not ready: broker unreachable", "code": "not_ready", "dependencies": away("full") });
    assert_eq!(ready(), (503, full));
    let _broker = Broker::confirming_at(scene.broker);
    eventually("it is ready without a reserve", || ready() == (200, json!({ "status": "ready" })));
}

#[test]
fn an_outbox_that_takes_nothing_keeps_no_order_from_a_late_broker() {
    let mut scene = Scene::new();
    let broker = Broker::start(|_| BrokerAnswer::Ignore);
    scene.broker = broker.addr;
    // More than any disk has free.
    let gateway = scene.gateway(&[("GATEWAY_OUTBOX_DISK_FREE_MIN_BYTES", "1000000000000000")]);
    eventually("the broker is connected", || gateway.get("/ready").text().contains(r#""broker":"ok""#));
    for key in ["one", "two"] {
        let answer = post(&mut gateway.connect(), key, &order(1));
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.text().contains("it may have been stored"), "{}", answer.text());
    }
    assert_eq!(ids(&broker), ["one", "two"]);
    eventually("the log tells why", || gateway.log().matches("the disk is nearly full").count() >= 2);
    assert!(!gateway.log().contains("orders go to the outbox"), "{}", gateway.log());
}

#[test]
fn a_folder_that_is_in_use_keeps_a_second_gateway_from_starting() {
    let scene = Scene::new();
    let _gateway = scene.gateway(&[]);
    let folder = scene.folder.path().join("outbox").display().to_string();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_api-gateway"))
        .env_clear()
        .envs([("GATEWAY_HOST", "127.0.0.1"), ("GATEWAY_PORT", "0"), ("GATEWAY_PRIVATE_PORT", "0")])
        .envs([("RABBITMQ_USER", "u"), ("RABBITMQ_PASSWORD", "p"), ("GATEWAY_OUTBOX_DIR", &folder)])
        .current_dir(NO_SETTINGS)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("GATEWAY_OUTBOX_DIR"), "{text}");
    assert!(text.contains("is locked"), "{text}");
}

#[test]
fn a_broker_that_stands_still_within_the_deadline_loses_no_order() {
    let broker = Broker::start(|_| BrokerAnswer::Confirm);
    broker.stand_still_when_probed(Duration::from_millis(4_500));
    let addr = broker.addr.to_string();
    let gateway = Gateway::start("http://127.0.0.1:1", &[("RABBITMQ_HOST", &addr)]);
    eventually("the broker is asked whether it is alive", || broker.stands_still());
    let addr = gateway.addr;
    let orders: Vec<_> = (0..9)
        .map(|number| {
            thread::spawn(move || {
                post(&mut Client::connect(addr), &format!("key-{number}"), &order(number)).status
            })
        })
        .collect();
    let statuses: Vec<_> = orders.into_iter().map(|order| order.join().unwrap()).collect();
    assert_eq!(statuses, [200; 9], "{}", gateway.log());
    assert!(!gateway.log().contains("lost the broker"), "{}", gateway.log());
}
