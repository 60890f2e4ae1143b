//! A service whose resources have every kind of field, key and mark. Two test programs use this file; the module above
//! says with its `Front` where requests are sent: to the service itself, or to a gateway in front of it.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use crud::{Action, Application, Error, Field, Key, Operation, Parameter, Reply, Resource, Settings};
use database::Migration;
use foundation::{Environment, Shutdown};
use serde_json::{Value, json};
use testkit::http::{Connection, Response, request};
use testkit::{Database, Postgres, patience, wait_until};

use super::Front;

/// Every kind of field, and every mark.
static ROOMS: Resource = Resource {
    key: Key::uuid("id"),
    operations: Operation::SINGLE,
    aliases: &[("UPDATE", Operation::Update)],
    check: Some(|given, complaints| {
        if given.get("built").is_some() && given.get("name") == Some("nowhere") {
            complaints.push(("built", "cannot be known"));
        }
    }),
    parameters: &[Parameter {
        name: "word",
        condition: "to_tsvector('simple', name) @@ plainto_tsquery('simple', $)",
        read: |text| if text.is_empty() { Err("must not be empty") } else { Ok(text.to_owned()) },
        about: "Only those with these words in their name.",
        refined_by: None,
    }],
    actions: &[
        Action {
            method: "POST",
            path: "/{id}/like",
            about: "Likes a room.",
            run: |transaction, call| {
                let sql = "UPDATE rooms SET likes = likes + 1 WHERE id = $1::text::uuid";
                let found = transaction.execute(sql, &[&call.key])?;
                if found == 0 {
                    return Ok(Reply::error(404, "room_not_found", "Room not found"));
                }
                if call.header("x-user").is_none() {
                    return Ok(Reply::error(401, "token_missing", "Nobody likes anonymously"));
                }
                Ok(Reply {
                    status: 200,
                    json: ROOMS.records(transaction, "WHERE id = $1::text::uuid", &[&call.key])?,
                })
            },
        },
        Action {
            method: "GET",
            path: "/random",
            about: "One room.",
            run: |transaction, _| {
                Ok(Reply { status: 200, json: ROOMS.records(transaction, "ORDER BY random() LIMIT 1", &[])? })
            },
        },
        Action {
            method: "GET",
            path: "/request",
            about: "The header fields of the request, names in lower case.",
            run: |_, call| {
                let fields = call.fields.iter().map(|(name, value)| (name.to_lowercase(), json!(value)));
                Ok(Reply { status: 200, json: Value::Object(fields.collect()).to_string() })
            },
        },
    ],
    ..Resource::new(
        "/room",
        ["room", "rooms"],
        "rooms",
        &[
            Field::text("name").length(1..=40).trimmed().required().searchable().sortable(),
            Field::url("url").required().unique(),
            Field::integer("beds").range(0..=20).default("1").filterable(),
            Field::decimal("price", 8, 2).required().filterable().sortable(),
            Field::boolean("visible").default("true").filterable(),
            Field::date("built").filterable(),
            Field::timestamp("free_from").filterable(),
            Field::word("state", &["new", "old"]).default("new").filterable(),
            Field::object(
                "coordinates",
                &[
                    Field::decimal("lat", 9, 6).range(-90..=90).required(),
                    Field::decimal("lon", 9, 6).range(-180..=180).required(),
                ],
            ),
            Field::array("images", &Field::object("image", &[Field::url("url").required()]), 3),
            Field::uuid("provider"),
            Field::text("owner").from_caller(|caller| caller.header("x-user")),
            Field::integer("likes").read_only().required(),
        ],
    )
};

/// A key that clients choose; records only become more.
static CODES: Resource = Resource {
    key: Key::text(Field::text("code").length(1..=8)),
    operations: Operation::APPEND_ONLY,
    ..Resource::new("/api/codes", ["code", "codes"], "codes", &[Field::text("order").default("")])
};

/// A generated key, and a reference.
static NOTES: Resource = Resource::new(
    "/api/notes",
    ["note", "notes"],
    "notes",
    &[Field::text("code").length(1..=8).required(), Field::text("text").length(0..=100_000).default("")],
);

pub(super) static SERVICE: Application = Application {
    name: "rooms-app",
    version: "1.2.3",
    about: "Rooms.",
    resources: &[&ROOMS, &CODES, &NOTES],
    migrations: &[Migration {
        version: 1,
        name: "0001_rooms",
        sql: r#"CREATE EXTENSION pg_trgm;
            CREATE TABLE rooms (
                id uuid PRIMARY KEY, name text NOT NULL, url text NOT NULL UNIQUE, beds integer NOT NULL,
                price numeric(8, 2) NOT NULL CHECK (price <> 1313), visible boolean NOT NULL, built date,
                free_from timestamptz, state text NOT NULL, coordinates jsonb, images jsonb, provider uuid, owner text,
                likes integer NOT NULL DEFAULT 0
            );
            CREATE TABLE codes (code text PRIMARY KEY, "order" text NOT NULL);
            CREATE TABLE notes (
                id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, code text NOT NULL REFERENCES codes, text text NOT NULL
            );"#,
    }],
};

/// The service, running in this process, with a database of its own.
pub(super) struct Service {
    /// Where requests are sent.
    front: Front,
    /// Where the service itself listens.
    pub(super) addr: SocketAddr,
    pub(super) private: SocketAddr,
    pub(super) database: Database,
    shutdown: Shutdown,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Service {
    pub(super) fn start(settings: &[(&str, &str)]) -> Self {
        let database = Postgres::shared().create_database();
        let mut pairs = database.settings("ROOMS_DB");
        pairs.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        pairs.entry("ROOMS_PORT".to_owned()).or_insert_with(|| "0".to_owned());
        let settings =
            Settings::read(&Environment::from_pairs(pairs), "ROOMS", (0, 0), SERVICE.name).unwrap();
        let shutdown = Shutdown::new();
        let running = SERVICE.build(settings, shutdown.clone()).unwrap();
        let (addr, private) = (running.addr(), running.private_addr());
        let thread = Some(std::thread::spawn(|| running.run()));
        wait_until(patience(), "the schema", || request(private, "GET", "/ready", None).status == 200);
        Self { front: Front::of(addr), addr, private, database, shutdown, thread }
    }

    pub(super) fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Response {
        let body = body.map(Value::to_string);
        Connection::open(self.front.addr())
            .unwrap()
            .request(method, target, headers, body.as_deref())
            .unwrap()
    }

    pub(super) fn get(&self, target: &str) -> Response {
        self.send("GET", target, &[], None)
    }

    /// What the private listener counts.
    pub(super) fn metrics(&self) -> String {
        request(self.private, "GET", "/metrics", None).text()
    }

    pub(super) fn post(&self, target: &str, body: &Value) -> Response {
        self.send("POST", target, &[], Some(body))
    }

    pub(super) fn names(&self, target: &str) -> Vec<String> {
        let response = self.get(target);
        assert_eq!(response.status, 200, "{target}: {}", response.text());
        let rooms = document(&response);
        rooms.as_array().unwrap().iter().map(|room| room["name"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shutdown.request();
        let ended = self.thread.take().unwrap().join();
        assert!(std::thread::panicking() || matches!(ended, Ok(Ok(()))), "{ended:?}");
    }
}

pub(super) fn document(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_else(|error| panic!("{error} in {:?}", response.text()))
}

pub(super) fn room(number: u32) -> Value {
    json!({"name": format!("Room {number}"), "url": format!("http://example.org/{number}"), "price": number})
}
