//! Answers with 500, 502, 503 and 504, counted by what caused them: which part, and how.

use edge::Refusal;
use foundation::metrics::Counter;

use crate::error::Problem;
use crate::upstream::Reason;

/// The statuses that are counted. Other ones from 500 on say that the client asks for what does not exist (RFC 9110
/// §15.6.6).
pub(crate) const STATUSES: [u16; 4] = [500, 502, 503, 504];
/// The parts that fail beside the services.
const OTHER_PARTS: [&str; 4] = ["billing", "billing_db", "broker", "gateway"];

/// How a part failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It cannot be reached or used.
    Unavailable,
    /// Too many requests wait for it.
    Overloaded,
    /// Its answer is not HTTP, or incomplete.
    Invalid,
    /// It did not answer in time, so the outcome is unknown.
    Timeout,
    /// It answered with the status itself: most likely its database is away.
    Own,
    /// A probe was told that the platform is not ready.
    NotReady,
    /// A bug.
    Internal,
}

impl Kind {
    const NAMES: [&str; 7] =
        ["unavailable", "overloaded", "invalid", "timeout", "own", "not_ready", "internal"];
}

/// Counts failed requests. All counters exist from the start; only a request that fails touches one.
#[derive(Debug)]
pub(crate) struct Failures {
    /// The services, inventory first, then [`OTHER_PARTS`].
    parts: Box<[&'static str]>,
    /// One for each part and [`Kind`], in this order.
    counters: Box<[Counter]>,
}

impl Failures {
    pub(crate) fn new(services: impl Iterator<Item = &'static str>) -> Self {
        let parts: Box<[_]> = services.chain(OTHER_PARTS).collect();
        let counters = (0..parts.len() * Kind::NAMES.len()).map(|_| Counter::default()).collect();
        Self { parts, counters }
    }

    /// Counts an answer, if it is a failure. `service` is the one that was asked, by its position, and `problem` what the
    /// gateway answered instead of it.
    pub(crate) fn count(&self, status: u16, service: Option<usize>, problem: Option<&Problem>) {
        if !STATUSES.contains(&status) {
            return;
        }
        let (part, kind) = match (problem, service.and_then(|service| self.parts.get(service))) {
            (Some(problem), _) => cause(problem, status),
            (None, Some(service)) => (*service, Kind::Own),
            (None, None) => ("gateway", Kind::NotReady),
        };
        let part = self.parts.iter().position(|known| *known == part).unwrap_or(self.parts.len() - 1);
        self.counters[part * Kind::NAMES.len() + kind as usize].increment();
    }

    /// Counts a request that was refused before it was read.
    pub(crate) fn count_refused(&self, refusal: &Refusal) {
        if STATUSES.contains(&refusal.status()) {
            let kind = kind_of_refusal(refusal.status());
            self.counters[(self.parts.len() - 1) * Kind::NAMES.len() + kind as usize].increment();
        }
    }

    /// The part and the kind of each counter.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.parts.iter().flat_map(|part| Kind::NAMES.map(|kind| (*part, kind)))
    }

    /// The counters, in the order of [`Failures::names`].
    pub(crate) fn totals(&self) -> Box<[u64]> {
        self.counters.iter().map(Counter::get).collect()
    }
}

fn cause(problem: &Problem, status: u16) -> (&'static str, Kind) {
    match problem {
        Problem::Upstream { reason: Reason::Local, .. } => ("gateway", Kind::Overloaded),
        Problem::Upstream { service, reason, .. } => {
            let kind = match reason {
                Reason::Unreachable => Kind::Unavailable,
                Reason::Overloaded | Reason::Local => Kind::Overloaded,
                Reason::Invalid => Kind::Invalid,
                Reason::TimedOut => Kind::Timeout,
            };
            (service, kind)
        }
        Problem::NotPublished { may_be_stored: true, .. } => ("broker", Kind::Timeout),
        Problem::NotPublished { .. } => ("broker", Kind::Unavailable),
        _ => ("gateway", kind_of_refusal(status)),
    }
}

fn kind_of_refusal(status: u16) -> Kind {
    if status == 503 { Kind::Overloaded } else { Kind::Internal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_is_counted_once_under_its_part_and_kind() {
        let failures = Failures::new(["inventory", "todo"].into_iter());
        let upstream = |service, reason| Problem::Upstream { service, reason, cause: "why".to_owned() };
        let not_published = |may_be_stored| Problem::NotPublished {
            message_id: "m".to_owned(),
            may_be_stored,
            cause: "why".to_owned(),
        };
        let internal = || Problem::from(Refusal::Internal("a bug"));
        for (service, problem, status, part, kind) in [
            (Some(0), Some(upstream("inventory", Reason::Unreachable)), 503, "inventory", "unavailable"),
            (Some(1), Some(upstream("todo", Reason::TimedOut)), 504, "todo", "timeout"),
            (Some(1), Some(upstream("todo", Reason::Invalid)), 502, "todo", "invalid"),
            (Some(1), Some(upstream("todo", Reason::Overloaded)), 503, "todo", "overloaded"),
            (Some(1), Some(upstream("todo", Reason::Local)), 503, "gateway", "overloaded"),
            (Some(0), None, 503, "inventory", "own"),
            (None, None, 503, "gateway", "not_ready"),
            (None, Some(not_published(false)), 503, "broker", "unavailable"),
            (None, Some(not_published(true)), 503, "broker", "timeout"),
            (None, Some(upstream("billing_db", Reason::Unreachable)), 503, "billing_db", "unavailable"),
            (None, Some(internal()), 500, "gateway", "internal"),
        ] {
            let before = failures.totals();
            failures.count(status, service, problem.as_ref());
            let totals = failures.totals();
            let changed =
                failures.names().zip(totals.iter().zip(&before)).filter(|(_, (now, then))| now > then);
            let changed: Vec<_> = changed.map(|(name, _)| name).collect();
            assert_eq!(changed, [(part, kind)], "{problem:?}");
        }
        let before = failures.totals();
        for status in [200, 404, 501, 505] {
            failures.count(status, Some(0), None);
        }
        assert_eq!(failures.totals(), before);
    }
}
