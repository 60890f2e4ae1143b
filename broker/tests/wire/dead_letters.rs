//! Rejected messages: where they go, what is written on them, and that none is lost on the way.

use crate::properties::{Value, deaths, headers, number, obituary, text};
use crate::server::{Server, eventually};
use crate::support::{Args, Client, DURABLE, PERSISTENT};

fn declare(client: &mut Client, name: &str, arguments: &[(&str, Vec<u8>)]) {
    let arguments: Vec<(&str, &[u8])> = arguments.iter().map(|(name, value)| (*name, &value[..])).collect();
    client.send_declare(1, name, DURABLE, &arguments);
    client.expect(1, 50, 11);
}

fn bind(client: &mut Client, queue: &str, exchange: &str, key: &str) {
    let args = Args::new().short(0).short_string(queue).short_string(exchange).short_string(key).octet(0);
    client.method(1, 50, 20, args.table(&[]));
    client.expect(1, 50, 21);
}

fn wait_for_depth(client: &mut Client, queue: &str, depth: u32) {
    let what = format!("{queue} has {depth} messages");
    eventually(&what, || (client.depth(1, queue) == depth).then_some(()));
}

/// Takes the message at the head and rejects it.
fn reject(client: &mut Client, queue: &str) {
    let got = client.get(1, queue, false).unwrap();
    client.nack(1, got.tag, 0);
}

#[test]
fn a_rejected_message_goes_to_the_exchange_with_its_story() {
    let server = Server::start();
    let mut client = server.publisher();
    declare(&mut client, "q", &[("x-dead-letter-exchange", text("amq.fanout"))]);
    client.declare(1, "dead", DURABLE);
    bind(&mut client, "dead", "amq.fanout", "");
    bind(&mut client, "q", "amq.direct", "key");
    // Headers with a CC, delivery_mode 2, expiration.
    let cc = Args::new().octet(b'A').long_string(&text("copy")).0;
    let table = Args::new().table(&[("CC", &cc), ("note", &text("mine"))]);
    let mut properties = Args::new().short((1 << 13) | (1 << 12) | (1 << 8));
    properties.0.extend_from_slice(&table.0);
    let properties = properties.octet(2).short_string("60000").0;
    client.queue_publish(1, "amq.direct", "key", false, (&properties, b"body"));
    client.flush();
    client.expect(1, 60, 80);
    reject(&mut client, "q");
    wait_for_depth(&mut client, "dead", 1);
    let letter = client.get(1, "dead", true).unwrap();
    assert_eq!((letter.exchange.as_str(), letter.routing_key.as_str()), ("amq.fanout", "key"));
    assert!(!letter.redelivered);
    assert_eq!(letter.content.body, b"body");
    let found = headers(&letter.content.properties);
    assert_eq!(found["note"].text(), "mine");
    for (name, value) in [("reason", "rejected"), ("queue", "q"), ("exchange", "amq.direct")] {
        assert_eq!(found[&format!("x-first-death-{name}")].text(), value);
    }
    let death = deaths(&letter.content.properties).remove(0);
    let keys = Value::Array(vec![Value::Text("key".into()), Value::Text("copy".into())]);
    assert_eq!((death["routing-keys"].clone(), death["exchange"].text()), (keys, "amq.direct"));
    assert_eq!((death["count"].number(), death["original-expiration"].text()), (1, "60000"));
    assert!(matches!(death["time"], Value::Time(_)));
    // The delivery mode stays, the expiration is gone.
    assert_eq!(&letter.content.properties[..2], &[0x30, 0]);
}

#[test]
fn acked_and_requeued_messages_are_no_dead_letters_and_deaths_are_counted() {
    let server = Server::start();
    let mut client = server.publisher();
    let to = |queue| [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text(queue))];
    declare(&mut client, "a", &to("b"));
    declare(&mut client, "b", &to("a"));
    for body in [b"1", b"2", b"3"] {
        client.publish_confirmed(1, "a", body);
    }
    let got: Vec<_> = (0..3).map(|_| client.get(1, "a", false).unwrap()).collect();
    client.ack(1, got[0].tag, false);
    client.nack(1, got[1].tag, 2);
    client.method(1, 60, 90, Args::new().long_long(got[2].tag).octet(0));
    wait_for_depth(&mut client, "b", 1);
    assert_eq!(client.get(1, "a", true).unwrap().content.body, b"2");
    assert!(client.get(1, "a", true).is_none());
    // Back and forth: somebody rejects it each time, so it may go in circles.
    reject(&mut client, "b");
    wait_for_depth(&mut client, "a", 1);
    reject(&mut client, "a");
    wait_for_depth(&mut client, "b", 1);
    let letter = client.get(1, "b", true).unwrap();
    let story: Vec<(String, String, i64)> =
        vec![("a".into(), "rejected".into(), 2), ("b".into(), "rejected".into(), 1)];
    assert_eq!(obituary(&letter.content.properties), story);
    assert_eq!(headers(&letter.content.properties)["x-first-death-queue"].text(), "a");
}

#[test]
fn circles_without_a_rejection_end_and_a_missing_exchange_takes_everything() {
    let server = Server::start();
    let mut client = server.publisher();
    let life = ("x-message-ttl", number(20));
    declare(&mut client, "self", &[life.clone(), ("x-dead-letter-exchange", text(""))]);
    declare(&mut client, "nowhere", &[("x-dead-letter-exchange", text("missing"))]);
    client.publish_confirmed(1, "self", b"x");
    wait_for_depth(&mut client, "self", 0);
    client.publish_confirmed(1, "nowhere", b"x");
    reject(&mut client, "nowhere");
    assert!(client.get(1, "nowhere", true).is_none());
    // A waiting room: back to work after a while, as often as a consumer rejects it.
    declare(
        &mut client,
        "work",
        &[("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("wait"))],
    );
    declare(
        &mut client,
        "wait",
        &[life, ("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("work"))],
    );
    client.publish_confirmed(1, "work", b"x");
    for round in 1..4 {
        reject(&mut client, "work");
        wait_for_depth(&mut client, "work", 1);
        let got = client.get(1, "work", false).unwrap();
        let story: Vec<(String, String, i64)> =
            vec![("wait".into(), "expired".into(), round), ("work".into(), "rejected".into(), round)];
        assert_eq!(obituary(&got.content.properties), story);
        client.nack(1, got.tag, 2);
    }
}

#[test]
fn no_dead_letter_is_lost_when_the_broker_is_killed() {
    let mut server = Server::with(&[("BROKER_SEGMENT_BYTES", "65536")]);
    let mut client = server.publisher();
    let to = [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("dead"))];
    declare(&mut client, "q", &to);
    client.declare(1, "dead", DURABLE);
    for number in 0..200u8 {
        client.queue_publish(1, "", "q", false, (PERSISTENT, &[number; 1000]));
    }
    client.flush();
    let mut through = 0;
    while through < 200 {
        through = client.expect(1, 60, 80).arguments().long_long();
    }
    let got: Vec<_> = (0..200).map(|_| client.get(1, "q", false).unwrap()).collect();
    client.nack(1, got[199].tag, 1);
    // In the middle of it.
    let mut look = server.client();
    eventually("some have died", || (look.depth(1, "dead") > 20).then_some(()));
    server.restart_after_kill();
    let mut client = server.client();
    let mut found = std::collections::BTreeSet::new();
    for queue in ["q", "dead"] {
        let mut last = None;
        while let Some(got) = client.get(1, queue, false) {
            assert!(last < Some(got.content.body[0]), "in order, and each once in {queue}");
            last = Some(got.content.body[0]);
            found.insert(got.content.body[0]);
        }
    }
    assert_eq!(found.len(), 200);
}
