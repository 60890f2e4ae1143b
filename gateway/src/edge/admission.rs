//! Who may connect: the limits on connections, in total and per client, and the list of those that are open.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::socket::Link;
use crate::Problem;
use crate::settings::EdgeSettings;

/// How many connections may, beyond the limits, be told politely that there is no room. More are just closed.
const REFUSALS_AT_ONCE: usize = 32;

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
}

/// All open connections.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    open: Mutex<Open>,
    closed: Condvar,
}

/// What becomes of a new connection.
pub(crate) enum Verdict {
    /// It is served.
    Admitted(Ticket),
    /// It is told why not.
    Refused(Ticket, Problem),
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
    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides about a new connection from `ip` and takes it into the list.
    pub(crate) fn admit(self: &Arc<Self>, ip: IpAddr, link: &Arc<Link>, settings: &EdgeSettings) -> Verdict {
        let client = client_of(ip);
        let mut open = self.lock();
        let serving = open.links.len() - open.refusals;
        let of_client = open.per_client.get(&client).copied().unwrap_or(0);
        let problem = if of_client >= settings.max_connections_per_client {
            Some(Problem::TooManyConnections)
        } else if serving >= settings.max_connections {
            Some(Problem::Overloaded)
        } else {
            None
        };
        if problem.is_some() && open.refusals >= REFUSALS_AT_ONCE {
            return Verdict::Dropped;
        }
        let id = open.next_id;
        open.next_id += 1;
        open.links.insert(id, link.clone());
        let admission = self.clone();
        if let Some(problem) = problem {
            open.refusals += 1;
            return Verdict::Refused(Ticket { admission, id, client: None }, problem);
        }
        *open.per_client.entry(client).or_default() += 1;
        Verdict::Admitted(Ticket { admission, id, client: Some(client) })
    }

    /// Closes idle connections until none is left open or `timeout` has passed; returns how many are left.
    pub(crate) fn close_all(&self, timeout: Duration) -> usize {
        let deadline = Instant::now() + timeout;
        let mut open = self.lock();
        while !open.links.is_empty() && Instant::now() < deadline {
            // A connection may become idle at any time, therefore this is repeated.
            open.links.values().for_each(|link| link.close_if_idle());
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
