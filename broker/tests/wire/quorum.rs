//! Queues of type quorum: they count deliveries and keep every message on disk.

use crate::properties::{headers, number, obituary, text};
use crate::server::{Server, eventually};
use crate::support::{Args, Client, DURABLE, Received, TRANSIENT};

fn declare(client: &mut Client, limit: u32) {
    client.declare(1, "dead", DURABLE);
    let (kind, limit, exchange, key) = (text("quorum"), number(limit), text(""), text("dead"));
    let arguments: [(&str, &[u8]); 4] = [
        ("x-queue-type", &kind),
        ("x-delivery-limit", &limit),
        ("x-dead-letter-exchange", &exchange),
        ("x-dead-letter-routing-key", &key),
    ];
    client.send_declare(1, "q", DURABLE, &arguments);
    client.expect(1, 50, 11);
}

fn count(received: &Received) -> i64 {
    headers(&received.content.properties)["x-delivery-count"].number()
}

#[test]
fn a_message_that_comes_back_too_often_becomes_a_dead_letter() {
    let server = Server::start();
    let mut client = server.publisher();
    declare(&mut client, 2);
    client.publish_confirmed(1, "q", b"poison");
    for returns in 0..3 {
        let got = client.get(1, "q", false).unwrap();
        assert_eq!((count(&got), got.redelivered), (returns, returns > 0));
        client.nack(1, got.tag, 2);
    }
    eventually("it is dead", || (client.depth(1, "dead") == 1).then_some(()));
    assert!(client.get(1, "q", true).is_none());
    let letter = client.get(1, "dead", true).unwrap();
    assert_eq!(obituary(&letter.content.properties), [("q".into(), "delivery_limit".into(), 1)]);
    assert!(!headers(&letter.content.properties).contains_key("x-delivery-count"));
}

#[test]
fn a_consumer_that_goes_away_counts_and_so_does_the_life_before() {
    let mut server = Server::start();
    let mut client = server.publisher();
    declare(&mut client, 9);
    // Even a transient message survives in such a queue.
    client.queue_publish(1, "", "q", false, (TRANSIENT, b"x"));
    client.flush();
    client.expect(1, 60, 80);
    let mut consumer = server.client();
    consumer.consume(1, "q", "t", 0);
    assert_eq!(count(&consumer.delivery(1)), 0);
    consumer.method(1, 20, 40, Args::new().short(0).short_string("").long(0));
    consumer.expect(1, 20, 41);
    let got = client.get(1, "q", false).unwrap();
    assert_eq!((count(&got), got.redelivered), (1, true));
    client.nack(1, got.tag, 2);
    // The confirm of something else proves that the log knows of what came before.
    client.publish_confirmed(1, "dead", b"other");
    client.publish_confirmed(1, "dead", b"other");
    server.restart_after_kill();
    let mut client = server.client();
    let got = client.get(1, "q", true).unwrap();
    assert_eq!((count(&got), got.content.body.as_slice()), (2, &b"x"[..]));
    assert!(client.get(1, "q", true).is_none());
}
