//! Serves one request: finds its route, calls its handler, answers problems, counts and logs.

use std::sync::Arc;
use std::time::Duration;

use database::{DatabaseSettings, Failure};
use edge::{Connections, Refusal, Request, Response};
use foundation::listener::{Answer, Dependency, Inspect, PageRequest, Pages};
use foundation::metrics::{Counter, Exposition, HttpMetrics, resident_bytes};
use foundation::{ServiceToken, Warnings, codes, service_token};

use crate::handlers::Handler;
use crate::problem::{Problem, Unserved};
use crate::resource::{Errors, Operation};
use crate::routes::{Meaning, RouteMatch, Routes};
use crate::store::Store;
use crate::table::Table;

/// How long the private listener waits for PostgreSQL's answer, and how long /ready does.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
const READY_TIMEOUT: Duration = Duration::from_millis(750);

/// Requests that failed, of which strangers can send any number.
static FAILED: Warnings = Warnings::new("requests that failed");

/// Serves the requests of one service.
pub(crate) struct Resources {
    pub tables: Arc<[Table]>,
    pub routes: Routes,
    pub store: Store,
    pub body_max_bytes: u64,
    /// What requests must show, so that only a gateway is served; everybody is if there is none.
    pub service_token: Option<ServiceToken>,
    pub connections: Connections,
    /// The OpenAPI document, as JSON.
    pub document: Vec<u8>,
    pub metrics: Metrics,
    /// What it says of itself to the gateway, with its database's version.
    pub version: &'static str,
    pub database: DatabaseSettings,
    /// A part of the service that the private listener shows as well.
    pub beside: Option<Arc<dyn Inspect>>,
}

/// The metrics of a service.
pub(crate) struct Metrics {
    http: HttpMetrics,
    /// Requests that failed because PostgreSQL was unavailable (503), because the outcome is unknown (504), or because
    /// of a bug (500).
    unavailable: Counter,
    timeouts: Counter,
    failures: Counter,
}

impl Metrics {
    pub(crate) fn new(labels: &'static [&'static str]) -> Self {
        Self {
            http: HttpMetrics::new(labels),
            unavailable: Counter::default(),
            timeouts: Counter::default(),
            failures: Counter::default(),
        }
    }
}

impl edge::Service for Resources {
    fn serve(&self, request: &mut Request<'_>, response: &mut Response<'_>) -> Result<(), Refusal> {
        let in_flight = self.metrics.http.begin();
        let method = request.method_name();
        if !self.is_from_gateway(request) {
            in_flight.answered(self.routes.other, method, 401);
            let problem = Problem::new(401, codes::GATEWAY_ONLY, "Only the gateway may ask this service");
            return problem.with("www-authenticate", service_token::SCHEME).send(Errors::Plain, response);
        }
        let target = match edge::path::parse(request.target()) {
            Ok(target) => target,
            Err(refusal) => {
                in_flight.answered(self.routes.other, method, refusal.status());
                return Err(refusal);
            }
        };
        let found = self.routes.find(&self.tables, method, &target.path);
        // `parse` has checked that it is ASCII.
        let query = std::str::from_utf8(target.query).unwrap_or_default();
        let label = found.label;
        let errors = self.routes.errors(&self.tables, label);
        let served = self.answer(found, query, request, response);
        let refusal = match served {
            Ok(()) => None,
            Err(Unserved::Problem(problem)) => {
                self.note(request, &target.path, &problem);
                // A list that was begun is left visibly incomplete.
                if response.is_sent() { None } else { problem.send(errors, response).err() }
            }
            Err(Unserved::Refusal(refusal)) => Some(refusal),
        };
        let status = match &refusal {
            Some(refusal) if !response.is_sent() => refusal.status(),
            _ => response.status(),
        };
        in_flight.answered(label, method, status);
        refusal.map_or(Ok(()), Err)
    }

    fn refused(&self, refusal: &Refusal) {
        self.metrics.http.record(self.routes.other, "other", refusal.status(), Duration::ZERO);
    }
}

impl Resources {
    fn is_from_gateway(&self, request: &Request<'_>) -> bool {
        let Some(token) = &self.service_token else { return true };
        request.field(service_token::FIELD).is_some_and(|presented| token.is(presented))
    }

    fn answer(
        &self,
        found: RouteMatch<'_>,
        query: &str,
        request: &mut Request<'_>,
        response: &mut Response<'_>,
    ) -> Result<(), Unserved> {
        match found.meaning {
            Meaning::Operation { table, operation, key } => {
                let handler = self.handler(table);
                let key = key.unwrap_or_default();
                match operation {
                    Operation::List => handler.list(query, request, response),
                    Operation::Create => handler.create(request, response),
                    Operation::DeleteAll => handler.delete_all(response),
                    Operation::Read => handler.read(key, request, response),
                    Operation::Update => handler.update(key, request, response),
                    Operation::Delete => handler.delete(key, request, response),
                }
            }
            Meaning::Action { table, action, key } => {
                self.handler(table).act(action, key, query, request, response)
            }
            Meaning::Health => Ok(response.send_json(200, &[], br#"{"status":"ok"}"#)?),
            Meaning::Ready => self.ready(response),
            Meaning::OpenApi => Ok(response.send_json(200, &[], &self.document)?),
            Meaning::Options(allow) => Ok(response.send(204, &[("allow", allow)], b"")?),
            Meaning::NoMethod(allow) => {
                let problem = Problem::new(405, codes::METHOD_NOT_ALLOWED, "Method not allowed");
                Err(problem.with("allow", allow).into())
            }
            Meaning::NoKey(problem) => Err(Problem::new(400, codes::FIELD_INVALID, problem).into()),
            Meaning::Unknown => Err(Problem::new(404, codes::PATH_NOT_FOUND, "Not found").into()),
        }
    }

    fn handler(&self, table: usize) -> Handler<'_> {
        Handler { store: &self.store, table: &self.tables[table], body_max_bytes: self.body_max_bytes }
    }

    /// Says within the second for which the gateway waits whether PostgreSQL works: else the gateway would take a database
    /// that stands still for a service that does.
    fn ready(&self, response: &mut Response<'_>) -> Result<(), Unserved> {
        match self.store.ready(READY_TIMEOUT) {
            Ok(()) => {
                let told = serde_json::json!({
                    "status": "ready",
                    "version": self.version,
                    "memory_bytes": resident_bytes(),
                    "postgresql_version": self.database.server_version(),
                });
                Ok(response.send_json(200, &[], told.to_string().as_bytes())?)
            }
            Err(failure) => {
                let error = match failure {
                    Failure::TimedOut | Failure::Overloaded => "PostgreSQL does not answer in time",
                    _ => "PostgreSQL is not reachable",
                };
                let mut problem = Problem::new(503, codes::NOT_READY, error).with("retry-after", "1");
                problem.cause = Some(failure.to_string());
                Err(problem.into())
            }
        }
    }

    /// Counts and logs a problem with PostgreSQL; no other problem has a cause.
    fn note(&self, request: &Request<'_>, path: &str, problem: &Problem) {
        let Some(cause) = &problem.cause else { return };
        match problem.status {
            503 => self.metrics.unavailable.increment(),
            504 => self.metrics.timeouts.increment(),
            _ => self.metrics.failures.increment(),
        }
        let (id, method, status) = (request.request_id(), request.method_name(), problem.status);
        FAILED.warn(format_args!("request_id={id} {method} {path} {status}: {cause}"));
    }
}

/// The service's OpenAPI document.
impl Pages for Resources {
    fn answer(&self, request: &mut PageRequest<'_>) -> Answer {
        match (request.method(), request.target()) {
            ("GET" | "HEAD", "/openapi.json") => Answer::json(200, String::from_utf8_lossy(&self.document)),
            (_, "/openapi.json") => {
                let error =
                    serde_json::json!({"error": "method not allowed", "code": codes::METHOD_NOT_ALLOWED});
                Answer::json(405, error.to_string()).with("Allow", "GET, HEAD")
            }
            _ => Answer::json(
                404,
                serde_json::json!({"error": "not found", "code": codes::PATH_NOT_FOUND}).to_string(),
            ),
        }
    }
}

impl Inspect for Resources {
    fn dependencies(&self) -> Vec<Dependency> {
        let problem = self.store.ready(PROBE_TIMEOUT).err().map(|failure| failure.to_string());
        let mut dependencies = vec![Dependency { name: "postgresql", problem }];
        dependencies.extend(self.beside.iter().flat_map(|beside| beside.dependencies()));
        dependencies
    }

    fn pages(&self) -> Option<&dyn Pages> {
        Some(self)
    }

    fn metrics(&self, text: &mut Exposition) {
        self.metrics.http.write(text);
        let name = "database_errors_total";
        text.family(name, "counter", "Requests that PostgreSQL did not serve, by kind.");
        text.sample(name, &[("kind", "unavailable")], self.metrics.unavailable.get());
        text.sample(name, &[("kind", "timeout")], self.metrics.timeouts.get());
        text.sample(name, &[("kind", "internal")], self.metrics.failures.get());
        self.store.write_metrics(text);
        self.connections.write(text);
        if let Some(beside) = &self.beside {
            beside.metrics(text);
        }
    }
}
