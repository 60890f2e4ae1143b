//! The request target, read once and strictly, so that no second reader can take it for something else.
//!
//! What is passed on is the verbatim target. That is only safe when every program understands it alike; therefore a
//! path says whether it had to be normalised, and one that hides a separator is refused outright.

use std::borrow::Cow;

use crate::Problem;

/// A request target.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target<'t> {
    /// The path, decoded and normalised (RFC 3986 §5.2.4), without a trailing slash; `/` for the root. This is what
    /// routes are matched against.
    pub(crate) path: Cow<'t, str>,
    /// Whether the path came in its normal form: without dot segments and empty segments. Of another one, a program
    /// that does not normalise has another opinion.
    pub(crate) is_normal: bool,
    /// The path and the query exactly as they were sent.
    pub(crate) verbatim: &'t [u8],
}

/// What becomes of a path that two programs could read differently, where it matters.
pub(crate) const AMBIGUOUS: Problem = Problem::BadRequest("the path is ambiguous");

/// Reads an origin-form or absolute-form target (RFC 9112 §3.2). The asterisk-form is the caller's business.
pub(crate) fn parse(target: &[u8]) -> Result<Target<'_>, Problem> {
    let verbatim = origin_form(target)?;
    if verbatim.iter().any(|byte| !is_target_byte(*byte)) {
        return Err(Problem::BadRequest("the request target has a character that must be percent-encoded"));
    }
    let (path, query) = match verbatim.iter().position(|byte| *byte == b'?') {
        Some(mark) => (&verbatim[..mark], &verbatim[mark + 1..]),
        None => (verbatim, &b""[..]),
    };
    decode(query).ok_or(Problem::BadRequest("the query is not valid UTF-8 in percent-encoding"))?;
    let decoded = decode_path(path)?;
    let trimmed = decoded.strip_suffix('/').unwrap_or(&decoded);
    // The path begins with a slash, therefore the first member is the empty text before it.
    let is_normal = !trimmed.split('/').skip(1).any(|segment| matches!(segment, "" | "." | ".."));
    let path = if is_normal && !trimmed.is_empty() {
        without_trailing_slash(decoded)
    } else {
        normalise(&decoded).into()
    };
    Ok(Target { path, is_normal, verbatim })
}

/// The part of the target that begins with the path. An absolute-form target names its host itself, and which host a
/// client asks is of no matter here.
fn origin_form(target: &[u8]) -> Result<&[u8], Problem> {
    const MALFORMED: Problem = Problem::BadRequest("the request target is malformed");
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

/// Bytes that may stand in a path or query unencoded. Beyond RFC 3986 these are those that clients commonly send
/// raw: `[`, `]`, `^`, `{`, `|` and `}`. Raw UTF-8 is none of them, because inventory's server closes the connection
/// over it. All others can be carried on in a URI of ureq.
fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\"#<>\\`".contains(&byte)
}

/// Decodes a path and refuses what could be a separator to one program and a part of a name to another.
fn decode_path(path: &[u8]) -> Result<Cow<'_, str>, Problem> {
    // An encoded slash would be a separator to whoever decodes before splitting.
    let hides_separator = path
        .windows(3)
        .any(|escape| escape.eq_ignore_ascii_case(b"%2f") || escape.eq_ignore_ascii_case(b"%5c"));
    if hides_separator {
        return Err(AMBIGUOUS);
    }
    let decoded =
        decode(path).ok_or(Problem::BadRequest("the path is not valid UTF-8 in percent-encoding"))?;
    if decoded.chars().any(char::is_control) {
        return Err(Problem::BadRequest("the path has a control character"));
    }
    Ok(decoded)
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

/// The path with dot segments resolved and empty segments dropped. Nothing is above the root.
fn normalise(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

/// Decodes percent-encoding; `None` when an escape is malformed or the result is not UTF-8 or has a U+0000.
fn decode(text: &[u8]) -> Option<Cow<'_, str>> {
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
            ("/%61pi/mov%69es", "/api/movies"),
            ("/api/movies/%252e%252e", "/api/movies/%2e%2e"),
            ("/caf%C3%A9", "/café"),
            ("http://example.org", "/"),
            ("HTTP://example.org:80/health?x", "/health"),
            ("/a...b/..c/d..", "/a...b/..c/d.."),
        ] {
            let found = parse(target.as_bytes()).unwrap();
            assert_eq!((&*found.path, found.is_normal), (expected, true), "{target}");
        }
    }

    #[test]
    fn dot_segments_and_empty_segments_are_resolved_and_remembered() {
        for (target, expected) in [
            ("//", "/"),
            ("/.", "/"),
            ("/..", "/"),
            ("//api/movies", "/api/movies"),
            ("/api//movies", "/api/movies"),
            ("/api/movies//", "/api/movies"),
            ("/api/./movies/", "/api/movies"),
            ("/api/movies/..", "/api"),
            ("/api/movies/../../health", "/health"),
            ("/api/movies/%2e%2e/.%2E/health", "/health"),
            ("/../../api/x/../movies/1", "/api/movies/1"),
        ] {
            let found = parse(target.as_bytes()).unwrap();
            assert_eq!((&*found.path, found.is_normal), (expected, false), "{target}");
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
    fn what_is_passed_on_is_what_was_sent() {
        let target = parse(b"http://h/%61pi/movies/?title=%25&x={[^|]}").unwrap();
        assert_eq!(target.verbatim, b"/%61pi/movies/?title=%25&x={[^|]}");
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
                    "%25", "%252e", "a", "?", "=", "é", "%c3%a9", "http://h", "#",
                ]),
                0..12,
            ),
        ) {
            let text = format!("/{}", pieces.concat());
            if let Ok(target) = parse(text.as_bytes()) {
                let path: Vec<_> = target.path.split('/').skip(1).filter(|segment| !segment.is_empty()).collect();
                prop_assert_eq!(lenient(&text), path.clone());
                prop_assert_eq!(format!("/{}", path.join("/")), &*target.path);
                let plain = decode(text.split('?').next().unwrap_or_default().as_bytes()).unwrap();
                let literal = plain.strip_suffix('/').unwrap_or(&plain);
                prop_assert_eq!(target.is_normal, literal == if path.is_empty() { "" } else { &*target.path });
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
