//! Handshake, tuning, heartbeats, closing, and the connection errors.

use std::time::{Duration, Instant};

use crate::server::{PASSWORD, Server, USER};
use crate::support::{Args, BODY, Client, HEADER, HEARTBEAT, Login, METHOD};

#[test]
fn a_wrong_protocol_header_is_answered_with_the_right_one() {
    let server = Server::start();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"AMQP\x01\x01\x00\x0a", b"AMQP\x00\x01\x00\x00"] {
        let mut client = Client::dial(server.address);
        client.raw(bytes);
        let mut answer = Vec::new();
        // A reset may follow, since the broker did not read everything.
        let _ = std::io::Read::read_to_end(&mut client.stream, &mut answer);
        assert_eq!(answer, b"AMQP\x00\x00\x09\x01");
    }
}

#[test]
fn silence_is_closed_after_the_handshake_timeout() {
    let server = Server::with(&[("BROKER_HANDSHAKE_TIMEOUT_MS", "2000")]);
    let started = Instant::now();
    let mut silent = Client::dial(server.address);
    let mut half = Client::dial(server.address);
    half.raw(b"AMQP");
    let mut later = Client::dial(server.address);
    later.begin(&Server::login());
    later.expect(0, 10, 30);
    assert_eq!(silent.try_frame(), None);
    assert_eq!(half.try_frame(), None);
    assert_eq!(later.try_frame(), None);
    assert!(started.elapsed() >= Duration::from_millis(1_900));
}

#[test]
fn tune_has_the_documented_limits_and_they_can_only_be_lowered() {
    let server = Server::start();
    let tuned = |channel_max, frame_max| {
        let mut client = Client::dial(server.address);
        client.begin(&Server::login());
        let tune = client.expect(0, 10, 30);
        let mut arguments = tune.arguments();
        assert_eq!((arguments.short(), arguments.long(), arguments.short()), (2047, 131_072, 60));
        client.tune_and_open(channel_max, frame_max, 0);
        client
    };
    tuned(1, 4096).expect(0, 10, 41);
    for (channel_max, frame_max) in [(2048, 131_072), (0, 131_072), (2047, 131_073), (2047, 0), (2047, 4095)]
    {
        tuned(channel_max, frame_max).expect_connection_close(530, "negotiated");
    }
}

#[test]
fn the_server_properties_have_the_types_that_clients_expect() {
    let server = Server::start();
    let mut client = Client::dial(server.address);
    client.raw(b"AMQP\x00\x00\x09\x01");
    let start = client.expect(0, 10, 10);
    let text = String::from_utf8_lossy(&start.payload).into_owned();
    for name in ["product", "version", "platform", "cluster_name", "information", "copyright"] {
        let at = text.find(&format!("{name}S")).unwrap_or_else(|| panic!("{name} is a long string: {text}"));
        assert!(at > 0);
    }
    for (name, value) in [
        ("publisher_confirms", 1),
        ("basic.nack", 1),
        ("consumer_cancel_notify", 1),
        ("connection.blocked", 1),
        ("authentication_failure_close", 1),
        ("per_consumer_qos", 1),
        ("exchange_exchange_bindings", 1),
    ] {
        let mut field = name.as_bytes().to_vec();
        field.extend_from_slice(&[b't', value]);
        assert!(start.payload.windows(field.len()).any(|window| window == field), "{name}");
    }
    assert!(text.contains("PLAIN AMQPLAIN") && text.contains("en_US"));
}

#[test]
fn a_wrong_password_is_told_or_closed_silently_after_a_pause() {
    let server = Server::start();
    for (user, password) in [(USER, "wrong"), ("nobody", PASSWORD), (USER, "")] {
        let mut client = Client::dial(server.address);
        client.begin(&Login::new(user, password));
        client.expect_connection_close(403, "Login was refused using authentication mechanism PLAIN");
    }
    let mut login = Login::new(USER, "wrong");
    login.properties = Args::new().table(&[]).0;
    let mut client = Client::dial(server.address);
    let started = Instant::now();
    client.begin(&login);
    assert_eq!(client.try_frame(), None);
    assert!(started.elapsed() >= Duration::from_millis(500), "guessing must be slow");
}

#[test]
fn amqplain_and_further_users_can_log_in() {
    let server = Server::with(&[("BROKER_USERS", "audit"), ("BROKER_PASSWORD_AUDIT", "dummy-two")]);
    let mut client = Client::dial(server.address);
    client.raw(b"AMQP\x00\x00\x09\x01");
    client.expect(0, 10, 10);
    let text = |text: &str| {
        let mut value = vec![b'S'];
        value.extend(Args::new().long_string(text.as_bytes()).0);
        value
    };
    let response = Args::new().table(&[("LOGIN", &text("audit")), ("PASSWORD", &text("dummy-two"))]).0;
    let args =
        Args::new().table(&[]).short_string("AMQPLAIN").long_string(&response[4..]).short_string("en_US");
    client.method(0, 10, 11, args);
    client.expect(0, 10, 30);
    client.tune_and_open(2047, 131_072, 0);
    client.expect(0, 10, 41);
}

#[test]
fn an_unknown_vhost_and_an_unknown_mechanism_are_refused() {
    let server = Server::start();
    let mut client = Client::dial(server.address);
    client.begin(&Server::login());
    client.expect(0, 10, 30);
    client.method(0, 10, 31, Args::new().short(2047).long(131_072).short(0));
    client.method(0, 10, 40, Args::new().short_string("other").short_string("").octet(0));
    client.expect_connection_close(530, "vhost other not found");
    let mut client = Client::dial(server.address);
    client.raw(b"AMQP\x00\x00\x09\x01");
    client.expect(0, 10, 10);
    client.method(
        0,
        10,
        11,
        Args::new().table(&[]).short_string("EXTERNAL").long_string(b"").short_string("en_US"),
    );
    client.expect_connection_close(503, "unknown authentication mechanism 'EXTERNAL'");
}

#[test]
fn heartbeats_go_both_ways() {
    let server = Server::start();
    let mut login = Server::login();
    login.heartbeat = 1;
    let mut client = Client::connect(server.address, &login);
    for _ in 0..2 {
        let frame = client.frame();
        assert_eq!((frame.kind, frame.channel, frame.payload.len()), (HEARTBEAT, 0, 0));
        client.queue_frame(HEARTBEAT, 0, b"");
        client.flush();
    }
    // Beats keep the connection, silence ends it: two intervals and the grace of one second.
    let silent_since = Instant::now();
    client.queue_frame(HEARTBEAT, 0, b"");
    client.flush();
    while client.try_frame().is_some() {}
    let silence = silent_since.elapsed();
    assert!(silence > Duration::from_millis(1_900) && silence < Duration::from_secs(45), "{silence:?}");
}

#[test]
fn closing_is_answered_and_update_secret_too() {
    let server = Server::start();
    let mut client = server.client();
    client.method(0, 10, 70, Args::new().long_string(b"new secret").short_string("reason"));
    client.expect(0, 10, 71);
    client.method(1, 20, 40, Args::new().short(200).short_string("bye").short(0).short(0));
    client.expect(1, 20, 41);
    client.open_channel(1);
    client.method(0, 10, 50, Args::new().short(200).short_string("bye").short(0).short(0));
    client.expect(0, 10, 51);
    assert_eq!(client.try_frame(), None);
}

#[test]
fn broken_rules_of_channels_end_the_connection() {
    let server = Server::start();
    let mut client = server.client();
    client.method(1, 20, 10, Args::new().short_string(""));
    client.expect_connection_close(504, "second 'channel.open' seen");

    let mut client = server.client();
    client.method(2, 60, 10, Args::new().long(0).short(1).octet(0));
    client.expect_connection_close(504, "expected 'channel.open'");

    let mut login = Server::login();
    login.channel_max = 3;
    let mut client = Client::connect(server.address, &login);
    client.open_channel(3);
    client.method(4, 20, 10, Args::new().short_string(""));
    client.expect_connection_close(530, "channel_max");
}

#[test]
fn broken_frames_end_the_connection() {
    let server = Server::start();
    let cases: [(&[u8], u16); 6] = [
        (b"\x01\0\x01\x00\x02\x00\x00", 501),         // larger than frame_max
        (b"\x01\0\x01\0\0\0\x04\0\x3c\0\x50\0", 501), // bad frame end
        (b"\x01\0\x01\0\0\0\x05\0\x3c\0\x50\x01\xce", 501), // too short an ack
        (b"\x09\0\x01\0\0\0\0\xce", 501),             // unknown frame type
        (b"\x08\0\x01\0\0\0\0\xce", 505),             // heartbeat on a channel
        (b"\x01\0\x01\0\0\0\x04\0\x5a\0\x0b\xce", 503), // tx.select-ok
    ];
    for (bytes, code) in cases {
        let mut client = server.client();
        client.raw(bytes);
        client.expect_connection_close(code, "");
    }
}

#[test]
fn content_out_of_order_ends_the_connection() {
    let server = Server::start();
    let publish = Args::new().short(0).short_string("").short_string("q").octet(0);
    let header = |size: u64| {
        let mut header = Args::new().short(60).short(0).long_long(size).0;
        header.extend_from_slice(b"\0\0");
        header
    };
    // A body without a header, a header without a publish, a method in between, a body that is too long.
    let mut client = server.client();
    client.queue_method(1, 60, 40, &publish);
    client.queue_frame(BODY, 1, b"x");
    client.flush();
    client.expect_connection_close(505, "expected content header");

    let mut client = server.client();
    client.queue_frame(HEADER, 1, &header(1));
    client.flush();
    client.expect_connection_close(505, "expected method frame");

    let mut client = server.client();
    client.queue_method(1, 60, 40, &publish);
    client.queue_frame(METHOD, 1, b"\0\x3c\0\x0a\0\0\0\0\0\x01\0");
    client.flush();
    client.expect_connection_close(505, "");

    let mut client = server.client();
    client.queue_method(1, 60, 40, &publish);
    client.queue_frame(HEADER, 1, &header(2));
    client.queue_frame(BODY, 1, b"xxx");
    client.flush();
    client.expect_connection_close(505, "longer than its header says");
}

#[test]
fn a_closed_channel_ignores_everything_until_close_ok_and_is_free_then() {
    let server = Server::start();
    let mut client = server.client();
    client.declare(1, "kept", 0);
    // The failing method, and behind it a publish and a consume, before the broker's close was read.
    client.queue_method(1, 50, 30, &Args::new().short(0).short_string("absent").octet(0));
    client.queue_publish(1, "", "kept", false, (b"\0\0", b"lost"));
    client.queue_method(
        1,
        60,
        20,
        &Args::new().short(0).short_string("kept").short_string("t").octet(0).table(&[]),
    );
    client.flush();
    client.expect_channel_close(1, 404, "no queue 'absent' in vhost '/'");
    client.open_channel(1);
    assert_eq!(client.declare(1, "kept", crate::support::PASSIVE), ("kept".to_owned(), 0, 0));
}

#[test]
fn a_stopping_broker_says_so_and_exits_cleanly() {
    let mut server = Server::start();
    let mut client = server.client();
    let started = Instant::now();
    assert!(server.stop().success());
    assert!(started.elapsed() < Duration::from_secs(30));
    client.expect_connection_close(320, "shutdown");
}

#[test]
fn a_second_broker_on_the_same_folder_is_refused() {
    let server = Server::start();
    let output = server.command().output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("another broker uses this data folder"), "{text}");
}

#[test]
fn flags_work_without_serving() {
    let server = Server::start();
    for (flag, text) in [("--help", "BROKER_DATA_DIR"), ("--version", "broker"), ("--check", "fine")] {
        let output = server.command().arg(flag).output().unwrap();
        assert!(
            output.status.success() && String::from_utf8(output.stdout).unwrap().contains(text),
            "{flag}"
        );
    }
    let output = server.command().env_remove("RABBITMQ_PASSWORD").output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("RABBITMQ_PASSWORD"));
}

#[test]
fn a_close_names_class_and_method_of_what_failed() {
    let server = Server::start();
    let failed = |frame: &crate::support::Frame| {
        let mut arguments = frame.arguments();
        let code = arguments.short();
        arguments.short_string();
        (code, arguments.short(), arguments.short())
    };
    let mut client = server.client();
    client.method(1, 60, 10, Args::new().long(1).short(0).octet(0));
    assert_eq!(failed(&client.expect(0, 10, 50)), (540, 60, 10));
    let mut client = server.client();
    client.method(1, 40, 255, Args::new());
    assert_eq!(failed(&client.expect(0, 10, 50)), (540, 40, 255));
    let mut client = server.client();
    client.method(1, 60, 40, Args::new().short(0).short_string("").short_string("q").octet(0));
    client.queue_frame(BODY, 1, b"x");
    client.flush();
    assert_eq!(failed(&client.expect(0, 10, 50)), (505, 60, 40));
    let mut client = server.client();
    client.raw(b"\x09\0\x01\0\0\0\0\xce");
    assert_eq!(failed(&client.expect(0, 10, 50)), (501, 0, 0), "no method");
    let mut client = Client::dial(server.address);
    client.begin(&Login { password: "wrong".to_owned(), ..Server::login() });
    assert_eq!(failed(&client.expect(0, 10, 50)), (403, 10, 11));
    let mut client = Client::dial(server.address);
    client.begin(&Server::login());
    client.expect(0, 10, 30);
    client.tune_and_open(0, 4096, 0);
    assert_eq!(failed(&client.expect(0, 10, 50)), (530, 10, 31));
    let mut client = server.client();
    client.method(1, 50, 30, Args::new().short(0).short_string("absent").octet(0));
    assert_eq!(failed(&client.expect(1, 20, 40)), (404, 50, 30));
    // On a channel that awaits content it is basic.publish that fails, whatever came instead.
    let header = |weight: u16, bytes: u64| {
        let mut payload = Args::new().short(60).short(weight).long_long(bytes).0;
        payload.extend_from_slice(b"\0\0");
        payload
    };
    let select = (METHOD, b"\0\x5a\0\x0a".to_vec());
    let frames = [
        vec![select.clone()],
        vec![(HEADER, header(0, 5)), select],
        vec![(HEADER, header(0, 1)), (BODY, b"xy".to_vec())],
        vec![(HEADER, header(1, 1))],
    ];
    for frames in frames {
        let mut client = server.client();
        client.queue_method(1, 60, 40, &Args::new().short(0).short_string("").short_string("q").octet(0));
        for (kind, payload) in &frames {
            client.queue_frame(*kind, 1, payload);
        }
        client.flush();
        assert_eq!(failed(&client.expect(0, 10, 50)), (505, 60, 40), "{frames:?}");
    }
    for channel in [1, 7] {
        let mut client = server.client();
        client.queue_frame(BODY, channel, b"x");
        client.flush();
        assert_eq!(failed(&client.expect(0, 10, 50)), (505, 0, 0), "nobody published on {channel}");
    }
    let mut client = server.client();
    client.method(1, 20, 41, Args::new());
    assert_eq!(failed(&client.expect(0, 10, 50)), (503, 20, 41));
}

#[test]
fn several_addresses_are_served() {
    let server = Server::with(&[("BROKER_HOST", "127.0.0.1, 127.0.0.2,localhost")]);
    let mut here = server.client();
    here.declare(1, "q", 0);
    let mut address = server.address;
    for host in ["127.0.0.2", "::1"] {
        address.set_ip(host.parse().unwrap());
        // Not every machine has IPv6; the broker says so where it is not there.
        if address.is_ipv6() && server.log().contains("this machine has no address ::1") {
            continue;
        }
        let mut there = Client::connect(address, &Server::login());
        there.open_channel(1);
        assert_eq!(there.depth(1, "q"), 0, "{host}");
    }
}

#[test]
fn what_a_client_sends_after_its_close_is_read_and_ignored() {
    let server = Server::start();
    let mut client = server.client();
    client.declare(1, "q", 0);
    client.method(0, 10, 50, Args::new().short(200).short_string("").short(0).short(0));
    client.expect(0, 10, 51);
    // It fails if the connection is reset because nobody reads this.
    let body = vec![0; 64 << 10];
    for _ in 0..20 {
        client.queue_publish(1, "", "q", false, (b"\0\0", &body));
        assert!(client.try_flush());
    }
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.try_frame(), None);
    assert_eq!(server.client().depth(1, "q"), 0);
}
