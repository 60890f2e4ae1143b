//! Services beside inventory: which paths are theirs, and how they are named where something is wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use testkit::free_port;

use crate::support::{Gateway, Inventory, eventually, ok};

fn with_todo(inventory: &Inventory, todo: &str, more: &[(&str, &str)]) -> Gateway {
    let variables = [("GATEWAY_SERVICES", "todo=/todo"), ("TODO_URL", todo)];
    Gateway::start(&inventory.url(), &[&variables, more].concat())
}

#[test]
fn a_service_has_its_prefix_and_all_below_it() {
    let (inventory, todo) = (Inventory::fixed("inventory"), Inventory::fixed("todo"));
    let gateway = with_todo(&inventory, &todo.url(), &[]);
    let mut client = gateway.connect();
    for (target, text) in [
        ("/todo", "todo"),
        ("/todo/", "todo"),
        ("/todo?status=done", "todo"),
        ("/todo/7/like", "todo"),
        ("/api/movies/1", "inventory"),
    ] {
        assert_eq!(client.get(target).text(), text, "{target}");
    }
    for target in ["/todos", "/tod", "/Todo", "/api/todo"] {
        assert_eq!(client.get(target).status, 404, "{target}");
    }
    for target in ["/todo/../health", "/%74odo", "//todo", "/x/../todo", "/todo%2f..%2fhealth"] {
        assert_eq!(gateway.get(target).status, 400, "{target}");
    }
    let seen: Vec<_> = todo.requests().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(seen, ["/todo", "/todo/", "/todo?status=done", "/todo/7/like"]);
}

#[test]
fn the_requests_of_each_service_are_counted_for_themselves() {
    let (inventory, todo) = (Inventory::fixed("inventory"), Inventory::fixed("todo"));
    let gateway = with_todo(&inventory, &todo.url(), &[]);
    for target in ["/todo", "/todo/7", "/api/movies", "/api/movies/1", "/api/movies?x=1", "/health"] {
        gateway.get(target);
    }
    let counted = || {
        let json: serde_json::Value = serde_json::from_slice(&gateway.get("/api/status").body).unwrap();
        [&json["inventory"], &json["services"]["todo"]].map(|part| part["requests"].as_u64())
    };
    // A request is counted once its answer is sent, which the client may see before the count.
    eventually("all are counted", || counted() == [Some(3), Some(2)]);
}

#[test]
fn which_methods_a_service_has_is_its_own_affair() {
    let (inventory, todo) = (Inventory::fixed("inventory"), Inventory::fixed("todo"));
    let gateway = with_todo(&inventory, &todo.url(), &[]);
    for method in ["DELETE", "UPDATE"] {
        let answer =
            gateway.ask(&format!("{method} /todo/1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{{}}"));
        assert_eq!(answer.text(), "todo", "{method}");
        let requests = todo.requests();
        let request = requests.last().unwrap();
        assert_eq!(request.line(), format!("{method} /todo/1 HTTP/1.1"));
        assert_eq!(request.body, b"{}");
    }
    assert_eq!(gateway.ask("TRACE /todo/1 HTTP/1.1\r\nHost: h\r\n\r\n").status, 405);
    assert_eq!(todo.requests().len(), 2);
}

#[test]
fn a_service_that_is_down_is_named_everywhere_and_disturbs_no_other() {
    let inventory = Inventory::fixed("inventory");
    let gateway = with_todo(&inventory, &format!("http://127.0.0.1:{}", free_port()), &[]);
    let answer = gateway.get("/todo/1");
    assert_eq!((answer.status, answer.error().as_str()), (503, "todo is not reachable"));
    assert_eq!(gateway.get("/api/movies").status, 200);
    let answer = gateway.get("/ready");
    assert_eq!(answer.error(), "not ready: todo and broker unreachable");
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        json["dependencies"],
        serde_json::json!({ "inventory": "ok", "todo": "unreachable", "broker": "unreachable" })
    );
    let json: serde_json::Value = serde_json::from_slice(&gateway.get("/api/status").body).unwrap();
    assert_eq!(json["services"].as_object().map(serde_json::Map::len), Some(1));
    assert_eq!(json["services"]["todo"]["state"], "unreachable");
    assert_eq!(json["inventory"]["state"], "ok");
}

#[test]
fn the_history_tells_by_which_part_requests_failed_and_which_service_was_down() {
    let inventory = Inventory::answering(|_| b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n".to_vec());
    let gateway = with_todo(&inventory, &format!("http://127.0.0.1:{}", free_port()), &[]);
    for (target, status) in
        [("/api/movies", 503), ("/todo", 503), ("/todo", 503), ("/todo?x", 503), ("/ready", 503)]
    {
        assert_eq!(gateway.get(target).status, status, "{target}");
    }
    assert_eq!(gateway.get("/nothing").status, 404);
    let sum = |counts: &serde_json::Value| -> u64 {
        counts.as_array().unwrap().iter().filter_map(serde_json::Value::as_u64).sum()
    };
    eventually("all failures have a cause", || {
        let json: serde_json::Value =
            serde_json::from_slice(&gateway.get("/api/status/history").body).unwrap();
        let causes = json["failure_causes"].as_array().unwrap().iter();
        let causes: Vec<_> = causes
            .map(|cause| {
                (cause["part"].as_str().unwrap(), cause["kind"].as_str().unwrap(), sum(&cause["counts"]))
            })
            .collect();
        let expected = [("inventory", "own", 1), ("todo", "unavailable", 3), ("gateway", "not_ready", 1)];
        causes == expected && sum(&json["failures"]["503"]) == 5 && sum(&json["services_down"]["todo"]) > 0
    });
}

#[test]
fn a_service_says_what_it_is_and_why_it_is_not_well() {
    let (inventory, freezer) = Inventory::freezable("inventory");
    let is_ready = Arc::new(AtomicBool::new(true));
    let ready = is_ready.clone();
    let todo = Inventory::answering(move |_| {
        if ready.load(Ordering::Relaxed) {
            return ok(
                r#"{"status":"ready","version":"1.2.3","memory_bytes":7,"postgresql_version":"16.4"}"#,
            );
        }
        let body = r#"{"error":"PostgreSQL is not reachable","code":"not_ready"}"#;
        let head = format!("HTTP/1.1 503 X\r\nContent-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body.as_bytes()].concat()
    });
    let gateway = with_todo(&inventory, &todo.url(), &[]);
    let status =
        || -> serde_json::Value { serde_json::from_slice(&gateway.get("/api/status").body).unwrap() };
    let (now, none) = (status(), serde_json::Value::Null);
    let told = &now["services"]["todo"];
    assert_eq!((&told["version"], &told["memory_bytes"]), (&"1.2.3".into(), &7.into()));
    assert_eq!((&told["state"], &told["cause"]), (&"ok".into(), &none));
    // This inventory says nothing of itself.
    assert_eq!((&now["inventory"]["version"], &now["inventory"]["memory_bytes"]), (&none, &none));
    assert!(now["broker"]["cause"].as_str().unwrap().contains("refused"), "{now}");

    is_ready.store(false, Ordering::Relaxed);
    freezer.freeze();
    let cause = |part: &serde_json::Value, words: &str| {
        part["cause"].as_str().is_some_and(|cause| cause.contains(words))
    };
    eventually("it lacks its database", || {
        let todo = &status()["services"]["todo"];
        todo["state"] == "not ready"
            && todo["memory_bytes"].is_null()
            && cause(todo, "PostgreSQL is not reachable")
    });
    eventually("it is stuck", || cause(&status()["inventory"], "stuck"));
    let stopped = todo.stop();
    eventually("it is stopped", || cause(&status()["services"]["todo"], "stopped"));
    assert!(!status().to_string().contains(&stopped.to_string()), "the address is told");
    freezer.thaw();
}

#[test]
fn the_catalogue_tells_who_is_responsible_for_the_parts_without_http() {
    let inventory = Inventory::fixed("{}");
    let variables =
        [("GATEWAY_OWNER", "Team Blue"), ("BILLING_CONTACT", "b@example.org"), ("BROKER_REPOSITORY", "git")];
    let gateway = Gateway::start(&inventory.url(), &variables);
    let json: serde_json::Value = serde_json::from_slice(&gateway.get("/api/services").body).unwrap();
    let told = |name: &str| {
        let entry = json["services"].as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap();
        ["owner", "contact", "repository"].map(|what| entry[what].as_str())
    };
    assert_eq!(told("gateway"), [Some("Team Blue"), None, None]);
    assert_eq!(told("billing"), [None, Some("b@example.org"), None]);
    assert_eq!(told("broker"), [None, None, Some("git")]);
}

#[test]
fn bodies_have_a_limit_for_each_service() {
    let (inventory, todo) = (Inventory::fixed("inventory"), Inventory::fixed("todo"));
    let gateway = with_todo(&inventory, &todo.url(), &[("GATEWAY_TODO_BODY_MAX_BYTES", "10")]);
    let post = |target: &str, length: usize| {
        let body = "x".repeat(length);
        gateway.ask(&format!(
            "POST {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    };
    assert_eq!(post("/todo", 10).text(), "todo");
    assert_eq!(post("/todo", 11).status, 413);
    assert_eq!(post("/api/movies", 11).text(), "inventory");
}
