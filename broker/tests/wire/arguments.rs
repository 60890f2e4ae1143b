//! Arguments of queues: what is refused, with RabbitMQ's words, and what a second declaration has to say.

use crate::properties::{number, text};
use crate::server::Server;
use crate::support::{AUTO_DELETE, Args, Client, DURABLE, EXCLUSIVE};
use crate::topology::send_exchange;

/// Declares a queue that must not be; the channel is opened anew.
fn refused(client: &mut Client, bits: u8, arguments: &[(&str, &[u8])], reason: &str) {
    client.send_declare(1, "q", bits, arguments);
    client.expect_channel_close(1, 406, reason);
    client.open_channel(1);
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let server = Server::start();
    let mut client = server.client();
    let (minus, word, kind) = (number(u32::MAX), text("word"), text("quorum"));
    for (name, value, reason) in [
        ("x-message-ttl", &minus, "{value_negative,-1}"),
        ("x-message-ttl", &word, "\"expected integer, got longstr\""),
        ("x-expires", &number(0), "{value_zero,0}"),
        ("x-max-length", &minus, "{value_negative,-1}"),
        ("x-max-length-bytes", &word, "\"expected integer, got longstr\""),
        ("x-overflow", &word, "invalid_overflow"),
        ("x-dead-letter-routing-key", &word, "routing_key_but_no_dlx_defined"),
        ("x-single-active-consumer", &word, "{unacceptable_type,longstr}"),
        ("x-queue-type", &word, "\"unsupported queue type 'word'\""),
        ("x-queue-mode", &word, "\"unsupported queue mode 'word'\""),
    ] {
        let reason = format!("invalid arg '{name}' for queue 'q' in vhost '/': {reason}");
        refused(&mut client, DURABLE, &[(name, value)], &reason);
    }
    let reason =
        "invalid arg 'x-delivery-limit' for queue 'q' in vhost '/' of queue type rabbit_classic_queue";
    refused(&mut client, DURABLE, &[("x-delivery-limit", &number(3))], reason);
    let quorum = [("x-queue-type", kind.as_slice())];
    for (bits, property) in
        [(0, "non-durable"), (DURABLE | EXCLUSIVE, "exclusive-owner"), (DURABLE | AUTO_DELETE, "auto-delete")]
    {
        let reason = format!("invalid property '{property}' for queue 'q' in vhost '/'");
        refused(&mut client, bits, &quorum, &reason);
    }
}

#[test]
fn what_rabbitmq_would_do_and_this_broker_does_not_is_refused_and_the_rest_is_ignored() {
    let server = Server::start();
    for (name, value) in [
        ("x-max-priority", number(5)),
        ("x-queue-type", text("stream")),
        ("x-consumer-timeout", number(1000)),
    ] {
        let mut client = server.client();
        client.send_declare(1, "q", DURABLE, &[(name, &value)]);
        client.expect_connection_close(540, name);
    }
    let mut client = server.client();
    client.declare(1, "q", 0);
    let args = Args::new().short(0).short_string("q").short_string("t").octet(0);
    client.method(1, 60, 20, args.table(&[("x-priority", &number(3))]));
    client.expect_connection_close(540, "x-priority");
    let mut client = server.client();
    client.send_declare(1, "other", 0, &[("x-anything", b"V"), ("x-queue-mode", &text("lazy"))]);
    client.expect(1, 50, 11);
}

#[test]
fn an_exchange_ignores_arguments_that_rabbitmq_ignores() {
    let server = Server::start();
    let mut client = server.client();
    for arguments in
        [&[("x-anything", b"V".as_slice()), ("note", b"t\x01")][..], &[("x-message-ttl", b"t\x01")], &[]]
    {
        send_exchange(&mut client, "e", "direct", 0, arguments);
        client.expect(1, 40, 11);
    }
    send_exchange(&mut client, "delayed", "x-delayed-message", 0, &[("x-delayed-type", &text("direct"))]);
    client.expect_connection_close(503, "unknown exchange type 'x-delayed-message'");
}

#[test]
fn direct_reply_to_is_refused_wherever_a_client_may_ask_for_it() {
    const QUEUE: &str = "amq.rabbitmq.reply-to";
    let server = Server::start();
    let mut client = server.client();
    client.send_consume(1, QUEUE, "t", 2);
    client.expect_connection_close(540, "direct reply-to");
    let mut client = server.client();
    client.send_declare(1, QUEUE, 0, &[]);
    client.expect_channel_close(1, 403, QUEUE);
    client.open_channel(1);
    client.declare(1, "questions", 0);
    // The flag of reply_to alone.
    let reply_to = |name: &str| Args::new().short(1 << 9).short_string(name).0;
    client.confirm_select(1);
    client.queue_publish(1, "", "questions", false, (&reply_to("answers"), b"asked"));
    client.flush();
    client.expect(1, 60, 80);
    client.queue_publish(1, "", "questions", false, (&reply_to(QUEUE), b"refused"));
    client.flush();
    client.expect_channel_close(1, 406, "fast reply consumer does not exist");
    client.open_channel(1);
    assert_eq!(client.depth(1, "questions"), 1);
}

#[test]
fn a_second_declaration_has_to_ask_for_the_same_after_a_restart_too() {
    let mut server = Server::start();
    let arguments = [("x-message-ttl", number(60_000)), ("x-overflow", text("drop-head"))];
    let arguments: Vec<(&str, &[u8])> = arguments.iter().map(|(name, value)| (*name, &value[..])).collect();
    for _ in 0..2 {
        let mut client = server.client();
        client.send_declare(1, "q", DURABLE, &arguments);
        client.expect(1, 50, 11);
        // The width of a number does not matter.
        let same = Args::new().octet(b'l').long_long(60_000).0;
        client.send_declare(1, "q", DURABLE, &[("x-message-ttl", &same), arguments[1], ("x-new", b"V")]);
        client.expect(1, 50, 11);
        let prefix = "inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received";
        let other = number(1);
        for (declared, difference) in [
            (&[("x-message-ttl", other.as_slice())][..], "'1' but current is '60000'"),
            (&[], "none but current is the value '60000' of type 'signedint'"),
        ] {
            refused(&mut client, DURABLE, declared, &format!("{prefix} {difference}"));
        }
        // Without arguments it is the same whether the type is named or not.
        client.declare(1, "plain", DURABLE);
        client.send_declare(1, "plain", DURABLE, &[("x-queue-type", &text("classic"))]);
        client.expect(1, 50, 11);
        server.restart_after_kill();
    }
}
