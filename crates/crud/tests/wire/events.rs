//! Events: what each change writes to the outbox, and that it does so in the change's transaction.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread::JoinHandle;

use crud::{Application, Error, Field, Key, Resource, Settings};
use database::Migration;
use foundation::{Environment, Shutdown};
use serde_json::{Value, json};
use testkit::http::{Response, request};
use testkit::{Database, Postgres, patience, wait_until};

/// Every kind of field, with names that SQL or the outbox uses itself.
static THINGS: Resource = Resource {
    key: Key::uuid("id"),
    emits: &["thing.created.1", "thing.updated.1", "thing.deleted.1"],
    ..Resource::new(
        "/things",
        ["thing", "things"],
        "things",
        &[
            Field::text("body").required().unique(),
            Field::decimal("price", 8, 2).default("0.50"),
            Field::boolean("event").default("true"),
            Field::integer("order"),
            Field::date("day"),
            Field::timestamp("changed"),
            Field::object("place", &[Field::decimal("lat", 9, 6).required()]),
        ],
    )
};

/// A generated key; only the creation is an event.
static NOTES: Resource = Resource {
    emits: &["note.created.3"],
    exchange: "things",
    ..Resource::new("/notes", ["note", "notes"], "notes", &[Field::text("text").required()])
};

static APPLICATION: Application = Application {
    name: "events-test",
    version: "1",
    about: "Things.",
    resources: &[&THINGS, &NOTES],
    migrations: &[
        Migration {
            version: 1,
            name: "0001_things",
            sql: r#"CREATE TABLE things (
                    id uuid PRIMARY KEY, body text NOT NULL UNIQUE, price numeric(8, 2) NOT NULL, event boolean NOT NULL,
                    "order" bigint, day date, changed timestamptz, place jsonb
                );
                CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text NOT NULL);"#,
        },
        Migration {
            version: 2,
            name: "0002_outbox",
            sql: include_str!("../../../../sql/events/0001_outbox.sql"),
        },
    ],
};

struct Service {
    addr: SocketAddr,
    database: Database,
    shutdown: Shutdown,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Service {
    fn start() -> Self {
        let database = Postgres::shared().create_database();
        let mut pairs = database.settings("T_DB");
        pairs.extend(testkit::settings([("T_PORT", "0"), ("T_PRIVATE_PORT", "0")]));
        let environment =
            Environment::from_pairs(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let settings = Settings::read(&environment, "T", (0, 0), APPLICATION.name).unwrap();
        let shutdown = Shutdown::new();
        let running = APPLICATION.build(settings, shutdown.clone()).unwrap();
        let addr = running.addr();
        let thread = Some(std::thread::spawn(|| running.run()));
        wait_until(patience(), "the schema", || request(addr, "GET", "/ready", None).status == 200);
        Self { addr, database, shutdown, thread }
    }

    fn send(&self, method: &str, target: &str, body: Option<&Value>) -> Response {
        request(self.addr, method, target, body.map(Value::to_string).as_deref())
    }

    /// The events in the outbox, in their order: name, record and body.
    fn events(&self) -> Vec<(String, String, String)> {
        let rows = self.database.client().query("SELECT event, record, body FROM outbox ORDER BY id", &[]);
        rows.unwrap().iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shutdown.request();
        let ended = self.thread.take().unwrap().join();
        assert!(std::thread::panicking() || matches!(ended, Ok(Ok(()))), "{ended:?}");
    }
}

#[test]
fn each_change_is_an_event_with_the_json_that_the_client_got() {
    let service = Service::start();
    let thing = json!({
        "body": "ä \"b\"", "price": "7.5", "order": -3, "day": "2024-02-29", "changed": "2024-02-29T12:00:00+02:00",
        "place": {"lat": 48.200_000}
    });
    let created = service.send("POST", "/things", Some(&thing));
    assert_eq!(created.status, 201, "{}", created.text());
    let id = created.header("location").unwrap().rsplit('/').next().unwrap().to_owned();
    let path = format!("/things/{id}");
    let updated = service.send("PATCH", &path, Some(&json!({"order": null, "place": null})));
    assert_eq!(updated.status, 200, "{}", updated.text());
    assert_eq!(service.send("DELETE", &path, None).status, 200);
    let record = format!("things/{id}");
    assert_eq!(
        service.events(),
        [
            ("thing.created.1".to_owned(), record.clone(), created.text()),
            ("thing.updated.1".to_owned(), record.clone(), updated.text()),
            ("thing.deleted.1".to_owned(), record, format!(r#"{{"id":"{id}"}}"#)),
        ]
    );
}

#[test]
fn a_change_that_is_not_made_is_no_event() {
    let service = Service::start();
    let thing = json!({"body": "a"});
    assert_eq!(service.send("POST", "/things", Some(&thing)).status, 201);
    assert_eq!(service.send("POST", "/things", Some(&thing)).status, 409);
    assert_eq!(service.send("POST", "/things", Some(&json!({}))).status, 400);
    let missing = "/things/67e55044-10b1-426f-9247-bb680e5fe0c8";
    assert_eq!(service.send("PATCH", missing, Some(&json!({"body": "b"}))).status, 404);
    assert_eq!(service.send("DELETE", missing, None).status, 404);
    assert_eq!(service.events().len(), 1);
    // Without the outbox there is no change either.
    service.database.client().batch_execute("ALTER TABLE outbox RENAME TO gone").unwrap();
    assert_eq!(service.send("POST", "/notes", Some(&json!({"text": "a"}))).status, 500);
    assert_eq!(service.send("GET", "/notes", None).text(), "[]");
}

#[test]
fn records_created_or_deleted_together_have_an_event_each_in_their_order() {
    const CLIENTS: usize = 8;
    let service = Service::start();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let service = &service;
            scope.spawn(move || {
                for number in 0..25 {
                    let text = format!("{client}-{number}");
                    assert_eq!(service.send("POST", "/notes", Some(&json!({"text": text}))).status, 201);
                    assert_eq!(service.send("POST", "/things", Some(&json!({"body": text}))).status, 201);
                }
            });
        }
    });
    let events = service.events();
    assert_eq!(events.len(), CLIENTS * 50);
    let mut last = BTreeMap::new();
    for (event, _, body) in &events {
        let body: Value = serde_json::from_str(body).unwrap();
        let text = body["text"].as_str().or(body["body"].as_str()).unwrap();
        let (client, number) = text.split_once('-').unwrap();
        let number: usize = number.parse().unwrap();
        let before = last.insert((event.clone(), client.to_owned()), number);
        assert!(before.is_none_or(|before| before < number), "{text} comes after {before:?}");
    }
    let deleted = service.send("DELETE", "/things", None);
    assert!(deleted.text().contains(&format!(r#""deleted":{}"#, CLIENTS * 25)), "{}", deleted.text());
    let deletions = service.events().iter().filter(|(event, ..)| event == "thing.deleted.1").count();
    assert_eq!(deletions, CLIENTS * 25);
    assert_eq!(service.send("DELETE", "/notes", None).status, 200);
    assert_eq!(service.events().len(), CLIENTS * 75, "deleting notes is no event");
}
