//! Adds what further services say of themselves to the gateway's OpenAPI document.

use serde_json::{Value, json};

use crate::settings::ServiceSettings;

/// Where a document has its schemas.
const SCHEMAS: &str = "#/components/schemas/";

/// Adds a service to the document: a tag of its name, its paths, and its schemas and operations under names of its own.
/// `theirs` is the last document that it gave, if any; `is_there` tells whether that was now.
pub(crate) fn merge(document: &mut Value, service: &ServiceSettings, theirs: Option<&Value>, is_there: bool) {
    let name = &service.name;
    let about = theirs.and_then(|theirs| theirs["info"]["description"].as_str()).unwrap_or_default();
    let remark = match (is_there, theirs) {
        (true, _) => "",
        (false, Some(_)) => " It does not answer at the moment; this is what it said last.",
        (false, None) => "It has not described itself.",
    };
    if let Some(tags) = document["tags"].as_array_mut() {
        tags.push(json!({ "name": name, "description": format!("{about}{remark}") }));
    }
    let Some(theirs) = theirs else { return };
    for (path, item) in theirs["paths"].as_object().into_iter().flatten() {
        // Other paths of the service cannot be reached through the gateway.
        if !service.has(path) {
            continue;
        }
        let mut item = item.clone();
        rename_references(&mut item, name, &[SCHEMAS]);
        for (_, operation) in item.as_object_mut().into_iter().flatten() {
            if operation.is_object() {
                operation["tags"] = json!([name]);
                if let Some(id) = operation["operationId"].as_str() {
                    operation["operationId"] = format!("{name}.{id}").into();
                }
            }
        }
        document["paths"][path] = item;
    }
    for (schema_name, schema) in theirs["components"]["schemas"].as_object().into_iter().flatten() {
        let mut schema = schema.clone();
        rename_references(&mut schema, name, &[SCHEMAS]);
        document["components"]["schemas"][format!("{name}.{schema_name}")] = schema;
    }
}

/// Puts the service's name in front of all names that are referred to below one of these places.
pub(crate) fn rename_references(value: &mut Value, service: &str, places: &[&str]) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let referred = member.as_str().filter(|_| name == "$ref").and_then(|text| {
                    places.iter().find_map(|place| Some((*place, text.strip_prefix(*place)?)))
                });
                match referred {
                    Some((place, referred)) => *member = format!("{place}{service}.{referred}").into(),
                    None => rename_references(member, service, places),
                }
            }
        }
        Value::Array(elements) => {
            for element in elements {
                rename_references(element, service, places);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Settings, tests::environment};

    fn todo() -> ServiceSettings {
        let variables = [("GATEWAY_SERVICES", "todo=/todo"), ("TODO_URL", "http://a:1")];
        Settings::read(&environment(variables)).unwrap().services.remove(1)
    }

    #[test]
    fn a_service_gets_a_tag_and_keeps_its_names_to_itself() {
        let theirs = json!({
            "info": {"description": "Tasks."},
            "paths": {
                "/todo": {
                    "parameters": [{"name": "id"}],
                    "get": {
                        "tags": ["tasks"], "operationId": "listTasks",
                        "schema": {"$ref": "#/components/schemas/Error"},
                    },
                },
                "/api/movies": {"get": {}},
                "/health": {"get": {}},
            },
            "components": {"schemas": {"Error": {"items": [{"$ref": "#/components/schemas/Task"}]}, "Task": {}}},
        });
        let ours = json!({
            "tags": [], "paths": {"/api/movies": {"get": {"summary": "ours"}}},
            "components": {"schemas": {"Error": {"ours": true}}},
        });
        let mut document = ours.clone();
        merge(&mut document, &todo(), Some(&theirs), true);
        assert_eq!(
            document,
            json!({
                "tags": [{"name": "todo", "description": "Tasks."}],
                "paths": {
                    "/api/movies": {"get": {"summary": "ours"}},
                    "/todo": {
                        "parameters": [{"name": "id"}],
                        "get": {
                            "tags": ["todo"], "operationId": "todo.listTasks",
                            "schema": {"$ref": "#/components/schemas/todo.Error"},
                        },
                    },
                },
                "components": {"schemas": {
                    "Error": {"ours": true},
                    "todo.Error": {"items": [{"$ref": "#/components/schemas/todo.Task"}]},
                    "todo.Task": {},
                }},
            })
        );

        let mut document = ours.clone();
        merge(&mut document, &todo(), Some(&theirs), false);
        let about = document["tags"][0]["description"].as_str().unwrap();
        assert!(about.starts_with("Tasks. It does not answer"), "{about}");
        assert!(document["paths"].get("/todo").is_some());

        for strange in [json!(null), json!([1]), json!({"paths": 7, "components": "x"})] {
            let mut document = ours.clone();
            merge(&mut document, &todo(), Some(&strange), true);
            assert_eq!(document["paths"], ours["paths"]);
        }
    }
}
