//! Queues, exchanges and bindings.

use crate::server::Server;
use crate::support::{AUTO_DELETE, Args, Client, DURABLE, EXCLUSIVE, PASSIVE};

pub(crate) fn declare_exchange(client: &mut Client, name: &str, kind: &str, bits: u8) {
    send_exchange(client, name, kind, bits, &[]);
    client.expect(1, 40, 11);
}

/// Bits are passive, durable, auto-delete, internal, no-wait.
pub(crate) fn send_exchange(
    client: &mut Client,
    name: &str,
    kind: &str,
    bits: u8,
    arguments: &[(&str, &[u8])],
) {
    let args = Args::new().short(0).short_string(name).short_string(kind).octet(bits).table(arguments);
    client.method(1, 40, 10, args);
}

pub(crate) fn send_bind(client: &mut Client, queue: &str, exchange: &str, key: &str) {
    let args = Args::new().short(0).short_string(queue).short_string(exchange).short_string(key);
    client.method(1, 50, 20, args.octet(0).table(&[]));
}

pub(crate) fn bind(client: &mut Client, queue: &str, exchange: &str, key: &str) {
    send_bind(client, queue, exchange, key);
    client.expect(1, 50, 21);
}

pub(crate) fn send_unbind(client: &mut Client, queue: &str, exchange: &str, key: &str) {
    let args = Args::new().short(0).short_string(queue).short_string(exchange).short_string(key);
    client.method(1, 50, 50, args.table(&[]));
}

pub(crate) fn delete_queue(client: &mut Client, queue: &str, bits: u8) {
    client.method(1, 50, 40, Args::new().short(0).short_string(queue).octet(bits));
}

pub(crate) fn delete_exchange(client: &mut Client, exchange: &str, bits: u8) {
    client.method(1, 40, 20, Args::new().short(0).short_string(exchange).octet(bits));
}

/// Expects a channel error, and opens the channel again.
pub(crate) fn refused(client: &mut Client, code: u16, text: &str) {
    client.expect_channel_close(1, code, text);
    client.open_channel(1);
}

#[test]
fn queues_are_declared_again_only_as_they_are() {
    let server = Server::start();
    let mut client = server.client();
    assert_eq!(client.declare(1, "orders", DURABLE), ("orders".to_owned(), 0, 0));
    client.declare(1, "orders", DURABLE);
    client.declare(1, "orders", PASSIVE);
    client.send_declare(1, "orders", 0, &[]);
    refused(
        &mut client,
        406,
        "inequivalent arg 'durable' for queue 'orders' in vhost '/': received 'false' but current is 'true'",
    );
    client.send_declare(1, "orders", DURABLE | AUTO_DELETE, &[]);
    refused(&mut client, 406, "inequivalent arg 'auto_delete'");
    client.send_declare(1, "absent", PASSIVE, &[]);
    refused(&mut client, 404, "no queue 'absent' in vhost '/'");
    client.send_declare(1, "amq.mine", 0, &[]);
    refused(&mut client, 403, "contains reserved prefix 'amq.*'");
}

#[test]
fn an_empty_name_is_generated_and_remembered() {
    let server = Server::start();
    let mut client = server.client();
    client.send_consume(1, "", "t", 0);
    refused(&mut client, 404, "no previously declared queue");
    let (name, ..) = client.declare(1, "", EXCLUSIVE);
    assert!(name.starts_with("amq.gen-") && name.len() > 20, "{name}");
    assert_eq!(client.declare(1, "", PASSIVE).0, name);
    client.consume(1, "", "t", 0);
    bind(&mut client, "", "amq.direct", "");
    client.publish(1, "amq.direct", &name, false, b"by its own name");
    assert_eq!(client.delivery(1).content.body, b"by its own name");
}

#[test]
fn exclusive_queues_belong_to_their_connection_and_go_with_it() {
    let server = Server::start();
    let mut owner = server.client();
    let mut other = server.client();
    owner.declare(1, "mine", EXCLUSIVE | DURABLE);
    for bits in [0, PASSIVE, EXCLUSIVE | DURABLE] {
        other.send_declare(1, "mine", bits, &[]);
        refused(&mut other, 405, "cannot obtain exclusive access to locked queue 'mine'");
    }
    other.send_consume(1, "mine", "t", 0);
    refused(&mut other, 405, "mine");
    drop(owner);
    crate::server::eventually("the queue is gone", || {
        other.send_declare(1, "mine", PASSIVE, &[]);
        let frame = other.frame();
        other.method(1, 20, 41, Args::new());
        other.open_channel(1);
        (u16::from_be_bytes([frame.payload[4], frame.payload[5]]) == 404).then_some(())
    });
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer() {
    let server = Server::start();
    let mut client = server.client();
    client.declare(1, "short-lived", AUTO_DELETE);
    client.consume(1, "short-lived", "a", 0);
    client.consume(1, "short-lived", "b", 0);
    client.cancel(1, "a");
    client.declare(1, "short-lived", PASSIVE);
    client.cancel(1, "b");
    client.send_declare(1, "short-lived", PASSIVE, &[]);
    refused(&mut client, 404, "short-lived");
}

#[test]
fn deleting_obeys_its_conditions_and_forgives_absence() {
    let server = Server::start();
    let mut client = server.client();
    client.confirm_select(1);
    delete_queue(&mut client, "absent", 0);
    client.expect(1, 50, 41);
    client.method(1, 50, 30, Args::new().short(0).short_string("absent").octet(0));
    refused(&mut client, 404, "absent");
    client.confirm_select(1);
    client.declare(1, "q", 0);
    client.publish_confirmed(1, "q", b"one");
    delete_queue(&mut client, "q", 2);
    refused(&mut client, 406, "queue 'q' in vhost '/' not empty");
    client.qos(1, 1, false);
    client.consume(1, "q", "t", 0);
    client.delivery(1);
    delete_queue(&mut client, "q", 1);
    client.expect_channel_close(1, 406, "queue 'q' in vhost '/' in use");
    client.open_channel(1);
    delete_queue(&mut client, "q", 0);
    let deleted = client.expect(1, 50, 41);
    assert_eq!(deleted.arguments().long(), 1, "the message had been requeued");
}

#[test]
fn deleting_a_queue_cancels_its_consumers() {
    let server = Server::start();
    let mut consumer = server.client();
    let mut other = server.client();
    let mut login = Server::login();
    login.properties = Args::new().table(&[]).0;
    let mut plain = Client::connect(server.address, &login);
    plain.open_channel(1);
    consumer.declare(1, "q", 0);
    consumer.consume(1, "q", "tag", 0);
    plain.consume(1, "q", "plain", 0);
    delete_queue(&mut other, "q", 0);
    other.expect(1, 50, 41);
    let cancel = consumer.expect(1, 60, 30);
    assert_eq!(cancel.arguments().short_string(), "tag");
    assert!(plain.is_silent(), "a client that does not know basic.cancel gets none");
    consumer.cancel(1, "tag");
}

#[test]
fn purging_drops_what_waits_and_not_what_is_out() {
    let server = Server::start();
    let mut client = server.publisher();
    client.declare(1, "q", DURABLE);
    for body in [b"a", b"b", b"c"] {
        client.publish_confirmed(1, "q", body);
    }
    let out = client.get(1, "q", false).unwrap();
    client.method(1, 50, 30, Args::new().short(0).short_string("q").octet(0));
    assert_eq!(client.expect(1, 50, 31).arguments().long(), 2);
    client.nack(1, out.tag, 2);
    let again = client.get(1, "q", false).unwrap();
    assert_eq!((again.content.body.as_slice(), again.redelivered), (&b"a"[..], true));
    assert!(client.get(1, "q", false).is_none());
}

#[test]
fn exchanges_route_by_their_kind() {
    let server = Server::start();
    let mut client = server.publisher();
    for (exchange, kind) in [("d", "direct"), ("f", "fanout"), ("t", "topic")] {
        declare_exchange(&mut client, exchange, kind, 0);
    }
    for queue in ["one", "two"] {
        client.declare(1, queue, 0);
    }
    bind(&mut client, "one", "d", "k");
    bind(&mut client, "one", "d", "k");
    bind(&mut client, "one", "f", "ignored");
    bind(&mut client, "two", "f", "");
    bind(&mut client, "one", "t", "a.*");
    bind(&mut client, "one", "t", "#");
    bind(&mut client, "two", "t", "*.b.#");
    let mut route = |exchange: &str, key: &str| {
        client.publish(1, exchange, key, false, b"x");
        client.expect(1, 60, 80);
        let count = |client: &mut Client, queue: &str| {
            let mut count = 0;
            while client.get(1, queue, true).is_some() {
                count += 1;
            }
            count
        };
        (count(&mut client, "one"), count(&mut client, "two"))
    };
    assert_eq!(route("d", "k"), (1, 0), "bound twice alike is bound once");
    assert_eq!(route("d", "other"), (0, 0));
    assert_eq!(route("f", "anything"), (1, 1));
    assert_eq!(route("t", "a.b"), (1, 1), "two matching bindings deliver once");
    assert_eq!(route("t", "x"), (1, 0));
    assert_eq!(route("amq.fanout", "x"), (0, 0));
    send_unbind(&mut client, "one", "d", "k");
    client.expect(1, 50, 51);
    send_unbind(&mut client, "one", "d", "k");
    client.expect(1, 50, 51);
    client.publish(1, "d", "k", true, b"x");
    client.expect(1, 60, 50);
}

#[test]
fn the_rules_for_exchanges_hold() {
    let server = Server::start();
    let mut client = server.client();
    for exchange in ["amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match"] {
        send_exchange(&mut client, exchange, "", 1, &[]);
        client.expect(1, 40, 11);
    }
    declare_exchange(&mut client, "amq.topic", "topic", 2);
    send_exchange(&mut client, "amq.mine", "topic", 0, &[]);
    refused(&mut client, 403, "reserved prefix");
    send_exchange(&mut client, "absent", "", 1, &[]);
    refused(&mut client, 404, "no exchange 'absent' in vhost '/'");
    declare_exchange(&mut client, "e", "direct", 0);
    send_exchange(&mut client, "e", "topic", 0, &[]);
    refused(&mut client, 406, "inequivalent arg 'type'");
    send_exchange(&mut client, "e", "direct", 2, &[]);
    refused(&mut client, 406, "inequivalent arg 'durable'");
    send_exchange(&mut client, "a", "direct", 0, &[("alternate-exchange", b"t\x01")]);
    refused(&mut client, 406, "alternate-exchange");
    send_exchange(&mut client, "", "direct", 0, &[]);
    refused(&mut client, 403, "default exchange");
    delete_exchange(&mut client, "", 0);
    refused(&mut client, 403, "default exchange");
    delete_exchange(&mut client, "amq.direct", 0);
    refused(&mut client, 403, "amq.");
    delete_exchange(&mut client, "absent", 0);
    client.expect(1, 40, 21);
    client.declare(1, "q", 0);
    send_bind(&mut client, "q", "", "k");
    refused(&mut client, 403, "default exchange");
    send_bind(&mut client, "q", "absent", "k");
    refused(&mut client, 404, "no exchange 'absent'");
    send_bind(&mut client, "absent", "e", "k");
    refused(&mut client, 404, "no queue 'absent'");
    bind(&mut client, "q", "e", "k");
    delete_exchange(&mut client, "e", 1);
    refused(&mut client, 406, "in use");
    delete_exchange(&mut client, "e", 0);
    client.expect(1, 40, 21);
    declare_exchange(&mut client, "internal", "direct", 8);
    client.publish(1, "internal", "k", false, b"x");
    refused(&mut client, 403, "internal");
    declare_exchange(&mut client, "temporary", "direct", 4);
    bind(&mut client, "q", "temporary", "k");
    send_unbind(&mut client, "q", "temporary", "k");
    client.expect(1, 50, 51);
    send_exchange(&mut client, "temporary", "", 1, &[]);
    refused(&mut client, 404, "temporary");
}

#[test]
fn unknown_kinds_of_exchange_end_the_connection() {
    let server = Server::start();
    let mut client = server.client();
    send_exchange(&mut client, "e", "x-delayed-message", 0, &[]);
    client.expect_connection_close(503, "x-delayed-message");
}

#[test]
fn durable_queues_exchanges_and_bindings_come_back_and_no_others() {
    let mut server = Server::start();
    let mut client = server.client();
    client.declare(1, "durable", DURABLE);
    client.declare(1, "transient", 0);
    client.declare(1, "deleted", DURABLE);
    declare_exchange(&mut client, "kept", "topic", 2);
    declare_exchange(&mut client, "lost", "topic", 0);
    bind(&mut client, "durable", "kept", "a.#");
    bind(&mut client, "durable", "amq.direct", "d");
    bind(&mut client, "transient", "kept", "a.#");
    delete_queue(&mut client, "deleted", 0);
    client.expect(1, 50, 41);
    server.restart_after_kill();
    let mut client = server.publisher();
    client.publish(1, "kept", "a.b", true, b"x");
    client.expect(1, 60, 80);
    client.publish(1, "amq.direct", "d", true, b"y");
    client.expect(1, 60, 80);
    assert_eq!(client.depth(1, "durable"), 2);
    for absent in ["transient", "deleted"] {
        client.send_declare(1, absent, PASSIVE, &[]);
        refused(&mut client, 404, absent);
    }
    send_exchange(&mut client, "lost", "", 1, &[]);
    refused(&mut client, 404, "lost");
}

/// Durable, auto-delete.
const PASSING: u8 = 2 | 4;

fn exists(client: &mut Client, exchange: &str) -> bool {
    send_exchange(client, exchange, "", 1, &[]);
    let frame = client.frame();
    let exists = frame.ids() == (40, 11);
    if !exists {
        assert_eq!(frame.ids(), (20, 40));
        client.method(1, 20, 41, Args::new());
        client.open_channel(1);
    }
    exists
}

#[test]
fn an_auto_delete_exchange_that_went_does_not_come_back() {
    let mut server = Server::start();
    let mut client = server.client();
    client.declare(1, "transient", 0);
    client.declare(1, "unbound", 0);
    for (exchange, queue) in [("deleted", "transient"), ("unbound", "unbound")] {
        declare_exchange(&mut client, exchange, "fanout", PASSING);
        bind(&mut client, queue, exchange, "");
    }
    // The last binding goes, once with its queue and once by itself.
    delete_queue(&mut client, "transient", 0);
    client.expect(1, 50, 41);
    send_unbind(&mut client, "unbound", "unbound", "");
    client.expect(1, 50, 51);
    assert!(!exists(&mut client, "deleted") && !exists(&mut client, "unbound"));
    server.restart_after_kill();
    let mut client = server.client();
    assert!(!exists(&mut client, "deleted") && !exists(&mut client, "unbound"));
}

#[test]
fn a_durable_auto_delete_exchange_survives_the_loss_of_its_transient_queues_in_a_restart() {
    let mut server = Server::start();
    let mut client = server.client();
    client.declare(1, "transient", 0);
    client.declare(1, "durable", DURABLE);
    for exchange in ["never bound", "transient", "both"] {
        declare_exchange(&mut client, exchange, "fanout", PASSING);
    }
    for (queue, exchange) in [("transient", "transient"), ("transient", "both"), ("durable", "both")] {
        bind(&mut client, queue, exchange, "");
    }
    // RabbitMQ 3.10 keeps all three, whether it is stopped or killed.
    for orderly in [true, false] {
        if orderly {
            assert!(server.stop().success());
            server.run();
        } else {
            server.restart_after_kill();
        }
        let mut client = server.client();
        for exchange in ["never bound", "transient", "both"] {
            assert!(exists(&mut client, exchange), "{exchange}");
        }
    }
    // The next last binding takes it along as always.
    let mut client = server.client();
    send_unbind(&mut client, "durable", "both", "");
    client.expect(1, 50, 51);
    assert!(!exists(&mut client, "both") && exists(&mut client, "transient"));
}
