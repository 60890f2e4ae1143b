//! Routes requests by path and method. No other file knows the gateway's paths; the prefixes of the services are
//! settings.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use edge::{Answered, Method, Refusal, Request, Response, Service, path};

use crate::access::{Access, Resource};
use crate::access_log::AccessLog;
use crate::assets::{self, Asset};
use crate::billing_records::BillingRecords;
use crate::catalogue::{self, Catalogue};
use crate::cors::Cors;
use crate::error::Problem;
use crate::forwarded::TrustedProxies;
use crate::health::Health;
use crate::history::History;
use crate::message_ids;
use crate::metrics::Metrics;
use crate::names::Names;
use crate::orders::Orders;
use crate::proxy::{Conditions, Proxy};
use crate::rates::Rates;
use crate::settings::ServiceSettings;
use crate::status::{self, Status};
use crate::token_table::Role;

/// The handlers of all routes.
pub(crate) struct Routes {
    /// Inventory, then the further services, which are routed by prefix instead of by [`ROUTES`].
    pub(crate) services: Vec<(ServiceSettings, Proxy)>,
    pub(crate) orders: Orders,
    pub(crate) billing_records: BillingRecords,
    pub(crate) health: Health,
    pub(crate) status: Status,
    pub(crate) history: Arc<History>,
    pub(crate) catalogue: Catalogue,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) access_log: AccessLog,
    pub(crate) proxies: TrustedProxies,
    pub(crate) names: Names,
    pub(crate) cors: Cors,
    pub(crate) access: Access,
    /// `None` if clients may ask as much as they like.
    pub(crate) rates: Option<Rates>,
}

/// What handles a route.
#[derive(Clone, Copy)]
enum Endpoint {
    Movies,
    Billing,
    /// What billing has stored, and what it could not: for administrators.
    StoredOrders,
    StoredOrder,
    DeadLetters,
    DeadLetter,
    Health,
    Ready,
    Status,
    History,
    OrderStatus,
    OrderStatusByQuery,
    Services,
    File(&'static Asset),
    OpenApi,
    Assets,
}

impl Endpoint {
    /// What the endpoint gives access to; `segment` is the one in braces, empty if the template has none.
    fn resource(self, segment: &str) -> Resource {
        match self {
            Self::Movies if segment.is_empty() => Resource::Collection,
            Self::Movies => Resource::Record,
            Self::Billing | Self::OrderStatus | Self::OrderStatusByQuery => Resource::Orders,
            Self::StoredOrders | Self::StoredOrder | Self::DeadLetters | Self::DeadLetter => {
                Resource::Operations
            }
            Self::Status | Self::History | Self::Services => Resource::Operations,
            Self::Health | Self::Ready | Self::File(_) | Self::OpenApi | Self::Assets => Resource::Public,
        }
    }
}

/// A path and its handler.
struct Route {
    /// The path; a last segment in braces stands for any text.
    template: &'static str,
    /// The methods, as the value of `Allow`. For passed-on requests, the service decides.
    allow: &'static str,
    endpoint: Endpoint,
}

const READ_ONLY: &str = "GET, HEAD, OPTIONS";
const EVERYTHING: &str = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT";

/// All routes. The OpenAPI document describes exactly these; a test compares the two.
static ROUTES: [Route; OTHER] = [
    route("/api/movies", "GET, HEAD, POST, DELETE, OPTIONS", Endpoint::Movies),
    route("/api/movies/{id}", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS", Endpoint::Movies),
    route("/api/billing", "OPTIONS, POST", Endpoint::Billing),
    route("/api/orders", READ_ONLY, Endpoint::StoredOrders),
    route("/api/orders/{message_id}", READ_ONLY, Endpoint::StoredOrder),
    route("/api/dead-letters", READ_ONLY, Endpoint::DeadLetters),
    route("/api/dead-letters/{id}", "DELETE, OPTIONS, POST", Endpoint::DeadLetter),
    route("/api/status", READ_ONLY, Endpoint::Status),
    route("/api/status/history", READ_ONLY, Endpoint::History),
    route("/api/status/orders", READ_ONLY, Endpoint::OrderStatusByQuery),
    route("/api/status/orders/{message_id}", READ_ONLY, Endpoint::OrderStatus),
    route("/api/services", READ_ONLY, Endpoint::Services),
    route("/health", READ_ONLY, Endpoint::Health),
    route("/ready", READ_ONLY, Endpoint::Ready),
    route("/", READ_ONLY, Endpoint::File(&assets::CONSOLE_HTML)),
    route("/docs", READ_ONLY, Endpoint::File(&assets::DOCS_HTML)),
    route("/openapi.json", READ_ONLY, Endpoint::OpenApi),
    route("/openapi.yaml", READ_ONLY, Endpoint::File(&assets::OPENAPI_YAML)),
    route("/assets/{name}", READ_ONLY, Endpoint::Assets),
];

/// How many of [`ROUTES`], from the first one on, lead to inventory.
const MOVIE_ROUTES: usize = 2;
/// The number of routes; also the metrics index of requests without a route. The further services follow.
const OTHER: usize = 19;

/// Where a service's routes are among the [`labels`]; the services count from inventory, which is 0.
pub(crate) fn labels_of(service: usize) -> Range<usize> {
    if service == 0 { 0..MOVIE_ROUTES } else { OTHER + service..OTHER + service + 1 }
}

/// The service whose route has this position among the [`labels`]; `None` for the gateway's own.
fn service_of(label: usize) -> Option<usize> {
    if label < MOVIE_ROUTES { Some(0) } else { label.checked_sub(OTHER).filter(|service| *service > 0) }
}

/// The labels of the routes in metrics: [`ROUTES`] in order, `other`, then the prefixes of the further services. They
/// live as long as the process.
pub(crate) fn labels(services: &[ServiceSettings]) -> &'static [&'static str] {
    let routes = ROUTES.iter().map(|route| route.template).chain(["other"]);
    let prefixes = services[1..].iter().map(|service| &*service.prefix.clone().leak());
    routes.chain(prefixes).collect::<Vec<_>>().leak()
}

/// Refuses a further service whose prefix overlaps with the gateway's own paths.
pub(crate) fn check_prefixes(services: &[ServiceSettings]) -> Result<(), foundation::Error> {
    for service in &services[1..] {
        let taken = ROUTES.iter().map(Route::base).find(|base| {
            let below = service.prefix.strip_prefix(base);
            service.has(base) || (!base.is_empty() && below.is_some_and(|rest| rest.starts_with('/')))
        });
        if let Some(base) = taken {
            let text =
                format!("the prefix of {} overlaps with {base}, which is the gateway's own", service.name);
            return Err(foundation::Error::setting(service.variable, text));
        }
    }
    Ok(())
}

const fn route(template: &'static str, allow: &'static str, endpoint: Endpoint) -> Route {
    Route { template, allow, endpoint }
}

impl Route {
    /// The text of the segment in braces, empty if the template has none; `None` if the path does not match.
    fn matches<'p>(&self, path: &'p str) -> Option<&'p str> {
        match self.template.split_once('{') {
            None => (path == self.template).then_some(""),
            // Further slashes are refused by the handler that reads the segment.
            Some((parent, _)) => path.strip_prefix(parent).filter(|segment| !segment.is_empty()),
        }
    }

    /// The fixed part of the template, without a trailing slash.
    fn base(&self) -> &'static str {
        self.template.split('{').next().unwrap_or_default().trim_end_matches('/')
    }

    fn allows(&self, method_name: &str) -> bool {
        self.allow.split(", ").any(|name| name == method_name)
    }
}

impl Service for Routes {
    fn serve(&self, request: &mut Request<'_>, response: &mut Response<'_>) -> Result<(), Refusal> {
        let in_flight = self.metrics.http.begin();
        let mut route = OTHER;
        let result = self.dispatch(request, response, &mut route);
        let status = match &result {
            Err(problem) if !response.is_sent() => problem.status(),
            _ => response.status(),
        };
        in_flight.answered(route, request.method_name(), status);
        if status >= 500 {
            self.metrics.failures.count(status, service_of(route), result.as_ref().err());
        }
        result.or_else(|problem| problem.answer(request, response))
    }

    fn refused(&self, refusal: &Refusal) {
        self.metrics.http.record(OTHER, "other", refusal.status(), Duration::ZERO);
        self.metrics.failures.count_refused(refusal);
    }

    fn answered(&self, answered: &Answered<'_>) {
        self.access_log.write(answered);
    }
}

impl Routes {
    /// Answers a request; sets `taken` to its index in the metrics.
    fn dispatch(
        &self,
        request: &mut Request<'_>,
        response: &mut Response<'_>,
        taken: &mut usize,
    ) -> Result<(), Problem> {
        let method = request.method();
        self.proxies.identify(request);
        self.names.check(request)?;
        if self.cors.serve(request, response)? {
            return Ok(());
        }
        // Whoever tries tokens is charged for it, by address.
        let role = self.access.authenticate(request);
        if let Some(rates) = &self.rates {
            let is_write = !matches!(method, Method::Get | Method::Head | Method::Options);
            rates.charge(request.client(), is_write, response)?;
        }
        let role = role?;
        if request.target() == b"*" && method == Method::Options {
            return Ok(answer_options(response, EVERYTHING)?);
        }
        let target = path::parse(request.target())?;
        let found = ROUTES.iter().enumerate().find_map(|(index, route)| {
            let segment = route.matches(&target.path)?;
            Some((index, route, segment))
        });
        let Some((index, route, segment)) = found else {
            let mut further = self.services.iter().enumerate().skip(1);
            let Some((index, (service, _))) = further.find(|(_, (service, _))| service.has(&target.path))
            else {
                return Err(Problem::NotFound);
            };
            *taken = labels_of(index).start;
            self.access.authorise(role, resource_below(&service.prefix, &target.path), method)?;
            return self.pass_on(index, request, response, target.verbatim, EVERYTHING);
        };
        *taken = index;
        self.access.authorise(role, route.endpoint.resource(segment), method)?;
        match route.endpoint {
            // An unknown file is 404 for every method.
            Endpoint::Assets if assets::find(segment).is_none() => return Err(Problem::NotFound),
            Endpoint::OrderStatus | Endpoint::StoredOrder if !message_ids::fits_path(segment) => {
                return Err(Problem::FieldInvalid(
                    "the message id must be 1 to 193 characters that need no percent-encoding in a path; ask for \
                     others with /api/status/orders?message_id=",
                ));
            }
            Endpoint::Movies => return self.pass_on(0, request, response, target.verbatim, route.allow),
            Endpoint::Billing if method == Method::Post => return self.orders.serve(request, response),
            _ if !route.allows(request.method_name()) => {
                return Err(Problem::MethodNotAllowed { allow: route.allow });
            }
            _ => {}
        }
        let answered = match route.endpoint {
            _ if method == Method::Options => answer_options(response, route.allow),
            Endpoint::StoredOrders => return self.billing_records.serve_orders(response, target.query),
            Endpoint::StoredOrder => return self.billing_records.serve_order(response, segment),
            Endpoint::DeadLetters => return self.billing_records.serve_dead_letters(response, target.query),
            Endpoint::DeadLetter if method == Method::Post => {
                return self.billing_records.requeue(response, segment);
            }
            Endpoint::DeadLetter => return self.billing_records.discard(response, segment),
            Endpoint::Health => Health::serve_health(response),
            Endpoint::Ready => self.health.serve_ready(request, response),
            Endpoint::Status => self.status.serve(response),
            Endpoint::History => {
                let answer = self.history.answer(target.query)?;
                response.send_json(200, &[("cache-control", "no-store")], answer.as_bytes())
            }
            Endpoint::OrderStatus => {
                return self.serve_order_status(role, request, response, segment);
            }
            Endpoint::OrderStatusByQuery => {
                let id = status::message_id_of(target.query).unwrap_or_default();
                return self.serve_order_status(role, request, response, &id);
            }
            Endpoint::Services => self.catalogue.serve(response),
            Endpoint::File(file) => file.serve(request, response),
            Endpoint::OpenApi => self.catalogue.serve_openapi(request, response),
            Endpoint::Assets if segment == catalogue::ASYNCAPI_NAME => {
                self.catalogue.serve_asyncapi(request, response)
            }
            Endpoint::Assets => assets::find(segment).ok_or(Problem::NotFound)?.serve(request, response),
            // All methods of these were answered above.
            Endpoint::Movies | Endpoint::Billing => Err(Refusal::Internal("a method has no handler")),
        };
        Ok(answered?)
    }

    /// Tells what has become of the order that the client means by `id`.
    fn serve_order_status(
        &self,
        role: Option<Role>,
        request: &Request<'_>,
        response: &mut Response<'_>,
        id: &str,
    ) -> Result<(), Problem> {
        let ids = message_ids::asked_for(request.client(), self.access.may_see_all(role), id.as_bytes());
        if ids.is_empty() {
            return Err(Problem::FieldInvalid(
                "message_id must be given once: an Idempotency-Key of 1 to 128 visible ASCII characters, or the \
                 message_id of an answer",
            ));
        }
        Ok(self.status.serve_order(response, &ids)?)
    }

    /// Passes a request on to a service, which decides about its methods. Only CONNECT and TRACE are refused here,
    /// since they concern proxies (RFC 9110 §9.3.6 and §9.3.8).
    fn pass_on(
        &self,
        service: usize,
        request: &mut Request<'_>,
        response: &mut Response<'_>,
        target: &[u8],
        allow: &'static str,
    ) -> Result<(), Problem> {
        if matches!(request.method_name(), "CONNECT" | "TRACE") {
            return Err(Problem::MethodNotAllowed { allow });
        }
        let conditions = Conditions {
            scheme: self.proxies.scheme(request),
            own_cors: self.cors.is_on(),
            rates: self.rates.as_ref(),
        };
        self.services[service].1.serve(request, response, target, conditions)
    }
}

/// What a path of a further service gives access to. Only the service knows which of its paths stand for many records, so
/// a single record is what is one for sure: the last segment is a number or a UUID.
fn resource_below(prefix: &str, path: &str) -> Resource {
    let last = path.strip_prefix(prefix).and_then(|below| below.rsplit('/').next()).unwrap_or_default();
    let is_number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    if is_number || uuid::Uuid::try_parse(last).is_ok() { Resource::Record } else { Resource::Collection }
}

fn answer_options(response: &mut Response<'_>, allow: &str) -> Result<(), Refusal> {
    response.send(204, &[("allow", allow)], b"")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn template(path: &str) -> Option<&'static str> {
        ROUTES.iter().find(|route| route.matches(path).is_some()).map(|route| route.template)
    }

    #[test]
    fn a_route_covers_its_path_and_nothing_else() {
        assert_eq!(template("/"), Some("/"));
        assert_eq!(template("/api/movies"), Some("/api/movies"));
        assert_eq!(template("/api/movies/1"), Some("/api/movies/{id}"));
        assert_eq!(template("/assets/icon.svg"), Some("/assets/{name}"));
        let of_inventory = ROUTES[labels_of(0)].iter().map(|route| route.template);
        assert_eq!(of_inventory.collect::<Vec<_>>(), ["/api/movies", "/api/movies/{id}"]);
        for other in ["/api/moviesx", "/api", "/docs/x", "/assets", "/metricsx", "/api/status/order"] {
            assert_eq!(template(other), None, "{other}");
        }
    }

    #[test]
    fn only_a_number_or_a_uuid_names_a_single_record_below_a_prefix() {
        let resource = |path: &str| resource_below("/api/pizzas", path);
        for path in ["/7", "/toppings/7", "/7/toppings/8", "/2f1c7f0e-0c9b-4f3b-9a53-5f7a4c0d8e11"] {
            assert_eq!(resource(&format!("/api/pizzas{path}")), Resource::Record, "{path}");
        }
        for path in ["", "/toppings", "/7/toppings", "/7a", "/-7", "/2f1c7f0e-0c9b"] {
            assert_eq!(resource(&format!("/api/pizzas{path}")), Resource::Collection, "{path}");
        }
        // A prefix may end with a number.
        assert_eq!(resource_below("/v/2", "/v/2"), Resource::Collection);
    }

    #[test]
    fn a_service_cannot_have_a_path_of_the_gateway() {
        use crate::settings::{Settings, tests::environment};
        for (prefix, fine) in [
            ("/todo", true),
            ("/api/todo", true),
            ("/healthy", true),
            ("/health", false),
            ("/health/x", false),
            ("/docs", false),
            ("/assets/x", false),
            ("/api/billing", false),
            ("/api/status/x", false),
        ] {
            let value = format!("todo={prefix}");
            let variables = [("GATEWAY_SERVICES", value.as_str()), ("TODO_URL", "http://a:1")];
            let services = Settings::read(&environment(variables)).unwrap().services;
            let checked = check_prefixes(&services);
            assert_eq!(checked.is_ok(), fine, "{prefix}: {checked:?}");
            assert!(fine || checked.unwrap_err().to_string().contains("GATEWAY_SERVICES"));
            assert_eq!(labels(&services)[OTHER..], ["other", prefix]);
            assert_eq!(labels(&services)[labels_of(1)], [prefix]);
            assert_eq!([0, 1, 2, OTHER, OTHER + 1].map(service_of), [Some(0), Some(0), None, None, Some(1)]);
        }
    }

    #[test]
    fn the_openapi_document_has_every_route_with_its_methods_and_no_other() {
        let methods = |names: Vec<String>| {
            let mut names: Vec<_> = names.iter().map(|name| name.to_uppercase()).collect();
            names.sort_unstable();
            names
        };
        let document = assets::openapi().unwrap();
        let described: BTreeMap<String, Vec<String>> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(path, item)| {
                let members = item.as_object().unwrap().keys().cloned();
                let mut names: Vec<_> = members.filter(|name| name != "parameters").collect();
                // The document says this once for all paths.
                names.push("options".to_owned());
                if names.iter().any(|name| name == "get") {
                    names.push("head".to_owned());
                }
                (path.clone(), methods(names))
            })
            .collect();
        let routed: BTreeMap<_, _> = ROUTES
            .iter()
            .map(|route| {
                (route.template.to_owned(), methods(route.allow.split(", ").map(str::to_owned).collect()))
            })
            .collect();
        assert_eq!(described, routed);
    }

    #[test]
    fn the_openapi_document_has_the_version_of_the_program_and_every_code() {
        let document = assets::openapi().unwrap();
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let about = document["info"]["description"].as_str().unwrap();
        let mut described: Vec<_> =
            about.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        described.sort_unstable();
        let own = ["dead_letter_not_found", "movie_not_found", "order_not_found"];
        let mut known: Vec<_> = foundation::codes::ALL.iter().copied().chain(own).collect();
        known.sort_unstable();
        assert_eq!(described, known);
    }
}
