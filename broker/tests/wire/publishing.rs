//! Publishing: confirms, returns, properties, sizes.

use crate::server::{Server, USER};
use crate::support::{Args, BODY, Client, DURABLE, HEADER, PERSISTENT, TRANSIENT};

#[test]
fn every_message_is_confirmed_once_and_in_order() {
    let server = Server::start();
    let mut client = server.publisher();
    client.declare(1, "q", DURABLE);
    for number in 0..500 {
        let properties = if number % 3 == 0 { TRANSIENT } else { PERSISTENT };
        client.queue_publish(1, "", "q", false, (properties, b"body"));
    }
    client.flush();
    let mut confirmed = 0;
    while confirmed < 500 {
        let frame = client.expect(1, 60, 80);
        let mut arguments = frame.arguments();
        let (tag, multiple) = (arguments.long_long(), arguments.octet() != 0);
        assert!(tag > confirmed && (multiple || tag == confirmed + 1), "{tag} after {confirmed}");
        confirmed = tag;
    }
    assert!(client.is_silent());
    assert_eq!(client.depth(1, "q"), 500);
}

#[test]
fn an_unroutable_mandatory_message_returns_before_its_ack() {
    let server = Server::start();
    let mut client = server.publisher();
    client.queue_publish(1, "", "absent", true, (b"\x80\x00\x04text", b"the body"));
    client.queue_publish(1, "", "absent", false, (TRANSIENT, b"dropped"));
    client.flush();
    let returned = client.expect(1, 60, 50);
    let mut arguments = returned.arguments();
    assert_eq!((arguments.short(), arguments.short_string()), (312, "NO_ROUTE".to_owned()));
    assert_eq!((arguments.short_string(), arguments.short_string()), (String::new(), "absent".to_owned()));
    let content = client.content(1);
    assert_eq!(
        (content.properties.as_slice(), content.body.as_slice()),
        (&b"\x80\x00\x04text"[..], &b"the body"[..])
    );
    let ack = client.expect(1, 60, 80);
    if ack.arguments().long_long() == 1 {
        client.expect(1, 60, 80);
    }
}

#[test]
fn a_missing_exchange_closes_the_channel() {
    let server = Server::start();
    let mut client = server.client();
    client.publish(1, "absent", "k", false, b"x");
    client.expect_channel_close(1, 404, "no exchange 'absent' in vhost '/'");
}

#[test]
fn all_properties_come_through_untouched() {
    let server = Server::start();
    let mut client = server.publisher();
    client.declare(1, "q", DURABLE);
    let mut properties = b"\xff\xfc".to_vec();
    let headers = Args::new().table(&[
        ("bool", b"t\x01"),
        ("byte", b"b\xff"),
        ("short", b"s\xff\xfe"),
        ("int", b"I\xff\xff\xff\xff"),
        ("long", b"l\0\0\0\0\0\0\0\x01"),
        ("float", b"f\x3f\x80\0\0"),
        ("double", b"d\x3f\xf0\0\0\0\0\0\0"),
        ("decimal", b"D\x02\0\0\0\x01"),
        ("string", b"S\0\0\0\x02\xff\xfe"),
        ("bytes", b"x\0\0\0\x01\0"),
        ("array", b"A\0\0\0\x03t\x01V"),
        ("time", b"T\0\0\0\0\0\0\0\x05"),
        ("table", b"F\0\0\0\x03\x01aV"),
    ]);
    let user = USER;
    properties.extend(Args::new().short_string("text/plain").short_string("gzip").0);
    properties.extend(headers.0);
    properties.extend([2, 9]); // delivery mode, priority
    properties.extend(Args::new().short_string("correlation").short_string("reply").short_string("60000").0);
    properties.extend(Args::new().short_string("message-id").long_long(1_700_000_000).0);
    properties
        .extend(Args::new().short_string("type").short_string(user).short_string("app").short_string("c").0);
    client.queue_publish(1, "", "q", true, (&properties, b"body"));
    client.flush();
    client.expect(1, 60, 80);
    let got = client.get(1, "q", false).unwrap();
    assert_eq!((got.content.properties, got.content.body), (properties, b"body".to_vec()));
}

#[test]
fn a_claimed_user_must_be_the_own_one() {
    let server = Server::start();
    let mut client = server.client();
    client.declare(1, "q", 0);
    client.queue_publish(1, "", "q", false, (b"\x00\x10\x05other", b"x"));
    client.flush();
    client.expect_channel_close(1, 406, "user_id property set to 'other'");
}

#[test]
fn bodies_of_every_size_come_back_whole() {
    let server = Server::start();
    let mut client = server.publisher();
    client.declare(1, "q", DURABLE);
    let mut login = Server::login();
    login.frame_max = 4096;
    let mut narrow = Client::connect(server.address, &login);
    narrow.open_channel(1);
    for size in [0, 1, 4087, 4088, 4089, 131_063, 131_064, 131_065, 9 << 20, 16 << 20] {
        let body: Vec<u8> = (0..=250).cycle().take(size).collect();
        client.publish_confirmed(1, "q", &body);
        let got = narrow.get(1, "q", true).unwrap();
        assert!(got.content.body == body, "{size}");
    }
}

#[test]
fn a_body_above_the_limit_closes_the_channel_before_it_is_sent() {
    let server = Server::start();
    let mut client = server.client();
    client.declare(1, "q", 0);
    let publish = Args::new().short(0).short_string("").short_string("q").octet(0);
    client.queue_method(1, 60, 40, &publish);
    let mut header = Args::new().short(60).short(0).long_long((16 << 20) + 1).0;
    header.extend_from_slice(TRANSIENT);
    client.queue_frame(HEADER, 1, &header);
    client.queue_frame(BODY, 1, b"the first bytes of it");
    client.flush();
    client.expect_channel_close(1, 406, "is larger than configured max size 16777216");
}

#[test]
fn undecodable_properties_end_the_connection() {
    let server = Server::start();
    let mut client = server.client();
    client.declare(1, "q", 0);
    client.queue_publish(1, "", "q", false, (b"\x80\x00\x09short", b"x"));
    client.flush();
    client.expect_connection_close(502, "properties");
}

#[test]
fn what_is_out_of_scope_is_said_to_be() {
    let server = Server::start();
    let immediate = Args::new().short(0).short_string("").short_string("q").octet(2);
    let cases = [
        (60, 40, immediate),
        (60, 10, Args::new().long(1).short(0).octet(0)), // prefetch_size
        (20, 20, Args::new().octet(0)),                  // flow off
        (60, 110, Args::new().octet(0)),                 // recover without requeue
    ];
    for (class, method, args) in cases {
        let mut client = server.client();
        client.method(1, class, method, args);
        client.expect_connection_close(540, "");
    }
}

#[test]
fn publishing_is_seen_by_what_follows_on_the_channel() {
    let server = Server::start();
    let mut client = server.client();
    client.declare(1, "q", DURABLE);
    for count in 1..=50 {
        client.queue_publish(1, "", "q", false, (PERSISTENT, b"x"));
        assert_eq!(client.depth(1, "q"), count);
    }
    client.queue_publish(1, "", "q", false, (PERSISTENT, b"x"));
    client.method(1, 50, 30, Args::new().short(0).short_string("q").octet(0));
    assert_eq!(client.expect(1, 50, 31).arguments().long(), 51);
}
