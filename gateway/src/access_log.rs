//! The access log: one line for each request, on standard output.
//!
//! A path is written without its query, which may have anything in it, and nothing is written of a request's fields.

use std::fmt;

use edge::Answered;
use foundation::logging;

/// Writes the access log, if it is on.
pub(crate) struct AccessLog {
    is_on: bool,
}

impl AccessLog {
    pub(crate) fn new(is_on: bool) -> Self {
        Self { is_on }
    }

    /// Writes the line of one request.
    pub(crate) fn write(&self, answered: &Answered<'_>) {
        if self.is_on {
            log::info!(target: logging::ACCESS, "{}", Line(answered));
        }
    }
}

/// The line of one request.
struct Line<'a>(&'a Answered<'a>);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answered { client, method, target, status, body_bytes, took, request_id } = self.0;
        let path = target.split(|byte| *byte == b'?').next().unwrap_or_default().escape_ascii();
        let took_ms = took.as_secs_f64() * 1_000.0;
        write!(
            f,
            "client={client} method={method} path={path} status={status} bytes={body_bytes} ms={took_ms:.1} \
             request_id={request_id}"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use edge::Client;

    use super::*;

    #[test]
    fn a_line_has_the_facts_and_no_query() {
        let answered = Answered {
            client: &Client::Named("shop".into()),
            method: "GET",
            target: b"/api/movies/a\x01b?token=s3cret?x",
            status: 200,
            body_bytes: 12,
            took: Duration::from_micros(1_250),
            request_id: "id-1",
        };
        let expected =
            "client=shop method=GET path=/api/movies/a\\x01b status=200 bytes=12 ms=1.2 request_id=id-1";
        assert_eq!(Line(&answered).to_string(), expected);
        let address = Client::Address("2001:db8::1".parse().unwrap());
        let line = Line(&Answered { client: &address, target: b"*", ..answered }).to_string();
        assert!(line.starts_with("client=2001:db8::1 method=GET path=* "), "{line}");
    }
}
