//! The contract of the service at the wire: the real binary and a real PostgreSQL.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use serde_json::{Value, json};
use testkit::http::{Connection, Response, request};
use testkit::{Postgres, Service, patience, wait_until};

/// What a client sends to create a record.
fn example() -> Value {
    json!({
@EXAMPLE@
    })
}

fn start() -> Service {
    let database = Postgres::shared().create_database();
    let mut service = Service::new(env!("CARGO_BIN_EXE_@NAME@-app"), database.settings("@VARIABLE@_DB"));
    service.set("@VARIABLE@_PORT", "0");
    service.set("@VARIABLE@_PRIVATE_PORT", "0");
    service.start();
    wait_until(patience(), "the schema", || request(service.addr(), "GET", "/ready", None).status == 200);
    service
}

fn ask(service: &Service, method: &str, target: &str, fields: &[(&str, &str)], body: Option<&Value>) -> Response {
    let body = body.map(Value::to_string);
    Connection::open(service.addr()).unwrap().request(method, target, fields, body.as_deref()).unwrap()
}

fn document(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap()
}

#[test]
fn a_record_goes_through_its_life() {
    let service = start();
    let created = ask(&service, "POST", "@PATH@", &[], Some(&example()));
    assert_eq!(created.status, 201, "{}", created.text());
    let record = document(&created);
    for (name, value) in example().as_object().unwrap() {
        assert_eq!(&record[name], value, "{name}");
    }
    let path = created.header("location").unwrap();
    assert_eq!(path, format!("@PATH@/{}", record["id"]));

    let found = ask(&service, "GET", path, &[], None);
    assert_eq!((found.status, document(&found)), (200, record.clone()));
    let known = [("if-none-match", found.header("etag").unwrap())];
    assert_eq!(ask(&service, "GET", path, &known, None).status, 304);
    assert_eq!(document(&ask(&service, "GET", "@PATH@", &[], None)), json!([record]));
    assert_eq!(ask(&service, "PUT", path, &[], Some(&example())).status, 200);
    assert_eq!(ask(&service, "OPTIONS", path, &[], None).status, 204);

    assert_eq!(ask(&service, "DELETE", path, &[], None).status, 200);
    assert_eq!(ask(&service, "GET", path, &[], None).status, 404);
    assert_eq!(document(&ask(&service, "GET", "@PATH@", &[], None)), json!([]));
}

#[test]
fn what_breaks_a_rule_is_refused() {
    let service = start();
    let mut wrong = example();
    // No field of this service takes an array.
    wrong["@FIRST@"] = json!([]);
    let refused = ask(&service, "POST", "@PATH@", &[], Some(&wrong));
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(document(&refused)["fields"]["@FIRST@"].is_string(), "{}", refused.text());
    assert_eq!(ask(&service, "GET", "@PATH@/first", &[], None).status, 400);
    assert_eq!(ask(&service, "GET", "@PATH@/1", &[], None).status, 404);
    assert_eq!(ask(&service, "DELETE", "@PATH@", &[], None).status, 405);
    assert_eq!(document(&ask(&service, "GET", "@PATH@", &[], None)), json!([]));
}
