//! Limits of the process: descriptors and memory, however many clients share them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::TcpStream;

use crate::server::{Server, eventually};
use crate::support::{Args, Client, DURABLE, HEADER, Login, PERSISTENT};

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
    let figures = server.anonymous();
    let counted =
        ["displaced", "refused"].map(|how| figures.metric(&format!("broker_connections_{how}_total")));
    assert_eq!(counted, [2, 1]);
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
    let figures = server.anonymous();
    let limit = figures.metric("broker_memory_buffered_limit_bytes");
    // One message of those that arrive may exceed it.
    let buffered = figures.metric("broker_memory_buffered_bytes");
    assert!((limit / 2..=limit + BODY_BYTES as u64).contains(&buffered), "{buffered}");
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

#[test]
fn logins_that_wait_for_their_refusal_keep_nobody_out() {
    let server = Server::with(&[("BROKER_MAX_CONNECTIONS", "4")]);
    let wrong = Login::new("nobody", "wrong");
    let fail = || {
        let mut client = Client::dial(server.address);
        client.begin(&wrong);
        client
    };
    // After these a refusal takes two seconds.
    (0..3).for_each(|_| fail().expect_connection_close(403, "Login was refused"));
    let waiting = [fail(), fail()];
    let half = [(); 2].map(|()| {
        let mut client = Client::dial(server.address);
        client.raw(b"AMQP\x00\x00\x09\x01");
        client.expect(0, 10, 10);
        client
    });
    server.client().declare(1, "q", DURABLE);
    drop((waiting, half));
}

#[test]
fn a_message_whose_receiver_is_gone_before_there_is_memory_for_it_returns() {
    let server = Server::start();
    let (api, mut publisher) = (server.api(), server.publisher());
    let body = vec![1; 8 << 20];
    publisher.declare(1, "wanted", DURABLE);
    publisher.publish_confirmed(1, "wanted", &body);
    let mut deaf = Vec::new();
    for number in 0..4 {
        let queue = format!("deaf-{number}");
        publisher.declare(1, &queue, DURABLE);
        publisher.publish_confirmed(1, &queue, &body);
        deaf.push((server.client(), queue));
    }
    // A heartbeat that cannot be sent tells the broker that it is gone.
    let mut receiver = Client::connect(server.address, &Login { heartbeat: 1, ..Server::login() });
    receiver.open_channel(1);
    for (client, queue) in &mut deaf {
        client.send_consume(1, queue, "t", 0);
    }
    eventually("memory is short", || {
        let text = server.anonymous().get("/metrics").body;
        text.contains("rabbitmq_alarms_memory_used_watermark 1").then_some(())
    });
    receiver.method(1, 60, 70, Args::new().short(0).short_string("wanted").octet(0));
    eventually("the message is taken", || {
        (api.json("/api/queues/%2F/wanted")["messages_unacknowledged"] == 1).then_some(())
    });
    drop(receiver);
    eventually("the message is back", || {
        (api.json("/api/queues/%2F/wanted")["messages_ready"] == 1).then_some(())
    });
}

#[test]
fn channels_and_consumers_have_limits_for_all_connections() {
    const LIMIT: usize = 32_768;
    let server = Server::start();
    let mut clients = Vec::new();
    let mut left = LIMIT;
    while left > 0 {
        let mut client = Client::connect(server.address, &Server::login());
        let channels = u16::try_from(left.min(2047)).unwrap();
        for channel in 1..=channels {
            client.queue_method(channel, 20, 10, &Args::new().short_string(""));
        }
        client.flush();
        (1..=channels).for_each(|channel| _ = client.expect(channel, 20, 11));
        left -= usize::from(channels);
        clients.push(client);
    }
    let mut client = Client::connect(server.address, &Server::login());
    client.method(1, 20, 10, Args::new().short_string(""));
    client.expect_connection_close(506, "there are 32768 channels, the most allowed");
    // Many queues, since each looks through its consumers.
    let client = &mut clients[0];
    for number in 0..128 {
        let queue = format!("q{number}");
        client.declare(1, &queue, 0);
        for _ in 0..LIMIT / 128 {
            // No answer is wanted.
            let args = Args::new().short(0).short_string(&queue).short_string("").octet(8).table(&[]);
            client.queue_method(1, 60, 20, &args);
        }
        client.flush();
    }
    client.send_consume(1, "q0", "one more", 0);
    client.expect_channel_close(1, 506, "there are 32768 consumers, the most allowed");
    // Those of the channel that was closed are gone.
    client.open_channel(1);
    client.consume(1, "q0", "t", 0);
}

#[test]
fn a_message_with_thousands_of_routing_keys_holds_up_nobody() {
    let server = Server::start();
    let mut busy = server.publisher();
    busy.declare(1, "q", 0);
    for number in 0..500 {
        bind(&mut busy, &format!("a.{number}.#"), &[]);
    }
    let mut keys = Vec::new();
    for number in 0..4000 {
        keys.push(b'S');
        keys.extend(Args::new().long_string(format!("k{number}").as_bytes()).0);
    }
    let copies = Args::new().octet(b'A').long_string(&keys).0;
    let properties = Args::new().short(0x2000).table(&[("CC", &copies)]).0;
    busy.queue_publish(1, "amq.topic", "k", false, (&properties, b""));
    let (mut declarer, mut publisher) = (server.client(), server.publisher());
    busy.flush();
    // At some time during these its keys begin to be looked up.
    for number in 0..30 {
        let queue = format!("another-{number}");
        declarer.declare(1, &queue, 0);
        publisher.publish_confirmed(1, &queue, b"x");
    }
    assert!(busy.is_silent(), "its keys have all been looked up already: the test needs more");
    busy.expect(1, 60, 80);
}

#[test]
fn the_arguments_of_queues_and_bindings_have_limits() {
    let server = Server::start();
    let mut client = server.client();
    client.declare(1, "q", 0);
    let text = Args::new().octet(b'S').long_string(&vec![b'x'; 100_000]).0;
    let arguments = [("large", text.as_slice())];
    let mut count = 0;
    let refused = loop {
        count += 1;
        send_bind(&mut client, &count.to_string(), &arguments);
        let frame = client.frame();
        if frame.ids() != (50, 21) {
            break frame;
        }
    };
    assert_eq!((refused.ids(), refused.arguments().short()), ((20, 40), 506));
    assert!((150..170).contains(&count), "{count}");
    let figures = server.anonymous();
    let (used, limit) = ("broker_memory_bindings_bytes", "broker_memory_bindings_limit_bytes");
    let (used, limit) = (figures.metric(used), figures.metric(limit));
    assert!((limit - 110_000..=limit).contains(&used), "{used} of {limit}");
    client.method(1, 20, 41, Args::new());
    client.open_channel(1);
    // What is removed makes room.
    let args = Args::new().short(0).short_string("q").short_string("amq.topic").short_string("1");
    client.method(1, 50, 50, args.table(&arguments));
    client.expect(1, 50, 51);
    bind(&mut client, "again", &arguments);
    client.send_declare(1, "another", 0, &arguments);
    client.expect_channel_close(1, 506, "the arguments of a queue may take 4096 bytes");
}

fn send_bind(client: &mut Client, key: &str, arguments: &[(&str, &[u8])]) {
    let args = Args::new().short(0).short_string("q").short_string("amq.topic").short_string(key);
    client.method(1, 50, 20, args.octet(0).table(arguments));
}

fn bind(client: &mut Client, key: &str, arguments: &[(&str, &[u8])]) {
    send_bind(client, key, arguments);
    client.expect(1, 50, 21);
}
