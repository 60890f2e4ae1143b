//! Parses the request target strictly, so that no other program can read it differently.
//!
//! Services route on the decoded path, and a proxy passes the verbatim target on. Both are safe only if every program
//! on the way reads the target alike. So a path is refused if normalising would change it: dot segments, empty
//! segments, encoded letters, encoded separators.

use std::borrow::Cow;

use crate::refusal::Refusal;

/// A request target.
#[derive(Debug, PartialEq, Eq)]
pub struct Target<'t> {
    /// The path, decoded, without a trailing slash; `/` for the root. It is already normalised (RFC 3986 §6.2.2);
    /// routes are matched against it.
    pub path: Cow<'t, str>,
    /// The query as it was sent, without its question mark; empty if there is none. [`decode`] reads its parts.
    pub query: &'t [u8],
    /// The path and the query exactly as they were sent.
    pub verbatim: &'t [u8],
}

/// The refusal of a path that two programs could read differently.
const AMBIGUOUS: Refusal = Refusal::BadRequest("the path is ambiguous");

/// Reads an origin-form or absolute-form target (RFC 9112 §3.2). The caller handles the asterisk-form.
pub fn parse(target: &[u8]) -> Result<Target<'_>, Refusal> {
    let verbatim = origin_form(target)?;
    if verbatim.iter().any(|byte| !is_target_byte(*byte)) {
        return Err(Refusal::BadRequest("the request target has a character that must be percent-encoded"));
    }
    let (path, query) = match verbatim.iter().position(|byte| *byte == b'?') {
        Some(mark) => (&verbatim[..mark], &verbatim[mark + 1..]),
        None => (verbatim, &b""[..]),
    };
    decode(query).ok_or(Refusal::BadRequest("the query is not valid UTF-8 in percent-encoding"))?;
    Ok(Target { path: decode_path(path)?, query, verbatim })
}

/// The target from its path on. [`authority`] has the host of an absolute-form target; no route depends on it.
fn origin_form(target: &[u8]) -> Result<&[u8], Refusal> {
    const MALFORMED: Refusal = Refusal::BadRequest("the request target is malformed");
    if target.first() == Some(&b'/') {
        return Ok(target);
    }
    let scheme_end = target.windows(3).position(|window| window == b"://").ok_or(MALFORMED)?;
    let scheme = &target[..scheme_end];
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(MALFORMED);
    }
    let rest = &target[scheme_end + 3..];
    let authority_end = rest.iter().position(|byte| b"/?#\\".contains(byte)).unwrap_or(rest.len());
    let authority = &rest[..authority_end];
    if authority.is_empty() || authority.contains(&b'@') {
        return Err(MALFORMED);
    }
    match rest.get(authority_end) {
        Some(b'/') => Ok(&rest[authority_end..]),
        None => Ok(b"/"),
        Some(_) => Err(MALFORMED),
    }
}

/// The authority of an absolute-form target, which replaces `Host` (RFC 9112 §3.2.2); `None` if it has none. The target
/// may be malformed, which [`parse`] finds out.
pub fn authority(target: &[u8]) -> Option<&[u8]> {
    if target.first() == Some(&b'/') {
        return None;
    }
    let start = target.windows(3).position(|window| window == b"://")? + 3;
    let rest = &target[start..];
    Some(&rest[..rest.iter().position(|byte| b"/?#\\".contains(byte)).unwrap_or(rest.len())])
}

/// Whether a byte may stand in a path or query unencoded. Beyond RFC 3986 this allows what clients commonly send raw:
/// `[`, `]`, `^`, `{`, `|` and `}`. It does not allow raw UTF-8, over which some servers close the connection.
fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\"#<>\\`".contains(&byte)
}

/// Decodes a path; refuses one that programs read differently.
fn decode_path(path: &[u8]) -> Result<Cow<'_, str>, Refusal> {
    for escape in path.windows(3).filter(|window| window[0] == b'%') {
        if let (Some(high), Some(low)) = (hex(escape[1]), hex(escape[2])) {
            let byte = high << 4 | low;
            // A program that decodes before splitting takes an encoded slash for a separator. A program that normalises
            // (RFC 3986 §6.2.2.2) takes an encoded letter, digit or dot for the plain one; a program that compares
            // bytes does not.
            if byte.is_ascii_alphanumeric() || b"/\\-._~".contains(&byte) {
                return Err(AMBIGUOUS);
            }
        }
    }
    let decoded =
        decode(path).ok_or(Refusal::BadRequest("the path is not valid UTF-8 in percent-encoding"))?;
    if decoded.chars().any(char::is_control) {
        return Err(Refusal::BadRequest("the path has a control character"));
    }
    if &*decoded == "/" {
        return Ok(decoded);
    }
    let path = without_trailing_slash(decoded);
    // The path begins with a slash, so the first part is the empty text before it.
    if path.split('/').skip(1).any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(AMBIGUOUS);
    }
    Ok(path)
}

/// The path without its trailing slash.
fn without_trailing_slash(path: Cow<'_, str>) -> Cow<'_, str> {
    let length = path.strip_suffix('/').unwrap_or(&path).len();
    match path {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..length]),
        Cow::Owned(mut text) => {
            text.truncate(length);
            Cow::Owned(text)
        }
    }
}

/// Decodes percent-encoding; `None` when an escape is malformed or the result is not UTF-8 or has a U+0000.
pub fn decode(text: &[u8]) -> Option<Cow<'_, str>> {
    if !text.contains(&b'%') {
        return std::str::from_utf8(text).ok().map(Cow::Borrowed);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => hex(*bytes.next()?)? << 4 | hex(*bytes.next()?)?,
            _ => *byte,
        };
        if byte == 0 {
            return None;
        }
        decoded.push(byte);
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_plain_target_is_its_own_normal_form() {
        for (target, expected) in [
            ("/", "/"),
            ("/?a=b", "/"),
            ("/health", "/health"),
            ("/api/movies/", "/api/movies"),
            ("/api/movies/7/?x=%2e%2e/../", "/api/movies/7"),
            ("/api/movies/%252e%252e", "/api/movies/%2e%2e"),
            ("/caf%C3%A9", "/café"),
            ("/a%20b%3A", "/a b:"),
            ("http://example.org", "/"),
            ("HTTP://example.org:80/health?x", "/health"),
            ("/a...b/..c/d..", "/a...b/..c/d.."),
        ] {
            let found = parse(target.as_bytes()).unwrap();
            assert_eq!(&*found.path, expected, "{target}");
        }
    }

    #[test]
    fn a_path_that_normalising_would_change_is_refused() {
        for target in [
            "//",
            "/.",
            "/..",
            "//health",
            "/api//movies",
            "/api/movies//",
            "/api/./movies/",
            "/api/movies/..",
            "/x/../metrics",
            "/%6detrics",
            "/%4Detrics",
            "/api%2dx",
            "/api/%7Euser",
            "/api/movies/%2e%2e/.%2E/health",
            "/../../api/x/../movies/1",
        ] {
            let refusal = parse(target.as_bytes()).unwrap_err();
            assert_eq!(refusal.public(), AMBIGUOUS.public(), "{target}");
        }
    }

    #[test]
    fn whatever_hides_a_separator_or_is_malformed_is_refused() {
        let bad = r"* health /api/movies%2f..%2fhealth /api%2Fmovies /api/movies/..\..\health /api/movies/%5c..%5Ch
            /api/movies/%00 /api/movies/%0a /api/movies?title=%00 /% /%2 /%zz /?a=% /%ff /?q=%c3%28 /a#b /?a#b
            http:///path http://user@host/ ftp://host/ http://host\@evil/ http://host?query ://host/ /a<b /?a>b
            /a`b";
        for bad in bad.split_ascii_whitespace().chain(["", "/a b", "/\u{7f}", "/?\"a\"", "/é", "/?é"]) {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(parse(b"/\xff").is_err() && parse(b"/?\xff").is_err());
    }

    #[test]
    fn only_an_absolute_target_has_an_authority() {
        assert_eq!(authority(b"http://a.b:1/c?d"), Some(&b"a.b:1"[..]));
        assert_eq!(authority(b"http://a.b"), Some(&b"a.b"[..]));
        for other in [&b"/http://a/b"[..], b"*", b"a:1", b""] {
            assert_eq!(authority(other), None);
        }
    }

    #[test]
    fn what_is_passed_on_is_what_was_sent() {
        let target = parse(b"http://h/api/movies/?title=%25&x={[^|]}").unwrap();
        assert_eq!(target.verbatim, b"/api/movies/?title=%25&x={[^|]}");
        assert_eq!(target.query, b"title=%25&x={[^|]}");
    }

    /// What a lenient reader might make of a path: decode everything twice, take backslashes for slashes, merge
    /// slashes, resolve dots. If even that cannot leave /api/movies, nothing can.
    fn lenient(verbatim: &str) -> Vec<String> {
        let path = verbatim.split('?').next().unwrap_or_default();
        let text = decode(path.as_bytes()).map_or_else(|| path.to_owned(), Cow::into_owned);
        let mut segments = Vec::new();
        for segment in text.split(['/', '\\']) {
            match segment {
                "" | "." => {}
                ".." => {
                    segments.pop();
                }
                _ => segments.push(segment.to_owned()),
            }
        }
        segments
    }

    proptest! {
        #[test]
        fn a_path_under_a_route_stays_there_for_every_reader(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "/", "//", "api", "movies", "health", "..", ".", "%2e", "%2E", "%2f", "%5c", "\\", "%00", "%",
                    "%25", "%252e", "%61", "%20", "a", "?", "=", "é", "%c3%a9", "http://h", "#",
                ]),
                0..12,
            ),
        ) {
            let text = format!("/{}", pieces.concat());
            if let Ok(target) = parse(text.as_bytes()) {
                let path: Vec<_> = target.path.split('/').skip(1).filter(|segment| !segment.is_empty()).collect();
                prop_assert_eq!(lenient(&text), path.clone());
                prop_assert_eq!(format!("/{}", path.join("/")), &*target.path);
                prop_assert_eq!(target.verbatim, text.as_bytes());
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(target) = parse(&bytes) {
                prop_assert!(target.path.starts_with('/'));
                prop_assert!(target.path == "/" || !target.path.ends_with('/'));
            }
        }
    }
}
