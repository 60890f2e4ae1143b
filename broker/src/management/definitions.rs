//! Definitions out and in: queues, exchanges and bindings as one JSON document, in RabbitMQ's format.

use serde_json::{Value, json};

use super::actions;
use super::identity::API_VERSION;
use super::overview::{permissions, user};
use super::queues::{bindings, declared, declared_exchange};
use super::request::{ApiError, ApiResult, Reply, text};
use super::routes::Ends;
use crate::broker::Broker;
use crate::users::check_permissions;

/// Definitions that RabbitMQ has and this broker does not support.
const UNSUPPORTED: [&str; 3] = ["policies", "parameters", "topic_permissions"];
/// Global parameters that RabbitMQ exports by itself and that mean nothing here.
const MEANINGLESS: [&str; 3] = ["internal_cluster_id", "cluster_name", "cluster_tags"];

/// All definitions, or only those of the vhost.
pub(super) fn export(broker: &Broker, vhost: bool) -> Value {
    let mut queues = broker.topology.queues();
    // Those of one connection go with it, and made-up names are made up anew.
    queues.retain(|queue| queue.owner.is_none() && !queue.name.starts_with("amq."));
    queues.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let mut exchanges = broker.topology.exchanges();
    exchanges.retain(|(name, _)| !name.starts_with("amq."));
    exchanges.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let mut bindings = bindings(broker);
    let exported = |name: &str| queues.binary_search_by(|queue| queue.name.as_str().cmp(name)).is_ok();
    bindings.retain(|bound| !bound.source.is_empty() && (!bound.to_queue || exported(&bound.destination)));
    let place = |mut definition: Value| {
        if let (true, Value::Object(fields)) = (vhost, &mut definition) {
            fields.remove("vhost");
        }
        definition
    };
    let mut definitions = json!({
        "bindings": bindings.iter().map(|bound| place(bound.declared())).collect::<Vec<_>>(),
        "exchanges": exchanges
            .iter()
            .map(|(name, exchange)| place(declared_exchange(name, exchange)))
            .collect::<Vec<_>>(),
        "parameters": [],
        "policies": [],
        "queues": queues.iter().map(|queue| place(declared(queue))).collect::<Vec<_>>(),
        "rabbit_version": API_VERSION,
    });
    if !vhost {
        let users = &broker.settings.users;
        definitions["global_parameters"] = json!([]);
        definitions["permissions"] = users.iter().map(permissions).collect();
        definitions["product_name"] = "broker".into();
        definitions["product_version"] = env!("CARGO_PKG_VERSION").into();
        definitions["rabbitmq_version"] = API_VERSION.into();
        definitions["topic_permissions"] = json!([]);
        definitions["users"] = users.iter().map(user).collect();
        definitions["vhosts"] = json!([{ "name": "/" }]);
    }
    definitions
}

/// Declares what `definitions` describe. What they ask for and this broker does not do is refused before anything is
/// done; after that each definition is declared, up to the first that is refused.
pub(super) fn import(broker: &Broker, definitions: &Value) -> ApiResult {
    check(broker, definitions)?;
    for exchange in list(definitions, "exchanges")? {
        let name = text(exchange, "name")?;
        actions::declare_exchange(broker, name, exchange).map_err(|error| about("exchange", name, error))?;
    }
    for queue in list(definitions, "queues")? {
        let name = text(queue, "name")?;
        actions::declare_queue(broker, name, queue).map_err(|error| about("queue", name, error))?;
    }
    for binding in list(definitions, "bindings")? {
        let (source, destination) = (text(binding, "source")?, text(binding, "destination")?);
        let to_queue = text(binding, "destination_type")? == "queue";
        actions::bind(broker, Ends { source, destination, to_queue }, binding)
            .map_err(|error| about("binding of", destination, error))?;
    }
    Ok(Reply::Done)
}

/// The members of a list that need not be there.
fn list<'d>(definitions: &'d Value, name: &str) -> ApiResult<&'d [Value]> {
    match &definitions[name] {
        Value::Null => Ok(&[]),
        Value::Array(list) => Ok(list),
        _ => ApiError::bad(format!("'{name}' must be a list")),
    }
}

fn about(what: &str, name: &str, error: ApiError) -> ApiError {
    match error {
        ApiError::BadRequest(reason) => ApiError::BadRequest(format!("{what} '{name}': {reason}")),
        error => error,
    }
}

fn check(broker: &Broker, definitions: &Value) -> ApiResult<()> {
    for name in UNSUPPORTED {
        if !list(definitions, name)?.is_empty() {
            return ApiError::bad(format!("{name} are not supported"));
        }
    }
    for parameter in list(definitions, "global_parameters")? {
        let name = text(parameter, "name")?;
        if !MEANINGLESS.contains(&name) {
            return ApiError::bad(format!("the global parameter '{name}' is not supported"));
        }
    }
    for vhost in list(definitions, "vhosts")? {
        check_vhost(text(vhost, "name")?)?;
    }
    for kind in ["queues", "exchanges", "bindings"] {
        for definition in list(definitions, kind)? {
            check_vhost(definition["vhost"].as_str().unwrap_or("/"))?;
        }
    }
    for user in list(definitions, "users")? {
        let name = text(user, "name")?;
        if broker.settings.users.get(name).is_none() {
            return ApiError::bad(format!(
                "the user '{name}' is not known: users come from settings, for instance BROKER_USERS_FILE"
            ));
        }
    }
    check_permissions(definitions).map_err(ApiError::BadRequest)
}

fn check_vhost(name: &str) -> ApiResult<()> {
    if name == "/" {
        Ok(())
    } else {
        ApiError::bad(format!("the vhost '{name}': there is the vhost '/' only"))
    }
}
