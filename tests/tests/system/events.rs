//! Events of the example service rooms, whose requests come through the gateway: each change is an event at the queues
//! bound with its topic, in order, whatever happens to the broker, to PostgreSQL and to the service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use amqp::{AmqpSettings, Connection, Delivery};
use foundation::Environment;
use serde_json::{Value, json};
use testkit::http;
use testkit::{Broker, Postgres, Service, patience, wait_until};

use super::rooms::{ALL_CHANGES, NEW_ROOMS, Rooms, create_at, room, rooms_app, take};

fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.body.clone()).unwrap()
}

fn id(record: &str) -> String {
    serde_json::from_str::<Value>(record).unwrap()["id"].as_str().unwrap().to_owned()
}

fn message_id(delivery: &Delivery) -> String {
    delivery.properties.message_id().unwrap().to_owned()
}

/// The bodies in the order in which they arrived first. An event that arrived again must have kept its id and body.
#[track_caller]
fn each_once(deliveries: &[Delivery]) -> Vec<String> {
    let mut bodies = BTreeMap::new();
    let mut once = Vec::new();
    for delivery in deliveries {
        match bodies.insert(message_id(delivery), text(delivery)) {
            None => once.push(text(delivery)),
            Some(before) => assert_eq!(before, text(delivery), "the same id with another body"),
        }
    }
    assert_eq!(once.iter().collect::<BTreeSet<_>>().len(), once.len(), "an event with two ids");
    once
}

/// Checks a JSON value against a schema of docs/asyncapi.yaml, as far as its types, required and known members.
#[track_caller]
fn assert_fits(document: &Value, schema: &Value, value: &Value) {
    if let Some(reference) = schema["$ref"].as_str() {
        return assert_fits(document, document.pointer(&reference[1..]).unwrap(), value);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is_allowed = |allowed: &Value| allowed == kind || (allowed == "number" && kind == "integer");
    let allowed = &schema["type"];
    let fits =
        allowed.as_array().map_or_else(|| is_allowed(allowed), |several| several.iter().any(is_allowed));
    assert!(fits, "{value} is {kind}, not {allowed}");
    for required in schema["required"].as_array().filter(|_| value.is_object()).into_iter().flatten() {
        assert!(value.get(required.as_str().unwrap()).is_some(), "{value} has no {required}");
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        assert_fits(document, &schema["properties"][name], member);
    }
    for element in value.as_array().into_iter().flatten() {
        assert_fits(document, &schema["items"], element);
    }
}

#[test]
fn events_are_as_the_document_says() {
    let text = include_str!("../../../docs/asyncapi.yaml");
    let document: Value = serde_yaml_ng::from_str(text).unwrap();
    assert_eq!(document["channels"]["rooms"]["address"], "rooms");
    let messages = &document["components"]["messages"];
    let documented: BTreeMap<_, _> = document["channels"]["rooms"]["messages"]
        .as_object()
        .unwrap()
        .keys()
        .map(|key| (messages[key]["name"].as_str().unwrap(), &messages[key]))
        .collect();

    let rooms = Rooms::start();
    let mut complete = room(1);
    complete["area"] = json!({"name": "Neubau", "city": "Wien", "country": "Österreich"});
    complete["images"] = json!([{"url": "https://rooms.example/1.jpg"}]);
    let created = rooms.send("POST", "/room", Some(&complete));
    let path = format!("/room/{}", id(&created.text()));
    assert_eq!(rooms.send("PATCH", &path, Some(&json!({"price": 0}))).status, 200);
    assert_eq!(rooms.send("DELETE", &path, None).status, 200);
    let mut seen = BTreeSet::new();
    for event in rooms.take(ALL_CHANGES) {
        let name = event.properties.header("schema").unwrap();
        let message = documented[name.as_str()];
        assert_eq!(message["headers"]["properties"]["schema"]["const"], name.as_str());
        assert_fits(&document, &message["payload"], &serde_json::from_slice(&event.body).unwrap());
        for example in message["examples"].as_array().unwrap() {
            assert_fits(&document, &message["payload"], &example["payload"]);
        }
        seen.insert(name);
    }
    assert_eq!(seen.len(), documented.len(), "{seen:?}");
}

#[test]
fn the_catalogue_tells_of_events_and_what_billing_says_of_itself() {
    let mut rooms = Rooms::start();
    rooms.platform.billing.start();
    let addr = rooms.platform.addr();
    let get = |target: &str| -> Value {
        serde_json::from_slice(&http::request(addr, "GET", target, None).body).unwrap()
    };
    let entry = |name: &str| {
        let catalogue = get("/api/services");
        let entries = catalogue["services"].as_array().unwrap().clone();
        entries.into_iter().find(|entry| entry["name"] == name).unwrap()
    };
    let found = entry("rooms");
    assert_eq!((&found["exchange"], &found["asyncapi"]), (&json!("rooms"), &json!("/assets/asyncapi.json")));
    assert_eq!(found["events"], json!(["room.created.1", "room.deleted.1", "room.updated.1"]));
    assert_eq!(found["depends_on"], json!(["postgresql", "broker"]));
    wait_until(patience(), "billing reports", || entry("billing")["state"] == "ok");
    let billing = entry("billing");
    assert_eq!(billing["version"], env!("CARGO_PKG_VERSION"));
    let started_s = billing["started_s"].as_u64().unwrap();
    assert!((1_600_000_000..=billing["since_s"].as_u64().unwrap()).contains(&started_s), "{billing}");
    assert_eq!(billing["events"], json!(["billing.report.v1"]));
    // The committed document describes this exchange already.
    let asyncapi = get("/assets/asyncapi.json");
    assert_eq!(asyncapi["channels"]["rooms"]["address"], "rooms");
    assert_eq!(asyncapi["channels"].get("rooms.rooms"), None);

    rooms.platform.billing.terminate();
    wait_until(patience(), "its silence is told", || entry("billing")["state"] == "silent");
    assert_eq!(entry("billing")["version"], env!("CARGO_PKG_VERSION"), "it keeps what it said last");
}

#[test]
fn each_change_is_one_event_in_order_at_the_queues_of_its_topic() {
    let rooms = Rooms::start();
    let created: Vec<_> = (0..60).map(|number| rooms.create(number)).collect();
    assert_eq!(rooms.send("POST", "/room", Some(&room(7))).status, 409);
    let path = format!("/room/{}", id(&created[3]));
    let updates: Vec<_> =
        (0..20).map(|price| rooms.send("PATCH", &path, Some(&json!({"price": price}))).text()).collect();
    assert_eq!(rooms.send("DELETE", &path, None).status, 200);

    let new = rooms.take(NEW_ROOMS);
    assert_eq!(new.iter().map(text).collect::<Vec<_>>(), created);
    assert_eq!(new.iter().map(message_id).collect::<BTreeSet<_>>().len(), created.len());
    for delivery in &new {
        assert_eq!(delivery.properties.header("schema").as_deref(), Some("room.created.1"));
        assert!(delivery.properties.timestamp().is_some_and(|seconds| seconds > 1_600_000_000));
    }
    let all = rooms.take(ALL_CHANGES);
    let expected: Vec<_> = created
        .iter()
        .map(|room| ("room.created.1", room.clone()))
        .chain(updates.into_iter().map(|room| ("room.updated.1", room)))
        .chain([("room.deleted.1", json!({"id": id(&created[3])}).to_string())])
        .collect();
    let found: Vec<_> =
        all.iter().map(|delivery| (delivery.properties.header("schema").unwrap(), text(delivery))).collect();
    let found: Vec<_> = found.iter().map(|(schema, body)| (schema.as_str(), body.clone())).collect();
    assert_eq!(found, expected, "a queue bound with several topics that fit gets each event once");
}

#[test]
fn events_wait_while_the_broker_is_away() {
    let mut rooms = Rooms::start();
    let mut created = vec![rooms.create(0)];
    wait_until(patience(), "the first event is published", || rooms.waiting() == 0);
    rooms.platform.broker.stop();
    created.extend((1..40).map(|number| rooms.create(number)));
    assert_eq!(rooms.waiting(), 39);
    let metrics = rooms.service.wait_for_line("private listener at ");
    let metrics: SocketAddr = metrics.rsplit(' ').next().unwrap().trim().parse().unwrap();
    let shows = |sample: &str| {
        let text = http::request(metrics, "GET", "/metrics", None).text();
        text.lines().any(|line| line == sample)
    };
    wait_until(patience(), "the outage is shown", || {
        shows("events_publishing 0")
            && shows("events_published_total 1")
            && !shows("events_waiting_seconds 0")
    });
    // What waits outlives the service as well.
    rooms.service.kill_9();
    rooms.service.start();
    rooms.wait_until_ready();
    created.extend((40..50).map(|number| rooms.create(number)));
    rooms.platform.broker.start_again();
    assert_eq!(each_once(&rooms.take(NEW_ROOMS)), created);
    // A broker that hangs is noticed, too.
    rooms.platform.broker.pause();
    let hung: Vec<_> = (50..60).map(|number| rooms.create(number)).collect();
    rooms.platform.broker.resume();
    assert_eq!(each_once(&rooms.take(NEW_ROOMS)), hung);
}

#[test]
fn a_broker_killed_in_the_middle_loses_no_event() {
    const ROOMS: usize = 600;
    let mut rooms = Rooms::start();
    let addr = rooms.platform.addr();
    let created = std::thread::scope(|scope| {
        let posting =
            scope.spawn(move || (0..ROOMS).map(|number| create_at(addr, number)).collect::<Vec<_>>());
        for round in 1..=3 {
            let enough = format!("SELECT count(*) >= {} FROM rooms", round * ROOMS / 5);
            wait_until(patience(), "rooms are indexed", || {
                rooms.database.client().query_one(&enough, &[]).unwrap().get(0)
            });
            rooms.platform.broker.kill_9();
            rooms.platform.broker.start_again();
        }
        posting.join().unwrap()
    });
    assert_eq!(each_once(&rooms.take(NEW_ROOMS)), created);
}

#[test]
fn an_event_that_is_published_twice_keeps_its_id() {
    let mut rooms = Rooms::start();
    let mut created = vec![rooms.create(0)];
    assert_eq!(rooms.take(NEW_ROOMS).len(), 1);
    let mut client = rooms.database.client();
    let mut observer = rooms.database.client();
    let mut transaction = client.transaction().unwrap();
    // While the broker hangs, events are written; then nothing can be deleted from the outbox.
    rooms.platform.broker.pause();
    created.extend((1..20).map(|number| rooms.create(number)));
    transaction.batch_execute("LOCK TABLE outbox IN EXCLUSIVE MODE").unwrap();
    rooms.platform.broker.resume();
    let connection = rooms.connect();
    let mut taken = take(&connection, NEW_ROOMS, 1);
    // The service dies between the confirms and the deletion.
    let deleting = "SELECT pid FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%DELETE FROM outbox%'
                       AND pid <> pg_backend_pid()";
    wait_until(patience(), "the events are to be deleted", || {
        observer.query(deleting, &[]).unwrap().len() == 1
    });
    rooms.service.kill_9();
    observer
        .execute(&format!("SELECT pg_terminate_backend(pid) FROM ({deleting}) AS deleting"), &[])
        .unwrap();
    wait_until(patience(), "its session has ended", || observer.query(deleting, &[]).unwrap().is_empty());
    transaction.rollback().unwrap();
    drop(connection);
    rooms.service.start();
    taken.extend(rooms.take(NEW_ROOMS));
    assert!(taken.len() > 19, "what was not deleted is published again");
    assert_eq!(each_once(&taken), created[1..]);
}

#[test]
fn of_several_instances_one_publishes_and_another_takes_over() {
    let mut rooms = Rooms::start();
    let mut second = rooms_app(&rooms.database, &rooms.platform.broker);
    second.start();
    let publishes = |service: &Service| service.log().contains("publishing events");
    wait_until(patience(), "the first publishes", || publishes(&rooms.service));
    let mut created = Vec::new();
    for number in 0..40 {
        let addr = if number % 2 == 0 { rooms.service.addr() } else { second.addr() };
        created.push(create_at(addr, number));
    }
    assert!(!publishes(&second), "only one may publish");
    rooms.service.kill_9();
    created.extend((40..60).map(|number| create_at(second.addr(), number)));
    assert_eq!(each_once(&rooms.take(NEW_ROOMS)), created);
    assert!(publishes(&second));
}

#[test]
fn postgresql_killed_in_the_middle_loses_no_event() {
    let postgres = Postgres::start();
    let broker = Broker::start();
    let database = postgres.create_database();
    let mut service = rooms_app(&database, &broker);
    service.start();
    let settings = broker.settings();
    let pairs = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let settings = AmqpSettings::read(&Environment::from_pairs(pairs)).unwrap();
    let connection = Connection::open(&settings, "system-tests").unwrap();
    connection.bind_queue(NEW_ROOMS, "rooms", &["room.created.1"]).unwrap();
    // A room is posted until it is indexed; 409 means that an attempt without an answer was successful.
    let index = |number: usize| {
        wait_until(patience(), "a room is indexed", || {
            let body = room(number).to_string();
            http::try_request(service.addr(), "POST", "/room", Some(&body))
                .is_ok_and(|answer| matches!(answer.status, 201 | 409))
        });
    };
    for round in 0..3 {
        (0..50).for_each(|number| index(round * 100 + number));
        postgres.kill_9();
        postgres.start_again();
        (50..100).for_each(|number| index(round * 100 + number));
    }
    wait_until(patience(), "everything is published", || {
        let mut client = database.client();
        client.query_one("SELECT count(*) FROM outbox", &[]).unwrap().get::<_, i64>(0) == 0
    });
    let count = connection.declare_queue(NEW_ROOMS).unwrap() as usize;
    let rooms = each_once(&take(&connection, NEW_ROOMS, count));
    let prices: Vec<_> = rooms
        .iter()
        .map(|room| serde_json::from_str::<Value>(room).unwrap()["price"].as_u64().unwrap())
        .collect();
    assert_eq!(prices, (0..300).collect::<Vec<u64>>());
}
