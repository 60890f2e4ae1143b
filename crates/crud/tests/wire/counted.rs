//! Lists with `count`, `next`, `previous` and `results`, and errors with `detail`.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use crud::{Application, Error, Errors, Field, Lists, Operation, Resource, Settings};
use database::Migration;
use foundation::{Environment, Shutdown};
use serde_json::{Value, json};
use testkit::http::{Connection, Response, request};
use testkit::{Postgres, patience, wait_until};

static PIZZAS: Resource = Resource {
    operations: Operation::SINGLE,
    lists: Lists::Counted { size: 5 },
    errors: Errors::Detail,
    ..Resource::new(
        "/api/v1/pizzas",
        ["pizza", "pizzas"],
        "pizzas",
        &[
            Field::text("title").length(1..=120).required().unique().sortable(),
            Field::word("kind", &["with meat", "vegan"]).required().filterable(),
            Field::text("description").length(0..=10_000).default(""),
        ],
    )
};

/// Beside the other one, with the usual forms.
static OVENS: Resource = Resource::new("/api/ovens", ["oven", "ovens"], "ovens", &[Field::text("name")]);

static SERVICE: Application = Application {
    name: "pizzas-app",
    version: "1.2.3",
    about: "Pizzas.",
    resources: &[&PIZZAS, &OVENS],
    migrations: &[Migration {
        version: 1,
        name: "0001_pizzas",
        sql: "CREATE TABLE pizzas (
                id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text NOT NULL UNIQUE, kind text NOT NULL,
                description text NOT NULL
            );
            CREATE TABLE ovens (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text);",
    }],
};

/// The service, running in this process.
struct Pizzas {
    addr: SocketAddr,
    shutdown: Shutdown,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Pizzas {
    fn start() -> Self {
        let mut pairs = Postgres::shared().create_database().settings("PIZZAS_DB");
        pairs.insert("PIZZAS_PORT".to_owned(), "0".to_owned());
        let environment =
            Environment::from_pairs(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let settings = Settings::read(&environment, "PIZZAS", (0, 0), SERVICE.name).unwrap();
        let shutdown = Shutdown::new();
        let running = SERVICE.build(settings, shutdown.clone()).unwrap();
        let addr = running.addr();
        let thread = Some(std::thread::spawn(|| running.run()));
        wait_until(patience(), "the schema", || request(addr, "GET", "/ready", None).status == 200);
        Self { addr, shutdown, thread }
    }

    fn send(&self, method: &str, target: &str, fields: &[(&str, &str)], body: Option<&Value>) -> Response {
        let body = body.map(Value::to_string);
        Connection::open(self.addr).unwrap().request(method, target, fields, body.as_deref()).unwrap()
    }

    fn get(&self, target: &str) -> Value {
        let response = self.send("GET", target, &[], None);
        assert_eq!(response.status, 200, "{target}: {}", response.text());
        serde_json::from_slice(&response.body).unwrap()
    }

    fn create(&self, number: usize, description: &str) {
        let kind = if number.is_multiple_of(3) { "vegan" } else { "with meat" };
        let pizza = json!({"title": format!("Pizza {number:03}"), "kind": kind, "description": description});
        assert_eq!(self.send("POST", "/api/v1/pizzas", &[], Some(&pizza)).status, 201);
    }
}

#[test]
fn a_service_says_what_it_is_once_it_is_ready() {
    let told = Pizzas::start().get("/ready");
    assert_eq!((&told["status"], &told["version"]), (&"ready".into(), &SERVICE.version.into()));
    assert!(told["memory_bytes"].as_u64() > Some(1 << 20), "{told}");
    let version = told["postgresql_version"].as_str().unwrap();
    assert!(version.starts_with(|first: char| first.is_ascii_digit()) && !version.contains(' '), "{version}");
}

impl Drop for Pizzas {
    fn drop(&mut self) {
        self.shutdown.request();
        let ended = self.thread.take().unwrap().join();
        assert!(std::thread::panicking() || matches!(ended, Ok(Ok(()))), "{ended:?}");
    }
}

fn titles(page: &Value) -> Vec<&str> {
    page["results"].as_array().unwrap().iter().map(|pizza| pizza["title"].as_str().unwrap()).collect()
}

#[test]
fn a_client_of_pages_finds_all_of_them() {
    let pizzas = Pizzas::start();
    let empty = pizzas.send("GET", "/api/v1/pizzas", &[], None);
    assert_eq!(empty.text(), r#"{"count":0,"next":null,"previous":null,"results":[]}"#);
    for number in 0..12 {
        pizzas.create(number, "");
    }
    let base = format!("http://{}", pizzas.addr);
    let mut target = "/api/v1/pizzas".to_owned();
    let (mut found, mut pages) = (Vec::new(), Vec::new());
    loop {
        let page = pizzas.get(&target);
        assert_eq!(page["count"], 12);
        found.extend(titles(&page).into_iter().map(str::to_owned));
        pages.push((page["previous"].clone(), titles(&page).len()));
        let Some(next) = page["next"].as_str() else { break };
        target = next.strip_prefix(&base).unwrap().to_owned();
    }
    assert_eq!(found, (0..12).map(|number| format!("Pizza {number:03}")).collect::<Vec<_>>());
    let before = |offset| json!(format!("{base}/api/v1/pizzas?limit=5&offset={offset}"));
    assert_eq!(pages, [(Value::Null, 5), (before(0), 5), (before(5), 2)]);
    assert_eq!(pizzas.send("HEAD", "/api/v1/pizzas", &[], None).status, 200);
    assert_eq!(pizzas.send("GET", "/api/v1/pizzas?limit=2", &[], None).header("link"), None);

    // A page behind the end is empty; one that begins within a page has what is there.
    let page = pizzas.get("/api/v1/pizzas?offset=12");
    assert_eq!((&page["count"], titles(&page).len(), &page["next"]), (&json!(12), 0, &Value::Null));
    assert_eq!(titles(&pizzas.get("/api/v1/pizzas?limit=2&offset=3")), ["Pizza 003", "Pizza 004"]);
    assert_eq!(titles(&pizzas.get("/api/v1/pizzas?offset=11")), ["Pizza 011"]);
    // Keys of other lists mean nothing here.
    assert_eq!(titles(&pizzas.get("/api/v1/pizzas?after=9&limit=1")), ["Pizza 000"]);
}

#[test]
fn pages_are_filtered_and_sorted() {
    let pizzas = Pizzas::start();
    for number in 0..12 {
        pizzas.create(number, "");
    }
    let page = pizzas.get("/api/v1/pizzas?kind=with+meat&sort=-title&limit=3&offset=3");
    assert_eq!(page["count"], 8);
    assert_eq!(titles(&page), ["Pizza 007", "Pizza 005", "Pizza 004"]);
    let query = |member: &str| page[member].as_str().unwrap().split_once('?').unwrap().1.to_owned();
    assert_eq!(query("next"), "limit=3&offset=6&sort=-title&kind=with%20meat");
    assert_eq!(query("previous"), "limit=3&offset=0&sort=-title&kind=with%20meat");
    let last = pizzas.get(&format!("/api/v1/pizzas?{}", query("next")));
    assert_eq!(titles(&last), ["Pizza 002", "Pizza 001"]);
    assert_eq!(titles(&pizzas.get("/api/v1/pizzas?sort=title&limit=1&offset=11")), ["Pizza 011"]);
}

#[test]
fn the_addresses_of_pages_are_those_that_the_client_used() {
    let pizzas = Pizzas::start();
    for number in 0..6 {
        pizzas.create(number, "");
    }
    for (fields, next) in [
        (
            &[("x-forwarded-host", "example.org"), ("x-forwarded-proto", "https")][..],
            "https://example.org/api",
        ),
        (
            &[("x-forwarded-host", "example.org:3000"), ("x-forwarded-proto", "http")],
            "http://example.org:3000/api",
        ),
        (&[("x-forwarded-host", "a\"b")], "/api"),
    ] {
        let page = pizzas.send("GET", "/api/v1/pizzas", fields, None);
        let page: Value = serde_json::from_slice(&page.body).unwrap();
        assert_eq!(page["next"], json!(format!("{next}/v1/pizzas?limit=5&offset=5")));
    }
}

#[test]
fn a_page_that_is_too_large_for_one_batch_is_streamed_whole() {
    let pizzas = Pizzas::start();
    for number in 0..40 {
        pizzas.create(number, &"x".repeat(9_000));
    }
    // From the first list on, the service knows how large a pizza is.
    pizzas.get("/api/v1/pizzas");
    let response = pizzas.send("GET", "/api/v1/pizzas?limit=30&offset=5&sort=title", &[], None);
    assert_eq!(response.header("transfer-encoding"), Some("chunked"));
    let page: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!((titles(&page).len(), titles(&page)[0], titles(&page)[29]), (30, "Pizza 005", "Pizza 034"));
    assert!(page["next"].as_str().unwrap().contains("offset=35"), "{}", page["next"]);
    let head = pizzas.send("HEAD", "/api/v1/pizzas?limit=30", &[], None);
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn errors_have_the_form_of_their_resource() {
    let pizzas = Pizzas::start();
    pizzas.create(0, "");
    let twin = json!({"title": "Pizza 000", "kind": "vegan"});
    for (status, method, target, body) in [
        (400, "POST", "/api/v1/pizzas", Some(&json!({}))),
        (400, "GET", "/api/v1/pizzas?limit=0", None),
        (400, "GET", "/api/v1/pizzas?offset=-1", None),
        (400, "GET", "/api/v1/pizzas?offset=1000001", None),
        (400, "GET", "/api/v1/pizzas/first", None),
        (404, "GET", "/api/v1/pizzas/9", None),
        (405, "PUT", "/api/v1/pizzas", None),
        (409, "POST", "/api/v1/pizzas", Some(&twin)),
    ] {
        let answer = pizzas.send(method, target, &[], body);
        let document: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer.status, status, "{method} {target}: {document}");
        assert!(document["detail"].is_string() && document.get("error").is_none(), "{target}: {document}");
    }
    let refused = pizzas.send("POST", "/api/v1/pizzas", &[], Some(&json!({"kind": "vegan"})));
    assert_eq!(
        refused.text(),
        r#"{"code":"field_invalid","detail":"title is required","fields":{"title":"is required"}}"#
    );
    for target in ["/api/ovens/9", "/nothing"] {
        let other = pizzas.send("GET", target, &[], None).text();
        assert!(other.contains(r#""error":"#), "{other}");
    }
    assert_eq!(pizzas.get("/api/ovens"), json!([]));
}

#[test]
fn the_forms_are_described() {
    let pizzas = Pizzas::start();
    let openapi = pizzas.get("/openapi.json");
    let list = &openapi["paths"]["/api/v1/pizzas"]["get"];
    let schema = &list["responses"]["200"]["content"]["application/json"]["schema"];
    assert_eq!(schema["required"], json!(["count", "next", "previous", "results"]));
    let names: Vec<_> =
        list["parameters"].as_array().unwrap().iter().map(|own| own["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["limit", "offset", "kind", "sort"]);
    let error = |path: &str, status: &str| {
        openapi["paths"][path]["get"]["responses"][status]["content"]["application/json"]["schema"]["$ref"]
            .clone()
    };
    assert_eq!(error("/api/v1/pizzas", "400"), "#/components/schemas/ProblemDetail");
    assert_eq!(error("/api/v1/pizzas/{id}", "404"), "#/components/schemas/ProblemDetail");
    assert_eq!(error("/api/ovens", "503"), "#/components/schemas/Problem");
    let text = SERVICE.describe().unwrap();
    for part in ["offset=N", "otherwise 5", "its count"] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
}
