//! The settings of a connection.

use std::fmt;
use std::time::Duration;

use foundation::{Environment, Error};

/// The broker's address and login, and its timeouts.
#[derive(Clone)]
pub struct AmqpSettings {
    pub(crate) hosts: Vec<(String, u16)>,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) vhost: String,
    /// 3 s: how long connecting to one host may take.
    pub connect_timeout: Duration,
}

impl AmqpSettings {
    /// Reads `RABBITMQ_HOST` (one or several, comma-separated, each with an optional `:port`), `_PORT`, `_USER`,
    /// `_PASSWORD` and `_VHOST`.
    pub fn read(environment: &Environment) -> Result<Self, Error> {
        let port = environment.port("RABBITMQ_PORT", 5672)?;
        let hosts = environment
            .list("RABBITMQ_HOST", "127.0.0.1")?
            .into_iter()
            .map(|host| match host.rsplit_once(':') {
                None => Ok((host, port)),
                Some((name, port)) => port
                    .parse()
                    .map(|port| (name.to_owned(), port))
                    .map_err(|_| Error::setting("RABBITMQ_HOST", "has a malformed port")),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            hosts,
            user: environment.required("RABBITMQ_USER")?,
            password: environment.required("RABBITMQ_PASSWORD")?,
            vhost: environment.text("RABBITMQ_VHOST", "/"),
            connect_timeout: Duration::from_secs(3),
        })
    }
}

/// Leaves out the password.
impl fmt::Debug for AmqpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hosts, user, vhost, connect_timeout, .. } = self;
        f.debug_struct("AmqpSettings")
            .field("hosts", hosts)
            .field("user", user)
            .field("vhost", vhost)
            .field("connect_timeout", connect_timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_hosts_may_carry_their_own_ports() {
        let environment = Environment::from_pairs([
            ("RABBITMQ_HOST", "one, two:5673"),
            ("RABBITMQ_USER", "u"),
            ("RABBITMQ_PASSWORD", "secret"),
        ]);
        let settings = AmqpSettings::read(&environment).unwrap();
        assert_eq!(settings.hosts, [("one".to_owned(), 5672), ("two".to_owned(), 5673)]);
        let shown = format!("{settings:?}");
        assert!(shown.contains("two") && !shown.contains("secret"), "{shown}");
    }
}
