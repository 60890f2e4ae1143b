//! Lives of messages and queues, lengths of queues, and the single active consumer.

use std::time::{Duration, Instant};

use crate::properties::{living, number, obituary, text};
use crate::server::{Server, eventually};
use crate::support::{Args, Client, DURABLE, PASSIVE};

/// Declares a durable queue with arguments.
fn declare(client: &mut Client, name: &str, arguments: &[(&str, Vec<u8>)]) {
    let arguments: Vec<(&str, &[u8])> = arguments.iter().map(|(name, value)| (*name, &value[..])).collect();
    client.send_declare(1, name, DURABLE, &arguments);
    client.expect(1, 50, 11);
}

/// Arguments that send dead letters to a queue.
fn buried_in(queue: &str) -> [(&'static str, Vec<u8>); 2] {
    [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text(queue))]
}

fn bodies(client: &mut Client, queue: &str) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| client.get(1, queue, true).map(|got| got.content.body)).collect()
}

fn publish_living(client: &mut Client, queue: &str, expiration: &str, body: &[u8]) {
    client.queue_publish(1, "", queue, false, (&living(expiration), body));
    client.flush();
    client.expect(1, 60, 80);
}

/// Lets time pass that a test is about.
fn pass(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

fn wait_for_depth(client: &mut Client, queue: &str, depth: u32) {
    let what = format!("{queue} has {depth} messages");
    eventually(&what, || (client.depth(1, queue) == depth).then_some(()));
}

#[test]
fn messages_expire_without_anybody_asking_and_become_dead_letters() {
    let server = Server::start();
    let mut client = server.publisher();
    client.declare(1, "dead", DURABLE);
    let [exchange, key] = buried_in("dead");
    declare(&mut client, "q", &[("x-message-ttl", number(100)), exchange, key]);
    for body in [b"1", b"2"] {
        client.publish_confirmed(1, "q", body);
    }
    wait_for_depth(&mut client, "dead", 2);
    assert_eq!(client.depth(1, "q"), 0);
    assert_eq!(bodies(&mut client, "dead"), [b"1", b"2"]);
    // The shorter of both lives counts.
    publish_living(&mut client, "q", "60000", b"3");
    wait_for_depth(&mut client, "dead", 1);
    let letter = client.get(1, "dead", true).unwrap();
    assert_eq!(obituary(&letter.content.properties), [("q".into(), "expired".into(), 1)]);
}

#[test]
fn a_life_of_zero_is_long_enough_for_a_consumer_that_waits() {
    let server = Server::start();
    let mut client = server.publisher();
    declare(&mut client, "q", &[("x-message-ttl", number(0))]);
    client.publish_confirmed(1, "q", b"nobody");
    assert_eq!((client.depth(1, "q"), client.get(1, "q", true)), (0, None));
    let mut consumer = server.client();
    consumer.consume(1, "q", "t", 0);
    client.publish_confirmed(1, "q", b"somebody");
    assert_eq!(consumer.delivery(1).content.body, b"somebody");
}

#[test]
fn messages_leave_at_the_head_only() {
    let server = Server::start();
    let mut client = server.publisher();
    client.declare(1, "q", DURABLE);
    publish_living(&mut client, "q", "60000", b"long");
    publish_living(&mut client, "q", "1", b"short");
    publish_living(&mut client, "q", "60000", b"last");
    pass(50);
    assert_eq!(client.depth(1, "q"), 3, "the head has not expired");
    assert_eq!(client.get(1, "q", false).unwrap().content.body, b"long");
    wait_for_depth(&mut client, "q", 1);
    // What comes back expired is dropped, too.
    publish_living(&mut client, "q", "150", b"out");
    let last = client.get(1, "q", false).unwrap();
    let out = client.get(1, "q", false).unwrap();
    pass(200);
    client.nack(1, out.tag, 2);
    wait_for_depth(&mut client, "q", 0);
    client.nack(1, last.tag, 2);
    assert_eq!(client.get(1, "q", true).unwrap().content.body, b"last");
}

#[test]
fn an_expiration_that_is_no_number_is_refused() {
    let server = Server::start();
    for (expiration, problem) in [
        ("abc", "no_integer"),
        ("-1", "{value_negative,-1}"),
        ("1.5", "{leftover_string,\".5\"}"),
        ("315360000001", "{value_too_large,315360000001}"),
    ] {
        let mut client = server.client();
        client.queue_publish(1, "", "q", false, (&living(expiration), b"x"));
        client.flush();
        let text = format!("invalid expiration '{expiration}': {problem}");
        client.expect_channel_close(1, 406, &text);
    }
}

#[test]
fn lives_go_on_while_the_broker_is_dead() {
    let mut server = Server::start();
    let mut client = server.publisher();
    client.declare(1, "own", DURABLE);
    client.declare(1, "dead", DURABLE);
    let [exchange, key] = buried_in("dead");
    declare(&mut client, "all", &[("x-message-ttl", number(400)), exchange, key]);
    let published = Instant::now();
    publish_living(&mut client, "own", "400", b"short");
    publish_living(&mut client, "own", "3600000", b"long");
    client.publish_confirmed(1, "all", b"short");
    server.kill();
    pass(450 - u64::try_from(published.elapsed().as_millis()).unwrap().min(450));
    server.run();
    let mut client = server.client();
    // Were the time counted from the restart, they still would be there.
    assert_eq!(bodies(&mut client, "own"), [b"long"]);
    wait_for_depth(&mut client, "dead", 1);
    assert_eq!(client.depth(1, "all"), 0);
}

#[test]
fn queues_that_nobody_uses_end() {
    let mut server = Server::start();
    let mut client = server.publisher();
    let exists = |client: &mut Client, name: &str| {
        client.send_declare(1, name, PASSIVE, &[]);
        let frame = client.frame();
        if frame.ids() == (20, 40) {
            client.method(1, 20, 41, Args::new());
            client.open_channel(1);
        }
        frame.ids() == (50, 11)
    };
    declare(&mut client, "brief", &[("x-expires", number(300))]);
    declare(&mut client, "consumed", &[("x-expires", number(300))]);
    declare(&mut client, "long", &[("x-expires", number(3_600_000))]);
    let mut consumer = server.client();
    consumer.consume(1, "consumed", "t", 0);
    // Looking at it counts as use, publishing does not.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(600) {
        pass(20);
        client.get(1, "brief", true);
    }
    assert!(exists(&mut client, "brief"));
    let mut publisher = server.publisher();
    let mut look = server.client();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(600) {
        pass(20);
        publisher.publish_confirmed(1, "brief", b"x");
    }
    assert!(!exists(&mut look, "brief") && exists(&mut look, "consumed"));
    drop(consumer);
    pass(600);
    eventually("the consumer's queue ends", || (!exists(&mut look, "consumed")).then_some(()));
    server.restart_after_kill();
    let mut look = server.client();
    assert!(exists(&mut look, "long") && !exists(&mut look, "brief"));
}

#[test]
fn a_full_queue_drops_its_oldest_messages() {
    let server = Server::start();
    let mut client = server.publisher();
    client.declare(1, "dead", DURABLE);
    let [exchange, key] = buried_in("dead");
    declare(&mut client, "two", &[("x-max-length", number(2)), exchange.clone(), key.clone()]);
    for body in [b"1", b"2", b"3", b"4"] {
        client.publish_confirmed(1, "two", body);
    }
    assert_eq!(client.depth(1, "two"), 2);
    wait_for_depth(&mut client, "dead", 2);
    assert_eq!(bodies(&mut client, "two"), [b"3", b"4"]);
    let letter = client.get(1, "dead", true).unwrap();
    assert_eq!(letter.content.body, b"1");
    assert_eq!(obituary(&letter.content.properties), [("two".into(), "maxlen".into(), 1)]);
    // Bytes of bodies count, of waiting messages only.
    declare(&mut client, "ten", &[("x-max-length-bytes", number(10))]);
    for body in [b"aaaa", b"bbbb", b"cccc"] {
        client.publish_confirmed(1, "ten", body);
    }
    assert_eq!(client.depth(1, "ten"), 2);
    let out = client.get(1, "ten", false).unwrap();
    assert_eq!(out.content.body, b"bbbb");
    client.publish_confirmed(1, "ten", b"dddd");
    assert_eq!(client.depth(1, "ten"), 2);
    // What comes back has no room any more: it is the oldest.
    client.nack(1, out.tag, 2);
    assert_eq!(client.depth(1, "ten"), 2);
    assert_eq!(bodies(&mut client, "ten"), [b"cccc", b"dddd"]);
    // Nothing may wait, and yet a consumer gets everything.
    declare(&mut client, "none", &[("x-max-length", number(0))]);
    client.publish_confirmed(1, "none", b"x");
    assert_eq!(client.depth(1, "none"), 0);
    let mut consumer = server.client();
    consumer.consume(1, "none", "t", 2);
    client.publish_confirmed(1, "none", b"y");
    assert_eq!(consumer.delivery(1).content.body, b"y");
}

#[test]
fn lengths_hold_after_a_restart() {
    let mut server = Server::start();
    let mut client = server.publisher();
    declare(&mut client, "q", &[("x-max-length-bytes", number(10))]);
    for body in [b"aaaa", b"bbbb", b"cccc"] {
        client.publish_confirmed(1, "q", body);
    }
    assert_eq!(client.depth(1, "q"), 2);
    server.restart_after_kill();
    let mut client = server.publisher();
    client.publish_confirmed(1, "q", b"dddd");
    assert_eq!(client.depth(1, "q"), 2);
    assert_eq!(bodies(&mut client, "q"), [b"cccc", b"dddd"]);
}

#[test]
fn a_full_queue_refuses_new_messages_if_it_shall() {
    let server = Server::start();
    let mut client = server.publisher();
    client.declare(1, "dead", DURABLE);
    for (queue, overflow, letters) in [("one", "reject-publish", 0), ("two", "reject-publish-dlx", 2)] {
        let [exchange, key] = buried_in("dead");
        declare(
            &mut client,
            queue,
            &[("x-max-length", number(1)), ("x-overflow", text(overflow)), exchange, key],
        );
        let mut publisher = server.publisher();
        for body in [b"1", b"2", b"3"] {
            publisher.queue_publish(1, "", queue, false, (crate::support::PERSISTENT, body));
            publisher.queue_publish(1, "", "dead", false, (crate::support::TRANSIENT, b"other"));
        }
        publisher.flush();
        let mut refused = Vec::new();
        let mut through = 0;
        while through < 6 {
            let frame = publisher.frame();
            let tag = frame.arguments().long_long();
            assert!(tag > through, "tags ascend");
            through = tag;
            match frame.ids() {
                (60, 80) => {}
                (60, 120) => refused.push(tag),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(refused, [3, 5], "the second and the third of the queue");
        wait_for_depth(&mut client, "dead", 3 + letters);
        assert_eq!(bodies(&mut client, queue), [b"1"]);
        bodies(&mut client, "dead");
        // There is room again.
        client.publish_confirmed(1, queue, b"4");
        assert_eq!(bodies(&mut client, queue), [b"4"]);
    }
}

#[test]
fn one_queue_that_refuses_is_enough_for_a_nack() {
    let server = Server::start();
    let mut client = server.publisher();
    declare(&mut client, "full", &[("x-max-length", number(0)), ("x-overflow", text("reject-publish"))]);
    client.declare(1, "open", DURABLE);
    for queue in ["full", "open"] {
        let args =
            Args::new().short(0).short_string(queue).short_string("amq.fanout").short_string("").octet(0);
        client.method(1, 50, 20, args.table(&[]));
        client.expect(1, 50, 21);
    }
    client.publish(1, "amq.fanout", "", false, b"x");
    client.expect(1, 60, 120);
    assert_eq!((client.depth(1, "full"), client.depth(1, "open")), (0, 1));
}

#[test]
fn only_one_consumer_is_active() {
    let server = Server::start();
    let mut client = server.publisher();
    declare(&mut client, "q", &[("x-single-active-consumer", b"t\x01".to_vec())]);
    let (mut first, mut second) = (server.client(), server.client());
    first.qos(1, 2, false);
    first.consume(1, "q", "first", 0);
    second.consume(1, "q", "second", 0);
    for body in [b"1", b"2", b"3"] {
        client.publish_confirmed(1, "q", body);
    }
    let taken: Vec<_> = (0..2).map(|_| first.delivery(1)).collect();
    assert!(first.is_silent() && second.is_silent(), "the second waits although the first is full");
    first.cancel(1, "first");
    assert_eq!(second.delivery(1).content.body, b"3");
    first.nack(1, taken[1].tag, 1 | 2);
    assert_eq!([second.delivery(1).content.body, second.delivery(1).content.body], [b"1", b"2"]);
    let mut third = server.client();
    third.send_consume(1, "q", "third", 4);
    third.expect_channel_close(1, 403, "queue 'q' in vhost '/' in exclusive use");
}

#[test]
fn whoever_follows_the_active_consumer_begins_with_what_that_had() {
    let server = Server::start();
    let mut client = server.publisher();
    for queue in ["channel", "connection"] {
        declare(&mut client, queue, &[("x-single-active-consumer", b"t\x01".to_vec())]);
        let (mut first, mut second) = (server.client(), server.client());
        first.qos(1, 2, false);
        first.consume(1, queue, "first", 0);
        second.consume(1, queue, "second", 0);
        for body in [b"1", b"2", b"3", b"4"] {
            client.publish_confirmed(1, queue, body);
        }
        assert_eq!([first.delivery(1).content.body, first.delivery(1).content.body], [b"1", b"2"]);
        if queue == "channel" {
            first.method(1, 20, 40, Args::new().short(200).short_string("").short(0).short(0));
            first.expect(1, 20, 41);
        }
        drop(first);
        let taken: Vec<_> = (0..4).map(|_| second.delivery(1).content.body).collect();
        assert_eq!(taken, [b"1", b"2", b"3", b"4"], "whose {queue} ended");
    }
}
