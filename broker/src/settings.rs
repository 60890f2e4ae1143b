//! The settings of the broker; the only reader of its environment.

use std::path::PathBuf;
use std::time::Duration;

use foundation::listener::ListenerSettings;
use foundation::{Environment, Error};

use crate::users::Users;

/// Everything that can be set, with every limit.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `BROKER_HOST`, default 127.0.0.1: names or addresses, comma-separated.
    pub(crate) host: String,
    /// `BROKER_PORT`, default 5672; 0 lets the operating system choose.
    pub(crate) port: u16,
    /// `PRIVATE_HOST`, default 127.0.0.1, and `BROKER_PRIVATE_PORT`, default 9304.
    pub(crate) private: ListenerSettings,
    /// `BROKER_DATA_DIR`, default `.data/broker`.
    pub(crate) data_dir: PathBuf,
    /// `RABBITMQ_USER` with `RABBITMQ_PASSWORD`, those of `BROKER_USERS`, and those of `BROKER_USERS_FILE`.
    pub(crate) users: Users,
    /// `BROKER_MAX_CONNECTIONS`, default 2,048.
    pub(crate) max_connections: usize,
    /// 10,000.
    pub(crate) max_queues: usize,
    /// 2,047 channels per connection.
    pub(crate) channel_max: u16,
    /// 128 KiB, as in other brokers.
    pub(crate) frame_max_bytes: u32,
    /// 16 MiB per message.
    pub(crate) body_max_bytes: usize,
    /// 60 seconds: the interval of heartbeats that is proposed to clients.
    pub(crate) heartbeat_s: u16,
    /// `BROKER_HANDSHAKE_TIMEOUT_MS`, default 10 seconds from connect to open.
    pub(crate) handshake_timeout: Duration,
    /// `BROKER_SEND_TIMEOUT_MS`, default 30 seconds in which a client that was sent something must read some of it.
    pub(crate) send_timeout: Duration,
    /// `BROKER_CONSUMER_TIMEOUT_MS`, default 30 minutes in which a delivery must be acked; none if it is 0.
    pub(crate) consumer_timeout: Option<Duration>,
    /// `BROKER_SEGMENT_BYTES`, default 8 MiB per file of the log.
    pub(crate) segment_bytes: u32,
    /// `BROKER_DISK_FREE_MIN_BYTES`, default 64 MiB: publishers wait while less is free.
    pub(crate) disk_free_min_bytes: u64,
}

impl Settings {
    /// Reads them all; the error names the one that is missing or malformed.
    pub fn read(environment: &Environment) -> Result<Self, Error> {
        let vhost = environment.text("RABBITMQ_VHOST", "/");
        if vhost != "/" {
            return Err(Error::setting("RABBITMQ_VHOST", "the embedded broker has the vhost / only"));
        }
        let segment_bytes = environment.number("BROKER_SEGMENT_BYTES", 8 << 20, 64 << 10..=1 << 30)?;
        Ok(Self {
            host: environment.text("BROKER_HOST", "127.0.0.1"),
            port: environment.port("BROKER_PORT", 5672)?,
            private: ListenerSettings::read(environment, "BROKER", 9_304)?,
            data_dir: environment.text("BROKER_DATA_DIR", ".data/broker").into(),
            users: read_users(environment)?,
            max_connections: environment.size("BROKER_MAX_CONNECTIONS", 2_048, 100_000)?,
            max_queues: 10_000,
            channel_max: 2_047,
            frame_max_bytes: 128 << 10,
            body_max_bytes: 16 << 20,
            heartbeat_s: 60,
            handshake_timeout: environment.millis("BROKER_HANDSHAKE_TIMEOUT_MS", 10_000)?,
            send_timeout: environment.millis("BROKER_SEND_TIMEOUT_MS", 30_000)?,
            consumer_timeout: match environment.number(
                "BROKER_CONSUMER_TIMEOUT_MS",
                30 * 60_000,
                0..=1 << 40,
            )? {
                0 => None,
                millis => Some(Duration::from_millis(millis)),
            },
            segment_bytes: u32::try_from(segment_bytes).unwrap_or(u32::MAX),
            disk_free_min_bytes: environment.number("BROKER_DISK_FREE_MIN_BYTES", 64 << 20, 0..=1 << 50)?,
        })
    }
}

/// The first user is `RABBITMQ_USER`; `BROKER_USERS` names further ones, comma-separated, and the password of the user
/// `audit` is in `BROKER_PASSWORD_AUDIT`, so that passwords may contain any character. `BROKER_USERS_FILE` names a file
/// of users with hashed passwords.
pub(crate) fn read_users(environment: &Environment) -> Result<Users, Error> {
    let mut users = Users::default();
    let password = environment.required("RABBITMQ_PASSWORD")?;
    users.add_administrator(environment.required("RABBITMQ_USER")?, &password);
    let further = environment.text("BROKER_USERS", "");
    for name in further.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let sane = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if !name.chars().all(sane) || users.get(name).is_some() {
            let problem = "must be distinct names of letters, digits, - and _";
            return Err(Error::setting("BROKER_USERS", problem));
        }
        let variable = format!("BROKER_PASSWORD_{}", name.to_ascii_uppercase().replace('-', "_"));
        users.add_administrator(name.to_owned(), &environment.required(&variable)?);
    }
    let file = environment.text("BROKER_USERS_FILE", "");
    if !file.is_empty() {
        users.add_file(&file).map_err(|problem| Error::setting("BROKER_USERS_FILE", problem))?;
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &'static str)]) -> Result<Settings, Error> {
        let first = [("RABBITMQ_USER", "first"), ("RABBITMQ_PASSWORD", "p:a,s s")];
        Settings::read(&Environment::from_pairs(first.into_iter().chain(pairs.iter().copied())))
    }

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let settings = read(&[]).unwrap();
        assert_eq!((settings.host.as_str(), settings.port), ("127.0.0.1", 5672));
        assert_eq!(
            (settings.channel_max, settings.frame_max_bytes, settings.heartbeat_s),
            (2047, 131_072, 60)
        );
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        for (name, value) in
            [("RABBITMQ_VHOST", "other"), ("BROKER_SEGMENT_BYTES", "1000"), ("BROKER_USERS", "first")]
        {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
