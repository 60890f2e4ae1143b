//! The example `examples/todo`, through the real gateway: its paths, its methods, and every status that it can give.

use std::net::SocketAddr;

use serde_json::{Value, json};
use testkit::http::{self, Connection, Response};
use testkit::{Database, Postgres, Service, binary, free_port, patience, settings, wait_until};

/// The service with its database, and a gateway in front of it.
struct Todo {
    service: Service,
    gateway: Service,
    database: Database,
}

impl Todo {
    fn start() -> Self {
        Self::start_with(|_| String::new())
    }

    /// `tokens` gets the gateway, and returns the value of `GATEWAY_TOKENS`.
    fn start_with(tokens: impl FnOnce(&Service) -> String) -> Self {
        let database = Postgres::shared().create_database();
        let mut service = Service::new(binary("todo-app"), database.settings("TODO_DB"));
        let port = free_port().to_string();
        service.set("TODO_PORT", &port);
        service.set("TODO_PRIVATE_PORT", "0");
        service.set("TODO_OWNER", "Team Orange");
        let mut gateway = Service::new(
            binary("api-gateway"),
            settings([
                ("GATEWAY_HOST", "127.0.0.1"),
                ("GATEWAY_PORT", "0"),
                ("GATEWAY_SERVICES", "todo=/todo"),
                ("TODO_PORT", &port),
                // Nothing here is about movies or orders.
                ("INVENTORY_PORT", &free_port().to_string()),
                ("RABBITMQ_PORT", &free_port().to_string()),
                ("RABBITMQ_USER", "nobody"),
                ("RABBITMQ_PASSWORD", "dummy"),
            ]),
        );
        gateway.set("GATEWAY_TOKENS", &tokens(&gateway));
        service.start();
        gateway.start();
        let todo = Self { service, gateway, database };
        wait_until(patience(), "the schema", || todo.get("/todo").status == 200);
        todo
    }

    fn addr(&self) -> SocketAddr {
        self.gateway.addr()
    }

    fn send(&self, method: &str, target: &str, fields: &[(&str, &str)], body: Option<Value>) -> Response {
        let body = body.map(|body| body.to_string());
        Connection::open(self.addr()).unwrap().request(method, target, fields, body.as_deref()).unwrap()
    }

    fn get(&self, target: &str) -> Response {
        self.send("GET", target, &[], None)
    }

    /// Creates a task and returns its path.
    fn create(&self, description: &str, status: &str) -> String {
        let created = self.send("POST", "/todo", &[], Some(task(description, status)));
        assert_eq!(created.status, 201, "{}", created.text());
        created.header("location").unwrap().to_owned()
    }

    fn descriptions(&self, target: &str) -> Vec<String> {
        let response = self.get(target);
        assert_eq!(response.status, 200, "{target}: {}", response.text());
        let tasks = document(&response);
        let description = |task: &Value| task["description"].as_str().unwrap().to_owned();
        tasks.as_array().unwrap().iter().map(description).collect()
    }
}

fn task(description: &str, status: &str) -> Value {
    json!({"description": description, "status": status})
}

fn document(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap()
}

#[test]
fn a_task_goes_through_its_life() {
    let todo = Todo::start();
    let created = todo.send("POST", "/todo", &[], Some(task(" water the flowers ", "active")));
    assert_eq!(created.status, 201, "{}", created.text());
    let path = created.header("location").unwrap().to_owned();
    let id: i64 = path.strip_prefix("/todo/").unwrap().parse().unwrap();
    let expected = json!({"id": id, "description": "water the flowers", "status": "active"});
    assert_eq!(document(&created), expected);
    assert_eq!(document(&todo.get("/todo/")), json!([expected]));
    assert_eq!(document(&todo.get(&path)), expected);

    for (method, change, member) in [
        ("UPDATE", json!({"status": "waiting"}), "status"),
        ("PUT", json!({"description": "water the trees"}), "description"),
        ("PATCH", json!({"status": "done"}), "status"),
        ("UPDATE", json!({"description": "sleep", "status": "active"}), "description"),
    ] {
        let changed = todo.send(method, &path, &[], Some(change.clone()));
        assert_eq!(changed.status, 200, "{method}: {}", changed.text());
        assert_eq!(document(&changed)[member], change[member]);
        assert_eq!(document(&todo.get(&path)), document(&changed));
    }
    let deleted = todo.send("DELETE", &path, &[], None);
    let expected = json!({"message": "Task was deleted successfully.", "id": id});
    assert_eq!((deleted.status, document(&deleted)), (200, expected));
    assert_eq!(todo.get("/todo").text(), "[]");
}

#[test]
fn every_status_has_its_occasion() {
    let mut todo = Todo::start();
    let path = todo.create("sleep", "active");
    let tag = todo.get(&path).header("etag").unwrap().to_owned();
    let unchanged = [("if-none-match", tag.as_str())];
    let update = || Some(json!({"status": "done"}));
    for (status, method, target, fields, body) in [
        (201, "POST", "/todo", &[][..], Some(task("eat", "waiting"))),
        (200, "GET", "/todo", &[], None),
        (200, "GET", &path, &[], None),
        (304, "GET", &path, &unchanged, None),
        (204, "OPTIONS", "/todo", &[], None),
        (204, "OPTIONS", &path, &[], None),
        (400, "POST", "/todo", &[], Some(json!({"status": "active"}))),
        (400, "POST", "/todo", &[], Some(json!({"description": "dream"}))),
        (400, "POST", "/todo", &[], Some(task("dream", "dreaming"))),
        (400, "POST", "/todo", &[], Some(task(&"z".repeat(501), "active"))),
        (400, "UPDATE", &path, &[], Some(json!({}))),
        (400, "GET", "/todo/first", &[], None),
        (400, "GET", "/todo?status=dreaming", &[], None),
        (404, "GET", "/todo/999", &[], None),
        (404, "UPDATE", "/todo/999", &[], update()),
        (404, "DELETE", "/todo/999", &[], None),
        (409, "POST", "/todo", &[], Some(task("sleep", "active"))),
        (409, "PUT", &path, &[], Some(json!({"description": "eat"}))),
        (200, "UPDATE", &path, &[], update()),
        (412, "UPDATE", &path, &[("if-match", tag.as_str())], update()),
        (405, "UPDATE", "/todo", &[], update()),
        // Deleting everything at once is not offered.
        (405, "DELETE", "/todo", &[], None),
        (200, "DELETE", &path, &[], None),
    ] {
        let answer = todo.send(method, target, fields, body.clone());
        assert_eq!(answer.status, status, "{method} {target} {body:?}: {}", answer.text());
        let has_error = document_or_null(&answer)["error"].is_string();
        assert_eq!(has_error, status >= 400, "{method} {target}: {}", answer.text());
    }
    let options = todo.send("OPTIONS", "/todo/1", &[], None);
    assert_eq!(options.header("allow"), Some("GET, HEAD, PUT, PATCH, DELETE, UPDATE, OPTIONS"));

    // A table that is not what the service expects is a bug, and the client learns nothing of it.
    todo.database.client().batch_execute("ALTER TABLE tasks RENAME TO lost").unwrap();
    let broken = todo.get("/todo/1");
    assert_eq!(
        (broken.status, broken.text().as_str()),
        (500, r#"{"code":"internal_error","error":"Internal server error"}"#)
    );
    todo.service.terminate();
    assert_eq!(todo.get("/todo").status, 503);
}

#[test]
fn changes_need_a_token_with_the_right_role() {
    let mut tokens = Vec::new();
    let todo = Todo::start_with(|gateway| {
        let lines = ["read", "write"].map(|role| {
            let output = gateway.output(&["--new-token", role, role]);
            let text = String::from_utf8(output.stdout).unwrap();
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            tokens.push(format!("Bearer {}", lines[1]));
            lines[3].to_owned()
        });
        lines.join(",")
    });
    let [reader, writer] = &tokens[..] else { panic!("two tokens") };
    let path = "/todo/1";
    let (new, update) = (|| Some(task("sleep", "active")), || Some(json!({"status": "done"})));
    for (status, method, target, token, body) in [
        (401, "POST", "/todo", "", new()),
        (401, "POST", "/todo", "Bearer nonsense", new()),
        (403, "POST", "/todo", reader, new()),
        (201, "POST", "/todo", writer, new()),
        (401, "UPDATE", path, "", update()),
        (403, "UPDATE", path, reader, update()),
        (200, "UPDATE", path, writer, update()),
        (401, "DELETE", path, "", None),
        (403, "DELETE", path, reader, None),
        // Reading is free, unless a setting says otherwise.
        (200, "GET", path, "", None),
        (200, "DELETE", path, writer, None),
    ] {
        let fields: &[(&str, &str)] = if token.is_empty() { &[] } else { &[("authorization", token)] };
        let answer = todo.send(method, target, fields, body);
        assert_eq!(answer.status, status, "{method} {target} {token}: {}", answer.text());
        assert_eq!(document(&answer)["error"].is_string(), status >= 400, "{method} {target} {token}");
    }
}

#[test]
fn the_openapi_document_of_the_gateway_describes_the_service() {
    let mut todo = Todo::start();
    let openapi = document(&todo.get("/openapi.json"));
    let tag = |openapi: &Value| {
        let tags = openapi["tags"].as_array().unwrap().clone();
        tags.into_iter().find(|tag| tag["name"] == "todo").unwrap()["description"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(tag(&openapi), "Tasks: create, read, search, change and delete them.");
    assert!(openapi["paths"].get("/api/movies").is_some(), "the gateway's own paths are there, too");
    let create = &openapi["paths"]["/todo"]["post"];
    assert_eq!(create["tags"], json!(["todo"]));
    let schema = &create["requestBody"]["content"]["application/json"]["schema"]["$ref"];
    let schema = &openapi.pointer(schema.as_str().unwrap().strip_prefix('#').unwrap()).unwrap();
    assert_eq!(schema["required"], json!(["description", "status"]));

    // It is not forgotten while it is down, and everybody is told.
    todo.service.terminate();
    wait_until(patience(), "the document tells", || {
        let openapi = document(&todo.get("/openapi.json"));
        openapi["paths"].get("/todo/{id}").is_some() && tag(&openapi).contains("does not answer")
    });
    todo.service.start();
    wait_until(patience(), "the document tells", || {
        !tag(&document(&todo.get("/openapi.json"))).contains("answer")
    });
    todo.gateway.restart();
    assert_eq!(tag(&document(&todo.get("/openapi.json"))), tag(&openapi));
}

#[test]
fn the_catalogue_tells_what_there_is_and_how_it_is() {
    let mut todo = Todo::start();
    let catalogue = document(&todo.get("/api/services"));
    let entry = |catalogue: &Value, name: &str| {
        let entries = catalogue["services"].as_array().unwrap().clone();
        entries.into_iter().find(|entry| entry["name"] == name).unwrap()
    };
    let mut found = entry(&catalogue, "todo");
    let since_s = found["since_s"].take().as_u64().unwrap();
    assert!(
        found["started_s"].take().as_u64().is_some_and(|started| started <= since_s),
        "it was started first"
    );
    assert_eq!(
        found,
        json!({
            "name": "todo", "state": "ok", "since_s": null, "started_s": null, "version": env!("CARGO_PKG_VERSION"), "path": "/todo",
            "about": "Tasks: create, read, search, change and delete them.",
            "owner": "Team Orange", "contact": null, "repository": null,
            "resources": [{"path": "/todo", "name": "task", "plural": "tasks"}],
            "depends_on": ["postgresql"], "queues": [], "exchange": null, "events": [],
            "openapi": "/openapi.json", "asyncapi": null,
        })
    );
    // What has never been seen is there, too, and says nothing of itself.
    let inventory = entry(&catalogue, "inventory");
    assert_eq!((&inventory["state"], &inventory["version"]), (&json!("unreachable"), &Value::Null));
    assert_eq!(entry(&catalogue, "broker")["state"], "unreachable");
    let billing = entry(&catalogue, "billing");
    assert_eq!((&billing["state"], &billing["version"]), (&json!("silent"), &Value::Null));
    assert_eq!(billing["queues"], json!(["billing_queue", "billing_queue.dead", "billing_queue.questions"]));
    assert_eq!(entry(&catalogue, "gateway")["depends_on"], json!(["inventory", "todo", "broker"]));

    todo.service.terminate();
    wait_until(patience(), "it is told", || {
        let entry = entry(&document(&todo.get("/api/services")), "todo");
        entry["state"] == "unreachable"
            && entry["since_s"].as_u64() >= Some(since_s)
            && entry["owner"] == "Team Orange"
    });
    let own = http::request(todo.gateway.addr(), "OPTIONS", "/api/services", None);
    assert_eq!((own.status, own.header("allow")), (204, Some("GET, HEAD, OPTIONS")));
}

fn document_or_null(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_default()
}

#[test]
fn tasks_are_filtered_searched_and_paged() {
    let todo = Todo::start();
    for (description, status) in [
        ("Water the flowers", "active"),
        ("water the trees", "done"),
        ("sleep", "active"),
        ("100% rest", "waiting"),
    ] {
        todo.create(description, status);
    }
    assert_eq!(todo.descriptions("/todo?status=active"), ["Water the flowers", "sleep"]);
    assert_eq!(todo.descriptions("/todo?description=WATER"), ["Water the flowers", "water the trees"]);
    assert_eq!(todo.descriptions("/todo?description=water&status=done"), ["water the trees"]);
    assert_eq!(todo.descriptions("/todo?description=%25"), ["100% rest"]);
    let page = todo.get("/todo?limit=3");
    assert_eq!(document(&page).as_array().unwrap().len(), 3);
    let next = page.header("link").unwrap()[1..].split_once('>').unwrap().0.to_owned();
    assert_eq!(todo.descriptions(&next), ["100% rest"]);
}
