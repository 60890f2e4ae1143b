//! Every setting of the gateway, with its default. Nothing else in this crate reads the environment.

use std::time::Duration;

use amqp::AmqpSettings;
use edge::EdgeSettings;
use foundation::Environment;
use ureq::http::uri::{Authority, Uri};

use crate::error::Error;

/// The settings of one gateway.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `GATEWAY_HOST` (0.0.0.0): the address to listen on.
    pub host: String,
    /// `GATEWAY_PORT` (3000): the port to listen on; 0 lets the operating system choose.
    pub port: u16,
    /// `GATEWAY_…`: what a client may ask of the edge; see [`EdgeSettings::read`].
    pub edge: EdgeSettings,
    /// How inventory is reached.
    pub upstream: UpstreamSettings,
    /// What a body may weigh.
    pub bodies: BodySettings,
    /// Where orders go.
    pub queue: QueueSettings,
}

/// The limits on request bodies, in bytes; a larger body is answered 413.
#[derive(Clone, Copy, Debug)]
pub struct BodySettings {
    /// `GATEWAY_BILLING_BODY_MAX_BYTES` (1048576): a body for /api/billing.
    pub billing_max_bytes: u64,
    /// `GATEWAY_MOVIES_BODY_MAX_BYTES` (10485760): a body for /api/movies.
    pub movies_max_bytes: u64,
}

/// Where orders go, and how long that may take.
#[derive(Clone, Debug)]
pub struct QueueSettings {
    /// `RABBITMQ_…`: the broker; see [`AmqpSettings::read`].
    pub amqp: AmqpSettings,
    /// `BILLING_QUEUE` (`billing_queue`): the name of the queue.
    pub queue: String,
    /// `GATEWAY_CONFIRM_TIMEOUT_MS` (5000): how long the broker may take to confirm an order.
    pub confirm_timeout: Duration,
}

/// Where inventory is, and how long it may take.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    /// `INVENTORY_URL`: base addresses, separated by commas. By default one, made of `INVENTORY_HOST` (127.0.0.1)
    /// and `INVENTORY_PORT` (8080).
    pub authorities: Vec<Authority>,
    /// `GATEWAY_UPSTREAM_CONNECT_TIMEOUT_MS` (2000): to resolve the name and connect.
    pub connect_timeout: Duration,
    /// `GATEWAY_UPSTREAM_HEAD_TIMEOUT_MS` (10000): from the end of the request to the end of the response's head.
    pub head_timeout: Duration,
    /// `GATEWAY_UPSTREAM_BODY_TIMEOUT_MS` (15000): how long a body may stand still, in either direction.
    pub body_timeout: Duration,
    /// `GATEWAY_UPSTREAM_IDLE_TIMEOUT_MS` (30000): how long an unused connection is kept.
    pub idle_timeout: Duration,
    /// `GATEWAY_UPSTREAM_MAX_IDLE` (128): how many unused connections are kept.
    pub max_idle: usize,
    /// `GATEWAY_READY_TIMEOUT_MS` (1000): how long inventory may take to answer a readiness probe.
    pub ready_timeout: Duration,
}

impl Settings {
    /// Reads all settings; the error names the variable that is missing or malformed.
    pub fn read(environment: &Environment) -> Result<Self, Error> {
        Ok(Self {
            host: environment.text("GATEWAY_HOST", "0.0.0.0"),
            port: environment.port("GATEWAY_PORT", 3000)?,
            edge: EdgeSettings::read(environment, "GATEWAY")?,
            upstream: UpstreamSettings::read(environment)?,
            bodies: BodySettings {
                billing_max_bytes: environment.number(
                    "GATEWAY_BILLING_BODY_MAX_BYTES",
                    1 << 20,
                    1..=64 << 20,
                )?,
                movies_max_bytes: environment.number(
                    "GATEWAY_MOVIES_BODY_MAX_BYTES",
                    10 << 20,
                    1..=1 << 40,
                )?,
            },
            queue: QueueSettings {
                amqp: AmqpSettings::read(environment)?,
                queue: environment.text("BILLING_QUEUE", "billing_queue"),
                confirm_timeout: environment.millis("GATEWAY_CONFIRM_TIMEOUT_MS", 5_000)?,
            },
        })
    }
}

impl UpstreamSettings {
    fn read(environment: &Environment) -> Result<Self, Error> {
        let host = environment.text("INVENTORY_HOST", "127.0.0.1");
        let port = environment.port("INVENTORY_PORT", 8080)?;
        let default = if host.contains(':') && !host.starts_with('[') {
            format!("http://[{host}]:{port}")
        } else {
            format!("http://{host}:{port}")
        };
        let authorities = environment
            .list("INVENTORY_URL", &default)?
            .iter()
            .map(|url| authority(url))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            authorities,
            connect_timeout: environment.millis("GATEWAY_UPSTREAM_CONNECT_TIMEOUT_MS", 2_000)?,
            head_timeout: environment.millis("GATEWAY_UPSTREAM_HEAD_TIMEOUT_MS", 10_000)?,
            body_timeout: environment.millis("GATEWAY_UPSTREAM_BODY_TIMEOUT_MS", 15_000)?,
            idle_timeout: environment.millis("GATEWAY_UPSTREAM_IDLE_TIMEOUT_MS", 30_000)?,
            max_idle: environment.size("GATEWAY_UPSTREAM_MAX_IDLE", 128, 65_536)?,
            ready_timeout: environment.millis("GATEWAY_READY_TIMEOUT_MS", 1_000)?,
        })
    }
}

/// The host and port of a base address such as `http://inventory-vm:8080`. Paths are passed on as they came, so a
/// base path would have nowhere to go.
fn authority(url: &str) -> Result<Authority, foundation::Error> {
    let problem = |text: &str| foundation::Error::setting("INVENTORY_URL", text);
    let uri: Uri = url.parse().map_err(|_| problem("has a member that is no URL"))?;
    if uri.scheme_str() != Some("http") {
        return Err(problem("every member must begin with http://"));
    }
    if uri.path() != "/" || uri.query().is_some() {
        return Err(problem("a member must not have a path"));
    }
    match uri.into_parts().authority {
        Some(authority) if !authority.as_str().contains('@') => Ok(authority),
        _ => Err(problem("a member must be http://HOST:PORT")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The given variables beside those that have no default.
    pub(crate) fn environment<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Environment {
        let broker = [("RABBITMQ_USER", "user"), ("RABBITMQ_PASSWORD", "dummy")];
        Environment::from_pairs(broker.into_iter().chain(pairs))
    }

    fn urls(value: &str) -> Result<Vec<String>, String> {
        let settings = Settings::read(&environment([("INVENTORY_URL", value)])).map_err(|e| e.to_string())?;
        Ok(settings.upstream.authorities.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn without_any_variable_the_documented_defaults_hold() {
        let settings = Settings::read(&environment([])).unwrap();
        assert_eq!((settings.host.as_str(), settings.port), ("0.0.0.0", 3000));
        assert_eq!(settings.edge.max_connections, 1024);
        assert_eq!(settings.edge.head_timeout, Duration::from_secs(10));
        assert_eq!(settings.upstream.authorities, ["127.0.0.1:8080"]);
        assert_eq!(settings.bodies.movies_max_bytes, 10 * 1024 * 1024);
    }

    #[test]
    fn inventory_urls_are_a_list_of_plain_http_addresses() {
        assert_eq!(urls("http://a:1, http://[::1]:2/").unwrap(), ["a:1", "[::1]:2"]);
        for bad in ["a:1", "https://a:1", "http://a:1/base", "http://u:p@a:1", "http://"] {
            let error = urls(bad).unwrap_err();
            assert!(error.contains("INVENTORY_URL"), "{bad}: {error}");
        }
    }

    #[test]
    fn host_and_port_make_the_default_url() {
        let environment = environment([("INVENTORY_HOST", "::1"), ("INVENTORY_PORT", "9")]);
        assert_eq!(Settings::read(&environment).unwrap().upstream.authorities, ["[::1]:9"]);
    }
}
