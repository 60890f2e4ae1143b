//! Who may connect: the limits on connections, in total and per client, the list of those that are open, and which one
//! makes room when all places are taken.

use std::collections::HashMap;
use std::net::{IpAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foundation::metrics::{Counter, Exposition};

use crate::refusal::Refusal;
use crate::settings::EdgeSettings;
use crate::socket::{Link, Waiting};

/// How many connections may, beyond the limits, be told politely that there is no room. More are just closed.
const REFUSALS_AT_ONCE: usize = 32;
/// How many connections may be on their way out, beyond the limits, to make room for new ones.
const LEAVING_AT_ONCE: usize = 32;
/// How long a head may take, in microseconds, before its connection has to make room when nobody is idle.
const HEAD_GRACE_US: u64 = 1_000_000;
/// How long a connection that was accepted just before the stop may take to send the request that it was made for.
pub(crate) const STOP_GRACE: Duration = Duration::from_millis(200);

/// What one client is: an IPv4 address, or the /64 network that one IPv6 subscriber gets at the least.
fn client_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) & !u128::from(u64::MAX)).into()),
        ip @ IpAddr::V4(_) => ip,
    }
}

#[derive(Debug, Default)]
struct Open {
    next_id: u64,
    links: HashMap<u64, Arc<Link>>,
    per_client: HashMap<IpAddr, usize>,
    /// Connections that are only being told that there is no room; they are in `links` too.
    refusals: usize,
    /// Connections that were told to leave and have not gone yet; they are in `links` too.
    leaving: usize,
}

/// All open connections.
#[derive(Debug)]
pub(crate) struct Admission {
    started: Instant,
    open: Mutex<Open>,
    closed: Condvar,
    refused_client: Counter,
    refused_total: Counter,
    refused_silently: Counter,
    refused_thread: Counter,
    evicted: Counter,
}

/// The numbers of a server's connections, for metrics. Clones share them.
#[derive(Clone, Debug)]
pub struct Connections(pub(crate) Arc<Admission>);

impl Connections {
    /// How many are open now, those that are being refused included.
    pub fn open(&self) -> usize {
        self.0.lock().links.len()
    }

    /// How many were refused so far, by reason: `client` (the client's address had too many), `total` (all places were
    /// taken and nobody was idle), `flood` (closed without a word, since many were being refused already), `thread` (the
    /// operating system gave no thread).
    pub fn refused(&self) -> [(&'static str, u64); 4] {
        let admission = &self.0;
        [
            ("client", admission.refused_client.get()),
            ("total", admission.refused_total.get()),
            ("flood", admission.refused_silently.get()),
            ("thread", admission.refused_thread.get()),
        ]
    }

    /// How many idle ones were closed so far to make room for new ones.
    pub fn evicted(&self) -> u64 {
        self.0.evicted.get()
    }

    /// Writes `http_connections_open`, `http_connections_refused_total` and `http_connections_evicted_total`.
    pub fn write(&self, text: &mut Exposition) {
        text.single("http_connections_open", "gauge", "Client connections that are open.", self.open());
        let name = "http_connections_refused_total";
        text.family(name, "counter", "Client connections that were refused, by reason.");
        for (reason, count) in self.refused() {
            text.sample(name, &[("reason", reason)], count);
        }
        let help = "Idle client connections that were closed to make room for new ones.";
        text.single("http_connections_evicted_total", "counter", help, self.evicted());
    }
}

/// What becomes of a new connection.
pub(crate) enum Verdict {
    /// It is served.
    Admitted(Ticket),
    /// It is told why not.
    Refused(Ticket, Refusal),
    /// It is closed without a word.
    Dropped,
}

/// One open connection's place in the list; dropping it gives the place back.
pub(crate) struct Ticket {
    admission: Arc<Admission>,
    id: u64,
    client: Option<IpAddr>,
}

impl Admission {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            open: Mutex::default(),
            closed: Condvar::new(),
            refused_client: Counter::default(),
            refused_total: Counter::default(),
            refused_silently: Counter::default(),
            refused_thread: Counter::default(),
            evicted: Counter::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides about a new connection from `ip` and takes it into the list.
    pub(crate) fn admit(
        self: &Arc<Self>,
        stream: TcpStream,
        ip: IpAddr,
        settings: &EdgeSettings,
    ) -> (Arc<Link>, Verdict) {
        let link = Arc::new(Link::new(stream, self.started));
        let client = client_of(ip);
        let mut open = self.lock();
        let serving = open.links.len() - open.refusals - open.leaving;
        let of_client = open.per_client.get(&client).copied().unwrap_or(0);
        let refusal = if of_client >= settings.max_connections_per_client {
            self.refused_client.increment();
            Some(Refusal::TooManyConnections)
        } else if serving >= settings.max_connections && !self.make_room(&mut open) {
            self.refused_total.increment();
            Some(Refusal::Overloaded)
        } else {
            None
        };
        if refusal.is_some() && open.refusals >= REFUSALS_AT_ONCE {
            self.refused_silently.increment();
            return (link, Verdict::Dropped);
        }
        let id = open.next_id;
        open.next_id += 1;
        open.links.insert(id, link.clone());
        let admission = self.clone();
        let verdict = if let Some(refusal) = refusal {
            open.refusals += 1;
            link.set_refused();
            Verdict::Refused(Ticket { admission, id, client: None }, refusal)
        } else {
            *open.per_client.entry(client).or_default() += 1;
            Verdict::Admitted(Ticket { admission, id, client: Some(client) })
        };
        (link, verdict)
    }

    /// Tells the connection that has been idle longest to leave, or, when none is idle, the one that has taken longest
    /// for the head of its request; `false` when there is no such connection.
    fn make_room(&self, open: &mut Open) -> bool {
        if open.leaving >= LEAVING_AT_ONCE {
            return false;
        }
        let now_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let candidates = open.links.values().filter(|link| !link.is_leaving());
        let oldest = candidates
            .filter_map(|link| Some((link.waiting()?, link)))
            .filter(|(waiting, _)| match waiting {
                Waiting::Idle(_) => true,
                Waiting::WithinHead(since_us) => now_us.saturating_sub(*since_us) >= HEAD_GRACE_US,
            })
            .min_by_key(|(waiting, _)| *waiting);
        let Some((_, link)) = oldest else { return false };
        link.leave();
        open.leaving += 1;
        self.evicted.increment();
        true
    }

    /// Notes that the operating system gave no thread to an admitted connection.
    pub(crate) fn count_no_thread(&self) {
        self.refused_thread.increment();
    }

    /// Closes idle connections until none is left open or `timeout` has passed; returns how many are left.
    pub(crate) fn close_all(&self, timeout: Duration) -> usize {
        let stopped = Instant::now();
        let mut open = self.lock();
        while !open.links.is_empty() && stopped.elapsed() < timeout {
            // A connection may become idle at any time, therefore this is repeated.
            let fresh_too = stopped.elapsed() >= STOP_GRACE;
            open.links
                .values()
                .filter(|link| fresh_too || link.is_used())
                .for_each(|link| link.close_if_idle());
            let waited = self.closed.wait_timeout(open, Duration::from_millis(20));
            open = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        open.links.len()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut open = self.admission.lock();
        let link = open.links.remove(&self.id);
        match self.client {
            None => open.refusals -= 1,
            Some(client) => {
                if link.as_ref().is_some_and(|link| link.is_leaving()) {
                    open.leaving -= 1;
                }
                if let Some(count) = open.per_client.get_mut(&client) {
                    *count -= 1;
                    if *count == 0 {
                        open.per_client.remove(&client);
                    }
                }
            }
        }
        drop(open);
        drop(link);
        self.admission.closed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_and_a_mapped_ipv4_address_are_one_client() {
        let client = |text: &str| client_of(text.parse().unwrap());
        assert_eq!(client("2001:db8:1:2::1"), client("2001:db8:1:2:ffff::9"));
        assert_ne!(client("2001:db8:1:2::1"), client("2001:db8:1:3::1"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
    }
}
