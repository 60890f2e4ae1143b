//! Limits of the process: descriptors and memory, however many clients share them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::TcpStream;

use crate::server::{Server, eventually};
use crate::support::{Args, Client, DURABLE, HEADER, PERSISTENT};

/// What a broker may take at its peak, in KiB.
const MEMORY_KIB: u64 = 64 << 10;
const BODY_BYTES: usize = 16 << 20;

/// Raises this process' own limit of open files, for many sockets.
fn raise_own_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// A message of 60 bytes.
fn numbered(number: u64) -> Vec<u8> {
    let mut body = number.to_be_bytes().to_vec();
    body.resize(60, 0);
    body
}

/// Publishes numbered messages, with a thousand unconfirmed at most.
fn publish_numbered(publisher: &mut Client, queue: &str, count: u64) {
    let (mut sent, mut confirmed) = (0, 0);
    while confirmed < count {
        while sent < count && sent < confirmed + 1000 {
            publisher.queue_publish(1, "", queue, false, (PERSISTENT, &numbered(sent)));
            sent += 1;
        }
        publisher.flush();
        confirmed = publisher.expect(1, 60, 80).arguments().long_long();
    }
}

fn expect_numbered(consumer: &mut Client, queue: &str, count: u64) {
    consumer.qos(1, 1000, false);
    consumer.consume(1, queue, "t", 0);
    for number in 0..count {
        let got = consumer.delivery(1);
        assert_eq!(got.content.body, numbered(number));
        if number % 500 == 499 || number + 1 == count {
            consumer.ack(1, got.tag, true);
        }
    }
}

/// The first part of a message of 16 MiB, all but `missing` bytes.
fn queue_unfinished(client: &mut Client, missing: usize) {
    let args = Args::new().short(0).short_string("").short_string("q").octet(0);
    client.queue_method(1, 60, 40, &args);
    let mut header = Args::new().short(60).short(0).long_long(BODY_BYTES as u64).0;
    header.extend_from_slice(PERSISTENT);
    client.queue_frame(HEADER, 1, &header);
    let body = vec![0; BODY_BYTES - missing];
    for piece in body.chunks(client.frame_max as usize - 8) {
        client.queue_frame(crate::support::BODY, 1, piece);
    }
}

#[test]
fn thousands_of_silent_sockets_take_no_place_from_others() {
    raise_own_limit();
    let mut server = Server::with_open_files(128, &[]);
    let mut first = server.publisher();
    first.declare(1, "q", DURABLE);
    let sockets: Vec<_> = (0..3000).filter_map(|_| TcpStream::connect(server.address).ok()).collect();
    first.publish_confirmed(1, "q", b"before");
    // Whoever comes later finds a place, too, and the log can still open files.
    let mut second = server.publisher();
    second.publish_confirmed(1, "q", b"after");
    assert_eq!(second.get(1, "q", true).unwrap().content.body, b"before");
    assert!(server.log().contains("connections instead of 2048"), "{}", server.log());
    drop(sockets);
    assert!(server.stop().success());
}

#[test]
fn those_who_are_logged_in_never_make_room() {
    let server = Server::with(&[("BROKER_MAX_CONNECTIONS", "3")]);
    let mut first = server.client();
    let silent = Client::dial(server.address);
    let mut half = Client::dial(server.address);
    half.raw(b"AMQP\x00\x00\x09\x01");
    half.expect(0, 10, 10);
    let mut second = server.client();
    let mut silent = silent;
    assert_eq!(silent.try_frame(), None, "the one that had said nothing made room");
    let mut third = server.client();
    assert_eq!(half.try_frame(), None, "then the one that was not logged in");
    let mut fourth = Client::dial(server.address);
    assert_eq!(fourth.try_frame(), None, "and then there is no room");
    for client in [&mut first, &mut second, &mut third] {
        client.declare(1, "q", DURABLE);
    }
}

#[test]
fn a_backlog_over_many_segments_needs_few_descriptors() {
    const COUNT: u64 = 100_000;
    let settings = [("BROKER_SEGMENT_BYTES", "65536")];
    let mut server = Server::with_open_files(128, &settings);
    let mut publisher = server.publisher();
    publisher.declare(1, "q", DURABLE);
    publish_numbered(&mut publisher, "q", COUNT);
    let segments = std::fs::read_dir(&server.folder).unwrap().count();
    assert!(segments > 128, "only {segments} files");
    server.restart_after_kill();
    expect_numbered(&mut server.client(), "q", COUNT);
    assert!(server.stop().success());
}

#[test]
fn a_client_that_gets_and_returns_without_reading_takes_little_memory() {
    let server = Server::with(&[("BROKER_SEND_TIMEOUT_MS", "3000")]);
    let mut publisher = server.publisher();
    publisher.declare(1, "q", DURABLE);
    publisher.publish_confirmed(1, "q", &vec![7; 100_000]);
    let mut greedy = server.client();
    for tag in 1..=10_000 {
        let args = Args::new().short(0).short_string("q").octet(0);
        greedy.queue_method(1, 60, 70, &args);
        greedy.queue_method(1, 60, 120, &Args::new().long_long(tag).octet(2));
    }
    let asked = std::thread::spawn(move || {
        greedy.try_flush();
        greedy
    });
    publisher.publish_confirmed(1, "q", b"served meanwhile");
    eventually("the greedy client is dropped", || server.log().contains("connection dropped").then_some(()));
    assert!(server.peak_kib() < MEMORY_KIB, "{} KiB", server.peak_kib());
    drop(asked.join());
    publisher.publish_confirmed(1, "q", b"and after");
}

#[test]
fn unfinished_messages_share_one_budget() {
    let server = Server::start();
    let mut honest = server.publisher();
    honest.declare(1, "q", DURABLE);
    let clients: Vec<_> = (0..60)
        .map(|_| {
            let mut client = server.publisher();
            std::thread::spawn(move || {
                queue_unfinished(&mut client, 1);
                client.try_flush();
                client
            })
        })
        .collect();
    eventually("memory is short", || {
        let text = server.anonymous().get("/metrics").body;
        text.contains("rabbitmq_alarms_memory_used_watermark 1").then_some(())
    });
    honest.publish_confirmed(1, "q", b"a small one");
    // A large one has to wait, and its turn comes: those who keep it waiting and send nothing are dropped.
    honest.publish(1, "", "q", false, &vec![1; 300_000]);
    loop {
        let frame = honest.frame();
        match (frame.channel, frame.ids()) {
            (1, (60, 80)) => break,
            (0, (10, 60)) => assert_eq!(frame.arguments().short_string(), "low on memory"),
            other => assert_eq!(other, (0, (10, 61))),
        }
    }
    assert!(server.peak_kib() < MEMORY_KIB, "{} KiB", server.peak_kib());
    // They write until the broker is gone.
    drop(server);
    for client in clients {
        drop(client.join());
    }
}

#[test]
fn clients_that_do_not_read_large_messages_hold_up_nobody() {
    let server = Server::start();
    let mut publisher = server.publisher();
    publisher.declare(1, "large", DURABLE);
    publisher.declare(1, "small", DURABLE);
    let mut deaf = Vec::new();
    for _ in 0..10 {
        publisher.publish_confirmed(1, "large", &vec![1; 8 << 20]);
        let mut client = server.client();
        client.qos(1, 1, false);
        client.send_consume(1, "large", "t", 0);
        deaf.push(client);
    }
    let mut reader = server.client();
    reader.consume(1, "small", "t", 0);
    for number in 0..100_u64 {
        publisher.publish_confirmed(1, "small", &number.to_be_bytes());
        assert_eq!(reader.delivery(1).content.body, number.to_be_bytes());
    }
    // The large ones reach whoever reads them, once those are dropped that do not.
    let mut honest = server.client();
    honest.qos(1, 1, false);
    honest.consume(1, "large", "t", 0);
    for _ in 0..5 {
        let got = honest.delivery(1);
        assert_eq!(got.content.body.len(), 8 << 20);
        honest.ack(1, got.tag, false);
    }
}

#[test]
fn the_largest_message_is_delivered_with_all_its_headers() {
    let server = Server::start();
    let mut publisher = server.publisher();
    publisher.declare(1, "q", DURABLE);
    // Only headers, one of them of 100 KB.
    let text = Args::new().octet(b'S').long_string(&vec![b'x'; 100_000]).0;
    let properties = Args::new().short(0x2000).table(&[("large", &text)]).0;
    let body = vec![3; BODY_BYTES];
    for ask in [false, true] {
        publisher.queue_publish(1, "", "q", false, (&properties, &body));
        publisher.flush();
        publisher.expect(1, 60, 80);
        let mut consumer = server.client();
        let got = if ask {
            consumer.get(1, "q", true).unwrap()
        } else {
            consumer.consume(1, "q", "t", 0);
            let got = consumer.delivery(1);
            consumer.ack(1, got.tag, false);
            got
        };
        assert_eq!((got.content.body.len(), got.content.properties.len()), (BODY_BYTES, properties.len()));
        drop(consumer);
    }
}
