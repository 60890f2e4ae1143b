//! The management API: what it shows, and that it changes what the protocol sees.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::Api;
use crate::server::{Server, USER, eventually};
use crate::support::{Args, DURABLE, EXCLUSIVE, Login};

fn put(api: &Api, path: &str, body: &Value) -> u16 {
    api.call("PUT", path, &body.to_string()).status
}

#[test]
fn queues_show_what_waits_what_is_out_and_who_consumes() {
    let server = Server::start();
    let (api, mut client) = (server.api(), server.publisher());
    client.declare(1, "a/b", DURABLE);
    client.declare(1, "other", 0);
    for body in [b"a", b"b", b"c"] {
        client.publish_confirmed(1, "a/b", body);
    }
    let mut consumer = server.client();
    consumer.qos(1, 1, false);
    consumer.consume(1, "a/b", "tag", 0);
    consumer.delivery(1);
    let queues = api.json("/api/queues");
    assert_eq!(queues.as_array().map(Vec::len), Some(2));
    let queue = api.json("/api/queues/%2F/a%2Fb");
    for (name, value) in [
        ("name", json!("a/b")),
        ("durable", json!(true)),
        ("exclusive", json!(false)),
        ("messages", json!(3)),
        ("messages_ready", json!(2)),
        ("messages_unacknowledged", json!(1)),
        ("consumers", json!(1)),
    ] {
        assert_eq!((&queue[name], &queues[0][name]), (&value, &value), "{name}");
    }
    assert_eq!(
        (&queue["message_stats"]["publish"], &queue["message_stats"]["deliver"]),
        (&json!(3), &json!(1))
    );
    assert_eq!(queue["consumer_details"][0]["consumer_tag"], "tag");
    let names = api.json("/api/queues/%2F?columns=name,messages&sort=messages");
    assert_eq!(names, json!([{ "name": "other", "messages": 0 }, { "name": "a/b", "messages": 3 }]));
    assert_eq!(api.json("/api/queues?page=1&page_size=1&columns=name")["page_count"], 2);
    assert_eq!(api.get("/api/queues/%2F/none").status, 404);
    assert_eq!(api.get("/api/queues/other-vhost").status, 404);
}

#[test]
fn connections_channels_and_consumers_are_shown_and_connections_closed() {
    let server = Server::start();
    let api = server.api();
    assert_eq!(api.json("/api/connections"), json!([]));
    let mut client = server.publisher();
    client.declare(1, "q", 0);
    client.qos(1, 7, false);
    client.qos(1, 9, true);
    client.consume(1, "q", "tag", 2);
    let connection = &api.json("/api/connections")[0];
    let local = client.stream.local_addr().unwrap();
    let name = format!("{local} -> {}", server.address);
    assert_eq!((connection["name"].as_str(), connection["user"].as_str()), (Some(name.as_str()), Some(USER)));
    assert_eq!((&connection["channels"], &connection["peer_port"]), (&json!(1), &json!(local.port())));
    assert_eq!(connection["client_properties"]["capabilities"]["basic.nack"], true);
    assert!(connection["recv_oct"].as_u64() > Some(100) && connection["send_oct"].as_u64() > Some(100));
    let channel = &api.json("/api/channels")[0];
    assert_eq!(channel["name"], format!("{name} (1)"));
    for (field, value) in [
        ("confirm", json!(true)),
        ("consumer_count", json!(1)),
        ("prefetch_count", json!(7)),
        ("global_prefetch_count", json!(9)),
    ] {
        assert_eq!(channel[field], value, "{field}");
    }
    let path = format!("/api/connections/{}", name.replace(' ', "%20").replace('>', "%3E"));
    assert_eq!(api.json(&path)["name"], name);
    assert_eq!(api.json(&format!("{path}/channels"))[0]["number"], 1);
    let consumer = &api.json("/api/consumers/%2F")[0];
    assert_eq!((&consumer["consumer_tag"], &consumer["ack_required"]), (&json!("tag"), &json!(false)));
    assert_eq!(consumer["channel_details"]["connection_name"], name);
    // The client answers while the request is served.
    let closing = std::thread::spawn({
        let (api, path) = (api.clone(), path.clone());
        move || api.call("DELETE", &path, "").status
    });
    client.expect_connection_close(320, "Closed via management plugin");
    assert_eq!(closing.join().unwrap(), 204);
    assert_eq!(api.json("/api/connections"), json!([]));
    assert_eq!(api.call("DELETE", &path, "").status, 404);
    assert_eq!(api.json("/api/channels"), json!([]));
}

#[test]
fn queues_are_declared_purged_and_deleted_by_the_rules_of_the_protocol() {
    let mut server = Server::start();
    let api = server.api();
    let path = "/api/queues/%2F/orders";
    assert_eq!(put(&api, path, &json!({ "durable": true })), 201);
    assert_eq!(put(&api, path, &json!({ "durable": "true", "auto_delete": "false", "arguments": {} })), 204);
    let refused = api.call("PUT", path, r#"{"durable":false}"#);
    let reason =
        "inequivalent arg 'durable' for queue 'orders' in vhost '/': received 'false' but current is 'true'";
    assert_eq!((refused.status, refused.reason().as_str()), (400, reason));
    for (path, body, reason) in [
        (path, "{", "not_json"),
        (path, r#"{"durable":3}"#, "'durable' must be true or false, not 3"),
        ("/api/queues/%2F/x", r#"{"arguments":{"x-message-ttl":"soon"}}"#, "x-message-ttl"),
        ("/api/queues/%2F/x", r#"{"arguments":{"x":null}}"#, "null_not_allowed"),
        ("/api/queues/%2F/amq.x", "{}", "contains reserved prefix"),
    ] {
        let refused = api.call("PUT", path, body);
        assert!(refused.status == 400 && refused.reason().contains(reason), "{refused:?}");
    }
    server.restart_after_kill();
    let (api, mut client) = (server.api(), server.publisher());
    client.publish_confirmed(1, "orders", b"a");
    let refused = api.call("DELETE", &format!("{path}?if-empty=true"), "");
    assert_eq!((refused.status, refused.reason().as_str()), (400, "queue 'orders' in vhost '/' not empty"));
    assert_eq!(api.call("DELETE", &format!("{path}/contents"), "").status, 204);
    assert_eq!(client.depth(1, "orders"), 0);
    client.consume(1, "orders", "tag", 0);
    assert_eq!(api.call("DELETE", &format!("{path}?if-unused=true"), "").status, 400);
    assert_eq!(api.call("DELETE", path, "").status, 204);
    client.expect(1, 60, 30);
    assert_eq!(api.call("DELETE", path, "").status, 404);
    client.declare(1, "mine", EXCLUSIVE);
    for (method, path) in [("DELETE", "mine"), ("DELETE", "mine/contents"), ("PUT", "mine")] {
        let refused = api.call(method, &format!("/api/queues/%2F/{path}"), "");
        assert!(
            refused.status == 400 && refused.reason().starts_with("cannot obtain exclusive"),
            "{refused:?}"
        );
    }
}

#[test]
fn exchanges_and_bindings_route_what_the_protocol_publishes() {
    let server = Server::start();
    let (api, mut client) = (server.api(), server.publisher());
    client.declare(1, "orders", 0);
    let exchange = "/api/exchanges/%2F/events";
    assert_eq!(put(&api, exchange, &json!({ "type": "topic", "durable": true })), 201);
    assert_eq!(put(&api, exchange, &json!({ "type": "topic", "durable": true })), 204);
    assert_eq!(put(&api, exchange, &json!({ "type": "fanout", "durable": true })), 400);
    assert_eq!(put(&api, "/api/exchanges/%2F/x", &json!({ "type": "other" })), 400);
    let between = "/api/bindings/%2F/e/events/q/orders";
    let bound = api.call("POST", between, r#"{"routing_key":"order.#"}"#);
    assert_eq!(bound.status, 201);
    assert!(bound.head.contains("Location: orders/order.%2523"), "{}", bound.head);
    client.publish(1, "events", "order.new", true, b"a");
    client.expect(1, 60, 80);
    assert_eq!(client.depth(1, "orders"), 1);
    let expected = json!([{ "source": "events", "vhost": "/", "destination": "orders", "destination_type": "queue",
        "routing_key": "order.#", "arguments": {}, "properties_key": "order.%23" }]);
    for path in [between, "/api/exchanges/%2F/events/bindings/source"] {
        assert_eq!(api.json(path), expected, "{path}");
    }
    assert_eq!(api.json("/api/exchanges/%2F/events/bindings/destination"), json!([]));
    for path in ["/api/bindings", "/api/bindings/%2F", "/api/queues/%2F/orders/bindings"] {
        assert_eq!(api.json(path).as_array().map(Vec::len), Some(2), "{path}: the default exchange's, too");
    }
    assert_eq!(api.json(&format!("{between}/order.%2523"))["routing_key"], "order.#");
    assert_eq!(api.call("DELETE", &format!("{between}/none"), "").status, 404);
    assert_eq!(api.call("DELETE", &format!("{between}/order.%2523"), "").status, 204);
    assert_eq!(api.json(between), json!([]));
    for (path, status) in [
        ("/api/bindings/%2F/e/events/q/none", 404),
        ("/api/bindings/%2F/e/none/q/orders", 404),
        ("/api/bindings/%2F/e//q/orders", 400),
    ] {
        assert_eq!(api.call("POST", path, "{}").status, status, "{path}");
    }
    let names: Vec<Value> =
        api.json("/api/exchanges").as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert!(
        names[0] == "" && names.contains(&json!("events")) && names.contains(&json!("amq.direct")),
        "{names:?}"
    );
    assert_eq!(api.json(exchange)["type"], "topic");
    assert_eq!(api.call("DELETE", exchange, "").status, 204);
    assert_eq!(api.call("DELETE", exchange, "").status, 404);
    assert_eq!(api.call("DELETE", "/api/exchanges/%2F/amq.direct", "").status, 400);
}

#[test]
fn messages_are_published_durably_and_taken_in_four_ways() {
    let mut server = Server::start();
    let api = server.api();
    put(&api, "/api/queues/%2F/q", &json!({ "durable": true }));
    let publish = |api: &Api, key: &str, payload: &str, encoding: &str, properties: Value| {
        let body = json!({ "routing_key": key, "payload": payload, "payload_encoding": encoding,
            "properties": properties });
        api.call("POST", "/api/exchanges/%2F/amq.default/publish", &body.to_string())
    };
    let properties =
        json!({ "delivery_mode": 2, "message_id": "m", "headers": { "n": 1, "list": ["a", true] } });
    assert_eq!(publish(&api, "q", "first ä", "string", properties.clone()).json(), json!({ "routed": true }));
    assert_eq!(publish(&api, "q", "/wA=", "base64", json!({ "delivery_mode": 2 })).json()["routed"], true);
    assert_eq!(publish(&api, "none", "x", "string", json!({})).json(), json!({ "routed": false }));
    assert_eq!(publish(&api, "q", "%", "base64", json!({})).status, 400);
    assert_eq!(publish(&api, "q", "x", "rot13", json!({})).status, 400);
    let refused = publish(&api, "q", "x", "string", json!({ "user_id": "somebody" }));
    assert!(refused.status == 400 && refused.reason().contains("user_id property set to 'somebody'"));
    // It was answered when it was durable.
    server.restart_after_kill();
    let (api, mut client) = (server.api(), server.client());
    let get = |mode: &str, count: u32, encoding: &str| {
        let body = json!({ "count": count, "ackmode": mode, "encoding": encoding });
        api.call("POST", "/api/queues/%2F/q/get", &body.to_string()).json()
    };
    let messages = get("ack_requeue_true", 5, "auto");
    assert_eq!(messages.as_array().map(Vec::len), Some(2));
    let first = &messages[0];
    assert_eq!((&first["payload"], &first["payload_encoding"]), (&json!("first ä"), &json!("string")));
    assert_eq!((&first["payload_bytes"], &first["message_count"]), (&json!(8), &json!(1)));
    assert_eq!((&first["properties"], &first["routing_key"]), (&properties, &json!("q")));
    assert_eq!(
        (&messages[1]["payload"], &messages[1]["payload_encoding"]),
        (&json!("/wA="), &json!("base64"))
    );
    assert_eq!(get("reject_requeue_true", 1, "base64")[0]["payload"], "Zmlyc3Qgw6Q=");
    assert_eq!(client.depth(1, "q"), 2);
    assert_eq!(get("ack_requeue_false", 1, "auto")[0]["redelivered"], true);
    assert_eq!(get("reject_requeue_false", 1, "auto")[0]["payload"], "/wA=");
    assert_eq!(get("ack_requeue_false", 1, "auto"), json!([]));
    assert_eq!(client.depth(1, "q"), 0);
    publish(&api, "q", "long", "string", json!([]));
    let body = r#"{"count":"1","ackmode":"ack_requeue_false","encoding":"auto","truncate":2}"#;
    let message = &api.call("POST", "/api/queues/%2F/q/get", body).json()[0];
    assert_eq!((&message["payload"], &message["payload_bytes"]), (&json!("lo"), &json!(4)));
    for wrong in [
        r#"{"count":1,"ackmode":"x","encoding":"auto"}"#,
        r#"{"count":-1,"ackmode":"ack_requeue_true","encoding":"auto"}"#,
        "{}",
    ] {
        assert_eq!(api.call("POST", "/api/queues/%2F/q/get", wrong).status, 400, "{wrong}");
    }
    let long = "x".repeat(3 << 20);
    assert_eq!(publish(&api, "q", &long, "string", json!({})).status, 413);
}

#[test]
fn exchanges_are_bound_to_exchanges_and_bindings_have_arguments() {
    let server = Server::start();
    let (api, mut client) = (server.api(), server.publisher());
    client.declare(1, "orders", 0);
    put(&api, "/api/exchanges/%2F/first", &json!({ "type": "headers" }));
    put(&api, "/api/exchanges/%2F/second", &json!({ "type": "fanout" }));
    let between = "/api/bindings/%2F/e/first/e/second";
    for arguments in [r#"{"arguments":{"k":1}}"#, r#"{"arguments":{"k":2}}"#] {
        assert_eq!(api.call("POST", between, arguments).status, 201);
    }
    api.call("POST", "/api/bindings/%2F/e/second/q/orders", "{}");
    assert_eq!(api.json("/api/exchanges/%2F/second/bindings/destination"), api.json(between));
    let bound = api.json(between).as_array().unwrap().clone();
    assert_eq!(bound.len(), 2, "{bound:?}");
    let second = bound.iter().find(|one| one["arguments"] == json!({ "k": 2 })).unwrap();
    let key = second["properties_key"].as_str().unwrap();
    assert_eq!(&api.json(&format!("{between}/{key}")), second);
    assert_eq!(api.call("DELETE", &format!("{between}/{key}"), "").status, 204);
    let publish = |k: u64| {
        let body = json!({ "routing_key": "", "payload": "x", "payload_encoding": "string",
            "properties": { "headers": { "k": k } } });
        let answer = api.call("POST", "/api/exchanges/%2F/first/publish", &body.to_string());
        serde_json::from_str::<Value>(&answer.body).unwrap()["routed"].clone()
    };
    assert_eq!((publish(1), publish(2)), (json!(true), json!(false)));
    assert_eq!(client.depth(1, "orders"), 1);
}

#[test]
fn what_is_rejected_becomes_a_dead_letter() {
    let server = Server::start();
    let api = server.api();
    put(&api, "/api/queues/%2F/dead", &json!({}));
    let arguments = json!({ "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead" });
    put(&api, "/api/queues/%2F/orders", &json!({ "arguments": arguments }));
    assert_eq!(api.json("/api/queues/%2F/orders")["arguments"], arguments);
    let body = json!({ "routing_key": "none", "payload": "x", "payload_encoding": "string",
        "properties": { "headers": { "CC": ["orders"] } } });
    assert_eq!(api.call("POST", "/api/exchanges/%2F/amq.default/publish", &body.to_string()).status, 200);
    let rejected = r#"{"ackmode":"reject_requeue_false","count":1,"encoding":"auto"}"#;
    assert_eq!(api.call("POST", "/api/queues/%2F/orders/get", rejected).status, 200);
    let mut client = server.client();
    eventually("the letter comes", || (client.depth(1, "dead") == 1).then_some(()));
    let late = json!({ "routing_key": "dead", "payload": "x", "payload_encoding": "string",
        "properties": { "expiration": "soon" } });
    assert_eq!(api.call("POST", "/api/exchanges/%2F/amq.default/publish", &late.to_string()).status, 400);
}

#[test]
fn definitions_go_out_and_into_another_broker() {
    let (first, second) = (Server::start(), Server::start());
    let api = first.api();
    put(&api, "/api/exchanges/%2F/events", &json!({ "type": "topic", "durable": true }));
    let arguments = json!({ "x-message-ttl": 60_000, "x-dead-letter-exchange": "dead" });
    put(&api, "/api/queues/%2F/orders", &json!({ "durable": true, "arguments": arguments }));
    api.call("POST", "/api/bindings/%2F/e/events/q/orders", r#"{"routing_key":"order.#"}"#);
    let all = json!({ "type": "headers", "durable": true, "arguments": { "alternate-exchange": "events" } });
    put(&api, "/api/exchanges/%2F/all", &all);
    api.call("POST", "/api/bindings/%2F/e/all/e/events", r#"{"arguments":{"x-match":"any","k":1}}"#);
    let mut client = first.client();
    client.declare(1, "mine", EXCLUSIVE);
    let definitions = api.get("/api/definitions").body;
    assert!(!definitions.contains("mine"), "{definitions}");
    let vhost = api.json("/api/definitions/%2F");
    assert!(vhost.get("users").is_none() && vhost["queues"][0].get("vhost").is_none(), "{vhost}");
    let other = second.api();
    assert_eq!(other.call("POST", "/api/definitions", &definitions).status, 204);
    assert_eq!(other.call("POST", "/api/definitions/%2F", &vhost.to_string()).status, 204, "again");
    assert_eq!(other.json("/api/definitions/%2F"), vhost);
    assert_eq!(vhost["queues"][0]["arguments"], arguments);
    assert_eq!(vhost["exchanges"][0]["arguments"], all["arguments"]);
    let between = &vhost["bindings"][0];
    assert_eq!((&between["destination_type"], &between["arguments"]["k"]), (&json!("exchange"), &json!(1)));
    for (wrong, reason) in [
        (r#"{"policies":[{"name":"p"}]}"#, "policies are not supported"),
        (r#"{"users":[{"name":"stranger"}]}"#, "BROKER_USERS_FILE"),
        (r#"{"vhosts":[{"name":"x"}]}"#, "the vhost 'x'"),
        (r#"{"queues":[{"name":"q","vhost":"x"}]}"#, "the vhost 'x'"),
        (r#"{"queues":[{"name":"orders","durable":false}]}"#, "queue 'orders': inequivalent arg 'durable'"),
        (
            r#"{"permissions":[{"user":"u","vhost":"/","configure":"","write":".*","read":".*"}]}"#,
            "configure",
        ),
        (r#"{"global_parameters":[{"name":"x","value":1}]}"#, "the global parameter 'x'"),
        (r#"{"queues":{}}"#, "'queues' must be a list"),
    ] {
        let refused = other.call("POST", "/api/definitions", wrong);
        assert!(refused.status == 400 && refused.reason().contains(reason), "{refused:?}");
    }
}

#[test]
fn the_broker_as_a_whole_is_shown() {
    let server = Server::start();
    let (api, mut client) = (server.api(), server.client());
    client.declare(1, "q", 0);
    let overview = api.json("/api/overview");
    assert_eq!(
        (&overview["object_totals"]["queues"], &overview["object_totals"]["connections"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        (&overview["cluster_name"], &overview["churn_rates"]["queue_created"]),
        (&json!("broker@localhost"), &json!(1))
    );
    let node = &api.json("/api/nodes")[0];
    assert!(node["mem_used"].as_u64() > Some(1 << 20) && node["fd_used"].as_u64() > Some(5), "{node}");
    assert_eq!(api.json("/api/nodes/broker@localhost?columns=running"), json!({ "running": true }));
    assert_eq!(api.json("/api/whoami"), json!({ "name": USER, "tags": ["administrator"] }));
    assert_eq!(api.json("/api/vhosts?columns=name"), json!([{ "name": "/" }]));
    assert_eq!(api.json("/api/vhosts/%2F")["name"], "/");
    assert_eq!(api.json("/api/users")[0]["name"], USER);
    assert_eq!(api.json(&format!("/api/users/{USER}"))["tags"], json!(["administrator"]));
    assert_eq!(api.json("/api/permissions")[0]["write"], ".*");
    assert_eq!(api.json("/api/cluster-name")["name"], "broker@localhost");
    assert_eq!(api.json("/api/aliveness-test/%2F"), json!({ "status": "ok" }));
    assert_eq!(api.json("/api/health/checks/alarms"), json!({ "status": "ok" }));
    for path in
        ["policies", "operator-policies", "parameters", "vhost-limits", "extensions", "global-parameters"]
    {
        assert_eq!(api.json(&format!("/api/{path}")), json!([]), "{path}");
    }
    for path in ["/api", "/api/nothing", "/api/nodes/other", "/api/users/nobody", "/api/vhosts/x", "/other"] {
        let missing = api.get(path);
        assert_eq!(
            (missing.status, missing.json()["error"].as_str()),
            (404, Some("Object Not Found")),
            "{path}"
        );
    }
    for (method, path, allowed) in [
        ("PUT", "/api/users/x", "HEAD, GET"),
        ("GET", "/api/queues/%2F/q/get", "POST"),
        ("POST", "/api/queues/%2F/q", "HEAD, GET, PUT, DELETE"),
        ("PATCH", "/api/overview", "HEAD, GET"),
    ] {
        let refused = api.call(method, path, "");
        assert!(refused.status == 405 && refused.head.contains(&format!("Allow: {allowed}")), "{refused:?}");
    }
    let head = api.call("HEAD", "/api/overview", "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(api.get("/api/queues/%zz").status, 400);
}

#[test]
fn rates_follow_the_counters() {
    let server = Server::start();
    let (api, mut client) = (server.api(), server.publisher());
    client.declare(1, "q", 0);
    eventually("a rate", || {
        client.publish_confirmed(1, "q", b"x");
        let queue = api.json("/api/queues/%2F/q");
        let rate = |stats: &Value, name: &str| stats[name]["rate"].as_f64() > Some(0.0);
        (rate(&queue["message_stats"], "publish_details") && rate(&queue, "messages_details")).then_some(())
    });
    let stats = &api.json("/api/overview")["message_stats"];
    assert!(stats["confirm_details"]["rate"].as_f64() > Some(0.0), "{stats}");
    let connection = &api.json("/api/connections")[0];
    assert!(connection["recv_oct_details"]["rate"].as_f64() > Some(0.0), "{connection}");
}

#[test]
fn strangers_see_nothing_and_their_failures_take_longer_and_longer() {
    let server = Server::start();
    let anonymous = server.anonymous();
    let refused = anonymous.get("/api/queues");
    assert_eq!(refused.status, 401);
    assert!(refused.head.contains("WWW-Authenticate: Basic realm="), "{}", refused.head);
    assert_eq!(anonymous.get("/api/nothing").status, 401, "not even what there is");
    assert_eq!(anonymous.get("/metrics").status, 200);
    let began = Instant::now();
    for (user, password) in [(USER, "wrong"), ("nobody\nERROR", "x"), (USER, "")] {
        let refused = anonymous.with_user(user, password).get("/api/queues");
        assert_eq!((refused.status, refused.reason().as_str()), (401, "Login failed"));
    }
    assert!(began.elapsed() >= Duration::from_millis(250 + 500 + 1_000), "{:?}", began.elapsed());
    // The right password does not wait, and the others' delay is not over for them.
    assert_eq!(server.api().get("/api/whoami").status, 200);
    let began = Instant::now();
    let mut client = crate::support::Client::dial(server.address);
    client.begin(&Login::new("intruder", "x"));
    client.expect_connection_close(403, "Login was refused");
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    let log = server.log();
    assert!(log.contains("login of user 'nobody\\nERROR' from 127.0.0.1:"), "{log}");
    assert!(log.contains("login of user 'intruder' from 127.0.0.1:"), "{log}");
    let metrics = anonymous.get("/metrics").body;
    assert!(metrics.contains("\nrabbitmq_auth_attempts_failed_total{protocol=\"http\"} 3\n"), "{metrics}");
    assert!(metrics.contains("\nrabbitmq_auth_attempts_failed_total{protocol=\"amqp091\"} 1\n"), "{metrics}");
}

/// A user `u` with the password `p` and the tag monitoring, as RabbitMQ exports it.
const EXPORTED: &str = r#"{"users":[{"name":"u","password_hash":"iydCN5pO5ns1cfntATwVvvpO+K8VhcbJaAF5JcMydwC98TO4",
    "hashing_algorithm":"rabbit_password_hashing_sha256","tags":["monitoring"],"limits":{}}],
    "permissions":[{"user":"u","vhost":"/","configure":".*","write":".*","read":".*"}]}"#;

#[test]
fn users_of_a_file_log_in_and_do_what_their_tags_allow() {
    let file = std::env::temp_dir().join(format!("broker-users-{}.json", std::process::id()));
    std::fs::write(&file, EXPORTED).unwrap();
    let mut server = Server::with(&[("BROKER_USERS_FILE", file.to_str().unwrap())]);
    let api = server.anonymous().with_user("u", "p");
    assert_eq!(api.json("/api/whoami"), json!({ "name": "u", "tags": ["monitoring"] }));
    let refused = api.call("PUT", "/api/queues/%2F/q", "{}");
    assert_eq!((refused.status, refused.reason().as_str()), (401, "Not management user"));
    for page in ["users", "users/u", "users/u/permissions", "permissions/%2F/u", "definitions"] {
        let refused = api.get(&format!("/api/{page}"));
        assert_eq!((refused.status, refused.reason().as_str()), (401, "Not administrator user"), "{page}");
        assert_eq!(server.api().get(&format!("/api/{page}")).status, 200);
    }
    let mut client = crate::support::Client::connect(server.address, &Login::new("u", "p"));
    client.open_channel(1);
    client.declare(1, "q", 0);
    server.kill();
    std::fs::write(&file, EXPORTED.replace(r#""write":".*""#, r#""write":"^x""#)).unwrap();
    let output = server.command().output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("the permission write of 'u' is not \".*\""), "{text}");
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn channels_show_transactions_and_consumers_whether_they_are_active() {
    let server = Server::start();
    let (api, mut client) = (server.api(), server.client());
    client.send_declare(1, "q", 0, &[("x-single-active-consumer", b"t\x01")]);
    client.expect(1, 50, 11);
    for tag in ["first", "second"] {
        client.consume(1, "q", tag, 0);
    }
    client.method(1, 90, 10, Args::new());
    client.expect(1, 90, 11);
    assert_eq!(api.json("/api/channels")[0]["transactional"], true);
    let consumers = api.json("/api/consumers?sort=consumer_tag&columns=active,activity_status");
    let expected = json!([{ "active": true, "activity_status": "single_active" },
        { "active": false, "activity_status": "waiting" }]);
    assert_eq!(consumers, expected);
    let listener = &api.json("/api/overview")["listeners"][0];
    assert_eq!(
        (&listener["ip_address"], &listener["port"]),
        (&json!("127.0.0.1"), &json!(server.address.port()))
    );
}

#[test]
fn what_is_missing_is_named_and_pages_end() {
    let server = Server::start();
    let api = server.api();
    assert_eq!(put(&api, "/api/exchanges/%2F/x", &json!({})), 201);
    assert_eq!(api.json("/api/exchanges/%2F/x")["type"], "direct");
    let refused = api.call("POST", "/api/bindings/%2F/e/x/q/none", r#"{"routing_key":"k"}"#);
    assert_eq!((refused.status, refused.reason().as_str()), (404, "no queue 'none' in vhost '/'"));
    let refused = api.get("/api/queues?page=2");
    assert_eq!((refused.status, &refused.json()["error"]), (400, &json!("page_out_of_range")));
    assert_eq!(api.get("/api/policies/%2F/none").status, 404);
}

#[test]
fn an_answer_with_many_messages_has_a_limit() {
    let server = Server::start();
    let (api, mut client) = (server.api(), server.publisher());
    client.declare(1, "q", 0);
    for _ in 0..40_000 {
        client.queue_publish(1, "", "q", false, (b"\0\0", b""));
    }
    client.flush();
    while client.expect(1, 60, 80).arguments().long_long() < 40_000 {}
    let ask = r#"{"count":1000000,"ackmode":"ack_requeue_true","encoding":"auto"}"#;
    let answer = api.call("POST", "/api/queues/%2F/q/get", ask);
    let count = answer.body.matches("payload_bytes").count();
    assert!(answer.body.len() < 5 << 20 && count > 10_000 && count < 40_000, "{count}");
    assert_eq!(client.depth(1, "q"), 40_000);
}

#[test]
fn documents_are_read_one_at_a_time() {
    let server = Server::start();
    let body = format!("{{\"a\":[{}0]}}", "0,".repeat(900_000));
    let asked = (0..10).map(|_| {
        let (api, body) = (server.api(), body.clone());
        std::thread::spawn(move || api.call("POST", "/api/definitions", &body).status)
    });
    for asked in asked.collect::<Vec<_>>() {
        assert_eq!(asked.join().unwrap(), 204);
    }
    // One of them takes about 60 MiB.
    assert!(server.peak_kib() < 150 << 10, "{} KiB", server.peak_kib());
}
