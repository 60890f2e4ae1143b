//! Gives every body and parameter of an OpenAPI document an example, made from its schema.

use serde_json::{Map, Value, json};

/// Adds the examples that `paths` lacks. Schemas that it refers to are in `schemas` and have examples of their own.
pub(crate) fn add(paths: &mut Map<String, Value>, schemas: &Map<String, Value>) {
    for (name, part) in paths.values_mut().filter_map(Value::as_object_mut).flatten() {
        if name == "parameters" {
            add_to_parameters(Some(part), schemas);
        } else {
            add_to_operation(part, schemas);
        }
    }
}

fn add_to_operation(operation: &mut Value, schemas: &Map<String, Value>) {
    add_to_parameters(operation.get_mut("parameters"), schemas);
    if let Some(body) = operation.get_mut("requestBody") {
        add_to_body(body, schemas);
    }
    let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
    for (_, response) in responses.into_iter().flatten() {
        add_to_body(response, schemas);
    }
}

fn add_to_parameters(parameters: Option<&mut Value>, schemas: &Map<String, Value>) {
    for parameter in parameters.and_then(Value::as_array_mut).into_iter().flatten() {
        add_to(parameter, schemas);
    }
}

fn add_to_body(body: &mut Value, schemas: &Map<String, Value>) {
    let content = body.get_mut("content").and_then(Value::as_object_mut);
    for (_, media_type) in content.into_iter().flatten() {
        add_to(media_type, schemas);
    }
}

/// `value` has a schema: a parameter or a media type.
fn add_to(value: &mut Value, schemas: &Map<String, Value>) {
    if value.get("example").is_none() {
        value["example"] = example(&value["schema"], schemas);
    }
}

/// A value of the schema: what that itself gives as one, else the simplest of its type.
fn example(schema: &Value, schemas: &Map<String, Value>) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        let referred = reference.rsplit('/').next().and_then(|name| schemas.get(name));
        return referred.map_or(Value::Null, |schema| example(schema, schemas));
    }
    let given = ["examples", "default", "const", "enum", "minimum"].map(|name| match name {
        "examples" | "enum" => &schema[name][0],
        _ => &schema[name],
    });
    if let Some(value) = given.into_iter().find(|value| !value.is_null()) {
        return value.clone();
    }
    let types = &schema["type"];
    match types.as_str().or(types[0].as_str()) {
        Some("object") => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            properties.map(|(name, schema)| (name.clone(), example(schema, schemas))).collect()
        }
        Some("array") => json!([example(&schema["items"], schemas)]),
        Some("integer" | "number") => json!(1),
        Some("boolean") => json!(true),
        Some("string") if schema["format"] == "uri" => json!("https://example.org/"),
        Some("string") => json!("text"),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn bodies_and_parameters_get_examples_of_their_schemas() {
        let schemas = map(&json!({"Pizza": {"type": "object", "examples": [{"id": 7}]}}));
        let pizza = json!({"$ref": "#/components/schemas/Pizza"});
        let content = |schema| json!({"content": {"application/json": {"schema": schema}}});
        let page = json!({"type": "object", "properties": {
            "count": {"type": "integer", "minimum": 0},
            "next": {"type": ["string", "null"], "format": "uri"},
            "message": {"type": "string"}, "kind": {"type": "string", "const": "a list"},
            "results": {"type": "array", "items": pizza},
        }});
        let mut paths = map(&json!({"/api/pizzas": {
            "parameters": [{"name": "id", "schema": {"type": "integer"}, "example": 3}],
            "get": {
                "parameters": [{"name": "sort", "schema": {"type": "string", "default": "id"}}],
                "requestBody": content(pizza.clone()),
                "responses": {"200": content(page), "304": {"description": "The client has it already."}},
            },
        }}));
        add(&mut paths, &schemas);
        let item = &paths["/api/pizzas"];
        let of = |body: &Value| body["content"]["application/json"]["example"].clone();
        assert_eq!(item["parameters"][0]["example"], 3);
        assert_eq!(item["get"]["parameters"][0]["example"], "id");
        assert_eq!(of(&item["get"]["requestBody"]), json!({"id": 7}));
        let page = json!({"count": 0, "next": "https://example.org/", "message": "text", "kind": "a list", "results": [{"id": 7}]});
        assert_eq!(of(&item["get"]["responses"]["200"]), page);
        assert_eq!(item["get"]["responses"]["304"], json!({"description": "The client has it already."}));
    }
}
