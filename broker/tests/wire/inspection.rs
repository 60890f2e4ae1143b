//! What the private listener shows of queues and messages.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::server::{Server, eventually};
use crate::support::{DURABLE, PATIENCE};

pub(crate) fn get(server: &Server, path: &str) -> String {
    let log = server.log();
    let addr: SocketAddr =
        log.lines().find_map(|line| line.split("private listener at ").nth(1)).unwrap().parse().unwrap();
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn queues_show_what_waits_what_is_out_and_who_consumes() {
    let server = Server::start();
    let mut client = server.publisher();
    client.declare(1, "orders \"x\"", DURABLE);
    for body in [b"a", b"b", b"c"] {
        client.publish_confirmed(1, "orders \"x\"", body);
    }
    let mut consumer = server.client();
    consumer.qos(1, 1, false);
    consumer.consume(1, "orders \"x\"", "tag", 0);
    consumer.delivery(1);
    let queues = get(&server, "/api/queues");
    let expected = r#"[{"auto_delete":false,"consumers":1,"durable":true,"exclusive":false,"messages":3,"messages_ready":2,"messages_unacknowledged":1,"name":"orders \"x\"","vhost":"/"}]"#;
    assert!(queues.ends_with(expected), "{queues}");
    let metrics = get(&server, "/metrics");
    for line in [
        r#"rabbitmq_queue_messages_ready{vhost="/",queue="orders \"x\""} 2"#,
        r#"rabbitmq_queue_messages_unacked{vhost="/",queue="orders \"x\""} 1"#,
        r#"rabbitmq_queue_consumers{vhost="/",queue="orders \"x\""} 1"#,
        "rabbitmq_connections 2",
        "rabbitmq_global_messages_routed_total 3",
        "rabbitmq_global_messages_confirmed_total 3",
        "broker_log_segments 1",
        "rabbitmq_alarms_free_disk_space_watermark 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in:\n{metrics}");
    }
    for family in ["broker_confirm_duration_seconds", "broker_log_sync_duration_seconds"] {
        assert!(metrics.contains(&format!("{family}_count ")), "{family} is not in:\n{metrics}");
    }
    consumer.ack(1, 1, false);
    eventually("the acknowledgement is counted", || {
        get(&server, "/metrics").contains("\nbroker_messages_settled_total 1\n").then_some(())
    });
}

#[test]
fn a_nearly_full_disk_is_told_by_readiness() {
    let server = Server::with(&[("BROKER_DISK_FREE_MIN_BYTES", "1125899906842624")]);
    eventually("the alarm", || get(&server, "/ready").starts_with("HTTP/1.1 503").then_some(()));
    assert!(get(&server, "/ready").contains(r#""disk":"nearly full"#), "{}", get(&server, "/ready"));
    assert!(get(&server, "/metrics").contains("\nrabbitmq_alarms_free_disk_space_watermark 1\n"));
    assert!(get(&server, "/health").starts_with("HTTP/1.1 200"));
}
