//! Every setting of the gateway, with its default; `access` has those for who may do what, `profile` those for the
//! catalogue. Nothing else in this crate reads the environment.

mod access;
mod profile;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use amqp::AmqpSettings;
use edge::EdgeSettings;
use foundation::listener::ListenerSettings;
use foundation::{Environment, ServiceToken};
use ureq::http::uri::{Authority, Uri};

use crate::error::Error;
pub use access::{AccessSettings, RateSettings, TokenSettings};
pub use profile::{ProfileSettings, Profiles};

/// The settings of one gateway.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `GATEWAY_HOST` (0.0.0.0): the address to listen on.
    pub host: String,
    /// `GATEWAY_PORT` (3000): the port to listen on; 0 lets the operating system choose.
    pub port: u16,
    /// `PRIVATE_HOST` (127.0.0.1) and `GATEWAY_PRIVATE_PORT` (9301): where `/metrics` and the causes in `/ready` are.
    pub private: ListenerSettings,
    /// `GATEWAY_MAX_CONNECTIONS` (1024), `GATEWAY_MAX_CONNECTIONS_PER_CLIENT` (256) and `GATEWAY_IDLE_TIMEOUT_MS` (60000);
    /// the other limits for clients are the edge's defaults.
    pub edge: EdgeSettings,
    /// The services behind the gateway: inventory, then those of `GATEWAY_SERVICES` in order.
    pub services: Vec<ServiceSettings>,
    /// How they are reached.
    pub upstream: UpstreamSettings,
    /// Who may do what.
    pub access: AccessSettings,
    /// How much of it.
    pub rates: RateSettings,
    /// `GATEWAY_BILLING_BODY_MAX_BYTES` (16384): the largest body of an order, in bytes; a larger one is answered 413.
    pub billing_body_max_bytes: u64,
    /// Where orders go.
    pub queue: QueueSettings,
    /// `GATEWAY_OUTBOX_DIR` (none): where orders are kept that the broker does not take.
    pub outbox: Option<OutboxSettings>,
    /// What the catalogue tells of the gateway, billing and the broker.
    pub profiles: Profiles,
    /// `GATEWAY_DEPLOYMENT` (none): how the platform was started, if that is known.
    pub deployment: Option<Deployment>,
}

/// How the platform was started, and so what a person types to start or stop a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deployment {
    /// `script`: by scripts/run.sh, all parts on this machine.
    Script,
    /// `vagrant`: by the Vagrantfile, on three virtual machines.
    Vagrant,
}

impl Deployment {
    fn read(environment: &Environment) -> Result<Option<Self>, foundation::Error> {
        let name = "GATEWAY_DEPLOYMENT";
        match environment.text(name, "").as_str() {
            "" => Ok(None),
            "script" => Ok(Some(Self::Script)),
            "vagrant" => Ok(Some(Self::Vagrant)),
            _ => Err(foundation::Error::setting(name, "must be script or vagrant")),
        }
    }

    /// Its value in the setting.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::Vagrant => "vagrant",
        }
    }
}

/// Where orders are kept that the broker does not take, and how many.
#[derive(Clone, Debug)]
pub struct OutboxSettings {
    /// `GATEWAY_OUTBOX_DIR`: a folder of this gateway alone.
    pub folder: PathBuf,
    /// `GATEWAY_OUTBOX_MAX_ORDERS` (100000): beyond it orders are answered 503.
    pub max_orders: u64,
    /// `GATEWAY_OUTBOX_MAX_BYTES` (256 MiB): the same for their bytes on disk.
    pub max_bytes: u64,
    /// `GATEWAY_OUTBOX_DISK_FREE_MIN_BYTES` (64 MiB): the same while less is free.
    pub disk_free_min_bytes: u64,
}

impl OutboxSettings {
    fn read(environment: &Environment) -> Result<Option<Self>, foundation::Error> {
        let folder = environment.text("GATEWAY_OUTBOX_DIR", "");
        let settings = Self {
            folder: PathBuf::from(&folder),
            max_orders: environment.number("GATEWAY_OUTBOX_MAX_ORDERS", 100_000, 1..=100_000_000)?,
            max_bytes: environment.number("GATEWAY_OUTBOX_MAX_BYTES", 256 << 20, 1 << 20..=1 << 50)?,
            disk_free_min_bytes: environment.number(
                "GATEWAY_OUTBOX_DISK_FREE_MIN_BYTES",
                64 << 20,
                0..=1 << 50,
            )?,
        };
        Ok((!folder.is_empty()).then_some(settings))
    }
}

/// Where orders go, and how long that may take.
#[derive(Clone, Debug)]
pub struct QueueSettings {
    /// `RABBITMQ_…`: the broker; see [`AmqpSettings::read`].
    pub amqp: AmqpSettings,
    /// `BILLING_QUEUE` (`billing_queue`): the name of the queue.
    pub queue: String,
    /// 5 s: how long the broker may take to confirm an order.
    pub confirm_timeout: Duration,
}

/// One service behind the gateway.
#[derive(Clone, Debug)]
pub struct ServiceSettings {
    /// The name, for logs, metrics and error messages.
    pub name: String,
    /// The variable that sets the prefix, for error messages.
    pub variable: &'static str,
    /// The service gets requests for this path and all paths below it.
    pub prefix: String,
    /// `INVENTORY_URL`, or `TODO_URL` for a service named todo: where its instances are. The default consists of
    /// `INVENTORY_HOST` (127.0.0.1) and `INVENTORY_PORT` (8080), or of `TODO_HOST` (127.0.0.1) and `TODO_PORT`.
    pub authorities: Vec<Authority>,
    /// `GATEWAY_MOVIES_BODY_MAX_BYTES` (262144), or `GATEWAY_TODO_BODY_MAX_BYTES` (as for movies) for a service named
    /// todo: the largest request body, in bytes; a larger one is answered 413.
    pub body_max_bytes: u64,
}

/// How services are reached, and how long they may take. Only tests change what no variable is named for.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    /// 2 s: to resolve the name and connect.
    pub connect_timeout: Duration,
    /// `GATEWAY_UPSTREAM_HEAD_TIMEOUT_MS` (10000): from the end of the request to the end of the response's head.
    pub head_timeout: Duration,
    /// 15 s: how long a body may make no progress, in either direction.
    pub body_timeout: Duration,
    /// 256: most requests that may wait for one instance, so that a hung service cannot occupy all threads. Beyond it
    /// another instance is tried, else the answer is 503. Also the most idle connections that are kept for each
    /// instance.
    pub max_in_flight: usize,
    /// 1 s: how long an instance may take to answer a readiness probe.
    pub ready_timeout: Duration,
    /// `SERVICE_TOKEN`: what the gateway shows to services; see [`ServiceToken::read`].
    pub service_token: Option<ServiceToken>,
}

/// The most instances of one service.
const INSTANCES_MAX: usize = 64;
/// Names with another meaning in logs, metrics and variables.
const RESERVED_NAMES: [&str; 6] = ["billing", "billing_db", "broker", "gateway", "inventory", "postgresql"];
/// The prefix of inventory's paths.
const INVENTORY_PREFIX: &str = "/api/movies";

impl Settings {
    /// Reads all settings; the error names the variable that is missing or malformed.
    pub fn read(environment: &Environment) -> Result<Self, Error> {
        Ok(Self {
            host: environment.text("GATEWAY_HOST", "0.0.0.0"),
            port: environment.port("GATEWAY_PORT", 3000)?,
            private: ListenerSettings::read(environment, "GATEWAY", 9_301)?,
            edge: edge(environment)?,
            services: ServiceSettings::read_all(environment)?,
            upstream: UpstreamSettings::read(environment)?,
            access: AccessSettings::read(environment)?,
            rates: RateSettings::read(environment)?,
            billing_body_max_bytes: body_max_bytes(environment, "GATEWAY_BILLING_BODY_MAX_BYTES", 16 << 10)?,
            queue: QueueSettings {
                amqp: AmqpSettings::read(environment)?,
                queue: environment.text("BILLING_QUEUE", "billing_queue"),
                confirm_timeout: Duration::from_secs(5),
            },
            outbox: OutboxSettings::read(environment)?,
            profiles: Profiles::read(environment),
            deployment: Deployment::read(environment)?,
        })
    }
}

fn edge(environment: &Environment) -> Result<EdgeSettings, foundation::Error> {
    Ok(EdgeSettings {
        max_connections: environment.size("GATEWAY_MAX_CONNECTIONS", 1024, 65_536)?,
        max_connections_per_client: environment.size("GATEWAY_MAX_CONNECTIONS_PER_CLIENT", 256, 65_536)?,
        idle_timeout: environment.millis("GATEWAY_IDLE_TIMEOUT_MS", 60_000)?,
        ..EdgeSettings::default()
    })
}

impl ServiceSettings {
    fn read_all(environment: &Environment) -> Result<Vec<Self>, Error> {
        let host = environment.text("INVENTORY_HOST", "127.0.0.1");
        let default = default_url(&host, environment.port("INVENTORY_PORT", 8080)?);
        let inventory = Self {
            name: "inventory".to_owned(),
            variable: "INVENTORY_URL",
            prefix: INVENTORY_PREFIX.to_owned(),
            authorities: authorities("INVENTORY_URL", &environment.list("INVENTORY_URL", &default)?)?,
            body_max_bytes: body_max_bytes(environment, "GATEWAY_MOVIES_BODY_MAX_BYTES", 256 << 10)?,
        };
        let mut services = vec![inventory];
        let further = environment.text("GATEWAY_SERVICES", "");
        for entry in further.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let service = Self::read(environment, entry, services[0].body_max_bytes)?;
            services.push(service);
        }
        check_services(&services)?;
        Ok(services)
    }

    /// Reads one entry of `GATEWAY_SERVICES`, such as `todo=/todo`, and the service's URL.
    fn read(environment: &Environment, entry: &str, body_max_bytes: u64) -> Result<Self, Error> {
        let variable = "GATEWAY_SERVICES";
        let (name, prefix) = entry
            .split_once('=')
            .map(|(name, prefix)| (name.trim(), prefix.trim()))
            .filter(|(name, _)| is_service_name(name))
            .ok_or_else(|| {
                foundation::Error::setting(variable, "every member must be NAME=/PREFIX, such as todo=/todo")
            })?;
        let upper = name.to_uppercase().replace('-', "_");
        let url = format!("{upper}_URL");
        let host = environment.text(&format!("{upper}_HOST"), "127.0.0.1");
        let default = match environment.port(&format!("{upper}_PORT"), 0)? {
            0 => String::new(),
            port => default_url(&host, port),
        };
        Ok(Self {
            name: name.to_owned(),
            variable,
            prefix: prefix.to_owned(),
            authorities: authorities(&url, &environment.list(&url, &default)?)?,
            body_max_bytes: self::body_max_bytes(
                environment,
                &format!("GATEWAY_{upper}_BODY_MAX_BYTES"),
                body_max_bytes,
            )?,
        })
    }

    /// Whether the service gets requests for `path`, which must be decoded and normalised.
    pub fn has(&self, path: &str) -> bool {
        path.strip_prefix(self.prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// The URL of a service on `host`, which may be an IPv6 address.
fn default_url(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("http://[{host}]:{port}")
    } else {
        format!("http://{host}:{port}")
    }
}

fn is_service_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
}

/// Whether `prefix` is a valid prefix: segments of unreserved characters (RFC 3986 §2.3), without a trailing slash.
fn is_prefix(prefix: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    prefix.strip_prefix('/').is_some_and(|segments| {
        segments.split('/').all(|segment| !matches!(segment, "" | "." | "..") && segment.bytes().all(plain))
    })
}

/// Refuses duplicate names and overlapping prefixes.
fn check_services(services: &[ServiceSettings]) -> Result<(), foundation::Error> {
    let mut names = HashSet::new();
    for (index, service) in services.iter().enumerate() {
        let problem = |text: String| Err(foundation::Error::setting(service.variable, text));
        let (name, prefix) = (&service.name, &service.prefix);
        if index > 0 && RESERVED_NAMES.contains(&name.as_str()) {
            return problem(format!("{name} cannot be the name of a further service"));
        }
        // Names that differ only in `-` and `_` would share their variables.
        if !names.insert(name.replace('-', "_")) {
            return problem(format!("{name} is named twice"));
        }
        if !is_prefix(prefix) {
            return problem(format!(
                "the prefix of {name} must be a path such as /todo: letters, digits and - . _ ~, no / at the end"
            ));
        }
        if let Some(other) = services[..index].iter().find(|o| o.has(prefix) || service.has(&o.prefix)) {
            return problem(format!("the prefixes of {} and {name} overlap", other.name));
        }
    }
    Ok(())
}

fn body_max_bytes(environment: &Environment, variable: &str, default: u64) -> Result<u64, foundation::Error> {
    environment.number(variable, default, 1..=64 << 20)
}

impl UpstreamSettings {
    fn read(environment: &Environment) -> Result<Self, Error> {
        Ok(Self {
            connect_timeout: Duration::from_secs(2),
            head_timeout: environment.millis("GATEWAY_UPSTREAM_HEAD_TIMEOUT_MS", 10_000)?,
            body_timeout: Duration::from_secs(15),
            max_in_flight: 256,
            ready_timeout: Duration::from_secs(1),
            service_token: ServiceToken::read(environment)?,
        })
    }
}

/// The hosts and ports of base addresses such as `http://inventory-vm:8080`. A base path is refused, because paths are
/// passed on unchanged.
fn authorities(variable: &str, urls: &[String]) -> Result<Vec<Authority>, foundation::Error> {
    let problem = |text: &str| foundation::Error::setting(variable, text);
    if urls.len() > INSTANCES_MAX {
        return Err(problem("has more than 64 members"));
    }
    let authority = |url: &String| {
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
    };
    urls.iter().map(authority).collect()
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
        Ok(settings.services[0].authorities.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn without_any_variable_the_documented_defaults_hold() {
        let settings = Settings::read(&environment([])).unwrap();
        assert_eq!((settings.host.as_str(), settings.port), ("0.0.0.0", 3000));
        assert_eq!(settings.edge.max_connections, 1024);
        assert_eq!(settings.edge.idle_timeout, Duration::from_secs(60));
        assert_eq!(settings.services.len(), 1);
        assert_eq!(settings.services[0].authorities, ["127.0.0.1:8080"]);
        assert_eq!(settings.services[0].body_max_bytes, 256 * 1024);
        assert_eq!(settings.billing_body_max_bytes, 16 * 1024);
    }

    #[test]
    fn how_the_platform_was_started_is_told_or_not_known() {
        let read = |value| Settings::read(&environment([("GATEWAY_DEPLOYMENT", value)]));
        for (value, expected) in
            [("", None), ("script", Some(Deployment::Script)), ("vagrant", Some(Deployment::Vagrant))]
        {
            let deployment = read(value).unwrap().deployment;
            assert_eq!(deployment, expected);
            assert!(deployment.is_none_or(|deployment| deployment.name() == value));
        }
        assert!(read("pm2").unwrap_err().to_string().contains("GATEWAY_DEPLOYMENT"));
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
        assert_eq!(Settings::read(&environment).unwrap().services[0].authorities, ["[::1]:9"]);
    }

    #[test]
    fn a_further_service_is_two_variables() {
        let environment = environment([
            ("GATEWAY_SERVICES", "todo=/todo, my-pizzas=/api/pizzas"),
            ("TODO_URL", "http://a:1,http://b:2"),
            ("MY_PIZZAS_URL", "http://c:3"),
            ("GATEWAY_MOVIES_BODY_MAX_BYTES", "1000"),
            ("GATEWAY_MY_PIZZAS_BODY_MAX_BYTES", "7"),
        ]);
        let services = Settings::read(&environment).unwrap().services;
        let found: Vec<_> = services
            .iter()
            .map(|s| (s.name.as_str(), s.prefix.as_str(), s.authorities.len(), s.body_max_bytes))
            .collect();
        let expected = [
            ("inventory", "/api/movies", 1, 1000),
            ("todo", "/todo", 2, 1000),
            ("my-pizzas", "/api/pizzas", 1, 7),
        ];
        assert_eq!(found, expected);
        assert!(services[1].has("/todo") && services[1].has("/todo/1/x"));
        assert!(!services[1].has("/todos") && !services[1].has("/"));
    }

    #[test]
    fn host_and_port_make_the_default_url_of_a_further_service_too() {
        let services = ("GATEWAY_SERVICES", "my-pizzas=/api/pizzas");
        for (more, expected) in [
            (&[("MY_PIZZAS_PORT", "9")][..], "127.0.0.1:9"),
            (&[("MY_PIZZAS_PORT", "9"), ("MY_PIZZAS_HOST", "::1")], "[::1]:9"),
            (&[("MY_PIZZAS_PORT", "9"), ("MY_PIZZAS_URL", "http://a:1")], "a:1"),
        ] {
            let environment = environment([services].into_iter().chain(more.iter().copied()));
            assert_eq!(Settings::read(&environment).unwrap().services[1].authorities, [expected]);
        }
        let error = Settings::read(&environment([services])).unwrap_err().to_string();
        assert!(error.contains("MY_PIZZAS_URL"), "{error}");
    }

    #[test]
    fn a_service_that_could_be_taken_for_another_is_refused_by_the_name_of_its_variable() {
        for (value, text) in [
            ("todo", "NAME=/PREFIX"),
            ("Todo=/todo", "NAME=/PREFIX"),
            ("=/todo", "NAME=/PREFIX"),
            ("todo=todo", "the prefix of todo"),
            ("todo=/", "the prefix of todo"),
            ("todo=/todo/", "the prefix of todo"),
            ("todo=/a//b", "the prefix of todo"),
            ("todo=/a/../b", "the prefix of todo"),
            ("todo=/%74odo", "the prefix of todo"),
            ("broker=/broker", "broker cannot be"),
            ("todo=/a,todo=/b", "named twice"),
            ("todo=/api/movies", "inventory and todo overlap"),
            ("todo=/api/movies/x", "inventory and todo overlap"),
            ("todo=/api", "inventory and todo overlap"),
            ("todo=/a,done=/a/b", "todo and done overlap"),
        ] {
            let urls = [("TODO_URL", "http://a:1"), ("DONE_URL", "http://a:1"), ("BROKER_URL", "http://a:1")];
            let environment = environment(urls.into_iter().chain([("GATEWAY_SERVICES", value)]));
            let error = Settings::read(&environment).unwrap_err().to_string();
            assert!(error.contains("GATEWAY_SERVICES") && error.contains(text), "{value}: {error}");
        }
        let error = Settings::read(&environment([("GATEWAY_SERVICES", "todo=/todo")])).unwrap_err();
        assert!(error.to_string().contains("TODO_URL"), "{error}");
    }
}
