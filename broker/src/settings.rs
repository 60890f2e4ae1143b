//! The settings of the broker; the only reader of its environment.

use std::path::PathBuf;
use std::time::Duration;

use foundation::listener::ListenerSettings;
use foundation::{Environment, Error};

use crate::users::Users;

/// Everything that can be set, with every limit.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `BROKER_HOST`, default 127.0.0.1.
    pub(crate) host: String,
    /// `BROKER_PORT`, default 5672; 0 lets the operating system choose.
    pub(crate) port: u16,
    /// `BROKER_PRIVATE_HOST`, default 127.0.0.1, and `BROKER_PRIVATE_PORT`, default 9304.
    pub(crate) private: ListenerSettings,
    /// `BROKER_DATA_DIR`, default `.data/broker`.
    pub(crate) data_dir: PathBuf,
    /// `RABBITMQ_USER` with `RABBITMQ_PASSWORD`, those of `BROKER_USERS`, and those of `BROKER_USERS_FILE`.
    pub(crate) users: Users,
    /// `BROKER_MAX_CONNECTIONS`, default 2,048.
    pub(crate) max_connections: usize,
    /// `BROKER_MAX_QUEUES`, default 10,000.
    pub(crate) max_queues: usize,
    /// `BROKER_CHANNEL_MAX`, default 2,047 channels per connection.
    pub(crate) channel_max: u16,
    /// `BROKER_FRAME_MAX_BYTES`, default 131,072.
    pub(crate) frame_max_bytes: u32,
    /// `BROKER_BODY_MAX_BYTES`, default and maximum 16 MiB per message.
    pub(crate) body_max_bytes: usize,
    /// `BROKER_HEARTBEAT_S`, default 60 seconds; 0 switches heartbeats off.
    pub(crate) heartbeat_s: u16,
    /// `BROKER_HANDSHAKE_TIMEOUT_MS`, default 10 seconds from connect to open.
    pub(crate) handshake_timeout: Duration,
    /// `BROKER_SEND_TIMEOUT_MS`, default 30 seconds in which a client that was sent something must read some of it.
    pub(crate) send_timeout: Duration,
    /// `BROKER_SEGMENT_BYTES`, default 8 MiB per file of the log.
    pub(crate) segment_bytes: u32,
    /// `BROKER_DISK_FREE_MIN_BYTES`, default 64 MiB: publishers wait while less is free.
    pub(crate) disk_free_min_bytes: u64,
}

const MAX_BODY_BYTES: usize = 16 << 20;

impl Settings {
    /// Reads them all; the error names the one that is missing or malformed.
    pub fn read(environment: &Environment) -> Result<Self, Error> {
        let vhost = environment.text("RABBITMQ_VHOST", "/");
        if vhost != "/" {
            return Err(Error::setting("RABBITMQ_VHOST", "the embedded broker has the vhost / only"));
        }
        let narrow = |name: &str, default: u64, range| environment.number(name, default, range);
        Ok(Self {
            host: environment.text("BROKER_HOST", "127.0.0.1"),
            port: environment.port("BROKER_PORT", 5672)?,
            private: ListenerSettings::read(environment, "BROKER", 9_304)?,
            data_dir: environment.text("BROKER_DATA_DIR", ".data/broker").into(),
            users: Users::read(environment)?,
            max_connections: environment.size("BROKER_MAX_CONNECTIONS", 2_048, 100_000)?,
            max_queues: environment.size("BROKER_MAX_QUEUES", 10_000, 1_000_000)?,
            channel_max: saturate(narrow("BROKER_CHANNEL_MAX", 2_047, 1..=65_535)?),
            frame_max_bytes: saturate(narrow("BROKER_FRAME_MAX_BYTES", 131_072, 4_096..=1 << 24)?),
            body_max_bytes: environment.size("BROKER_BODY_MAX_BYTES", MAX_BODY_BYTES, MAX_BODY_BYTES)?,
            heartbeat_s: saturate(narrow("BROKER_HEARTBEAT_S", 60, 0..=65_535)?),
            handshake_timeout: environment.millis("BROKER_HANDSHAKE_TIMEOUT_MS", 10_000)?,
            send_timeout: environment.millis("BROKER_SEND_TIMEOUT_MS", 30_000)?,
            segment_bytes: saturate(narrow("BROKER_SEGMENT_BYTES", 8 << 20, 64 << 10..=1 << 30)?),
            disk_free_min_bytes: narrow("BROKER_DISK_FREE_MIN_BYTES", 64 << 20, 0..=1 << 50)?,
        })
    }
}

/// Narrows a number whose range was checked.
fn saturate<T: TryFrom<u64> + From<u8>>(value: u64) -> T {
    T::try_from(value).unwrap_or_else(|_| T::from(u8::MAX))
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
        for (name, value) in [
            ("RABBITMQ_VHOST", "other"),
            ("BROKER_FRAME_MAX_BYTES", "4095"),
            ("BROKER_BODY_MAX_BYTES", "16777217"),
            ("BROKER_SEGMENT_BYTES", "1000"),
            ("BROKER_USERS", "first"),
            ("BROKER_HEARTBEAT_S", "65536"),
        ] {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
