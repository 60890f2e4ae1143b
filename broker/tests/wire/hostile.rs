//! Clients that misbehave, and many of them.

use std::io::Write;

use crate::server::{Server, eventually};
use crate::support::{Args, Client, DURABLE, PASSIVE, PERSISTENT};

#[test]
fn half_a_frame_holds_up_nobody() {
    let server = Server::start();
    let mut half = server.client();
    half.raw(b"\x01\0\x01\0\0\0\x0d\0\x3c");
    let mut other = server.publisher();
    other.declare(1, "q", DURABLE);
    other.publish_confirmed(1, "q", b"x");
    // The other half makes it whole: an ack of an unknown tag.
    half.raw(b"\0\x50\0\0\0\0\0\0\0\x05\0\xce");
    half.expect_channel_close(1, 406, "unknown delivery tag 5");
}

#[test]
fn a_client_that_never_reads_holds_up_nobody_and_is_dropped_in_the_end() {
    let server = Server::with(&[("BROKER_SEND_TIMEOUT_MS", "3000")]);
    let mut publisher = server.publisher();
    publisher.declare(1, "q", DURABLE);
    let mut deaf = server.client();
    deaf.consume(1, "q", "t", 0);
    let body = vec![7; 100_000];
    // Far more than its socket and the broker's buffer for it hold.
    for _ in 0..400 {
        publisher.publish_confirmed(1, "q", &body);
    }
    let mut reader = server.client();
    reader.consume(1, "q", "t", 0);
    // Whatever was given to the deaf one comes to the reader when it is dropped.
    for _ in 0..400 {
        reader.delivery(1);
    }
    drop(deaf);
}

#[test]
fn a_client_that_asks_and_never_reads_stops_being_heard() {
    let server = Server::with(&[("BROKER_SEND_TIMEOUT_MS", "3000")]);
    let mut client = server.client();
    client.declare(1, "q", DURABLE);
    client.stream.set_write_timeout(Some(crate::support::PATIENCE)).unwrap();
    let ask = {
        let args = Args::new().short(0).short_string("q").octet(PASSIVE).table(&[]);
        client.queue_method(1, 50, 10, &args);
        std::mem::take(&mut client.output).repeat(10_000)
    };
    // The broker stops reading, and then drops it: writing fails in the end.
    eventually("the broker drops the client", || client.stream.write_all(&ask).err());
    server.client().depth(1, "q");
}

#[test]
fn a_thousand_connections_are_served() {
    let server = Server::start();
    let login = Server::login();
    let mut clients: Vec<_> = (0..1_000).map(|_| Client::connect(server.address, &login)).collect();
    let mut publisher = server.publisher();
    publisher.declare(1, "q", DURABLE);
    for client in &mut clients {
        client.open_channel(1);
        client.qos(1, 1, false);
        client.consume(1, "q", "t", 0);
    }
    for _ in 0..1_000 {
        publisher.queue_publish(1, "", "q", false, (PERSISTENT, b"for everybody one"));
    }
    publisher.flush();
    while publisher.expect(1, 60, 80).arguments().long_long() < 1_000 {}
    for client in &mut clients {
        let tag = client.delivery(1).tag;
        client.ack(1, tag, false);
    }
    drop(clients);
    eventually("they are gone", || {
        (publisher.declare(1, "q", PASSIVE) == ("q".to_owned(), 0, 0)).then_some(())
    });
}

#[test]
fn connections_beyond_the_limit_are_refused() {
    let server = Server::with(&[("BROKER_MAX_CONNECTIONS", "2")]);
    let first = server.client();
    let _second = server.client();
    let mut third = Client::dial(server.address);
    third.stream.write_all(b"AMQP\x00\x00\x09\x01").unwrap();
    assert_eq!(third.try_frame(), None);
    drop(first);
    eventually("a place is free", || {
        let mut client = Client::dial(server.address);
        client.stream.write_all(b"AMQP\x00\x00\x09\x01").ok()?;
        client.try_frame()
    });
}

#[test]
fn random_bytes_and_early_ends_harm_nobody() {
    let server = Server::start();
    let mut seed = 12_345_u64;
    for round in 0..200 {
        let mut client = if round % 2 == 0 { Client::dial(server.address) } else { server.client() };
        let bytes: Vec<u8> = (0..(round * 7 % 300))
            .map(|_| {
                // Knuth's multiplier; any noise will do.
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 56) as u8
            })
            .collect();
        let _ = client.stream.write_all(&bytes);
    }
    server.client().declare(1, "q", DURABLE);
}
