//! How many requests a client may make: a token bucket for all of them and one for writes, for each client by its name,
//! or else its address.
//!
//! A bucket is stored as the moment at which it will be full again: every request moves that moment into the future by
//! the time in which the bucket regains one token. A bucket that is full is as good as none, so memory is bounded: the
//! buckets are in a table of fixed size, in which a new client replaces one whose buckets are full. Only in a part of the
//! table where no bucket is full do new clients share one, and clients that are there already do not notice.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use edge::{Client, Response, network_of};

use crate::error::Problem;
use crate::settings::RateSettings;

/// How many sets there are for addresses and for names; with the clients of a set, room for 32,768 and 1,024 clients
/// whose buckets are not full.
const ADDRESS_SETS: usize = 4096;
const NAME_SETS: usize = 128;
/// How many clients one set has.
const SET_CLIENTS: usize = 8;
/// The most answers of unknown length to GET, such as whole lists, that may be on their way to one client. Each may
/// occupy a thread, and a connection of inventory, for as long as the client reads. Like the other limits here it holds
/// only if the settings limit clients; without that, the number of a client's connections bounds its lists.
const STREAMS_MAX: usize = 8;

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug)]
struct Limit {
    /// The time in which the bucket regains one token.
    interval_ns: u64,
    /// The time in which it fills from empty to full.
    window_ns: u64,
    /// How many tokens it holds.
    burst: u64,
}

impl Limit {
    /// `None` if `rate_per_s` is 0, which means no limit.
    fn new(rate_per_s: u64, burst: u64) -> Option<Self> {
        let interval_ns = 1_000_000_000_u64.checked_div(rate_per_s)?.max(1);
        let burst = burst.max(1);
        Some(Self { interval_ns, window_ns: interval_ns.saturating_mul(burst), burst })
    }

    /// Takes a token at `now_ns` from a bucket that is full at `full_at_ns`; returns when it will be full then, or how
    /// long there will be no token.
    fn take(&self, full_at_ns: u64, now_ns: u64) -> Result<u64, u64> {
        let full_at_ns = full_at_ns.max(now_ns).saturating_add(self.interval_ns);
        match (full_at_ns - now_ns).checked_sub(self.window_ns) {
            None | Some(0) => Ok(full_at_ns),
            Some(wait_ns) => Err(wait_ns),
        }
    }

    /// How many tokens are in the bucket.
    fn remaining(&self, full_at_ns: u64, now_ns: u64) -> u64 {
        self.window_ns.saturating_sub(full_at_ns.saturating_sub(now_ns)) / self.interval_ns
    }

    /// An item of `RateLimit-Policy`: how many requests in how many seconds.
    fn policy(&self, name: &str) -> String {
        format!("\"{name}\";q={};w={}", self.burst, seconds(self.window_ns))
    }

    /// An item of `RateLimit`: how many requests are left, and after how many seconds all are available again.
    fn state(&self, name: &str, full_at_ns: u64, now_ns: u64) -> String {
        let (left, full_in) = (self.remaining(full_at_ns, now_ns), full_at_ns.saturating_sub(now_ns));
        format!("\"{name}\";r={left};t={}", seconds(full_in))
    }
}

/// Whole seconds, rounded up.
fn seconds(ns: u64) -> u64 {
    ns.div_ceil(1_000_000_000)
}

/// The buckets of one client.
#[derive(Clone, Copy, Debug, Default)]
struct Buckets {
    /// Identifies the client; 0 if there is none.
    key: u64,
    /// When the bucket for all requests is full again, in nanoseconds since the start.
    requests_full_at: u64,
    /// The same for writes.
    writes_full_at: u64,
}

impl Buckets {
    fn are_full(&self, now_ns: u64) -> bool {
        self.requests_full_at <= now_ns && self.writes_full_at <= now_ns
    }
}

/// A part of the table: the clients whose keys lead here.
#[derive(Debug, Default)]
struct Set {
    clients: [Buckets; SET_CLIENTS],
    /// What new clients share while none of the others is full.
    shared: Buckets,
}

impl Set {
    fn find(&mut self, key: u64, now_ns: u64) -> &mut Buckets {
        let known = self.clients.iter().position(|buckets| buckets.key == key);
        let place = known.or_else(|| self.clients.iter().position(|buckets| buckets.are_full(now_ns)));
        let Some(place) = place else { return &mut self.shared };
        if known.is_none() {
            self.clients[place] = Buckets { key, ..Buckets::default() };
        }
        &mut self.clients[place]
    }
}

/// Buckets in a fixed amount of memory. Each set has its own lock, held for a few comparisons.
#[derive(Debug)]
struct Table(Box<[Mutex<Set>]>);

impl Table {
    fn new(sets: usize) -> Self {
        Self((0..sets).map(|_| Mutex::default()).collect())
    }

    fn set(&self, key: u64) -> MutexGuard<'_, Set> {
        let index = usize::try_from(key >> 32).unwrap_or(0) % self.0.len();
        self.0[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is left to a client after a request, for the fields of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Charged {
    requests_full_at: u64,
    writes_full_at: u64,
    /// How long there will be no token, if there was none; nothing was taken then.
    wait_ns: Option<u64>,
}

/// The limits of all clients.
#[derive(Debug)]
pub(crate) struct Rates {
    requests: Option<Limit>,
    writes: Option<Limit>,
    /// The value of `RateLimit-Policy`.
    policy: String,
    addresses: Table,
    names: Table,
    streams: Mutex<HashMap<u64, usize>>,
    /// Its keys are random, so nobody can choose addresses that lead to one set.
    hasher: RandomState,
    started: Instant,
}

impl Rates {
    /// `None` if there is no limit.
    pub(crate) fn new(settings: &RateSettings) -> Option<Self> {
        let requests = Limit::new(settings.per_s, settings.burst);
        let writes = Limit::new(settings.writes_per_s, settings.writes_burst());
        if requests.is_none() && writes.is_none() {
            return None;
        }
        let items =
            [requests.map(|limit| limit.policy("requests")), writes.map(|limit| limit.policy("writes"))];
        Some(Self {
            requests,
            writes,
            policy: items.into_iter().flatten().collect::<Vec<_>>().join(", "),
            addresses: Table::new(ADDRESS_SETS),
            names: Table::new(NAME_SETS),
            streams: Mutex::default(),
            hasher: RandomState::new(),
            started: Instant::now(),
        })
    }

    /// Takes a token for a request of `client`, or refuses it. Adds the fields `RateLimit` and `RateLimit-Policy` to the
    /// answer (draft-ietf-httpapi-ratelimit-headers).
    pub(crate) fn charge(
        &self,
        client: &Client,
        is_write: bool,
        response: &mut Response<'_>,
    ) -> Result<(), Problem> {
        let now_ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let charged = self.take(client, is_write, now_ns);
        let items = [
            self.requests.map(|limit| limit.state("requests", charged.requests_full_at, now_ns)),
            self.writes.map(|limit| limit.state("writes", charged.writes_full_at, now_ns)),
        ];
        let state = items.into_iter().flatten().collect::<Vec<_>>().join(", ");
        response.add_standing_field("ratelimit-policy", self.policy.as_bytes());
        response.add_standing_field("ratelimit", state.as_bytes());
        match charged.wait_ns {
            None => Ok(()),
            Some(wait_ns) => Err(Problem::TooManyRequests { retry_after_s: seconds(wait_ns).max(1) }),
        }
    }

    fn take(&self, client: &Client, is_write: bool, now_ns: u64) -> Charged {
        let key = self.key(client);
        let mut set = match client {
            Client::Address(_) => self.addresses.set(key),
            Client::Named(_) => self.names.set(key),
        };
        let buckets = set.find(key, now_ns);
        let take =
            |limit: Option<Limit>, full_at| limit.map_or(Ok(full_at), |limit| limit.take(full_at, now_ns));
        let requests = take(self.requests, buckets.requests_full_at);
        let writes = take(self.writes.filter(|_| is_write), buckets.writes_full_at);
        let wait_ns = match (requests, writes) {
            (Ok(requests), Ok(writes)) => {
                (buckets.requests_full_at, buckets.writes_full_at) = (requests, writes);
                None
            }
            (requests, writes) => requests.err().max(writes.err()),
        };
        let Buckets { requests_full_at, writes_full_at, .. } = *buckets;
        Charged { requests_full_at, writes_full_at, wait_ns }
    }

    /// Never 0, which stands for no client.
    fn key(&self, client: &Client) -> u64 {
        let hash = match client {
            Client::Address(address) => self.hasher.hash_one(network_of(*address)),
            Client::Named(name) => self.hasher.hash_one(name),
        };
        hash | 1
    }

    /// Notes that a list is on its way to `client`, until the returned value is dropped; refuses it if there are too many.
    pub(crate) fn begin_stream(&self, client: &Client) -> Result<Stream<'_>, Problem> {
        let key = self.key(client);
        let mut streams = self.lock_streams();
        let count = streams.entry(key).or_default();
        if *count >= STREAMS_MAX {
            return Err(Problem::TooManyRequests { retry_after_s: 1 });
        }
        *count += 1;
        Ok(Stream { rates: self, key })
    }

    /// There are no more entries than there are connections.
    fn lock_streams(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A list that is on its way.
#[derive(Debug)]
pub(crate) struct Stream<'r> {
    rates: &'r Rates,
    key: u64,
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        let mut streams = self.rates.lock_streams();
        if let Some(count) = streams.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                streams.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rates(per_s: u64, burst: u64, writes_per_s: u64) -> Rates {
        Rates::new(&RateSettings { per_s, burst, writes_per_s }).unwrap()
    }

    fn address(number: u32) -> Client {
        Client::Address(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    fn allowed(rates: &Rates, client: &Client, is_write: bool, now_ns: u64) -> bool {
        rates.take(client, is_write, now_ns).wait_ns.is_none()
    }

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let rates = rates(10, 5, 0);
        let client = address(1);
        let mut now = SECOND;
        assert_eq!((0..9).filter(|_| allowed(&rates, &client, true, now)).count(), 5);
        assert_eq!(rates.take(&client, false, now).wait_ns, Some(SECOND / 10));
        now += SECOND / 10;
        assert!(allowed(&rates, &client, false, now) && !allowed(&rates, &client, false, now));
        now += 100 * SECOND;
        assert_eq!((0..9).filter(|_| allowed(&rates, &client, false, now)).count(), 5);
        // Somebody else has a bucket of their own.
        assert!(allowed(&rates, &address(2), false, now));
    }

    #[test]
    fn writes_have_a_bucket_of_their_own_and_a_refused_one_costs_nothing() {
        let rates = rates(100, 50, 2);
        let client = Client::Named("alice".into());
        // The bucket for writes holds as many seconds' worth as the other: half a second.
        assert_eq!((0..9).filter(|_| allowed(&rates, &client, true, SECOND)).count(), 1);
        assert_eq!((0..99).filter(|_| allowed(&rates, &client, false, SECOND)).count(), 49);
        assert_eq!(rates.policy, "\"requests\";q=50;w=1, \"writes\";q=1;w=1");
        let charged = rates.take(&client, true, SECOND);
        let limit = rates.requests.unwrap();
        assert_eq!(limit.state("requests", charged.requests_full_at, SECOND), "\"requests\";r=0;t=1");
        assert!(Rates::new(&RateSettings { per_s: 0, burst: 9, writes_per_s: 0 }).is_none());
    }

    #[test]
    fn the_addresses_of_one_network_share_a_bucket() {
        let rates = rates(1, 1, 0);
        let of = |text: &str| Client::Address(IpAddr::V6(text.parse::<Ipv6Addr>().unwrap()));
        assert!(allowed(&rates, &of("2001:db8::1"), false, SECOND));
        assert!(!allowed(&rates, &of("2001:db8::2"), false, SECOND));
        assert!(allowed(&rates, &of("2001:db8:0:1::1"), false, SECOND));
    }

    #[test]
    fn a_million_addresses_take_the_memory_of_none_and_disturb_nobody() {
        let rates = rates(1, 2, 0);
        let size = |rates: &Rates| (rates.addresses.0.len() + rates.names.0.len()) * size_of::<Mutex<Set>>();
        let before = size(&rates);
        assert!(before <= 8 << 20, "{before} bytes");
        let (regular, named) = (address(7), Client::Named("alice".into()));
        for client in [&regular, &named] {
            assert!(allowed(&rates, client, false, SECOND));
        }
        let refused = (0..1_000_000_u32)
            .filter(|number| !allowed(&rates, &address(0x0a00_0000 + number), false, SECOND))
            .count();
        // The table is full, so most of them have to share.
        assert!(refused > 900_000, "{refused}");
        for client in [&regular, &named] {
            assert!(allowed(&rates, client, false, SECOND), "{client} still has a token");
            assert!(!allowed(&rates, client, false, SECOND), "{client} has no more than that");
        }
        assert_eq!((size(&rates), rates.addresses.0.len()), (before, ADDRESS_SETS));
        // Once their buckets are full, others have their places.
        let later = 10 * SECOND;
        assert!((0..1000).all(|number| allowed(&rates, &address(0x0b00_0000 + number), false, later)));
    }

    #[test]
    fn the_streams_of_one_client_are_bounded_and_end() {
        let rates = rates(1000, 1000, 0);
        let (one, other) = (address(1), address(2));
        let streams: Vec<_> = (0..STREAMS_MAX).map(|_| rates.begin_stream(&one).unwrap()).collect();
        assert!(rates.begin_stream(&one).is_err());
        assert!(rates.begin_stream(&other).is_ok());
        drop(streams);
        assert!(rates.begin_stream(&one).is_ok());
        assert!(rates.lock_streams().is_empty());
    }
}
