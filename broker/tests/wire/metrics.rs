//! What the private listener shows to everybody: readiness, and figures for Prometheus.

use crate::server::{Server, eventually};
use crate::support::{Args, DURABLE};
use crate::topology::{bind, declare_exchange};

#[test]
fn queues_messages_and_objects_are_counted() {
    let server = Server::start();
    let mut client = server.publisher();
    client.declare(1, "orders \"x\"", DURABLE);
    for body in [b"a", b"b", b"c"] {
        client.publish_confirmed(1, "orders \"x\"", body);
    }
    client.publish(1, "", "nowhere", false, b"dropped");
    client.expect(1, 60, 80);
    let mut consumer = server.client();
    consumer.qos(1, 1, false);
    consumer.consume(1, "orders \"x\"", "tag", 0);
    consumer.delivery(1);
    assert!(consumer.get(1, "orders \"x\"", true).is_some());
    let metrics = server.anonymous().get("/metrics").body;
    let lines = [
        r#"rabbitmq_queue_messages_ready{vhost="/",queue="orders \"x\""} 1"#,
        r#"rabbitmq_queue_messages_unacked{vhost="/",queue="orders \"x\""} 1"#,
        r#"rabbitmq_queue_messages{vhost="/",queue="orders \"x\""} 2"#,
        r#"rabbitmq_queue_consumers{vhost="/",queue="orders \"x\""} 1"#,
        r#"rabbitmq_queue_messages_published_total{vhost="/",queue="orders \"x\""} 3"#,
        r#"rabbitmq_channel_messages_delivered_ack_total{vhost="/",queue="orders \"x\""} 1"#,
        r#"rabbitmq_channel_get_total{vhost="/",queue="orders \"x\""} 1"#,
        "rabbitmq_connections 2",
        "rabbitmq_connections_opened_total 2",
        "rabbitmq_channels 2",
        "rabbitmq_consumers 1",
        "rabbitmq_queues 1",
        "rabbitmq_queues_created_total 1",
        r#"rabbitmq_global_publishers{protocol="amqp091"} 1"#,
        r#"rabbitmq_global_messages_received_total{protocol="amqp091"} 4"#,
        r#"rabbitmq_global_messages_routed_total{protocol="amqp091"} 3"#,
        r#"rabbitmq_global_messages_confirmed_total{protocol="amqp091"} 4"#,
        r#"rabbitmq_global_messages_unroutable_dropped_total{protocol="amqp091"} 1"#,
        r#"rabbitmq_global_messages_delivered_total{protocol="amqp091",queue_type="rabbit_classic_queue"} 2"#,
        r#"rabbitmq_auth_attempts_succeeded_total{protocol="amqp091"} 2"#,
        r#"rabbitmq_identity_info{rabbitmq_node="broker@localhost",rabbitmq_cluster="broker@localhost"} 1"#,
        "broker_log_segments 1",
        "rabbitmq_alarms_free_disk_space_watermark 0",
    ];
    for line in lines {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in:\n{metrics}");
    }
    for family in ["broker_confirm_duration_seconds", "broker_log_sync_duration_seconds"] {
        assert!(metrics.contains(&format!("{family}_count ")), "{family} is not in:\n{metrics}");
    }
    consumer.ack(1, 1, false);
    eventually("the acknowledgement is counted", || {
        server.anonymous().get("/metrics").body.contains("\nbroker_messages_settled_total 2\n").then_some(())
    });
}

#[test]
fn totals_keep_what_deleted_queues_counted() {
    let server = Server::start();
    let mut client = server.publisher();
    client.declare(1, "gone", 0);
    client.publish_confirmed(1, "gone", b"a");
    assert!(client.get(1, "gone", true).is_some());
    assert_eq!(server.api().call("DELETE", "/api/queues/%2F/gone", "").status, 204);
    let metrics = server.anonymous().get("/metrics").body;
    let line = r#"rabbitmq_global_messages_delivered_get_auto_ack_total{protocol="amqp091",queue_type="rabbit_classic_queue"} 1"#;
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
    assert!(!metrics.contains("queue=\"gone\"") && metrics.contains("\nrabbitmq_queues_deleted_total 1\n"));
}

#[test]
fn a_nearly_full_disk_is_told_by_readiness() {
    let server = Server::with(&[("BROKER_DISK_FREE_MIN_BYTES", "1125899906842624")]);
    let anonymous = server.anonymous();
    eventually("the alarm", || (anonymous.get("/ready").status == 503).then_some(()));
    assert!(anonymous.get("/ready").body.contains(r#""disk":"nearly full"#));
    assert!(anonymous.get("/metrics").body.contains("\nrabbitmq_alarms_free_disk_space_watermark 1\n"));
    assert_eq!(anonymous.get("/health").status, 200);
    assert_eq!(server.api().get("/api/health/checks/alarms").status, 503);
    let message = r#"{"routing_key":"q","payload":"x","payload_encoding":"string","properties":{}}"#;
    let refused = server.api().call("POST", "/api/exchanges/%2F/amq.default/publish", message);
    assert!(refused.status == 503 && refused.reason().contains("disk"), "{refused:?}");
}

#[test]
fn every_limit_of_the_process_is_shown_and_how_near_it_is() {
    let server = Server::with(&[("BROKER_MAX_CONNECTIONS", "7")]);
    let figures = server.anonymous();
    for (name, limit) in [
        ("broker_connections_limit", 7),
        ("broker_channels_limit", 32_768),
        ("broker_consumers_limit", 32_768),
        ("broker_queues_limit", 10_000),
        ("broker_exchanges_limit", 10_000),
        ("broker_memory_bindings_limit_bytes", 16 << 20),
        ("broker_memory_buffered_limit_bytes", 16 << 20),
        ("broker_memory_uncommitted_limit_bytes", 17 << 20),
        ("rabbitmq_process_max_tcp_sockets", 7),
    ] {
        assert_eq!(figures.metric(name), limit, "{name}");
    }
    let mut client = server.client();
    client.declare(1, "q", 0);
    let exchanges = figures.metric("broker_exchanges");
    declare_exchange(&mut client, "e", "topic", 0);
    assert_eq!(figures.metric("broker_exchanges"), exchanges + 1);
    assert_eq!(figures.metric("broker_memory_bindings_bytes"), 0);
    bind(&mut client, "q", "e", &"k".repeat(100));
    let bound = figures.metric("broker_memory_bindings_bytes");
    assert!((100..1000).contains(&bound), "{bound}");
    client.method(1, 90, 10, Args::new());
    client.expect(1, 90, 11);
    client.publish(1, "", "q", false, &[0; 5000]);
    assert_eq!(client.depth(1, "q"), 0);
    let staged = figures.metric("broker_memory_uncommitted_bytes");
    assert!((5000..10_000).contains(&staged), "{staged}");
    client.method(1, 90, 30, Args::new());
    client.expect(1, 90, 31);
    assert_eq!(figures.metric("broker_memory_uncommitted_bytes"), 0);
}
