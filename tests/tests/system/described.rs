//! The documents in docs/ against what the services say of themselves: the same paths, methods, names and schemas. The
//! documents may say more, such as what the gateway answers itself.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use testkit::{Platform, Postgres, Service, http};

use crate::rooms::rooms_app;
use crate::settings::project;

fn committed(name: &str) -> Value {
    let text = std::fs::read_to_string(project().join("docs").join(name)).unwrap();
    serde_yaml_ng::from_str(&text).unwrap()
}

fn live(service: &Service) -> Value {
    let answer = http::request(service.private_addr(), "GET", "/openapi.json", None);
    serde_json::from_slice(&answer.body).unwrap()
}

/// What a reference refers to, or the value itself.
fn resolved<'v>(document: &'v Value, value: &'v Value) -> &'v Value {
    match value["$ref"].as_str() {
        Some(reference) => {
            resolved(document, document.pointer(reference.strip_prefix('#').unwrap()).unwrap())
        }
        None => value,
    }
}

/// The rules of a schema, in the one form that both ways of writing them have: without texts, references and rules that
/// always hold.
fn rules(document: &Value, schema: &Value) -> Value {
    let schema = resolved(document, schema);
    if let Some([null, other]) = schema["oneOf"].as_array().map(Vec::as_slice) {
        assert_eq!(null, &json!({"type": "null"}));
        let mut rules = rules(document, other);
        rules["type"] = json!(["null", rules["type"]]);
        return rules;
    }
    let mut rules = Map::new();
    for (name, value) in schema.as_object().unwrap() {
        let value = match name.as_str() {
            "type" | "required" | "enum" if value.is_array() => sorted(value),
            "type" | "enum" | "const" | "minimum" | "minLength" | "maxLength" | "maxItems" => value.clone(),
            "maximum" if value != i64::MAX => value.clone(),
            "format" if value != "int64" => value.clone(),
            "items" => self::rules(document, value),
            "properties" => {
                let properties = value.as_object().unwrap().iter();
                properties.map(|(name, schema)| (name.clone(), self::rules(document, schema))).collect()
            }
            _ => continue,
        };
        let always_holds = value == json!([]) || (name == "minLength" && value == 0);
        if !always_holds {
            rules.insert(name.clone(), value);
        }
    }
    rules.into()
}

fn sorted(array: &Value) -> Value {
    let mut members = array.as_array().unwrap().clone();
    members.sort_by_key(Value::to_string);
    members.into()
}

/// What matters to a client of an operation.
fn operation(document: &Value, item: &Value, operation: &Value) -> Value {
    let parameters = [item, operation].into_iter().filter_map(|part| part["parameters"].as_array()).flatten();
    let parameters: BTreeSet<_> = parameters
        .map(|parameter| resolved(document, parameter))
        .filter(|parameter| parameter["in"] != "header")
        .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
        .collect();
    let body = |part: &Value| {
        let schema = &resolved(document, part)["content"]["application/json"]["schema"];
        if schema.is_null() { Value::Null } else { rules(document, schema) }
    };
    let answers = operation["responses"].as_object().unwrap().iter();
    let answers: Map<_, _> = answers
        .filter(|(status, _)| status.starts_with('2'))
        .map(|(status, answer)| (status.clone(), body(answer)))
        .collect();
    json!({
        "name": operation["operationId"],
        "parameters": parameters,
        "body": body(&operation["requestBody"]),
        "answers": answers,
    })
}

/// All operations at and below a path, by path and method.
fn operations(document: &Value, prefix: &str) -> BTreeMap<String, Value> {
    let paths = document["paths"].as_object().unwrap().iter().filter(|(path, _)| path.starts_with(prefix));
    paths
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters");
            methods.map(move |(method, value)| (format!("{method} {path}"), operation(document, item, value)))
        })
        .collect()
}

#[test]
fn the_openapi_document_says_of_movies_what_inventory_says() {
    let mut platform = Platform::stopped_on(Postgres::shared());
    platform.inventory.start();
    let live = operations(&live(&platform.inventory), "/api/movies");
    let committed = operations(&committed("openapi.yaml"), "/api/movies");
    assert_eq!(live.len(), 7, "{live:#?}");
    let names = |operations: &BTreeMap<String, Value>| operations.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&live));
    for (name, operation) in &live {
        assert_eq!(&committed[name], operation, "{name}");
    }
}

/// The messages of a channel by their names, each with its rules.
fn messages(document: &Value, channel: &Value) -> BTreeMap<String, Value> {
    let messages = channel["messages"].as_object().unwrap().values();
    messages
        .map(|message| {
            let message = resolved(document, message);
            let [headers, payload] = ["headers", "payload"].map(|part| rules(document, &message[part]));
            let what = json!({"type": message["contentType"], "headers": headers, "payload": payload});
            (message["name"].as_str().unwrap().to_owned(), what)
        })
        .collect()
}

#[test]
fn the_asyncapi_document_says_of_rooms_what_rooms_says() {
    let platform = Platform::stopped_on(Postgres::shared());
    let mut rooms = rooms_app(&platform.movies_db, &platform.broker);
    rooms.start();
    let live = live(&rooms)["info"]["x-asyncapi"].take();
    let committed = committed("asyncapi.yaml");
    let channels = live["channels"].as_object().unwrap();
    assert_eq!(channels.keys().collect::<Vec<_>>(), ["rooms"]);
    for (name, channel) in channels {
        let described = &committed["channels"][name];
        for member in ["address", "bindings"] {
            assert_eq!(described[member], channel[member], "{member} of {name}");
        }
        let (live, committed) = (messages(&live, channel), messages(&committed, described));
        assert_eq!(live.len(), 3, "{live:#?}");
        assert_eq!(committed, live);
    }
}
