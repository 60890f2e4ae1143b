//! Which queues a message goes to: exchanges bound to exchanges, alternate exchanges, headers, CC and BCC.

use crate::server::Server;
use crate::support::{Args, Client, DURABLE, PASSIVE};
use crate::topology::{
    bind, declare_exchange, delete_exchange, delete_queue, refused, send_exchange, send_unbind,
};

/// The bits of exchange.declare.
const DURABLE_EXCHANGE: u8 = 2;
const AUTO_DELETE_EXCHANGE: u8 = 4;
const INTERNAL: u8 = 8;

/// exchange.bind is method 30, exchange.unbind method 40.
fn send_between(client: &mut Client, method: u16, source: &str, destination: &str, key: &str) {
    let args = Args::new().short(0).short_string(destination).short_string(source).short_string(key);
    client.method(1, 40, method, args.octet(0).table(&[]));
}

fn bind_exchange(client: &mut Client, source: &str, destination: &str, key: &str) {
    send_between(client, 30, source, destination, key);
    client.expect(1, 40, 31);
}

fn unbind_exchange(client: &mut Client, source: &str, destination: &str, key: &str) {
    send_between(client, 40, source, destination, key);
    client.expect(1, 40, 51);
}

fn bind_with(client: &mut Client, queue: &str, exchange: &str, arguments: &[(&str, &[u8])]) {
    let args = Args::new().short(0).short_string(queue).short_string(exchange).short_string("");
    client.method(1, 50, 20, args.octet(0).table(arguments));
}

fn exists(client: &mut Client, exchange: &str) -> bool {
    send_exchange(client, exchange, "", PASSIVE, &[]);
    let found = client.frame().ids() == (40, 11);
    if !found {
        client.method(1, 20, 41, Args::new());
        client.open_channel(1);
    }
    found
}

/// Publishes with headers, which are encoded already.
fn publish_with(client: &mut Client, exchange: &str, key: &str, mandatory: bool, headers: &[(&str, &[u8])]) {
    let mut properties = b"\x20\0".to_vec();
    properties.extend(Args::new().table(headers).0);
    client.queue_publish(1, exchange, key, mandatory, (&properties, b"x"));
    client.flush();
}

/// An array of texts.
fn array(texts: &[&str]) -> Vec<u8> {
    let members: Vec<u8> = texts
        .iter()
        .flat_map(|text| [b"S", &Args::new().long_string(text.as_bytes()).0[..]].concat())
        .collect();
    [b"A", &Args::new().long_string(&members).0[..]].concat()
}

/// Takes everything out of the queues, and tells how much it was.
fn drain(client: &mut Client, queues: &[&str]) -> Vec<usize> {
    queues.iter().map(|queue| std::iter::from_fn(|| client.get(1, queue, true)).count()).collect()
}

#[test]
fn exchanges_are_bound_to_exchanges_in_circles_too_and_a_message_comes_once() {
    let server = Server::start();
    let mut client = server.client();
    for (name, kind, bits) in
        [("in", "topic", 0), ("middle", "fanout", INTERNAL), ("out", "direct", 0), ("loop", "fanout", 0)]
    {
        declare_exchange(&mut client, name, kind, bits);
    }
    client.declare(1, "all", 0);
    client.declare(1, "one", 0);
    bind_exchange(&mut client, "in", "middle", "orders.#");
    bind_exchange(&mut client, "in", "middle", "orders.#");
    bind_exchange(&mut client, "middle", "out", "");
    bind_exchange(&mut client, "middle", "loop", "");
    bind_exchange(&mut client, "loop", "in", "");
    bind_exchange(&mut client, "loop", "loop", "");
    bind(&mut client, "all", "middle", "");
    bind(&mut client, "all", "loop", "");
    bind(&mut client, "one", "out", "orders.new");
    client.publish(1, "in", "orders.new", true, b"x");
    client.publish(1, "in", "orders.old", true, b"x");
    client.publish(1, "in", "films.new", false, b"x");
    client.publish(1, "loop", "orders.new", false, b"x");
    assert_eq!(drain(&mut client, &["all", "one"]), [3, 2]);

    unbind_exchange(&mut client, "middle", "out", "");
    client.publish(1, "in", "orders.new", false, b"x");
    assert_eq!(drain(&mut client, &["all", "one"]), [1, 0]);
    delete_exchange(&mut client, "middle", 0);
    client.expect(1, 40, 21);
    client.publish(1, "in", "orders.new", true, b"x");
    client.expect(1, 60, 50);
    client.content(1);
}

#[test]
fn bindings_between_exchanges_follow_the_rules() {
    let server = Server::start();
    let mut client = server.client();
    declare_exchange(&mut client, "a", "direct", 0);
    send_between(&mut client, 30, "a", "absent", "");
    refused(&mut client, 404, "no exchange 'absent' in vhost '/'");
    send_between(&mut client, 30, "absent", "a", "");
    refused(&mut client, 404, "no exchange 'absent' in vhost '/'");
    send_between(&mut client, 30, "", "a", "");
    refused(&mut client, 403, "default exchange");
    send_between(&mut client, 30, "a", "", "");
    refused(&mut client, 403, "default exchange");
    unbind_exchange(&mut client, "a", "absent", "");
    unbind_exchange(&mut client, "absent", "a", "");
    send_unbind(&mut client, "absent", "a", "");
    client.expect(1, 50, 51);
    bind_exchange(&mut client, "a", "amq.fanout", "k");
    delete_exchange(&mut client, "a", 1);
    refused(&mut client, 406, "in use");
    unbind_exchange(&mut client, "a", "amq.fanout", "k");
    delete_exchange(&mut client, "a", 1);
    client.expect(1, 40, 21);
    let args = Args::new().short(0).short_string("amq.topic").short_string("amq.fanout").short_string("");
    client.method(1, 40, 30, args.octet(1).table(&[]));
    assert!(client.is_silent(), "no-wait");
}

#[test]
fn exchanges_go_with_their_last_binding_one_after_the_other() {
    let server = Server::start();
    let mut client = server.client();
    declare_exchange(&mut client, "first", "fanout", DURABLE_EXCHANGE | AUTO_DELETE_EXCHANGE);
    declare_exchange(&mut client, "second", "fanout", AUTO_DELETE_EXCHANGE);
    declare_exchange(&mut client, "third", "fanout", AUTO_DELETE_EXCHANGE);
    client.declare(1, "q", 0);
    bind_exchange(&mut client, "first", "second", "");
    bind_exchange(&mut client, "second", "third", "");
    bind(&mut client, "q", "third", "");
    delete_queue(&mut client, "q", 0);
    client.expect(1, 50, 41);
    for name in ["first", "second", "third"] {
        assert!(!exists(&mut client, name), "{name}");
    }
    let mut server = server;
    server.restart_after_kill();
    assert!(!exists(&mut server.client(), "first"), "it is gone on disk, too");
}

#[test]
fn what_no_binding_takes_goes_to_the_alternate_exchange() {
    let server = Server::start();
    let mut client = server.client();
    let alternate = |name: &str| [b"S", &Args::new().long_string(name.as_bytes()).0[..]].concat();
    let declare = |client: &mut Client, name: &str, other: &str| {
        send_exchange(client, name, "direct", 0, &[("alternate-exchange", &alternate(other))]);
        client.expect(1, 40, 11);
    };
    declare(&mut client, "first", "second");
    client.publish(1, "first", "k", true, b"nobody yet");
    client.expect(1, 60, 50);
    client.content(1);
    declare(&mut client, "second", "third");
    declare(&mut client, "third", "first");
    client.declare(1, "found", 0);
    client.declare(1, "rest", 0);
    bind(&mut client, "found", "first", "k");
    bind(&mut client, "rest", "third", "other");
    client.publish(1, "first", "k", true, b"x");
    client.publish(1, "first", "other", true, b"x");
    client.publish(1, "first", "neither", true, b"returned, although they form a circle");
    client.expect(1, 60, 50);
    client.content(1);
    assert_eq!(drain(&mut client, &["found", "rest"]), [1, 1]);

    declare(&mut client, "first", "second");
    send_exchange(&mut client, "first", "direct", 0, &[("alternate-exchange", &alternate("third"))]);
    refused(
        &mut client,
        406,
        "received the value 'third' of type 'longstr' but current is the value 'second'",
    );
    send_exchange(&mut client, "first", "direct", 0, &[]);
    refused(&mut client, 406, "inequivalent arg 'alternate-exchange' for exchange 'first' in vhost '/'");
}

#[test]
fn a_headers_exchange_compares_headers_and_not_keys() {
    let server = Server::start();
    let mut client = server.client();
    let one = ("colour", &b"S\0\0\0\x03red"[..]);
    let two = ("size", &b"I\0\0\0\x05"[..]);
    declare_exchange(&mut client, "h", "headers", 0);
    for queue in ["all", "any", "every"] {
        client.declare(1, queue, 0);
    }
    bind_with(&mut client, "all", "h", &[("x-match", b"S\0\0\0\x03all"), one, two]);
    client.expect(1, 50, 21);
    bind_with(&mut client, "any", "h", &[one, two, ("x-match", b"S\0\0\0\x03any")]);
    client.expect(1, 50, 21);
    bind_with(&mut client, "every", "h", &[]);
    client.expect(1, 50, 21);
    let queues = ["all", "any", "every"];
    // The same key each time: what was found for one message is not kept for the next.
    publish_with(&mut client, "h", "k", false, &[two, one]);
    assert_eq!(drain(&mut client, &queues), [1, 1, 1]);
    publish_with(&mut client, "h", "k", false, &[("size", b"l\0\0\0\0\0\0\0\x05")]);
    assert_eq!(drain(&mut client, &queues), [0, 1, 1]);
    client.publish(1, "h", "k", false, b"no headers");
    assert_eq!(drain(&mut client, &queues), [0, 0, 1]);

    // Arguments are a part of a binding's identity, in any order.
    let unbind = |client: &mut Client, arguments: &[(&str, &[u8])]| {
        let args = Args::new().short(0).short_string("any").short_string("h").short_string("");
        client.method(1, 50, 50, args.table(arguments));
        client.expect(1, 50, 51);
    };
    unbind(&mut client, &[one, two]);
    publish_with(&mut client, "h", "k", false, &[one]);
    assert_eq!(drain(&mut client, &queues), [0, 1, 1]);
    unbind(&mut client, &[("x-match", b"S\0\0\0\x03any"), two, one]);
    publish_with(&mut client, "h", "k", false, &[one]);
    assert_eq!(drain(&mut client, &queues), [0, 0, 1]);

    bind_with(&mut client, "any", "h", &[("x-match", b"S\0\0\0\x04some")]);
    refused(&mut client, 406, "x-match");
}

#[test]
fn cc_and_bcc_add_routing_keys_and_bcc_is_not_seen() {
    let server = Server::start();
    let mut client = server.client();
    for queue in ["a", "b", "c"] {
        client.declare(1, queue, 0);
    }
    bind(&mut client, "c", "amq.topic", "films.*");
    let (cc, bcc) = (array(&["b", "films.new"]), array(&["c", "b"]));
    publish_with(&mut client, "", "a", true, &[("CC", &cc), ("n", b"V"), ("BCC", &bcc)]);
    let mut expected = b"\x20\0".to_vec();
    expected.extend(Args::new().table(&[("CC", &cc), ("n", b"V")]).0);
    for queue in ["a", "b", "c"] {
        let received = client.get(1, queue, true).unwrap();
        assert_eq!((received.content.properties, received.routing_key), (expected.clone(), "a".to_owned()));
    }
    assert_eq!(drain(&mut client, &["a", "b", "c"]), [0, 0, 0], "each queue got it once");
    publish_with(&mut client, "amq.topic", "nobody", true, &[("CC", &cc)]);
    assert_eq!(drain(&mut client, &["a", "b", "c"]), [0, 0, 1]);
    client.publish(1, "amq.topic", "nobody", true, b"the same key without copies");
    client.expect(1, 60, 50);
    client.content(1);
    client.publish(1, "", "a", true, b"without");
    assert_eq!(drain(&mut client, &["a", "b", "c"]), [1, 0, 0]);
    publish_with(&mut client, "", "a", true, &[("BCC", b"S\0\0\0\x01b")]);
    refused(&mut client, 406, "BCC");
}

#[test]
fn durable_routing_survives_a_crash_and_the_rest_does_not() {
    let mut server = Server::start();
    let mut client = server.client();
    let durable = DURABLE_EXCHANGE;
    send_exchange(&mut client, "in", "topic", durable, &[("alternate-exchange", b"S\0\0\0\x04rest")]);
    client.expect(1, 40, 11);
    declare_exchange(&mut client, "rest", "headers", durable);
    declare_exchange(&mut client, "out", "fanout", durable);
    declare_exchange(&mut client, "passing", "fanout", 0);
    client.declare(1, "out", DURABLE);
    client.declare(1, "rest", DURABLE);
    bind_exchange(&mut client, "in", "out", "a.*");
    bind_exchange(&mut client, "in", "passing", "b.*");
    bind_exchange(&mut client, "out", "in", "");
    bind(&mut client, "out", "out", "");
    bind_with(&mut client, "rest", "rest", &[("n", b"I\0\0\0\x01")]);
    client.expect(1, 50, 21);
    server.restart_after_kill();

    let mut client = server.client();
    client.publish(1, "in", "a.x", true, b"x");
    publish_with(&mut client, "in", "b.x", true, &[("n", b"I\0\0\0\x01")]);
    assert_eq!(drain(&mut client, &["out", "rest"]), [1, 1]);
    publish_with(&mut client, "in", "b.x", true, &[("n", b"I\0\0\0\x02")]);
    client.expect(1, 60, 50);
    client.content(1);
    send_exchange(&mut client, "in", "topic", durable, &[]);
    refused(&mut client, 406, "alternate-exchange");
    assert!(!exists(&mut client, "passing"));
}
