//! Hosts that fail: what becomes of one must not reach the session on another, and nothing may go on without answers.
//! They are brokers of the test's own, because no real one falls silent or talks nonsense at a chosen moment.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use amqp::{AmqpSettings, Connection};
use foundation::Environment;

const PATIENCE: Duration = Duration::from_secs(10);

/// Where a broker listens, and the ids of the methods that arrive at it.
struct Host {
    port: u16,
    seen: Receiver<(u16, u16)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    SaysYes,
    /// Says nothing more after connection.open.
    FallsSilent,
    /// After confirm.select, speaks on a channel that nobody opened.
    TalksNonsense,
}

fn start(manner: Manner) -> Host {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().unwrap().port();
    let (sender, seen) = channel();
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let sender = sender.clone();
            thread::spawn(move || serve(socket, manner, &sender));
        }
    });
    Host { port, seen }
}

fn serve(mut socket: TcpStream, manner: Manner, seen: &Sender<(u16, u16)>) -> Option<()> {
    let mut header = [0; 8];
    socket.read_exact(&mut header).ok()?;
    // Version 0-9, no properties, the mechanism and the locale.
    send(&mut socket, 0, &[0, 10, 0, 10, 0, 9, 0, 0, 0, 0, 0, 0, 0, 5], b"PLAIN\0\0\0\x05en_US");
    loop {
        let mut head = [0; 7];
        socket.read_exact(&mut head).ok()?;
        let channel = u16::from_be_bytes([head[1], head[2]]);
        let mut payload = vec![0; u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize + 1];
        socket.read_exact(&mut payload).ok()?;
        if head[0] != 1 {
            continue;
        }
        let ids =
            (u16::from_be_bytes([payload[0], payload[1]]), u16::from_be_bytes([payload[2], payload[3]]));
        seen.send(ids).ok()?;
        match ids {
            // Tune: 10 channels, frames of 4,096 bytes, no heartbeats.
            (10, 11) => send(&mut socket, 0, &[0, 10, 0, 30], &[0, 10, 0, 0, 16, 0, 0, 0]),
            (10, 40) => send(&mut socket, 0, &[0, 10, 0, 41], &[0]),
            // Connection.close, forced: both sides may close at the same time.
            (10, 50) if manner == Manner::FallsSilent => {
                let forced = [&[1, 64, 0][..], &[0; 4]].concat();
                send(&mut socket, 0, &[0, 10, 0, 50], &forced);
            }
            (10, 50) => send(&mut socket, 0, &[0, 10, 0, 51], &[]),
            (20, 10) if manner != Manner::FallsSilent => {
                send(&mut socket, channel, &[0, 20, 0, 11], &[0, 0, 0, 0]);
            }
            (85, 10) => {
                send(&mut socket, channel, &[0, 85, 0, 11], &[]);
                if manner == Manner::TalksNonsense {
                    send(&mut socket, channel + 1, &[0, 20, 0, 20], &[1]);
                }
            }
            _ => {}
        }
    }
}

fn send(socket: &mut TcpStream, channel: u16, ids: &[u8], arguments: &[u8]) {
    let mut frame = vec![1];
    frame.extend_from_slice(&channel.to_be_bytes());
    frame.extend_from_slice(&u32::try_from(ids.len() + arguments.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(ids);
    frame.extend_from_slice(arguments);
    frame.push(0xce);
    let _ = socket.write_all(&frame);
}

fn connect(hosts: &[&Host]) -> Connection {
    let hosts: Vec<_> = hosts.iter().map(|host| format!("127.0.0.1:{}", host.port)).collect();
    let environment = Environment::from_pairs([
        ("RABBITMQ_HOST", hosts.join(",").as_str()),
        ("RABBITMQ_USER", "u"),
        ("RABBITMQ_PASSWORD", "p"),
    ]);
    let mut settings = AmqpSettings::read(&environment).unwrap();
    settings.connect_timeout = Duration::from_millis(500);
    Connection::open(&settings, "test").unwrap()
}

#[test]
fn the_end_of_a_host_that_was_given_up_does_not_end_the_next_one_s_session() {
    let (silent, good) = (start(Manner::FallsSilent), start(Manner::SaysYes));
    let connection = connect(&[&silent, &good]);
    // The first host is left in good order, by the attempt that failed and by the one that asked for the reason; its
    // answer comes when the other session is already open.
    let mut closes = 0;
    while closes < 2 {
        let ids = silent.seen.recv_timeout(PATIENCE).expect("the first host is told that it is not needed");
        closes += usize::from(ids == (10, 50));
    }
    assert_eq!(connection.wait_closed(Duration::from_secs(1)), None);
    connection.close(PATIENCE);
    while good.seen.recv_timeout(PATIENCE).expect("the second host is left when that is asked for")
        != (10, 50)
    {}
}

/// The library's reader panics when it meets such a frame; its other half would keep the connection open for ever.
#[test]
fn a_connection_that_nobody_reads_any_more_is_closed() {
    let connection = connect(&[&start(Manner::TalksNonsense)]);
    let reason = connection.wait_closed(PATIENCE).expect("the connection ends");
    assert_eq!(reason, "the connection was lost");
}
