//! The example service rooms behind the gateway, with the broker for its events: what the tests of events use, and that
//! the gateway changes none of its answers.

use std::net::SocketAddr;

use amqp::{AmqpSettings, Connection, Delivery};
use foundation::Environment;
use serde_json::{Value, json};
use testkit::http::{self, Response};
use testkit::{Broker, Database, Platform, Postgres, Service, binary, free_port, patience, wait_until};

/// A durable queue of somebody who wants to know which rooms are new.
pub(super) const NEW_ROOMS: &str = "new-rooms";
/// The same for all changes.
pub(super) const ALL_CHANGES: &str = "all-changes";

/// The broker, rooms-app with its database, and a gateway in front of it.
pub(super) struct Rooms {
    pub(super) platform: Platform,
    pub(super) service: Service,
    pub(super) database: Database,
}

impl Rooms {
    pub(super) fn start() -> Self {
        let postgres = Postgres::shared();
        let (mut platform, database) = (Platform::stopped_on(postgres), postgres.create_database());
        let mut service = rooms_app(&database, &platform.broker);
        service.start();
        platform.gateway.set("GATEWAY_SERVICES", "rooms=/room");
        platform.gateway.set("ROOMS_URL", &format!("http://{}", service.addr()));
        platform.gateway.start();
        let rooms = Self { platform, service, database };
        let connection = rooms.connect();
        connection.bind_queue(NEW_ROOMS, "rooms", &["room.created.*"]).unwrap();
        connection.bind_queue(ALL_CHANGES, "rooms", &["room.created.1", "room.*.1", "other.#"]).unwrap();
        rooms.wait_until_ready();
        rooms
    }

    pub(super) fn wait_until_ready(&self) {
        wait_until(patience(), "rooms-app is ready behind the gateway", || {
            let answer = http::try_request(self.platform.addr(), "GET", "/room?limit=1", None);
            answer.is_ok_and(|answer| answer.status == 200)
        });
    }

    pub(super) fn connect(&self) -> Connection {
        let settings = self.platform.broker.settings();
        let pairs = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let settings = AmqpSettings::read(&Environment::from_pairs(pairs)).unwrap();
        Connection::open(&settings, "system-tests").unwrap()
    }

    pub(super) fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Response {
        http::request(self.platform.addr(), method, path, body.map(Value::to_string).as_deref())
    }

    /// Indexes the room `number` through the gateway; returns it as the client got it.
    pub(super) fn create(&self, number: usize) -> String {
        create_at(self.platform.addr(), number)
    }

    pub(super) fn waiting(&self) -> i64 {
        self.database.client().query_one("SELECT count(*) FROM outbox", &[]).unwrap().get(0)
    }

    /// Takes what is in a queue once everything has been published.
    pub(super) fn take(&self, queue: &str) -> Vec<Delivery> {
        wait_until(patience() * 2, "everything is published", || self.waiting() == 0);
        let connection = self.connect();
        let count = connection.declare_queue(queue).unwrap() as usize;
        take(&connection, queue, count)
    }
}

pub(super) fn rooms_app(database: &Database, broker: &Broker) -> Service {
    let mut settings = database.settings("ROOMS_DB");
    settings.extend(broker.settings());
    let mut service = Service::new(binary("rooms-app"), settings);
    // It must keep its port when it starts again, for the gateway.
    service.set("ROOMS_PORT", &free_port().to_string());
    service.set("ROOMS_PRIVATE_PORT", &free_port().to_string());
    service
}

pub(super) fn room(number: usize) -> Value {
    json!({
        "name": format!("Room {number}"), "description": "", "url": format!("http://rooms.example/{number}"),
        "provider": "rooms.example", "price": number, "monthly_price": 900, "recurrency": "daily", "property_size": "20",
        "coordinates": {"lat": 48.2, "lon": 16.37},
    })
}

#[track_caller]
pub(super) fn create_at(addr: SocketAddr, number: usize) -> String {
    let created = http::request(addr, "POST", "/room", Some(&room(number).to_string()));
    assert_eq!(created.status, 201, "{}", created.text());
    created.text()
}

pub(super) fn take(connection: &Connection, queue: &str, count: usize) -> Vec<Delivery> {
    let mut deliveries = connection.consume(queue, 1_000).unwrap();
    let mut taken = Vec::new();
    wait_until(patience(), &format!("{count} events in {queue}"), || {
        let batch = deliveries.next_batch(1_000, std::time::Duration::from_millis(50)).unwrap();
        if let Some(last) = batch.last() {
            connection.ack_through(last.tag).unwrap();
        }
        taken.extend(batch);
        taken.len() >= count
    });
    taken
}

#[test]
fn the_gateway_passes_on_the_answers_of_another_service() {
    let rooms = Rooms::start();
    let mut sent = room(1);
    sent["name"] = json!("Zimmer im Grünen");
    let created = rooms.send("POST", "/room", Some(&sent));
    assert_eq!(created.status, 201, "{}", created.text());
    let path = created.header("location").unwrap();
    assert_eq!(rooms.send("GET", path, None).text(), created.text());
    assert_eq!(rooms.send("POST", "/room", Some(&sent)).status, 409);
    let refused = rooms.send("POST", "/room", Some(&json!({"coordinates": {"lat": 91}})));
    assert_eq!(refused.status, 400);
    for named in ["name", "coordinates.lat", "coordinates.lon", "url"] {
        assert!(refused.text().contains(&format!(r#""{named}":"#)), "{named} in {}", refused.text());
    }
    rooms.create(2);
    let found = rooms.send("GET", "/room?q=grunen&near=48.2,16.37&within_km=1&price_to=5&limit=1", None);
    assert_eq!((found.status, found.text()), (200, format!("[{}]", created.text())));
    let page = rooms.send("GET", "/room?near=48.2,16.37&limit=1", None);
    assert!(page.header("link").unwrap().contains("near=48.2%2C16.37"), "{:?}", page.header("link"));
    assert_eq!(rooms.send("PATCH", path, Some(&json!({"price": 2}))).status, 200);
    assert_eq!(rooms.send("DELETE", path, None).status, 200);
    assert_eq!(rooms.send("GET", path, None).status, 404);
    assert_eq!(rooms.send("DELETE", "/room", None).status, 405);
}
