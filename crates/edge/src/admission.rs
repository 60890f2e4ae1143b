//! Decides who may connect: limits the open connections in total and per client, and chooses which one to close when a
//! new one needs room.

use std::collections::HashMap;
use std::net::{IpAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foundation::metrics::{Counter, Exposition};

use crate::client::network_of;
use crate::refusal::Refusal;
use crate::settings::EdgeSettings;
use crate::socket::{Link, Waiting};

/// Most connections at a time, beyond the limits, that are answered with a refusal. Further ones are closed without an
/// answer.
const REFUSALS_AT_ONCE: usize = 32;
/// Most connections at a time, beyond the limits, that have been told to close to make room.
const LEAVING_AT_ONCE: usize = 32;
/// A connection whose request head takes longer than this may be closed to make room if none is idle.
const HEAD_GRACE: Duration = Duration::from_secs(1);
/// How long a connection that was accepted just before the stop may take to send its first request.
pub(crate) const STOP_GRACE: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
struct OpenConnections {
    next_id: u64,
    links: HashMap<u64, Arc<Link>>,
    per_client: HashMap<IpAddr, usize>,
    /// Connections that are only being sent a refusal; they are in `links` too.
    refusals: usize,
    /// Connections that were told to close and are still open; they are in `links` too.
    leaving: usize,
}

impl OpenConnections {
    /// Gives back what many connections needed, once few of them are left. A large table among their freed memory would
    /// keep the allocator from returning it to the system.
    fn shrink(&mut self) {
        if self.links.len() < self.links.capacity() / 8 {
            self.links.shrink_to_fit();
        }
        if self.per_client.len() < self.per_client.capacity() / 8 {
            self.per_client.shrink_to_fit();
        }
    }
}

/// The open connections and their limits.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    open: Mutex<OpenConnections>,
    closed: Condvar,
    refused_client: Counter,
    refused_total: Counter,
    refused_silently: Counter,
    refused_thread: Counter,
    evicted: Counter,
}

/// A server's connection metrics. Clones share them.
#[derive(Clone, Debug)]
pub struct Connections(pub(crate) Arc<Admission>);

impl Connections {
    /// How many are open now, including those that are being refused.
    pub fn open(&self) -> usize {
        self.0.lock().links.len()
    }

    /// How many were refused so far, by reason: `client` (the client's address had too many), `total` (all places were
    /// taken and nobody was idle), `flood` (closed without an answer, because too many were being refused already),
    /// `thread` (the operating system gave no thread).
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

/// What to do with a new connection.
pub(crate) enum Decision {
    /// Serve it.
    Admitted(Registration),
    /// Send it this refusal.
    Refused(Registration, Refusal),
    /// Close it without an answer.
    Dropped,
}

/// An open connection's entry in the list; dropping it removes the entry.
pub(crate) struct Registration {
    admission: Arc<Admission>,
    id: u64,
    client: Option<IpAddr>,
}

impl Admission {
    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides about a new connection from `ip` and adds it to the list.
    pub(crate) fn admit(
        self: &Arc<Self>,
        stream: TcpStream,
        ip: IpAddr,
        settings: &EdgeSettings,
    ) -> (Arc<Link>, Decision) {
        let link = Arc::new(Link::new(stream));
        let client = network_of(ip);
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
            return (link, Decision::Dropped);
        }
        let id = open.next_id;
        open.next_id += 1;
        open.links.insert(id, link.clone());
        let admission = self.clone();
        let decision = if let Some(refusal) = refusal {
            open.refusals += 1;
            link.set_refused();
            Decision::Refused(Registration { admission, id, client: None }, refusal)
        } else {
            *open.per_client.entry(client).or_default() += 1;
            Decision::Admitted(Registration { admission, id, client: Some(client) })
        };
        (link, decision)
    }

    /// Closes the connection that has been idle longest or, if none is idle, the one that has spent longest sending its
    /// request head. Returns `false` if there is no such connection.
    fn make_room(&self, open: &mut OpenConnections) -> bool {
        if open.leaving >= LEAVING_AT_ONCE {
            return false;
        }
        let candidates = open.links.values().filter(|link| !link.is_leaving());
        let oldest = candidates
            .filter_map(|link| Some((link.waiting()?, link)))
            .filter(|(waiting, _)| match waiting {
                Waiting::Idle(_) => true,
                Waiting::WithinHead(since) => since.elapsed() >= HEAD_GRACE,
            })
            .min_by_key(|(waiting, _)| *waiting);
        let Some((_, link)) = oldest else { return false };
        link.leave();
        open.leaving += 1;
        self.evicted.increment();
        true
    }

    /// Counts an admitted connection for which the operating system gave no thread.
    pub(crate) fn count_no_thread(&self) {
        self.refused_thread.increment();
    }

    /// Closes connections as they become idle, until none is open or `timeout` has passed; returns how many are still
    /// open.
    pub(crate) fn close_all(&self, timeout: Duration) -> usize {
        let stopped = Instant::now();
        let mut open = self.lock();
        while !open.links.is_empty() && stopped.elapsed() < timeout {
            // Repeated, because a connection may become idle at any time.
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

impl Drop for Registration {
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
        open.shrink();
        drop(open);
        drop(link);
        self.admission.closed.notify_all();
    }
}
