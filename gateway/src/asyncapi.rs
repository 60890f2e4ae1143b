//! Adds the events of further services to the AsyncAPI document, which describes the gateway's and billing's messages.

use serde_json::{Map, Value};

use crate::openapi::rename_references;

/// The parts of a document whose members have names, and the references to them.
const NAMED: [[&str; 2]; 4] = [
    ["/channels", "#/channels/"],
    ["/operations", "#/operations/"],
    ["/components/messages", "#/components/messages/"],
    ["/components/schemas", "#/components/schemas/"],
];

/// Adds `theirs`, what the service `name` says of its events, under names of its own. An exchange that the document
/// describes already is left as it is.
pub(crate) fn merge(document: &mut Value, name: &str, theirs: &Value) {
    let addresses = |document: &Value| -> Vec<Value> {
        let channels = document["channels"].as_object().into_iter().flatten();
        channels.map(|(_, channel)| channel["address"].clone()).collect()
    };
    let known = addresses(document);
    if addresses(theirs).iter().any(|address| known.contains(address)) {
        return;
    }
    let mut theirs = theirs.clone();
    rename_references(&mut theirs, name, &NAMED.map(|[_, references]| references));
    for [place, _] in NAMED {
        let (Some(ours), Some(Value::Object(theirs))) =
            (document.pointer_mut(place).and_then(Value::as_object_mut), theirs.pointer(place))
        else {
            continue;
        };
        ours.extend(theirs.iter().map(|(member, value)| (format!("{name}.{member}"), value.clone())));
    }
}

/// The exchange of a service and the names of its events, from what it says of them.
pub(crate) fn summary(theirs: &Value) -> (Option<String>, Vec<String>) {
    let first = theirs["channels"].as_object().and_then(|channels| channels.values().next());
    let exchange = first.and_then(|channel| channel["address"].as_str()).map(str::to_owned);
    let messages = theirs["components"]["messages"].as_object();
    (exchange, messages.map(Map::keys).into_iter().flatten().cloned().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_events_of_a_service_get_names_of_its_own() {
        let ours = json!({
            "channels": {"orders": {"address": "billing_queue"}}, "operations": {},
            "components": {"messages": {}, "schemas": {"Room": {"ours": true}}},
        });
        let theirs = json!({
            "channels": {"rooms": {"address": "rooms", "messages": {"made": {"$ref": "#/components/messages/made"}}}},
            "operations": {"publish": {"channel": {"$ref": "#/channels/rooms"}}},
            "components": {
                "messages": {"made": {"payload": {"$ref": "#/components/schemas/Room"}}}, "schemas": {"Room": {}},
            },
        });
        let mut document = ours.clone();
        merge(&mut document, "let", &theirs);
        let merged = json!({
            "channels": {
                "orders": {"address": "billing_queue"},
                "let.rooms": {
                    "address": "rooms", "messages": {"made": {"$ref": "#/components/messages/let.made"}},
                },
            },
            "operations": {"let.publish": {"channel": {"$ref": "#/channels/let.rooms"}}},
            "components": {
                "messages": {"let.made": {"payload": {"$ref": "#/components/schemas/let.Room"}}},
                "schemas": {"Room": {"ours": true}, "let.Room": {}},
            },
        });
        assert_eq!(document, merged);
        merge(&mut document, "again", &theirs);
        assert_eq!(document, merged, "the exchange is described already");
        for strange in [json!(null), json!({"channels": 7}), json!({"components": {"schemas": []}})] {
            let mut document = ours.clone();
            merge(&mut document, "strange", &strange);
            assert_eq!((document, summary(&strange)), (ours.clone(), (None, Vec::new())));
        }
        assert_eq!(summary(&theirs), (Some("rooms".to_owned()), vec!["made".to_owned()]));
    }
}
