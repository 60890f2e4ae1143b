//! The events of a service as a part of an AsyncAPI document (version 3.0): channels, operations and components. The
//! service's OpenAPI document carries it, so that whoever gathers documents asks once.

use serde_json::{Map, Value, json};

use crate::field::Field;
use crate::schema::{field_schema, object, schema, schema_name};
use crate::table::Table;

/// The part for the events of these tables, which have one exchange; `None` if there are no events.
pub(crate) fn events(tables: &[Table]) -> Option<Value> {
    let emitting = || tables.iter().filter(|table| !table.resource.emits.is_empty());
    let exchange = emitting().next()?.resource.exchange;
    let (mut messages, mut schemas) = (Map::new(), Map::new());
    for table in emitting() {
        schemas.insert(schema_name(table.resource.name), object(table.columns.iter(), |_| true));
        for event in table.resource.emits {
            messages.insert((*event).to_owned(), message(table, event));
        }
    }
    let references: Map<_, _> = messages
        .keys()
        .map(|name| (name.clone(), json!({"$ref": format!("#/components/messages/{name}")})))
        .collect();
    let exchange_is = json!({"name": exchange, "type": "topic", "durable": true, "autoDelete": false});
    Some(json!({
        "channels": {
            exchange: {
                "address": exchange,
                "description": "A topic exchange; the routing key is the name of the event. An event arrives at least \
                                once, and those of one record in their order; a repetition has the same message_id.",
                "messages": references,
                "bindings": {
                    "amqp": {"is": "routingKey", "exchange": exchange_is, "bindingVersion": "0.3.0"},
                },
            },
        },
        "operations": {
            "publishEvents": {
                "action": "send",
                "channel": {"$ref": format!("#/channels/{exchange}")},
                "summary": "The service publishes the changes of its records.",
                "bindings": {"amqp": {"deliveryMode": 2, "mandatory": false, "ack": true, "bindingVersion": "0.3.0"}},
            },
        },
        "components": {"messages": messages, "schemas": schemas},
    }))
}

fn message(table: &Table, event: &str) -> Value {
    let occasion = event.split('.').nth(1).unwrap_or_default();
    let payload = if occasion == "deleted" {
        let key: &Field = &table.columns[0];
        json!({"type": "object", "required": [key.name], "properties": {key.name: field_schema(key)}})
    } else {
        schema(&schema_name(table.resource.name))
    };
    json!({
        "name": event,
        "title": format!("{}, {occasion}", table.capitalised()),
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "required": ["schema"],
            "properties": {"schema": {"type": "string", "const": event}},
        },
        "payload": payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Resource;

    static ROOMS: Resource = Resource {
        emits: &["room.created.1", "room.deleted.2"],
        ..Resource::new("/room", ["room", "rooms"], "rooms", &[Field::text("name").required()])
    };
    static QUIET: Resource = Resource::new("/quiet", ["quiet", "quiets"], "quiets", &[]);

    #[test]
    fn each_event_is_a_message_with_the_schema_of_its_body() {
        assert_eq!(events(&[Table::new(0, &QUIET).unwrap()]), None);
        let tables = [Table::new(0, &QUIET).unwrap(), Table::new(1, &ROOMS).unwrap()];
        let part = events(&tables).unwrap();
        let channel = &part["channels"]["rooms"];
        assert_eq!(channel["address"], "rooms");
        let messages = &part["components"]["messages"];
        assert_eq!(messages["room.created.1"]["payload"]["$ref"], "#/components/schemas/Room");
        assert_eq!(messages["room.deleted.2"]["payload"]["required"], json!(["id"]));
        for name in ROOMS.emits {
            let reference = channel["messages"][name]["$ref"].as_str().unwrap();
            assert_eq!(reference, format!("#/components/messages/{name}"));
            assert_eq!(messages[name]["headers"]["properties"]["schema"]["const"], *name);
        }
        let schemas = &part["components"]["schemas"];
        assert_eq!(schemas["Room"]["required"], json!(["id", "name"]));
        assert!(schemas.get("Quiet").is_none(), "it has no events");
    }
}
