//! The JSON around the records of a page, where lists are counted: `{"count":…,"next":…,"previous":…,"results":…}`.

use edge::Request;

use crate::query::{LIMIT_MAX, Selection};
use crate::table::Table;

/// What follows the records.
pub(crate) const CLOSING: &[u8] = b"}";

/// What precedes the records: the number of all that the filters leave, and the URLs of the pages around this one.
pub(crate) fn opening(table: &Table, selection: &Selection, records: u64, request: &Request<'_>) -> Vec<u8> {
    let limit = selection.limit.unwrap_or(LIMIT_MAX);
    let base = base(
        request.field("x-forwarded-host").unwrap_or_else(|| request.host()),
        request.field("x-forwarded-proto"),
    );
    let url = |offset| {
        let query = selection.offset_query(table.resource, offset);
        serde_json::Value::from(format!("{base}{}?{query}", table.resource.path)).to_string()
    };
    let null = || "null".to_owned();
    let following = selection.offset + limit;
    let next = if (following as u64) < records { url(following) } else { null() };
    let previous = if selection.offset > 0 { url(selection.offset.saturating_sub(limit)) } else { null() };
    format!(r#"{{"count":{records},"next":{next},"previous":{previous},"results":"#).into_bytes()
}

/// Scheme and authority of the URLs, as the client used them; empty, which makes them relative, if the host is unknown.
fn base(host: &[u8], scheme: Option<&[u8]>) -> String {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(byte);
    match std::str::from_utf8(host) {
        Ok(host) if !host.is_empty() && host.bytes().all(|byte| is_allowed(&byte)) => {
            let scheme = if scheme == Some(b"https") { "https" } else { "http" };
            format!("{scheme}://{host}")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_could_mean_something_else_is_left_out() {
        assert_eq!(base(b"example.org:8080", None), "http://example.org:8080");
        assert_eq!(base(b"[::1]", Some(b"https")), "https://[::1]");
        for host in [&b""[..], b"a/b", b"a b", b"a,b", b"a@b", b"\xff"] {
            assert_eq!(base(host, None), "");
        }
    }
}
