//! Whether a service is ready, what it says of itself, and why it is not: for the log with addresses, for clients without.

use serde_json::Value;

use super::failure::{Failure, NOBODY};

/// Longest text of a service that is passed on to people, in characters.
const TEXT_MAX_CHARS: usize = 200;

/// Whether a service is ready.
#[derive(Debug)]
pub(crate) enum Readiness {
    /// It is.
    Ready(ServiceDetails),
    /// It answers that it is not ready.
    NotReady(Unready),
    /// No instance answers.
    Unreachable(Unready),
}

/// What an instance says of itself. All of it may be unknown: a service need not say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceDetails {
    /// Its version.
    pub(crate) version: Option<String>,
    /// How much memory it holds, in bytes.
    pub(crate) memory_bytes: Option<u64>,
    /// The version of its PostgreSQL.
    pub(crate) database_version: Option<String>,
}

/// Why a service is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unready {
    /// For the log, with the address.
    cause: String,
    /// For people who see /api/status: without addresses.
    public: String,
}

impl Readiness {
    /// The cause for the log, if it is not ready.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.unready().map(|unready| unready.cause.as_str())
    }

    /// The same without addresses.
    pub(crate) fn public(&self) -> Option<&str> {
        self.unready().map(|unready| unready.public.as_str())
    }

    fn unready(&self) -> Option<&Unready> {
        match self {
            Self::Ready(_) => None,
            Self::NotReady(unready) | Self::Unreachable(unready) => Some(unready),
        }
    }

    /// No instance is asked, because all are known to be hung.
    pub(super) fn nobody() -> Self {
        let public = "it does not answer: it is stuck, or cannot be reached over the network".to_owned();
        Self::Unreachable(Unready { cause: NOBODY.to_owned(), public })
    }

    /// The service could not be asked.
    pub(super) fn not_asked() -> Self {
        let cause = "asking it failed".to_owned();
        Self::Unreachable(Unready { public: cause.clone(), cause })
    }

    /// What the answer of the instance `at` an address to /ready means.
    pub(super) fn of_answer(at: &str, status: u16, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |value: &Value| value.as_str().map(|text| text.chars().take(TEXT_MAX_CHARS).collect());
        if status == 200 {
            return Self::Ready(ServiceDetails {
                version: text(&body["version"]),
                memory_bytes: body["memory_bytes"].as_u64(),
                database_version: text(&body["postgresql_version"]),
            });
        }
        let cause = format!("{at}: /ready answered {status}");
        let said = text(&body["error"]).or_else(|| text(&body["detail"]));
        let public =
            said.unwrap_or_else(|| format!("it answers {status} when it is asked whether it is ready"));
        Self::NotReady(Unready { cause, public })
    }

    /// The instance `at` an address gave no answer.
    pub(super) fn of_failure(at: &str, failure: &Failure) -> Self {
        let public = match failure {
            Failure::NotConnected { silent: false, .. } => {
                "it takes no connections: it is stopped, or starts"
            }
            Failure::NotConnected { silent: true, .. } => "its machine cannot be reached over the network",
            Failure::Hung(_) | Failure::TimedOut(_) => {
                "it takes connections and does not answer in time: it is stuck, or has too much to do"
            }
            Failure::Lost { .. } => "it closed the connection without an answer",
            Failure::Invalid(_) => "its answer is not HTTP",
            Failure::Local(_) => "the gateway has run out of files, ports or memory",
            Failure::Overloaded | Failure::BadTarget => "it could not be asked",
        };
        Self::Unreachable(Unready { cause: format!("{at}: {}", failure.cause()), public: public.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_service_says_what_it_likes_of_itself() {
        let told = br#"{"status":"ready","version":"1.2.3","memory_bytes":7,"postgresql_version":"16.4"}"#;
        let Readiness::Ready(details) = Readiness::of_answer("a:1", 200, told) else { panic!() };
        let expected = ServiceDetails {
            version: Some("1.2.3".to_owned()),
            memory_bytes: Some(7),
            database_version: Some("16.4".to_owned()),
        };
        assert_eq!(details, expected);
        for other in [&b"ready"[..], b"{}", br#"{"version":7,"memory_bytes":-1}"#, b"[]"] {
            let Readiness::Ready(details) = Readiness::of_answer("a:1", 200, other) else { panic!() };
            assert_eq!(details, ServiceDetails::default());
        }
    }

    #[test]
    fn the_cause_has_the_address_for_the_log_alone() {
        let refused = Failure::NotConnected { silent: false, cause: "connect: refused".to_owned() };
        let hung = Failure::TimedOut("no answer from 10.0.0.7:8080".to_owned());
        let long = format!(r#"{{"error":"{}"}}"#, "é".repeat(300));
        for (readiness, public) in [
            (Readiness::of_failure("10.0.0.7:8080", &refused), "stopped"),
            (Readiness::of_failure("10.0.0.7:8080", &hung), "stuck"),
            (Readiness::of_answer("10.0.0.7:8080", 503, b"no"), "503"),
            (
                Readiness::of_answer("10.0.0.7:8080", 503, br#"{"error":"PostgreSQL is away"}"#),
                "PostgreSQL is away",
            ),
            (Readiness::of_answer("10.0.0.7:8080", 503, long.as_bytes()), &"é".repeat(200)),
        ] {
            assert!(readiness.problem().unwrap().contains("10.0.0.7:8080: "), "{readiness:?}");
            let told = readiness.public().unwrap();
            assert!(told.contains(public) && !told.contains("10.0.0.7"), "{told}");
            assert!(told.chars().count() <= TEXT_MAX_CHARS, "{told}");
        }
    }
}
