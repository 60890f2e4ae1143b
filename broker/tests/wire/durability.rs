//! What survives kill -9 and restarts.

use std::collections::BTreeSet;

use crate::server::Server;
use crate::support::{Args, DURABLE, PERSISTENT, TRANSIENT};
use crate::throttle::{expect_flow, plain_client};

#[test]
fn what_was_confirmed_survives_kill_9() {
    let mut server = Server::start();
    let mut client = server.publisher();
    client.declare(1, "q", DURABLE);
    for number in 0..100u8 {
        client.publish_confirmed(1, "q", &[number]);
    }
    for number in 0..40u8 {
        let got = client.get(1, "q", false).unwrap();
        assert_eq!(got.content.body, [number]);
        if number < 30 {
            client.ack(1, got.tag, false);
        }
    }
    // Acks are written within milliseconds; a publish behind them shows that they are.
    client.publish_confirmed(1, "q", &[100]);
    server.restart_after_kill();
    let mut client = server.client();
    let mut got = Vec::new();
    while let Some(message) = client.get(1, "q", true) {
        assert!(message.redelivered, "it may have been delivered before");
        got.push(message.content.body[0]);
    }
    assert_eq!(got, (30..=100).collect::<Vec<_>>());
}

#[test]
fn a_clean_stop_remembers_what_was_never_delivered() {
    let mut server = Server::start();
    let mut client = server.publisher();
    client.declare(1, "q", DURABLE);
    for number in 0..4u8 {
        client.publish_confirmed(1, "q", &[number]);
    }
    client.get(1, "q", false).unwrap();
    assert!(server.stop().success());
    for _ in 0..2 {
        server.run();
        let mut client = server.client();
        let first = client.get(1, "q", false).unwrap();
        assert_eq!((first.content.body.as_slice(), first.redelivered), (&[0][..], true));
        assert!(server.stop().success());
    }
    server.run();
    let mut client = server.client();
    let messages: Vec<_> = (0..4).map(|_| client.get(1, "q", true).unwrap()).collect();
    assert_eq!(messages.iter().map(|got| got.redelivered).collect::<Vec<_>>(), [true, false, false, false]);
}

#[test]
fn transient_messages_and_queues_do_not_survive() {
    let mut server = Server::start();
    let mut client = server.publisher();
    client.declare(1, "durable", DURABLE);
    client.declare(1, "transient", 0);
    for (queue, properties) in [("durable", TRANSIENT), ("durable", PERSISTENT), ("transient", PERSISTENT)] {
        client.queue_publish(1, "", queue, false, (properties, b"x"));
        client.flush();
        client.expect(1, 60, 80);
    }
    server.restart_after_kill();
    let mut client = server.client();
    assert_eq!(client.depth(1, "durable"), 1);
    // A new queue of the same name is empty, although the log may still know the old messages.
    assert_eq!(client.declare(1, "transient", 0).1, 0);
}

#[test]
fn kill_9_under_load_loses_nothing_that_was_confirmed() {
    let mut server = Server::with(&[("BROKER_SEGMENT_BYTES", "65536")]);
    server.client().declare(1, "q", DURABLE);
    let (mut confirmed, mut received) = (BTreeSet::new(), BTreeSet::new());
    let mut next: u64 = 0;
    for cycle in 0..8 {
        let mut client = server.publisher();
        let first = next;
        for _ in 0..(500 + 137 * cycle) {
            client.queue_publish(1, "", "q", false, (PERSISTENT, &next.to_be_bytes()));
            next += 1;
        }
        client.flush();
        // Some confirms, then the end, in the middle of the rest.
        let seen = client.expect(1, 60, 80).arguments().long_long();
        server.kill();
        confirmed.extend(first..first + seen);
        server.run();
        let mut consumer = server.client();
        let mut last = None;
        for _ in 0..300 {
            let Some(got) = consumer.get(1, "q", false) else { break };
            let number = u64::from_be_bytes(got.content.body.try_into().unwrap());
            assert!(last.is_none_or(|last| last < number), "{number} after {last:?}");
            last = Some(number);
            received.insert(number);
            consumer.ack(1, got.tag, false);
        }
    }
    let mut consumer = server.client();
    while let Some(got) = consumer.get(1, "q", true) {
        received.insert(u64::from_be_bytes(got.content.body.try_into().unwrap()));
    }
    let lost: Vec<_> = confirmed.difference(&received).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(received.iter().all(|number| *number < next));
}

#[test]
fn publishers_wait_while_the_disk_is_nearly_full_and_go_on_by_themselves() {
    const GIB: u64 = 1 << 30;
    let folder = std::env::temp_dir();
    let status = rustix::fs::statvfs(&folder).unwrap();
    let minimum = (status.f_bavail * status.f_frsize).saturating_sub(GIB).to_string();
    let server = Server::with(&[("BROKER_DISK_FREE_MIN_BYTES", &minimum)]);
    let mut consumer = server.publisher();
    consumer.declare(1, "q", DURABLE);
    consumer.publish_confirmed(1, "q", b"before");
    let mut publisher = server.publisher();
    let mut plain = plain_client(&server);
    plain.confirm_select(1);
    plain.open_channel(2);
    plain.confirm_select(2);
    // Space is allocated, not written, so this is quick.
    let path = server.folder.join("ballast");
    let ballast = std::fs::File::create(&path).unwrap();
    rustix::fs::fallocate(&ballast, rustix::fs::FallocateFlags::empty(), 0, 2 * GIB).unwrap();
    crate::server::eventually("the alarm is raised", || server.log().contains("nearly full").then_some(()));
    for told in [&mut publisher, &mut consumer] {
        told.expect(0, 10, 60);
    }
    expect_flow(&mut plain, 1, false);
    expect_flow(&mut plain, 2, false);
    plain.method(2, 20, 40, Args::new().short(200).short_string("").short(0).short(0));
    plain.expect(2, 20, 41);
    publisher.publish(1, "", "q", false, b"waits");
    assert!(publisher.is_silent(), "nothing is confirmed");
    // Consumers go on, and their acks are taken.
    let got = consumer.get(1, "q", false).unwrap();
    consumer.ack(1, got.tag, false);
    assert!(consumer.get(1, "q", false).is_none());
    drop(ballast);
    std::fs::remove_file(path).unwrap();
    consumer.expect(0, 10, 61);
    // The message that waited may be stored before its connection is told that it may go on.
    let mut told = [publisher.frame(), publisher.frame()].map(|frame| (frame.channel, frame.ids()));
    told.sort_unstable();
    assert_eq!(told, [(0, (10, 61)), (1, (60, 80))]);
    expect_flow(&mut plain, 1, true);
    assert!(plain.is_silent(), "a closed channel is told nothing");
    assert_eq!(consumer.get(1, "q", true).unwrap().content.body, b"waits");
}

#[test]
fn queues_that_share_the_log_are_read_past_each_others_messages() {
    const QUEUES: u64 = 40;
    const ROUNDS: u64 = 100;
    let mut server = Server::with(&[("BROKER_SEGMENT_BYTES", "1048576")]);
    let mut publisher = server.publisher();
    for queue in 0..QUEUES {
        publisher.declare(1, &queue.to_string(), DURABLE);
    }
    let body = |round: u64, queue: u64| {
        let mut body = vec![0; 1_000];
        body[..8].copy_from_slice(&round.to_be_bytes());
        body[8..16].copy_from_slice(&queue.to_be_bytes());
        body
    };
    let (mut sent, mut confirmed) = (0, 0);
    for round in 0..ROUNDS {
        for queue in 0..QUEUES {
            publisher.queue_publish(1, "", &queue.to_string(), false, (PERSISTENT, &body(round, queue)));
            sent += 1;
        }
        publisher.flush();
        while confirmed < sent {
            confirmed = publisher.expect(1, 60, 80).arguments().long_long();
        }
    }
    // Half of them before a restart, which finds the others in longer stretches.
    let mut consumer = server.client();
    for round in 0..ROUNDS {
        if round == ROUNDS / 2 {
            server.restart_after_kill();
            consumer = server.client();
        }
        for queue in 0..QUEUES {
            let got = consumer.get(1, &queue.to_string(), true).unwrap();
            // Acks that were not durable when the broker was killed bring messages back.
            let first = u64::from_be_bytes(got.content.body[..8].try_into().unwrap());
            if round == ROUNDS / 2 && first < round {
                while let Some(again) = consumer.get(1, &queue.to_string(), true) {
                    if again.content.body == body(round, queue) {
                        break;
                    }
                }
            } else {
                assert_eq!(got.content.body, body(round, queue));
            }
        }
    }
    for queue in 0..QUEUES {
        assert!(consumer.get(1, &queue.to_string(), true).is_none());
    }
}
