//! Transactions: what is published and acked on a channel takes effect at the commit, or not at all.

use crate::server::Server;
use crate::support::{Args, Client, DURABLE, PERSISTENT, Received};

fn tx(client: &mut Client, method: u16) {
    client.method(1, 90, method, Args::new());
    client.expect(1, 90, method + 1);
}

fn select(client: &mut Client) {
    tx(client, 10);
}

fn commit(client: &mut Client) {
    tx(client, 20);
}

fn roll_back(client: &mut Client) {
    tx(client, 30);
}

fn bodies(received: &[Received]) -> Vec<&[u8]> {
    received.iter().map(|received| &*received.content.body).collect()
}

#[test]
fn messages_appear_with_the_commit_and_never_after_a_rollback() {
    let server = Server::start();
    let mut client = server.client();
    let mut other = server.client();
    client.declare(1, "q", DURABLE);
    select(&mut client);
    client.publish(1, "", "q", false, b"one");
    client.publish(1, "", "q", false, b"two");
    assert_eq!((client.depth(1, "q"), other.depth(1, "q")), (0, 0));
    commit(&mut client);
    assert_eq!(other.depth(1, "q"), 2, "a commit is answered when its messages are there");
    client.publish(1, "", "q", false, b"three");
    roll_back(&mut client);
    commit(&mut client);
    let received: Vec<_> = std::iter::from_fn(|| other.get(1, "q", true)).collect();
    assert_eq!(bodies(&received), [b"one", b"two"]);
    // What was not committed goes with its channel.
    client.publish(1, "", "q", false, b"four");
    client.method(1, 20, 40, Args::new().short(200).short_string("").short(0).short(0));
    client.expect(1, 20, 41);
    assert_eq!(other.depth(1, "q"), 0);
}

#[test]
fn acks_and_rejections_take_effect_with_the_commit() {
    let server = Server::start();
    let mut client = server.publisher();
    client.declare(1, "q", DURABLE);
    for body in [b"a", b"b", b"c", b"d"] {
        client.publish_confirmed(1, "q", body);
    }
    let mut client = server.client();
    select(&mut client);
    client.qos(1, 4, true);
    client.consume(1, "q", "t", 0);
    let tags: Vec<u64> = (0..4).map(|_| client.delivery(1).tag).collect();
    client.ack(1, tags[1], true);
    client.nack(1, tags[2], 2);
    client.ack(1, tags[3], false);
    client.publish(1, "", "q", false, b"e");
    assert!(client.is_silent(), "nothing is requeued, and the limit is still reached");
    // It was given back to the channel, so it can be acked again, and only once.
    roll_back(&mut client);
    client.ack(1, tags[0], false);
    client.nack(1, tags[1], 2);
    client.publish(1, "", "q", false, b"f");
    assert!(client.is_silent());
    client.method(1, 90, 20, Args::new());
    let next: Vec<_> = (0..2).map(|_| client.delivery(1)).collect();
    client.expect(1, 90, 21);
    assert_eq!(bodies(&next), [b"f", b"b"]);
    assert_eq!((next[0].redelivered, next[1].redelivered), (false, true));
    client.ack(1, tags[0], false);
    client.expect_channel_close(1, 406, "unknown delivery tag");
    // Everything that was not committed comes back.
    client.open_channel(1);
    let back: Vec<_> = std::iter::from_fn(|| client.get(1, "q", true)).collect();
    assert_eq!(bodies(&back), [b"b", b"c", b"d", b"f"]);
}

#[test]
fn what_was_acked_and_not_committed_comes_back_with_the_end_of_the_channel() {
    let server = Server::start();
    let mut client = server.client();
    client.declare(1, "q", 0);
    client.publish(1, "", "q", false, b"x");
    select(&mut client);
    let tag = client.get(1, "q", false).unwrap().tag;
    client.ack(1, tag, false);
    assert_eq!(client.depth(1, "q"), 0);
    client.method(1, 20, 40, Args::new().short(200).short_string("").short(0).short(0));
    client.expect(1, 20, 41);
    client.open_channel(1);
    assert!(client.get(1, "q", true).unwrap().redelivered);
}

#[test]
fn what_cannot_be_routed_is_returned_with_the_commit() {
    let server = Server::start();
    let mut client = server.client();
    select(&mut client);
    client.publish(1, "", "absent", true, b"x");
    client.publish(1, "", "absent", false, b"y");
    assert!(client.is_silent());
    client.method(1, 90, 20, Args::new());
    client.expect(1, 60, 50);
    assert_eq!(client.content(1).body, b"x");
    client.expect(1, 90, 21);
    client.publish(1, "absent", "k", true, b"x");
    client.expect_channel_close(1, 404, "no exchange 'absent'");
}

#[test]
fn confirms_and_transactions_exclude_each_other() {
    let server = Server::start();
    let mut client = server.client();
    select(&mut client);
    select(&mut client);
    client.method(1, 85, 10, Args::new().octet(0));
    client.expect_channel_close(1, 406, "cannot switch from tx to confirm mode");
    client.open_channel(1);
    client.confirm_select(1);
    client.method(1, 90, 10, Args::new());
    client.expect_channel_close(1, 406, "cannot switch from confirm to tx mode");
    for method in [20, 30] {
        client.open_channel(1);
        client.method(1, 90, method, Args::new());
        client.expect_channel_close(1, 406, "channel is not transactional");
    }
}

#[test]
fn a_commit_that_was_answered_survives_a_crash() {
    let mut server = Server::start();
    let mut client = server.client();
    client.declare(1, "q", DURABLE);
    client.publish(1, "", "q", false, b"acked");
    select(&mut client);
    let tag = client.get(1, "q", false).unwrap().tag;
    client.ack(1, tag, false);
    for _ in 0..100 {
        client.queue_publish(1, "", "q", false, (PERSISTENT, b"kept"));
    }
    commit(&mut client);
    client.publish(1, "", "q", false, b"never committed");
    assert_eq!(client.depth(1, "q"), 100);
    server.restart_after_kill();
    let mut client = server.client();
    let received: Vec<_> = std::iter::from_fn(|| client.get(1, "q", true)).collect();
    // The ack may not have been written when the broker was killed.
    let kept = bodies(&received).iter().filter(|body| **body == b"kept").count();
    assert!(kept == 100 && received.len() <= 101, "{kept} of {}", received.len());
}

#[test]
fn uncommitted_messages_have_a_limit_for_all_channels() {
    let server = Server::start();
    let mut client = server.client();
    client.declare(1, "q", 0);
    let body = vec![0; 12 << 20];
    select(&mut client);
    client.publish(1, "", "q", false, &body);
    let mut other = server.client();
    select(&mut other);
    other.publish(1, "", "q", false, &body);
    other.expect_channel_close(1, 506, "uncommitted messages may take");
    roll_back(&mut client);
    other.open_channel(1);
    select(&mut other);
    other.publish(1, "", "q", false, &body);
    commit(&mut other);
    assert_eq!(client.depth(1, "q"), 1);
    drop(other);
}

#[test]
fn the_queues_of_an_uncommitted_message_count_too() {
    let server = Server::start();
    let mut client = server.client();
    for number in 0..1000 {
        let queue = format!("q{number}");
        client.declare(1, &queue, 0);
        let args = Args::new().short(0).short_string(&queue).short_string("amq.fanout").short_string("");
        client.method(1, 50, 20, args.octet(0).table(&[]));
        client.expect(1, 50, 21);
    }
    select(&mut client);
    // With a header CC the queues of each message are looked up anew, and kept with it.
    let copies = Args::new().octet(b'A').long(0).0;
    let properties = Args::new().short(0x2000).table(&[("CC", &copies)]).0;
    for _ in 0..4000 {
        client.queue_publish(1, "amq.fanout", "", false, (&properties, b""));
    }
    client.flush();
    client.expect_channel_close(1, 506, "uncommitted messages may take");
}
