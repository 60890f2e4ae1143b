//! Messages that can never become orders: set aside with a reason, holding up nobody.

use std::collections::HashSet;
use std::time::Duration;

use amqp::{AmqpSettings, Connection, Delivery, Properties};
use foundation::Environment;
use testkit::{Platform, orders, patience, wait_until};

const QUEUE: &str = "billing_queue";
const DEAD: &str = "billing_queue.dead";

/// A connection to the platform's broker, as somebody who publishes by hand.
fn connect(platform: &Platform) -> Connection {
    let settings = AmqpSettings::read(&Environment::from_pairs(platform.broker.settings())).unwrap();
    Connection::open(&settings, "system-tests").unwrap()
}

fn publish(connection: &Connection, properties: Properties, body: &[u8]) {
    connection.publish(QUEUE, properties, body.to_vec(), patience()).unwrap();
}

/// Takes `count` different messages from the queue of dead messages.
fn take_dead(connection: &Connection, count: usize) -> Vec<Delivery> {
    let mut deliveries = connection.consume(DEAD, 1_000).unwrap();
    let mut dead = Vec::new();
    wait_until(patience(), "the dead messages are there", || {
        dead.extend(deliveries.next_batch(1_000, Duration::from_millis(50)).unwrap());
        each_once(&dead).len() >= count
    });
    dead
}

/// Drops the repetitions: a message that was moved while billing was told to stop may be moved once more.
fn each_once(dead: &[Delivery]) -> Vec<&Delivery> {
    let mut seen = HashSet::new();
    dead.iter().filter(|delivery| seen.insert(delivery.properties.message_id().map(str::to_owned))).collect()
}

/// What is wrong, and the body that shows it.
fn poison() -> Vec<(&'static str, Vec<u8>)> {
    let order = |user: &str, items: &str, amount: &str| {
        format!(r#"{{"user_id": {user}, "number_of_items": {items}, "total_amount": {amount}}}"#).into_bytes()
    };
    vec![
        ("nothing", Vec::new()),
        ("no json", b"order 5 movies".to_vec()),
        ("no utf-8", b"{\"user_id\": \"\xff\xfe\", \"number_of_items\": 1, \"total_amount\": 1}".to_vec()),
        ("no object", b"[1, 2, 3]".to_vec()),
        ("no fields", b"{}".to_vec()),
        ("null fields", order("null", "null", "null")),
        ("no items", order("\"7\"", "0", "1")),
        ("half an item", order("\"7\"", "1.5", "1")),
        ("too many items", order("\"7\"", "1000001", "1")),
        ("a debt", order("\"7\"", "1", "-1")),
        ("too many decimals", order("\"7\"", "1", "0.001")),
        ("too much money", order("\"7\"", "1", "10000000000")),
        ("no number", order("\"7\"", "1", "\"NaN\"")),
        ("U+0000", order("\"\\u0000\"", "1", "1")),
        ("half a surrogate pair", order("\"\\ud800\"", "1", "1")),
        ("no customer", order("\"\"", "1", "1")),
        ("too long a name", order(&format!("\"{}\"", "x".repeat(65)), "1", "1")),
        ("too deep", [b"[".repeat(100_000), b"]".repeat(100_000)].concat()),
        ("too large", vec![b' '; 1 << 20]),
    ]
}

#[test]
fn poison_goes_to_the_dead_queue_with_a_reason_and_holds_up_nobody() {
    let mut platform = Platform::start();
    let connection = connect(&platform);
    // Both at once: what arrives while billing is idle, and what it finds in one batch at its start.
    for (round, stopped) in [(0, false), (1, true)] {
        if stopped {
            platform.billing.terminate();
        }
        let valid = round * 1_000..round * 1_000 + poison().len();
        for (n, (what, body)) in valid.clone().zip(poison()) {
            let id = format!("poison {round} {what}");
            let properties = Properties::persistent_json("by-hand", &id).with_header("origin", "a test");
            publish(&connection, properties, &body);
            let order = orders::order(n);
            publish(
                &connection,
                Properties::persistent_json("by-hand", &format!("order {n}")),
                order.as_bytes(),
            );
        }
        if stopped {
            platform.billing.start();
        }
        let expected = (round + 1) * valid.len();
        wait_until(patience(), "the orders between them are stored", || platform.count_orders() == expected);
    }
    let dead = take_dead(&connection, 2 * poison().len());
    assert_eq!(each_once(&dead).len(), 2 * poison().len());
    for (round, deliveries) in each_once(&dead).chunks(poison().len()).enumerate() {
        for (delivery, (what, body)) in deliveries.iter().zip(poison()) {
            assert_eq!(delivery.properties.message_id(), Some(format!("poison {round} {what}").as_str()));
            assert!(delivery.body == body, "the body of {what} was changed");
            let reason = delivery.properties.header("x-death-reason").unwrap_or_default();
            assert!(!reason.is_empty(), "{what} has no reason");
            assert_eq!(delivery.properties.header("origin").as_deref(), Some("a test"), "{what}");
        }
    }
    // Nothing is left in the queue.
    connection.ack_through(dead.last().unwrap().tag).unwrap();
    platform.billing.terminate();
    assert_eq!(connection.declare_queue(QUEUE).unwrap(), 0);
}

#[test]
fn an_order_published_by_hand_without_any_property_is_stored() {
    let platform = Platform::start();
    let connection = connect(&platform);
    let body = br#"{"user_id": "3", "number_of_items": "5", "total_amount": "180"}"#;
    publish(&connection, Properties::default(), body);
    wait_until(patience(), "the order is stored", || platform.count_orders() == 1);
    // Without an identity, two messages are two orders.
    publish(&connection, Properties::default(), body);
    wait_until(patience(), "the second order is stored", || platform.count_orders() == 2);
}
