//! Deliveries: prefetch, acks, requeueing, fairness.

use crate::server::Server;
use crate::support::{Args, Client, DURABLE, Received};

/// A queue with the messages 0, 1, 2 …
fn filled(server: &Server, queue: &str, count: u8) -> Client {
    let mut client = server.publisher();
    client.declare(1, queue, DURABLE);
    for number in 0..count {
        client.publish_confirmed(1, queue, &[number]);
    }
    client
}

fn number(received: &Received) -> u8 {
    received.content.body[0]
}

#[test]
fn prefetch_limits_each_consumer_and_only_later_ones() {
    let server = Server::start();
    let mut client = filled(&server, "q", 20);
    client.qos(1, 2, false);
    client.consume(1, "q", "two", 0);
    let first: Vec<_> = (0..2).map(|_| client.delivery(1)).collect();
    assert!(client.is_silent());
    client.qos(1, 3, false);
    assert!(client.is_silent(), "the new limit is for later consumers");
    client.consume(1, "q", "three", 0);
    for _ in 0..3 {
        assert_eq!(client.delivery(1).consumer_tag, "three");
    }
    assert!(client.is_silent());
    client.ack(1, first[0].tag, false);
    assert_eq!(client.delivery(1).consumer_tag, "two");
    assert!(client.is_silent());
    assert_eq!(client.get(1, "q", false).map(|got| number(&got)), Some(6), "get ignores the limit");
}

#[test]
fn the_channel_limit_counts_all_its_consumers_and_the_smaller_wins() {
    let server = Server::start();
    let mut client = filled(&server, "q", 20);
    client.qos(1, 3, true);
    client.qos(1, 2, false);
    client.consume(1, "q", "a", 0);
    let mut deliveries: Vec<_> = (0..2).map(|_| client.delivery(1)).collect();
    client.consume(1, "q", "b", 0);
    deliveries.push(client.delivery(1));
    assert!(client.is_silent());
    client.ack(1, deliveries[0].tag, false);
    client.delivery(1);
    assert!(client.is_silent());
    client.qos(1, 4, true);
    client.delivery(1);
    assert!(client.is_silent(), "now each consumer is at its own limit");
    client.ack(1, 0, true);
    for _ in 0..4 {
        client.delivery(1);
    }
    assert!(client.is_silent());
}

#[test]
fn a_channel_at_its_limit_delivers_nothing_not_even_without_acks() {
    let server = Server::start();
    let mut client = filled(&server, "acked", 1);
    client.declare(1, "unacked", 0);
    client.qos(1, 1, true);
    client.consume(1, "acked", "a", 0);
    let out = client.delivery(1);
    client.consume(1, "unacked", "u", 2);
    client.publish_confirmed(1, "unacked", &[1]);
    assert!(client.is_silent());
    client.ack(1, out.tag, false);
    assert_eq!(client.delivery(1).consumer_tag, "u");
}

#[test]
fn unknown_and_repeated_tags_close_the_channel() {
    let server = Server::start();
    for bad in [7, 0] {
        let mut client = server.client();
        client.ack(1, bad, false);
        client.expect_channel_close(1, 406, &format!("unknown delivery tag {bad}"));
    }
    let mut client = filled(&server, "q", 3);
    let got = client.get(1, "q", false).unwrap();
    client.ack(1, 0, true);
    client.ack(1, 0, true);
    client.ack(1, got.tag, false);
    client.expect_channel_close(1, 406, "unknown delivery tag 1");
    // A tag of another channel is unknown, too.
    client.open_channel(1);
    client.open_channel(2);
    let got = client.get(2, "q", false).unwrap();
    client.ack(1, got.tag, false);
    client.expect_channel_close(1, 406, "unknown delivery tag");
}

#[test]
fn multiple_settles_up_to_its_tag() {
    let server = Server::start();
    let mut client = filled(&server, "q", 6);
    let tags: Vec<_> = (0..6).map(|_| client.get(1, "q", false).unwrap().tag).collect();
    client.ack(1, tags[1], true);
    client.nack(1, tags[3], 1 | 2);
    let returned: Vec<_> = (0..2).map(|_| client.get(1, "q", true).unwrap()).collect();
    assert_eq!(returned.iter().map(number).collect::<Vec<_>>(), [2, 3]);
    assert!(returned.iter().all(|got| got.redelivered));
    assert!(client.get(1, "q", true).is_none());
    client.nack(1, tags[5], 1);
    assert!(client.get(1, "q", true).is_none(), "rejected for good");
}

#[test]
fn requeued_messages_return_to_their_place() {
    let server = Server::start();
    let mut client = filled(&server, "q", 8);
    let tags: Vec<_> = (0..5).map(|_| client.get(1, "q", false).unwrap().tag).collect();
    client.nack(1, tags[3], 2);
    client.nack(1, tags[1], 2);
    // basic.reject
    client.method(1, 60, 90, Args::new().long_long(tags[2]).octet(1));
    let order: Vec<_> = (0..6).map(|_| client.get(1, "q", true).unwrap()).collect();
    assert_eq!(order.iter().map(number).collect::<Vec<_>>(), [1, 2, 3, 5, 6, 7]);
    assert_eq!(
        order.iter().map(|got| got.redelivered).collect::<Vec<_>>(),
        [true, true, true, false, false, false]
    );
}

#[test]
fn recover_requeues_everything() {
    let server = Server::start();
    let mut client = filled(&server, "q", 3);
    for _ in 0..2 {
        client.get(1, "q", false).unwrap();
    }
    client.method(1, 60, 110, Args::new().octet(1));
    client.expect(1, 60, 111);
    let order: Vec<_> = (0..3).map(|_| number(&client.get(1, "q", true).unwrap())).collect();
    assert_eq!(order, [0, 1, 2]);
}

#[test]
fn a_lost_connection_and_a_closed_channel_requeue_in_order() {
    let server = Server::start();
    let mut client = filled(&server, "q", 6);
    let mut lost = server.client();
    lost.consume(1, "q", "t", 0);
    for expected in 0..6 {
        assert_eq!(number(&lost.delivery(1)), expected);
    }
    lost.ack(1, 2, false);
    drop(lost);
    client.qos(1, 3, false);
    client.consume(1, "q", "t", 0);
    let again: Vec<_> = (0..3).map(|_| client.delivery(1)).collect();
    assert_eq!(again.iter().map(number).collect::<Vec<_>>(), [0, 2, 3]);
    assert!(again.iter().all(|got| got.redelivered));
    client.method(1, 20, 40, Args::new().short(200).short_string("").short(0).short(0));
    client.expect(1, 20, 41);
    client.open_channel(1);
    let order: Vec<_> = (0..5).map(|_| number(&client.get(1, "q", true).unwrap())).collect();
    assert_eq!(order, [0, 2, 3, 4, 5]);
}

#[test]
fn a_cancelled_consumer_may_still_ack() {
    let server = Server::start();
    let mut client = filled(&server, "q", 2);
    client.qos(1, 1, false);
    client.consume(1, "q", "t", 0);
    let out = client.delivery(1);
    client.cancel(1, "t");
    client.cancel(1, "t");
    client.ack(1, out.tag, false);
    let left = client.get(1, "q", true).unwrap();
    assert_eq!((number(&left), client.get(1, "q", true)), (1, None));
}

#[test]
fn consumer_tags_are_unique_and_exclusive_means_alone() {
    let server = Server::start();
    let mut client = server.client();
    client.declare(1, "q", 0);
    client.send_consume(1, "q", "", 0);
    let ok = client.expect(1, 60, 21);
    assert!(ok.arguments().short_string().starts_with("amq.ctag-"));
    client.send_consume(1, "q", "x", 4);
    client.expect_channel_close(1, 403, "queue 'q' in vhost '/' in exclusive use");
    client.open_channel(1);
    client.consume(1, "q", "alone", 4);
    let mut other = server.client();
    other.send_consume(1, "q", "x", 0);
    other.expect_channel_close(1, 403, "exclusive use");
    client.send_consume(1, "q", "alone", 0);
    client.expect_connection_close(530, "attempt to reuse consumer tag 'alone'");
}

#[test]
fn consumers_take_turns() {
    let server = Server::start();
    let mut client = filled(&server, "q", 0);
    let mut consumers: Vec<_> = (0..3)
        .map(|_| {
            let mut consumer = server.client();
            consumer.consume(1, "q", "t", 0);
            consumer
        })
        .collect();
    for count in 0..9u8 {
        client.publish_confirmed(1, "q", &[count]);
    }
    for (at, consumer) in (0..).zip(&mut consumers) {
        let numbers: Vec<_> = (0..3).map(|_| number(&consumer.delivery(1))).collect();
        assert_eq!(numbers, [at, at + 3, at + 6]);
    }
}

#[test]
fn a_full_consumer_holds_up_nobody() {
    let server = Server::start();
    let mut client = filled(&server, "q", 0);
    let mut full = server.client();
    full.qos(1, 1, false);
    full.consume(1, "q", "t", 0);
    let mut eager = server.client();
    eager.consume(1, "q", "t", 0);
    for count in 0..20u8 {
        client.publish_confirmed(1, "q", &[count]);
    }
    full.delivery(1);
    for _ in 0..19 {
        eager.delivery(1);
    }
}

#[test]
fn no_ack_deliveries_are_settled_at_once() {
    let mut server = Server::start();
    let mut client = filled(&server, "q", 5);
    client.qos(1, 2, false);
    client.consume(1, "q", "t", 2);
    for expected in 0..5 {
        assert_eq!(number(&client.delivery(1)), expected);
    }
    drop(client);
    assert!(server.stop().success());
    server.run();
    assert_eq!(server.client().depth(1, "q"), 0);
}

#[test]
fn a_long_backlog_is_delivered_in_order_from_disk() {
    let server = Server::with(&[("BROKER_SEGMENT_BYTES", "65536")]);
    let mut client = server.publisher();
    client.declare(1, "q", DURABLE);
    let count: u64 = 20_000;
    for number in 0..count {
        client.queue_publish(1, "", "q", false, (crate::support::PERSISTENT, &number.to_be_bytes()));
    }
    client.flush();
    let mut confirmed = 0;
    while confirmed < count {
        confirmed = client.expect(1, 60, 80).arguments().long_long();
    }
    let mut consumer = server.client();
    consumer.qos(1, 100, false);
    consumer.consume(1, "q", "t", 0);
    for number in 0..count {
        let delivery = consumer.delivery(1);
        assert_eq!(delivery.content.body, number.to_be_bytes());
        if delivery.tag.is_multiple_of(50) {
            consumer.ack(1, delivery.tag, true);
        }
    }
    // Every segment but the newest is given back.
    crate::server::eventually("segments are removed", || {
        let files = std::fs::read_dir(&server.folder).unwrap();
        let logs = files.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().starts_with('0'));
        (logs.count() <= 2).then_some(())
    });
}

#[test]
fn a_tag_can_be_used_again_after_the_broker_has_cancelled_its_consumer() {
    let server = Server::start();
    let mut client = server.client();
    for round in 0..3 {
        let queue = format!("q{round}");
        client.declare(1, &queue, 0);
        client.consume(1, &queue, "t", 0);
        client.publish(1, "", &queue, false, b"x");
        assert_eq!(client.delivery(1).consumer_tag, "t");
        client.method(1, 50, 40, Args::new().short(0).short_string(&queue).octet(0));
        client.expect(1, 50, 41);
        client.expect(1, 60, 30);
    }
    client.declare(1, "last", 0);
    client.consume(1, "last", "t", 0);
    client.cancel(1, "t");
    client.consume(1, "last", "t", 0);
    client.send_consume(1, "last", "t", 0);
    client.expect_connection_close(530, "attempt to reuse consumer tag 't'");
}

#[test]
fn a_delivery_that_is_never_acked_closes_its_channel_and_comes_back() {
    let server = Server::with(&[("BROKER_CONSUMER_TIMEOUT_MS", "1000")]);
    let mut client = server.client();
    let mut other = server.client();
    client.declare(1, "q", 0);
    client.open_channel(2);
    client.consume(2, "q", "prompt", 0);
    client.publish(1, "", "q", false, b"acked");
    let tag = client.delivery(2).tag;
    client.ack(2, tag, false);
    client.cancel(2, "prompt");
    client.consume(1, "q", "slow", 0);
    client.publish(1, "", "q", false, b"forgotten");
    client.delivery(1);
    let started = std::time::Instant::now();
    let close = client.expect(1, 20, 40);
    assert!(started.elapsed() >= std::time::Duration::from_millis(900));
    let mut arguments = close.arguments();
    let (code, text) = (arguments.short(), arguments.short_string());
    assert!(code == 406 && text.contains("delivery acknowledgement on channel 1 timed out"), "{text}");
    client.method(1, 20, 41, Args::new());
    let back = other.get(1, "q", false).unwrap();
    assert!(back.redelivered && back.content.body == b"forgotten");
    // basic.get counts, too, and the other channels stay open.
    other.expect_channel_close(1, 406, "delivery acknowledgement on channel 1 timed out");
    assert_eq!(client.depth(2, "q"), 1);
}
