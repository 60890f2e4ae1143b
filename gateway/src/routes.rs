//! Which request goes where. No other file knows a path.

use std::sync::Arc;

use crate::edge::{Exchange, Method, Service};
use crate::health::Health;
use crate::orders::Orders;
use crate::proxy::Proxy;
use crate::{Problem, path};

/// Everything a request can be meant for.
pub(crate) struct Routes {
    pub(crate) proxy: Proxy,
    pub(crate) orders: Orders,
    pub(crate) health: Arc<Health>,
}

const READ_ONLY: &str = "GET, HEAD, OPTIONS";
const BILLING: &str = "OPTIONS, POST";
const EVERYTHING: &str = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT";

impl Service for Routes {
    fn serve(&self, exchange: &mut Exchange<'_>) -> Result<(), Problem> {
        let (head, method) = (exchange.head, exchange.head.method());
        if head.target() == b"*" && method == Method::Options {
            return answer_options(exchange, EVERYTHING);
        }
        let target = path::parse(head.target())?;
        match (&*target.path, method) {
            ("/health" | "/ready", Method::Options) => answer_options(exchange, READ_ONLY),
            ("/health", Method::Get | Method::Head) => Health::serve_health(exchange),
            ("/ready", Method::Get | Method::Head) => self.health.serve_ready(exchange),
            ("/health" | "/ready", _) => Err(Problem::MethodNotAllowed { allow: READ_ONLY }),
            ("/api/billing", Method::Options) => answer_options(exchange, BILLING),
            ("/api/billing", Method::Post) => self.orders.serve(exchange),
            ("/api/billing", _) => Err(Problem::MethodNotAllowed { allow: BILLING }),
            (path, _) if is_or_is_under(path, "/api/movies") => {
                // Inventory gets the verbatim target, and must not read anything else in it.
                if !target.is_normal {
                    return Err(path::AMBIGUOUS);
                }
                self.proxy.serve(exchange, target.verbatim)
            }
            _ => Err(Problem::NotFound),
        }
    }
}

fn is_or_is_under(path: &str, route: &str) -> bool {
    path.strip_prefix(route).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn answer_options(exchange: &mut Exchange<'_>, allow: &str) -> Result<(), Problem> {
    exchange.answer_with(204, &[("allow", allow)], b"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_covers_what_is_under_it_and_nothing_else() {
        assert!(is_or_is_under("/api/movies", "/api/movies"));
        assert!(is_or_is_under("/api/movies/1", "/api/movies"));
        assert!(!is_or_is_under("/api/moviesx", "/api/movies"));
        assert!(!is_or_is_under("/api", "/api/movies"));
    }
}
