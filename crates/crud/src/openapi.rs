//! The OpenAPI document (version 3.1) of a service, made from its descriptions.

use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::application::Application;
use crate::asyncapi;
use crate::examples;
use crate::field::Field;
use crate::query::{COUNT_MAX, LIMIT_MAX, OFFSET_MAX};
use crate::resource::{Action, Lists, Operation, Parameter, Resource};
use crate::schema::{
    error, error_schema, example, field_schema, record as record_schema, schema, schema_name,
};
use crate::settings::Profile;
use crate::table::Table;

/// The document, as JSON.
pub(crate) fn document(application: &Application, tables: &[Table], profile: &Profile) -> Vec<u8> {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for table in tables {
        let name = schema_name(table.resource.name);
        let writable = |field: &&Field| field.is_writable();
        let columns = &table.columns;
        schemas.insert(name.clone(), record_schema(columns.iter(), |_| true));
        schemas.insert(
            format!("New{name}"),
            record_schema(columns.iter().filter(writable), |field| field.required),
        );
        let fields = table.resource.fields.iter().filter(writable);
        let mut changes = record_schema(fields, |_| false);
        changes["minProperties"] = json!(1);
        schemas.insert(format!("{name}Changes"), changes);
        paths.insert(table.resource.path.to_owned(), collection(table, &name));
        let record_path = format!("{}/{{{}}}", table.resource.path, columns[0].name);
        paths.insert(record_path, record(table, &name));
        for action in table.resource.actions {
            let path = format!("{}{}", table.resource.path, action.path);
            let item = paths.entry(path).or_insert_with(|| json!({}));
            item[action.method.to_ascii_lowercase()] = self::action(table, action);
        }
    }
    paths.retain(|_, item| item.as_object().is_some_and(|item| item.keys().any(|key| key != "parameters")));
    for table in tables {
        let errors = table.resource.errors;
        schemas.insert(error_schema(errors).to_owned(), error(errors));
    }
    examples::add(&mut paths, &schemas);
    let document = json!({
        "openapi": "3.1.0",
        "info": info(application, tables, profile),
        "paths": paths,
        "components": {"schemas": schemas},
    });
    // All keys are text, so serialising cannot fail.
    serde_json::to_vec(&document).unwrap_or_default()
}

/// What the service is. The members that begin with `x-` are for the catalogue; OpenAPI gives them no meaning.
fn info(application: &Application, tables: &[Table], profile: &Profile) -> Value {
    let resource = |table: &Table| {
        let Resource { path, name, plural, .. } = table.resource;
        json!({"path": path, "name": name, "plural": plural})
    };
    let events = asyncapi::events(tables);
    let depends_on = if events.is_some() { vec!["postgresql", "broker"] } else { vec!["postgresql"] };
    // The document is made when the service starts.
    let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |age| age.as_secs());
    let mut info = json!({
        "title": application.name,
        "version": application.version,
        "description": application.about,
        "x-resources": tables.iter().map(resource).collect::<Vec<_>>(),
        "x-depends-on": depends_on,
        "x-started-s": started,
    });
    if let Some(events) = events {
        info["x-asyncapi"] = events;
    }
    let Profile { owner, contact, repository } = profile;
    for (name, value) in [("x-owner", owner), ("x-contact", contact), ("x-repository", repository)] {
        if let Some(value) = value {
            info[name] = value.as_str().into();
        }
    }
    info
}

fn collection(table: &Table, name: &str) -> Value {
    let Resource { name: one, plural, .. } = table.resource;
    let mut item = Map::new();
    let mut add = |operation, method: &str, value: Value| {
        if table.resource.allows(operation) {
            let mut value = described(table, value);
            value["operationId"] = operation_id(table.resource, operation, method).into();
            item.insert(method.to_owned(), value);
        }
    };
    let records = json!({"type": "array", "items": schema(name)});
    let list = match table.resource.lists {
        Lists::Plain => records,
        Lists::Counted { .. } => json!({
            "type": "object",
            "required": ["count", "next", "previous", "results"],
            "properties": {
                "count": {"type": "integer", "minimum": 0, "description": "How many the filters leave, on all pages."},
                "next": {"type": ["string", "null"], "format": "uri"},
                "previous": {"type": ["string", "null"], "format": "uri"},
                "results": records,
            },
        }),
    };
    add(
        Operation::List,
        "get",
        json!({
            "summary": format!("List {plural}"),
            "parameters": list_parameters(table.resource),
            "responses": responses(&[(200, &format!("The {plural}."), Some(list)), (400, "", None)]),
        }),
    );
    add(
        Operation::Create,
        "post",
        json!({
            "summary": format!("Create a {one}"),
            "requestBody": content(&schema(&format!("New{name}"))),
            "responses": responses(&[
                (201, &format!("The {one} as it was stored."), Some(schema(name))),
                (400, "", None),
                (409, "", None),
                (413, "", None),
                (415, "", None),
            ]),
        }),
    );
    let deleted = json!({
        "type": "object",
        "required": ["message", "deleted"],
        "properties": {"message": {"type": "string"}, "deleted": {"type": "integer", "minimum": 0}},
    });
    add(
        Operation::DeleteAll,
        "delete",
        json!({
            "summary": format!("Delete all {plural}"),
            "responses": responses(&[(200, "How many were deleted.", Some(deleted)), (400, "", None)]),
        }),
    );
    item.into()
}

fn record(table: &Table, name: &str) -> Value {
    let one = table.resource.name;
    let key = &table.columns[0];
    let mut item = Map::new();
    let mut add = |operation, method: &str, value: Value| {
        if table.resource.allows(operation) {
            let mut value = described(table, value);
            value["operationId"] = operation_id(table.resource, operation, method).into();
            item.insert(method.to_owned(), value);
        }
    };
    let found = || (200, format!("The {one}."), Some(schema(name)));
    let (status, text, answer) = found();
    add(
        Operation::Read,
        "get",
        json!({
            "summary": format!("Read a {one}"),
            "responses": responses(&[
                (status, &text, answer),
                (304, "The client has it already.", None),
                (400, "", None),
                (404, "", None),
            ]),
        }),
    );
    for method in ["put", "patch"] {
        let (status, text, answer) = found();
        add(
            Operation::Update,
            method,
            json!({
                "summary": format!("Change a {one}: members that are given are replaced, others kept"),
                "requestBody": content(&schema(&format!("{name}Changes"))),
                "responses": responses(&[
                    (status, &text, answer),
                    (400, "", None),
                    (404, "", None),
                    (409, "", None),
                    (412, "", None),
                    (413, "", None),
                    (415, "", None),
                ]),
            }),
        );
    }
    let deleted = json!({
        "type": "object",
        "required": ["message", key.name],
        "properties": {
            "message": {"type": "string", "const": table.deleted_message()},
            key.name: field_schema(key),
        },
    });
    add(
        Operation::Delete,
        "delete",
        json!({
            "summary": format!("Delete a {one}"),
            "responses": responses(&[
                (200, "It was deleted.", Some(deleted)),
                (400, "", None),
                (404, "", None),
                (412, "", None),
            ]),
        }),
    );
    if !item.is_empty() {
        item.insert("parameters".to_owned(), json!([key_parameter(key)]));
    }
    item.into()
}

/// The name that generators of clients give to the operation, such as `listMovies`.
fn operation_id(resource: &Resource, operation: Operation, method: &str) -> String {
    let (verb, noun) = match operation {
        Operation::List => ("list", resource.plural),
        Operation::Create => ("create", resource.name),
        Operation::DeleteAll => ("deleteAll", resource.plural),
        Operation::Read => ("get", resource.name),
        Operation::Update if method == "put" => ("replace", resource.name),
        Operation::Update => ("change", resource.name),
        Operation::Delete => ("delete", resource.name),
    };
    format!("{verb}{}", schema_name(noun))
}

fn action(table: &Table, action: &Action) -> Value {
    let key = &table.columns[0];
    let parameters = if action.has_key() { json!([key_parameter(key)]) } else { json!([]) };
    let mut responses = responses(&[(400, "", None)]);
    responses["default"] = json!({"description": "What the action answers."});
    let operation = json!({"summary": action.about, "parameters": parameters, "responses": responses});
    let mut operation = described(table, operation);
    operation["operationId"] = action_id(table.resource, action).into();
    operation
}

/// The name of an action for generators of clients, such as `postLikePizza`, or `getRandomPizzas` for the collection.
fn action_id(resource: &Resource, action: &Action) -> String {
    let noun = if action.has_key() { resource.name } else { resource.plural };
    let method = action.method.to_ascii_lowercase();
    format!("{method}{}{}", schema_name(action.segment()), schema_name(noun))
}

/// Adds the tags and responses that all operations have.
fn described(table: &Table, mut operation: Value) -> Value {
    operation["tags"] = json!([table.resource.plural]);
    for (status, text) in [
        ("500", "A bug."),
        ("503", "Nothing was done; try again."),
        ("504", "Nobody knows whether it was done."),
    ] {
        operation["responses"][status] =
            json!({"description": text, "content": json_content(&schema("Problem"))});
    }
    let error = schema(error_schema(table.resource.errors));
    for (status, response) in operation["responses"].as_object_mut().into_iter().flatten() {
        if status.as_str() >= "400" && status != "default" {
            response["content"] = json_content(&error);
        }
    }
    operation
}

fn list_parameters(resource: &Resource) -> Value {
    let limit = |more: Value, about| {
        let mut schema = json!({"type": "integer", "minimum": 1, "maximum": LIMIT_MAX});
        if !more.is_null() {
            schema["default"] = more;
        }
        parameter("limit", "query", &schema, about)
    };
    let mut parameters = match resource.lists {
        Lists::Plain => vec![
            limit(Value::Null, "At most so many; the header field Link leads to the next page."),
            parameter(
                "after",
                "query",
                &json!({"type": ["string", "integer"]}),
                "Only those behind the record with this key.",
            ),
            parameter(
                "count",
                "query",
                &json!({"type": "integer", "minimum": 1, "maximum": COUNT_MAX}),
                "Up to which number the records on all pages are counted: the header field Total-Count has how many \
                 there are, or this number and a plus.",
            ),
        ],
        Lists::Counted { size } => vec![
            limit(size.into(), "The number of records on a page."),
            parameter(
                "offset",
                "query",
                &json!({"type": "integer", "minimum": 0, "maximum": OFFSET_MAX, "default": 0}),
                "How many records the page skips.",
            ),
        ],
    };
    for field in resource.fields {
        let schema = field_schema(field);
        let mut add = |name: &str, schema: &Value, about: &str| {
            let mut parameter = parameter(name, "query", schema, about);
            parameter["example"] = example(field);
            parameters.push(parameter);
        };
        if field.searchable {
            let about = "Only those that contain this text, whatever the case.";
            add(field.name, &json!({"type": "string"}), about);
        }
        if field.filterable {
            add(field.name, &schema, "Only those with this value.");
        }
        if field.has_ranges() {
            let (from, to) = (format!("{}_from", field.name), format!("{}_to", field.name));
            add(&from, &schema, "Only those with this value or a greater one.");
            add(&to, &schema, "Only those with this value or a smaller one.");
        }
    }
    let orders: Vec<_> = resource.sortable().flat_map(|name| [name.to_owned(), format!("-{name}")]).collect();
    let schema = json!({"type": "string", "enum": orders, "default": resource.key.field.name});
    parameters.push(parameter("sort", "query", &schema, "The order; - in front reverses it."));
    if resource.lists == Lists::Plain {
        for field in resource.fields.iter().filter(|field| field.sortable) {
            let about = format!("With sort={} and after: that record's value of the field.", field.name);
            let name = format!("after_{}", field.name);
            parameters.push(parameter(&name, "query", &json!({"type": "string"}), &about));
        }
    }
    for (name, about) in resource.parameters.iter().flat_map(Parameter::documented) {
        parameters.push(parameter(name, "query", &json!({"type": "string"}), about));
    }
    parameters.into()
}

fn key_parameter(key: &Field) -> Value {
    let mut parameter = parameter(key.name, "path", &field_schema(key), "The key of the record.");
    parameter["example"] = example(key);
    parameter
}

fn parameter(name: &str, place: &str, schema: &Value, about: &str) -> Value {
    json!({"name": name, "in": place, "required": place == "path", "schema": schema, "description": about})
}

fn responses(known: &[(u16, &str, Option<Value>)]) -> Value {
    let mut responses = Map::new();
    for (status, text, answer) in known {
        let (text, answer) = match status {
            400 => ("The request breaks a rule.", Some(schema("Problem"))),
            404 => ("There is no such record.", Some(schema("Problem"))),
            409 => ("A unique value exists already.", Some(schema("Problem"))),
            412 => ("The condition does not hold.", Some(schema("Problem"))),
            413 => ("The body is too large.", Some(schema("Problem"))),
            415 => ("The body is not JSON.", Some(schema("Problem"))),
            _ => (*text, answer.clone()),
        };
        let mut response = json!({"description": text});
        if let Some(answer) = answer {
            response["content"] = json_content(&answer);
        }
        responses.insert(status.to_string(), response);
    }
    responses.into()
}

fn content(schema: &Value) -> Value {
    json!({"required": true, "content": json_content(schema)})
}

fn json_content(schema: &Value) -> Value {
    json!({"application/json": {"schema": schema}})
}
