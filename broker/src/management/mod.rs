//! What the private listener shows of the broker, and lets people change: the part of RabbitMQ's management HTTP API
//! that people and tools use, and figures for Prometheus.
//!
//! `routes` knows the paths, `request` takes requests apart and makes answers; `overview`, `connections` and `queues`
//! show things, `actions`, `messages` and `definitions` change them, with the functions that [`crate::protocol`] calls,
//! so that the rules are the same. Nothing here parses AMQP methods or touches the log.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use foundation::listener::{Answer, BodyError, Dependency, Inspect, PageRequest, Pages};
use foundation::metrics::Exposition;
use serde_json::{Value, json};

use self::listing::{list, show};
use self::rates::Rates;
use self::request::{ApiError, ApiResult, Reply, Target, answer, object};
use self::routes::Route;
use crate::broker::Broker;
use crate::sync::lock;
use crate::users::User;

mod actions;
mod authentication;
mod connections;
mod definitions;
mod identity;
mod listing;
mod messages;
mod metrics;
mod overview;
mod process;
mod properties;
mod queues;
mod rates;
mod request;
mod routes;
mod totals;

/// The longest body. JSON takes several times as much memory while it is read.
const MAX_BODY_BYTES: usize = 2 << 20;

/// The management API of a running broker.
pub(crate) struct Management {
    broker: Arc<Broker>,
    /// Where clients are served.
    listening: Vec<SocketAddr>,
    rates: Rates,
    started: SystemTime,
    /// Held while a request is served, so that the memory that JSON takes is needed once.
    turn: Mutex<()>,
}

impl Management {
    pub(crate) fn new(broker: Arc<Broker>, listening: Vec<SocketAddr>) -> Self {
        Self {
            broker,
            listening,
            rates: Rates::default(),
            started: SystemTime::now(),
            turn: Mutex::default(),
        }
    }

    fn serve(&self, request: &mut PageRequest<'_>) -> ApiResult {
        let Some(target) = Target::parse(request.target()) else {
            return ApiError::bad("the path or the query cannot be decoded");
        };
        let path: Vec<&str> = target.segments.iter().map(String::as_str).collect();
        let ["api", path @ ..] = path.as_slice() else { return Err(ApiError::NotFound) };
        let user = authentication::authenticate(&self.broker, request)?;
        let route = Route::find(path).ok_or(ApiError::NotFound)?;
        let method = match request.method() {
            "HEAD" => "GET".to_owned(),
            method => method.to_owned(),
        };
        if !route.methods().split(", ").any(|allowed| allowed == method) {
            return Err(ApiError::Method(route.methods()));
        }
        if route.is_for_administrators() && !user.is_administrator() {
            return Err(ApiError::NotAuthorized("Not administrator user"));
        }
        let body = match method.as_str() {
            "PUT" | "POST" => read_body(request)?,
            _ => Vec::new(),
        };
        let _turn = lock(&self.turn);
        match method.as_str() {
            "GET" => self.get(route, user, &target),
            "DELETE" => self.delete(route, &target, request.field("X-Reason")),
            _ => self.change(route, user, &object(&body)?),
        }
    }

    fn get(&self, route: Route<'_>, user: &User, target: &Target) -> ApiResult {
        let (broker, rates) = (&*self.broker, &self.rates);
        let users = &broker.settings.users;
        let page = |item| Ok(show(item, target));
        match route {
            Route::Overview => page(overview::overview(broker, rates, user, &self.listening)),
            Route::ClusterName => page(json!({ "name": identity::NODE })),
            Route::Nodes => list(std::iter::once(overview::node(broker, self.started)), target),
            Route::Node(identity::NODE) => page(overview::node(broker, self.started)),
            Route::WhoAmI => page(json!({ "name": user.name, "tags": user.tags })),
            Route::Vhosts => list(std::iter::once(overview::vhost(broker, rates)), target),
            Route::Vhost => page(overview::vhost(broker, rates)),
            Route::Connections => list(connections::all(broker, rates), target),
            Route::Connection(name) => page(connections::one(broker, rates, name)?),
            Route::ConnectionChannels(name) => list(connections::channels(broker, Some(name))?, target),
            Route::Channels => list(connections::channels(broker, None)?, target),
            Route::Channel(name) => page(connections::one_channel(broker, name)?),
            Route::Consumers => list(connections::consumers(broker), target),
            Route::Exchanges => list(queues::exchanges(broker), target),
            Route::Exchange(name) => page(queues::exchange(broker, name)?),
            Route::Queues => list(queues::all(broker, rates), target),
            Route::Queue(name) => page(queues::one(broker, rates, name)?),
            Route::Users => list(users.iter().map(overview::user), target),
            Route::User(name) => page(users.get(name).map(overview::user).ok_or(ApiError::NotFound)?),
            Route::Permissions => list(users.iter().map(overview::permissions), target),
            Route::UserPermissions(name) => {
                let found = users.get(name).ok_or(ApiError::NotFound)?;
                list(std::iter::once(overview::permissions(found)), target)
            }
            Route::UserPermission(name) => {
                page(users.get(name).map(overview::permissions).ok_or(ApiError::NotFound)?)
            }
            Route::Definitions { vhost } => page(definitions::export(broker, vhost)),
            Route::Aliveness => messages::aliveness(broker, user),
            Route::Health(check) => overview::health(broker, check),
            Route::Nothing => Ok(Reply::Json(json!([]))),
            route => self.bindings(route, target),
        }
    }

    /// The pages that list bindings.
    fn bindings(&self, route: Route<'_>, target: &Target) -> ApiResult {
        let broker = &*self.broker;
        let bindings = queues::bindings(broker);
        let found: Vec<_> = match route {
            Route::Bindings => bindings,
            Route::ExchangeBindings { exchange, source } => {
                queues::exchange(broker, exchange)?;
                bindings.into_iter().filter(|bound| bound.is_of_exchange(exchange, source)).collect()
            }
            Route::QueueBindings(name) => {
                let queue = queues::find(broker, name)?;
                bindings
                    .into_iter()
                    .filter(|bound| bound.to_queue && bound.destination == queue.name)
                    .collect()
            }
            Route::BindingsBetween(ends) => {
                bindings.into_iter().filter(|bound| bound.is_between(ends)).collect()
            }
            Route::Binding(ends, key) => {
                let mut between = bindings.iter().filter(|bound| bound.is_between(ends));
                let bound = between.find(|bound| actions::is_named(bound, key));
                return Ok(show(bound.ok_or(ApiError::NotFound)?.show(), target));
            }
            _ => return Err(ApiError::NotFound),
        };
        list(found.iter().map(queues::Bound::show), target)
    }

    fn change(&self, route: Route<'_>, user: &User, body: &Value) -> ApiResult {
        let broker = &*self.broker;
        match route {
            Route::Queue(name) => actions::declare_queue(broker, name, body),
            Route::Exchange(name) => actions::declare_exchange(broker, name, body),
            Route::BindingsBetween(ends) => actions::bind(broker, ends, body),
            Route::Publish(exchange) => messages::publish(broker, user, exchange, body),
            Route::Get(queue) => messages::get(broker, queue, body),
            Route::Definitions { .. } => definitions::import(broker, body),
            route => Err(ApiError::Method(route.methods())),
        }
    }

    fn delete(&self, route: Route<'_>, target: &Target, reason: Option<&str>) -> ApiResult {
        let broker = &*self.broker;
        match route {
            Route::Queue(name) => actions::delete_queue(broker, name, target),
            Route::QueueContents(name) => actions::purge_queue(broker, name),
            Route::Exchange(name) => actions::delete_exchange(broker, name, target),
            Route::Binding(ends, key) => actions::unbind(broker, ends, key),
            Route::Connection(name) => connections::close(broker, name, reason),
            route => Err(ApiError::Method(route.methods())),
        }
    }
}

fn read_body(request: &mut PageRequest<'_>) -> ApiResult<Vec<u8>> {
    request.body(MAX_BODY_BYTES).map_err(|error| match error {
        BodyError::TooLarge => ApiError::TooLarge(MAX_BODY_BYTES),
        BodyError::Incomplete => ApiError::BadRequest("the body did not arrive completely".to_owned()),
    })
}

impl Pages for Management {
    fn answer(&self, request: &mut PageRequest<'_>) -> Answer {
        answer(self.serve(request))
    }
}

impl Inspect for Management {
    fn dependencies(&self) -> Vec<Dependency> {
        let problem = "nearly full: publishers wait until there is room".to_owned();
        vec![Dependency { name: "disk", problem: self.broker.alarm.is_raised().then_some(problem) }]
    }

    fn metrics(&self, text: &mut Exposition) {
        metrics::write(&self.broker, text);
    }

    fn pages(&self) -> Option<&dyn Pages> {
        Some(self)
    }

    fn sample(&self) -> Option<Duration> {
        self.rates.sample(&self.broker);
        Some(rates::INTERVAL)
    }
}
