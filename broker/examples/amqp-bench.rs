//! Measures any AMQP 0-9-1 broker through the tests' own client, so that different brokers meet the same one.
//!
//! `amqp-bench HOST:PORT USER PASSWORD COMMAND …`, with one of:
//! - `confirms QUEUE WINDOW SECONDS`: persistent 60-byte messages, at most WINDOW unconfirmed; prints messages/s
//! - `paced QUEUE COUNT PER_SECOND`: as many such messages, each confirmed before the next; prints how long the median, the
//!   slowest but 1 % and the slowest waited for their confirms, in ms
//! - `fill QUEUE COUNT`: publishes COUNT such messages with confirms; prints messages/s
//! - `drain QUEUE PREFETCH COUNT`: consumes COUNT messages, acks of up to a quarter of PREFETCH; prints messages/s
//! - `depth QUEUE`: prints how many messages wait
//! - `purge QUEUE`: drops them
//! - `spread QUEUE QUEUES COUNT`: publishes COUNT persistent messages of 1,000 bytes in turn to QUEUE-0, QUEUE-1 …
//! - `gather QUEUE QUEUES COUNT`: consumes these, one queue after the other

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measuring tool prints, and ends at the first surprise"
)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

#[path = "../tests/support/mod.rs"]
mod support;

use support::{Args, Client, DURABLE, Login, PERSISTENT, arguments, end_with_usage};

const BODY: [u8; 60] = [b'x'; 60];

const USAGE: &str = "amqp-bench HOST:PORT USER PASSWORD confirms QUEUE WINDOW SECONDS | \
    paced QUEUE COUNT PER_SECOND | fill QUEUE COUNT | drain QUEUE PREFETCH COUNT | depth QUEUE | purge QUEUE | spread QUEUE QUEUES COUNT | gather QUEUE QUEUES COUNT";

/// What is to be done, with the queue beside it.
enum Command {
    Confirms { window: u64, length: Duration },
    Paced { count: u32, per_second: u32 },
    Fill { count: u64 },
    Drain { prefetch: u16, count: u64 },
    Depth,
    Purge,
    Spread { queues: u64, count: u64 },
    Gather { queues: u64, count: u64 },
}

impl Command {
    fn parse(words: &[&str]) -> Option<Self> {
        Some(match *words {
            ["confirms", _, window, seconds] => {
                let length = Duration::from_secs(seconds.parse().ok()?);
                Self::Confirms { window: window.parse().ok()?, length }
            }
            ["paced", _, count, per_second] => {
                Self::Paced { count: count.parse().ok()?, per_second: per_second.parse().ok()? }
            }
            ["fill", _, count] => Self::Fill { count: count.parse().ok()? },
            ["drain", _, prefetch, count] => {
                Self::Drain { prefetch: prefetch.parse().ok()?, count: count.parse().ok()? }
            }
            ["depth", _] => Self::Depth,
            ["purge", _] => Self::Purge,
            ["spread", _, queues, count] => {
                Self::Spread { queues: queues.parse().ok()?, count: count.parse().ok()? }
            }
            ["gather", _, queues, count] => {
                Self::Gather { queues: queues.parse().ok()?, count: count.parse().ok()? }
            }
            _ => return None,
        })
    }
}

fn main() {
    let arguments = arguments();
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [address, user, password, words @ ..] = texts.as_slice() else { end_with_usage(USAGE) };
    let (Ok(address), Some(command)) = (address.parse::<SocketAddr>(), Command::parse(words)) else {
        end_with_usage(USAGE)
    };
    let queue = words[1];
    let mut client = Client::connect(address, &Login::new(user, password));
    client.open_channel(1);
    match command {
        Command::Confirms { window, length } => {
            println!("{:.0}", publish(&mut client, queue, window, u64::MAX, length));
        }
        Command::Paced { count, per_second } => paced(&mut client, queue, count, per_second),
        Command::Fill { count } => {
            println!("{:.0}", publish(&mut client, queue, 1_000, count, Duration::MAX));
        }
        Command::Drain { prefetch, count } => println!("{:.0}", drain(&mut client, queue, prefetch, count)),
        Command::Depth => println!("{}", client.declare(1, queue, DURABLE).1),
        Command::Purge => {
            client.method(1, 50, 30, Args::new().short(0).short_string(queue).octet(0));
            client.expect(1, 50, 31);
        }
        Command::Spread { queues, count } => spread(&mut client, queue, queues, count),
        Command::Gather { queues, count } => {
            for number in 0..queues {
                drain(&mut client, &format!("{queue}-{number}"), 100, count / queues);
            }
        }
    }
}

/// Publishes messages to each of several queues in turn, with a thousand unconfirmed at most.
fn spread(client: &mut Client, queue: &str, queues: u64, count: u64) {
    let names: Vec<String> = (0..queues).map(|number| format!("{queue}-{number}")).collect();
    for name in &names {
        client.declare(1, name, DURABLE);
    }
    client.confirm_select(1);
    let (mut sent, mut confirmed) = (0, 0);
    for name in names.iter().cycle().take(usize::try_from(count).unwrap()) {
        client.queue_publish(1, "", name, true, (PERSISTENT, &[b'x'; 1_000]));
        sent += 1;
        if sent % 500 == 0 || sent == count {
            client.flush();
        }
        while confirmed + 1_000 < sent || (sent == count && confirmed < sent) {
            confirmed = client.expect(1, 60, 80).arguments().long_long();
        }
    }
}

/// Publishes at a steady pace, and prints how long the confirms took.
fn paced(client: &mut Client, queue: &str, count: u32, per_second: u32) {
    client.declare(1, queue, DURABLE);
    client.confirm_select(1);
    let started = Instant::now();
    let mut waits: Vec<Duration> = (0..count)
        .map(|number| {
            let due = Duration::from_secs(1) / per_second * number;
            std::thread::sleep(due.saturating_sub(started.elapsed()));
            let sent = Instant::now();
            client.queue_publish(1, "", queue, true, (PERSISTENT, &BODY));
            client.flush();
            client.expect(1, 60, 80);
            sent.elapsed()
        })
        .collect();
    waits.sort_unstable();
    let ms = |wait: Duration| wait.as_secs_f64() * 1_000.0;
    let (median, most) = (waits[waits.len() / 2], waits[waits.len() - 1 - waits.len() / 100]);
    println!("{:.1} {:.1} {:.1}", ms(median), ms(most), ms(waits[waits.len() - 1]));
}

/// Publishes until `most` messages are confirmed or `length` has passed; returns confirmed messages per second.
fn publish(client: &mut Client, queue: &str, window: u64, most: u64, length: Duration) -> f64 {
    client.declare(1, queue, DURABLE);
    client.confirm_select(1);
    let (mut sent, mut confirmed) = (0, 0);
    let started = Instant::now();
    while confirmed < most && started.elapsed() < length {
        while sent < most && sent - confirmed < window {
            client.queue_publish(1, "", queue, true, (PERSISTENT, &BODY));
            sent += 1;
        }
        client.flush();
        loop {
            let frame = client.frame();
            match frame.ids() {
                (60, 80) => {
                    let mut arguments = frame.arguments();
                    let (tag, multiple) = (arguments.long_long(), arguments.octet() != 0);
                    // Brokers may confirm out of order; then only the count is right.
                    confirmed = if multiple { confirmed.max(tag) } else { confirmed + 1 };
                }
                other => panic!("{other:?} instead of a confirm"),
            }
            if !client.has_buffered_frame() {
                break;
            }
        }
    }
    rate(confirmed, started)
}

fn drain(client: &mut Client, queue: &str, prefetch: u16, count: u64) -> f64 {
    client.qos(1, prefetch, false);
    client.consume(1, queue, "bench", 0);
    let batch = u64::from(prefetch / 4).max(1);
    let (mut received, mut acked, mut before) = (0, 0, None);
    let started = Instant::now();
    while received < count {
        let tag = client.delivery(1).tag;
        // Tags go on from one queue to the next.
        received = tag - *before.get_or_insert(tag - 1);
        if received - acked >= batch || received == count {
            client.ack(1, tag, true);
            acked = received;
        }
    }
    let result = rate(received, started);
    // The answer shows that the acks were taken.
    client.cancel(1, "bench");
    result
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more digits")]
fn rate(count: u64, started: Instant) -> f64 {
    count as f64 / started.elapsed().as_secs_f64()
}
