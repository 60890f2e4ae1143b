//! A rooms-app with a database of its own.

use serde_json::{Value, json};
use testkit::http::{self, Response};
use testkit::{Database, Postgres, Service};

pub(crate) struct Rooms {
    pub(crate) service: Service,
    pub(crate) database: Database,
}

impl Rooms {
    pub(crate) fn start() -> Self {
        let database = Postgres::shared().create_database();
        let mut service = Service::new(env!("CARGO_BIN_EXE_rooms-app"), database.settings("ROOMS_DB"));
        for (name, value) in [
            ("ROOMS_PORT", "0"),
            ("ROOMS_PRIVATE_PORT", "0"),
            // Nothing listens at the discard port.
            ("RABBITMQ_PORT", "9"),
            ("RABBITMQ_USER", "nobody"),
            ("RABBITMQ_PASSWORD", "none"),
        ] {
            service.set(name, value);
        }
        service.start();
        let rooms = Self { service, database };
        testkit::wait_until(testkit::patience(), "the schema", || rooms.get("/ready").status == 200);
        rooms
    }

    pub(crate) fn send(&self, method: &str, target: &str, body: Option<&Value>) -> Response {
        http::request(self.service.addr(), method, target, body.map(Value::to_string).as_deref())
    }

    pub(crate) fn get(&self, target: &str) -> Response {
        self.send("GET", target, None)
    }

    /// Indexes a room, changed by `changes`; returns its id.
    pub(crate) fn create(&self, number: usize, changes: &[(&str, Value)]) -> String {
        let response = self.send("POST", "/room", Some(&room(number, changes)));
        assert_eq!(response.status, 201, "{}", response.text());
        document(&response)["id"].as_str().unwrap().to_owned()
    }

    /// The names of the rooms that a list holds, sorted.
    pub(crate) fn names(&self, query: &str) -> Vec<String> {
        let response = self.get(&format!("/room?{query}"));
        assert_eq!(response.status, 200, "{query}: {}", response.text());
        let rooms = document(&response);
        let mut names: Vec<_> = rooms.as_array().unwrap().iter().map(name).collect();
        names.sort();
        names
    }
}

pub(crate) fn document(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_else(|e| panic!("{e} in {:?}", response.text()))
}

pub(crate) fn name(room: &Value) -> String {
    room["name"].as_str().unwrap().to_owned()
}

/// A complete room with a url of its own; `changes` replaces members, or removes those that are null.
pub(crate) fn room(number: usize, changes: &[(&str, Value)]) -> Value {
    let mut room = json!({
        "name": format!("Room {number}"), "description": "Quiet, with a view", "url": format!("http://rooms.example/{number}"),
        "provider": "rooms.example", "price": 50, "monthly_price": 900, "recurrency": "daily", "property_size": "20",
        "coordinates": {"lat": 48.2082, "lon": 16.3738},
        "area": {"name": "Neubau", "city": "Wien", "country": "Österreich"},
        "images": [{"url": "http://images.example/1.jpg"}, {"url": "http://images.example/2.jpg"}],
    });
    let members = room.as_object_mut().unwrap();
    for (name, value) in changes {
        if value.is_null() {
            members.remove(*name);
        } else {
            members.insert((*name).to_owned(), value.clone());
        }
    }
    room
}
