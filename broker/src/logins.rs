//! Logging in, over AMQP and over HTTP. A login that fails is logged, and its client learns of it only after a delay
//! that doubles with every failure of its address.
//!
//! A client with the right password never waits, whoever else is at its address. So that many logins at once are no way
//! around the delay, only a few failures of one address may wait at the same time; while they do, further logins from
//! there are refused without a look at the password.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use foundation::metrics::Counter;
use foundation::{Shutdown, Warnings};

use crate::sync::lock;
use crate::users::{User, Users};

/// The delay after the first failure.
const FIRST_DELAY: Duration = Duration::from_millis(250);
/// The delay grows no further; clients' own deadlines for connecting are longer than this.
const MAX_DELAY: Duration = Duration::from_secs(2);
/// How many failures of one address wait at the same time.
const MAX_WAITING: u32 = 8;
/// An address without a failure for this long begins anew.
const FORGET_AFTER: Duration = Duration::from_secs(300);
/// So many addresses are remembered; beyond that the one whose last failure is the oldest is forgotten.
const MAX_ADDRESSES: usize = 1_024;

/// They come as fast as a client can connect.
static UNSEEN: Warnings = Warnings::new("logins that were refused without a look at the password");

/// How a client logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Amqp,
    Http,
}

/// Counts logins, and remembers who failed.
#[derive(Default)]
pub(crate) struct Logins {
    failures: Mutex<HashMap<IpAddr, Failures>>,
    amqp: Attempts,
    http: Attempts,
}

/// Logins over one protocol.
#[derive(Default)]
pub(crate) struct Attempts {
    pub(crate) accepted: Counter,
    pub(crate) failed: Counter,
}

/// What is known of an address from which logins failed.
struct Failures {
    count: u32,
    waiting: u32,
    last: Instant,
}

impl Logins {
    pub(crate) fn attempts(&self, protocol: Protocol) -> &Attempts {
        match protocol {
            Protocol::Amqp => &self.amqp,
            Protocol::Http => &self.http,
        }
    }

    /// The user who logs in with this name and password. A failure returns after its delay, or when the broker stops.
    pub(crate) fn log_in<'u>(
        &self,
        users: &'u Users,
        (name, password): (&[u8], &[u8]),
        client: Option<SocketAddr>,
        protocol: Protocol,
        shutdown: &Shutdown,
    ) -> Option<&'u User> {
        let network = client.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |client| network(client.ip()));
        let looked_at = self.admits(network);
        let found = if looked_at { users.find(name, password) } else { None };
        let attempts = self.attempts(protocol);
        if found.is_some() {
            attempts.accepted.increment();
            return found;
        }
        attempts.failed.increment();
        let client = client.map_or_else(|| "an unknown address".to_owned(), |client| client.to_string());
        let name = shown(name);
        if !looked_at {
            UNSEEN.warn(format_args!(
                "login of user '{name}' from {client} refused: {MAX_WAITING} failed ones of it wait"
            ));
            return None;
        }
        let delay = self.failed(network, Instant::now());
        log::warn!("login of user '{name}' from {client} failed: wrong name or password");
        shutdown.wait_timeout(delay);
        self.waited(network);
        None
    }

    fn admits(&self, network: IpAddr) -> bool {
        lock(&self.failures).get(&network).is_none_or(|failures| failures.waiting < MAX_WAITING)
    }

    /// Notes a failure; returns for how long its client has to wait. [`Logins::waited`] must follow.
    fn failed(&self, network: IpAddr, now: Instant) -> Duration {
        let mut all = lock(&self.failures);
        if all.len() >= MAX_ADDRESSES && !all.contains_key(&network) {
            all.retain(|_, known| known.waiting > 0 || now.duration_since(known.last) < FORGET_AFTER);
            let free = all.iter().filter(|(_, known)| known.waiting == 0);
            let oldest = free.min_by_key(|(_, known)| known.last).map(|(network, _)| *network);
            if let Some(oldest) = oldest.filter(|_| all.len() >= MAX_ADDRESSES) {
                all.remove(&oldest);
            }
        }
        let failures = all.entry(network).or_insert(Failures { count: 0, waiting: 0, last: now });
        if failures.waiting == 0 && now.duration_since(failures.last) >= FORGET_AFTER {
            failures.count = 0;
        }
        failures.waiting += 1;
        failures.last = now;
        let delay = FIRST_DELAY * 2_u32.pow(failures.count.min(16));
        failures.count += 1;
        delay.min(MAX_DELAY)
    }

    fn waited(&self, network: IpAddr) {
        if let Some(failures) = lock(&self.failures).get_mut(&network) {
            failures.waiting = failures.waiting.saturating_sub(1);
        }
    }
}

/// What counts as one address: of IPv6 the first 64 bits, since a client can usually choose the others.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address @ IpAddr::V4(_) => address,
    }
}

/// A name that a stranger sent, fit for the log.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(64).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_limit_and_are_forgotten() {
        let (logins, now) = (Logins::default(), Instant::now());
        let one = network("192.0.2.1".parse().unwrap());
        let delays: Vec<u128> = (0..5).map(|_| logins.failed(one, now).as_millis()).collect();
        assert_eq!(delays, [250, 500, 1_000, 2_000, 2_000]);
        let other = network("192.0.2.2".parse().unwrap());
        assert_eq!(logins.failed(other, now), FIRST_DELAY, "addresses are told apart");
        (0..5).for_each(|_| logins.waited(one));
        assert_eq!(logins.failed(one, now + FORGET_AFTER), FIRST_DELAY);
    }

    #[test]
    fn only_a_few_failures_of_an_address_wait_at_once() {
        let (logins, now) = (Logins::default(), Instant::now());
        let one = network("2001:db8::1".parse().unwrap());
        for _ in 0..MAX_WAITING {
            assert!(logins.admits(one));
            logins.failed(one, now);
        }
        assert!(!logins.admits(network("2001:db8::2".parse().unwrap())), "the same network");
        assert!(logins.admits(network("2001:db8:0:1::1".parse().unwrap())), "another network");
        logins.waited(one);
        assert!(logins.admits(one));
    }

    #[test]
    fn the_table_is_bounded() {
        let (logins, now) = (Logins::default(), Instant::now());
        for number in 0..u32::try_from(MAX_ADDRESSES).unwrap() + 50 {
            let address = IpAddr::V4(number.into());
            logins.failed(address, now + Duration::from_millis(number.into()));
            logins.waited(address);
        }
        let failures = lock(&logins.failures);
        assert_eq!(failures.len(), MAX_ADDRESSES);
        assert!(!failures.contains_key(&IpAddr::V4(0.into())), "the oldest are forgotten");
    }

    #[test]
    fn names_cannot_forge_lines_of_the_log() {
        assert_eq!(shown(b"a\n2026 ERROR x"), "a\\n2026 ERROR x");
        assert_eq!(shown(&[b'a'; 100]).len(), 64);
    }
}
