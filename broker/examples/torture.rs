//! Kills a broker under load, again and again, and checks what it promised.
//!
//! `torture BROKER_BINARY FOLDER CYCLES SECONDS` runs cycles until one of the bounds is reached: start, publish and
//! consume, kill -9 at a random moment. In the end the queue is drained. Prints one line: cycles, messages confirmed,
//! lost (confirmed, and never delivered), duplicated (delivered again, which a crash allows) and reordered (delivered
//! after a later message within one life, which nothing allows). Fails if any was lost or reordered. On the way it says
//! on stderr how far it is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measuring tool prints, and ends at the first surprise"
)]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[path = "../tests/support/mod.rs"]
mod support;

use support::{Client, DURABLE, Login, PERSISTENT, arguments, end_with_usage};

const USAGE: &str = "torture BROKER_BINARY FOLDER CYCLES SECONDS";
/// So many cycles lie between two words on how far it is.
const PROGRESS_CYCLES: u64 = 50;
const USER: &str = "torture";
const PASSWORD: &str = "dummy";
const QUEUE: &str = "torture";
/// Unconfirmed messages of the publisher, and unacked ones of the consumer.
const WINDOW: u64 = 200;

/// What happened, by message number.
#[derive(Default)]
struct Ledger {
    confirmed: Vec<bool>,
    deliveries: Vec<u32>,
    reordered: u64,
}

impl Ledger {
    fn grow(&mut self, number: u64) -> usize {
        let index = usize::try_from(number).unwrap();
        if self.confirmed.len() <= index {
            self.confirmed.resize(index + 1, false);
            self.deliveries.resize(index + 1, 0);
        }
        index
    }

    fn confirm(&mut self, number: u64) {
        let index = self.grow(number);
        self.confirmed[index] = true;
    }

    fn deliver(&mut self, number: u64, last: &mut Option<u64>) {
        let index = self.grow(number);
        self.deliveries[index] += 1;
        self.reordered += u64::from(last.is_some_and(|last| number <= last));
        *last = Some(number);
    }
}

fn main() -> ExitCode {
    let arguments = arguments();
    let [binary, folder, cycles, seconds] = arguments.as_slice() else { end_with_usage(USAGE) };
    let (Ok(cycles), Ok(limit)) = (cycles.parse::<u64>(), seconds.parse()) else { end_with_usage(USAGE) };
    let started = Instant::now();
    let deadline = started + Duration::from_secs(limit);
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let next = Arc::new(AtomicU64::new(0));
    let (mut done, mut seed) = (0, 0x2545_f491_4f6c_dd1d_u64);
    while done < cycles && Instant::now() < deadline {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        cycle(binary, folder, Duration::from_micros(5_000 + seed % 60_000), &ledger, &next);
        done += 1;
        if done % PROGRESS_CYCLES == 0 {
            let (published, seconds) = (next.load(Ordering::SeqCst), started.elapsed().as_secs());
            eprintln!("{done} of {cycles} cycles, {published} messages published, {seconds} s");
        }
    }
    drain(binary, folder, &ledger);
    report(done, &ledger.lock().unwrap())
}

/// One life of the broker: load until `length` is over, then kill -9.
fn cycle(binary: &str, folder: &str, length: Duration, ledger: &Arc<Mutex<Ledger>>, next: &Arc<AtomicU64>) {
    let (mut child, address) = start(binary, folder);
    let mut first = connect(address);
    first.declare(1, QUEUE, DURABLE);
    let publisher = std::thread::spawn({
        let (ledger, next) = (Arc::clone(ledger), Arc::clone(next));
        move || publish(first, &ledger, &next)
    });
    let second = connect(address);
    let consumer = std::thread::spawn({
        let ledger = Arc::clone(ledger);
        move || consume(second, &ledger, u64::MAX)
    });
    // The length of a life, not a wait for something to happen.
    std::thread::sleep(length);
    child.kill().unwrap();
    child.wait().unwrap();
    publisher.join().unwrap();
    consumer.join().unwrap();
}

fn start(binary: &str, folder: &str) -> (Child, SocketAddr) {
    let mut child = Command::new(binary)
        .current_dir(std::env::temp_dir())
        .env("BROKER_HOST", "127.0.0.1")
        .env("BROKER_PORT", "0")
        .env("BROKER_PRIVATE_PORT", "0")
        .env("BROKER_DATA_DIR", folder)
        // Small segments, so that they roll, are removed and are merged within a few cycles.
        .env("BROKER_SEGMENT_BYTES", "262144")
        .env("RABBITMQ_USER", USER)
        .env("RABBITMQ_PASSWORD", PASSWORD)
        .env("LOG_LEVEL", "info")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.find_map(|line| {
        assert!(!line.contains("ERROR"), "{line}");
        line.split("listening on ").nth(1).map(|address| address.parse().unwrap())
    });
    std::thread::spawn(move || lines.for_each(drop));
    (child, address.expect("the broker starts"))
}

fn connect(address: SocketAddr) -> Client {
    let mut client = Client::connect(address, &Login::new(USER, PASSWORD));
    client.open_channel(1);
    client.confirm_select(1);
    client.qos(1, u16::try_from(WINDOW).unwrap(), false);
    client
}

/// Publishes numbered messages until the connection breaks.
fn publish(mut client: Client, ledger: &Mutex<Ledger>, next: &AtomicU64) {
    let first = next.load(Ordering::SeqCst);
    let (mut sent, mut confirmed) = (0, 0);
    loop {
        while sent - confirmed < WINDOW {
            let number = first + sent;
            client.queue_publish(1, "", QUEUE, false, (PERSISTENT, &number.to_be_bytes()));
            sent += 1;
        }
        next.store(first + sent, Ordering::SeqCst);
        if !client.try_flush() {
            return;
        }
        let Some(frame) = client.try_frame() else { return };
        if frame.ids() == (60, 80) {
            let tag = frame.arguments().long_long();
            let mut ledger = ledger.lock().unwrap();
            (confirmed..tag).for_each(|at| ledger.confirm(first + at));
            confirmed = tag;
        }
    }
}

/// Consumes and acks until the connection breaks, or `most` messages came.
fn consume(mut client: Client, ledger: &Mutex<Ledger>, most: u64) {
    let args = support::Args::new().short(0).short_string(QUEUE).short_string("t").octet(0).table(&[]);
    client.queue_method(1, 60, 20, &args);
    if !client.try_flush() {
        return;
    }
    let (mut last, mut count) = (None, 0);
    while count < most {
        let Some(frame) = client.try_frame() else { return };
        if frame.ids() == (60, 60) {
            let mut arguments = frame.arguments();
            arguments.short_string();
            let tag = arguments.long_long();
            let (Some(_header), Some(body)) = (client.try_frame(), client.try_frame()) else { return };
            let number = u64::from_be_bytes(body.payload.try_into().unwrap());
            ledger.lock().unwrap().deliver(number, &mut last);
            count += 1;
            if tag.is_multiple_of(WINDOW / 4) || count == most {
                client.queue_method(1, 60, 80, &support::Args::new().long_long(tag).octet(1));
                if !client.try_flush() {
                    return;
                }
            }
        }
    }
}

/// Starts a last time and takes everything that is left.
fn drain(binary: &str, folder: &str, ledger: &Mutex<Ledger>) {
    let (mut child, address) = start(binary, folder);
    let mut client = connect(address);
    let left = client.declare(1, QUEUE, DURABLE).1;
    consume(client, ledger, left.into());
    child.kill().unwrap();
    child.wait().unwrap();
}

fn report(cycles: u64, ledger: &Ledger) -> ExitCode {
    let confirmed = ledger.confirmed.iter().filter(|confirmed| **confirmed).count();
    let both = ledger.confirmed.iter().zip(&ledger.deliveries);
    let lost = both.filter(|(confirmed, deliveries)| **confirmed && **deliveries == 0).count();
    let duplicated: u64 = ledger.deliveries.iter().map(|count| u64::from(count.saturating_sub(1))).sum();
    let reordered = ledger.reordered;
    println!(
        "cycles {cycles}, messages {confirmed}, lost {lost}, duplicated {duplicated}, reordered {reordered}"
    );
    if lost == 0 && reordered == 0 && confirmed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
