//! Reads the fields that decide where a request ends and whether its connection is kept, strictly (RFC 9112 §6 and
//! §9.3).

use crate::refusal::Refusal;

/// How the end of a request's body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    None,
    /// The body has this many bytes; at least 1.
    Length(u64),
    /// The body is sent in chunks.
    Chunked,
}

/// The fields of one request that concern framing.
#[derive(Debug, Default)]
pub(crate) struct FramingFields<'a> {
    pub(crate) host: Option<&'a [u8]>,
    pub(crate) expects_continue: bool,
    content_length: Option<u64>,
    chunked: bool,
    persistence: Option<Persistence>,
}

/// What the client says about keeping the connection; if it says nothing, the HTTP version decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Persistence {
    Close,
    KeepAlive,
}

impl<'a> FramingFields<'a> {
    /// Records a field if it concerns framing.
    pub(crate) fn add(&mut self, name: &str, value: &'a [u8]) -> Result<(), Refusal> {
        // Comparing lengths first is cheap for the common case: a field that does not matter here.
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => self.add_host(value),
            6 if name.eq_ignore_ascii_case("expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Refusal::ExpectationFailed);
                }
                self.expects_continue = true;
                Ok(())
            }
            10 if name.eq_ignore_ascii_case("connection") => {
                for option in tokens(value) {
                    if option.eq_ignore_ascii_case(b"close") {
                        self.persistence = Some(Persistence::Close);
                    } else if option.eq_ignore_ascii_case(b"keep-alive") {
                        self.persistence.get_or_insert(Persistence::KeepAlive);
                    }
                }
                Ok(())
            }
            14 if name.eq_ignore_ascii_case("content-length") => self.add_content_length(value),
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::BadRequest("Transfer-Encoding must be chunked, once"));
                }
                self.chunked = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn add_host(&mut self, value: &'a [u8]) -> Result<(), Refusal> {
        if self.host.is_some() {
            return Err(Refusal::BadRequest("Host was sent more than once"));
        }
        let valid = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%:[]".contains(byte);
        if value.is_empty() || !value.iter().all(valid) {
            return Err(Refusal::BadRequest("Host is invalid"));
        }
        self.host = Some(value);
        Ok(())
    }

    fn add_content_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        // RFC 9110 §8.6 allows a list of equal lengths, but the next parser may read it differently.
        if self.content_length.is_some() {
            return Err(Refusal::BadRequest("Content-Length was sent more than once"));
        }
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(Refusal::BadRequest("Content-Length is not a number"));
        }
        let length = value
            .iter()
            .try_fold(0u64, |length, digit| length.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
        // A number that does not fit is larger than every limit, so its exact value does not matter.
        self.content_length = Some(length.unwrap_or(u64::MAX));
        Ok(())
    }

    /// Decides how the body ends, once all fields are known.
    pub(crate) fn decide(&self, minor_version: u8) -> Result<Framing, Refusal> {
        if minor_version > 0 && self.host.is_none() {
            return Err(Refusal::BadRequest("Host is missing"));
        }
        match (self.chunked, self.content_length) {
            (true, Some(_)) => {
                Err(Refusal::BadRequest("Content-Length and Transfer-Encoding exclude each other"))
            }
            (true, None) if minor_version == 0 => {
                Err(Refusal::BadRequest("HTTP/1.0 knows no Transfer-Encoding"))
            }
            (true, None) => Ok(Framing::Chunked),
            (false, Some(0) | None) => Ok(Framing::None),
            (false, Some(length)) => Ok(Framing::Length(length)),
        }
    }

    /// Whether the client is willing to use the connection again (RFC 9112 §9.3).
    pub(crate) fn keep_alive(&self, minor_version: u8) -> bool {
        match self.persistence {
            Some(persistence) => persistence == Persistence::KeepAlive,
            None => minor_version > 0,
        }
    }
}

/// The members of a comma-separated list of tokens, trimmed, without empty ones (RFC 9110 §5.6.1).
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(minor_version: u8, fields: &[(&str, &str)]) -> Result<Framing, u16> {
        let mut framing = FramingFields::default();
        for (name, value) in fields {
            framing.add(name, value.as_bytes()).map_err(|p| p.status())?;
        }
        framing.decide(minor_version).map_err(|p| p.status())
    }

    #[test]
    fn lengths_and_chunks_are_told_apart() {
        assert_eq!(decide(1, &[("Host", "h")]), Ok(Framing::None));
        assert_eq!(decide(1, &[("Host", "h"), ("content-length", "0")]), Ok(Framing::None));
        assert_eq!(decide(1, &[("Host", "h"), ("Content-Length", "012")]), Ok(Framing::Length(12)));
        assert_eq!(decide(1, &[("Host", "h"), ("Transfer-Encoding", "Chunked")]), Ok(Framing::Chunked));
        assert_eq!(decide(0, &[("Content-Length", "5")]), Ok(Framing::Length(5)));
        let huge = "99999999999999999999999999";
        assert_eq!(decide(1, &[("Host", "h"), ("Content-Length", huge)]), Ok(Framing::Length(u64::MAX)));
    }

    #[test]
    fn every_contradiction_is_refused() {
        let host = ("Host", "h");
        for bad in [
            vec![host, ("Content-Length", "5"), ("Transfer-Encoding", "chunked")],
            vec![host, ("Content-Length", "5"), ("Content-Length", "5")],
            vec![host, ("Content-Length", "5, 5")],
            vec![host, ("Content-Length", "+5")],
            vec![host, ("Content-Length", "-1")],
            vec![host, ("Content-Length", "0x10")],
            vec![host, ("Content-Length", "5 ")],
            vec![host, ("Content-Length", "")],
            vec![host, ("Transfer-Encoding", "identity")],
            vec![host, ("Transfer-Encoding", "gzip, chunked")],
            vec![host, ("Transfer-Encoding", "chunked, chunked")],
            vec![host, ("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")],
            vec![host, ("Transfer-Encoding", "\x0bchunked")],
            vec![host, host],
            vec![("Host", "")],
            vec![("Host", "a b")],
            vec![("Host", "user@h")],
            vec![("Host", "h/path")],
            vec![],
        ] {
            assert_eq!(decide(1, &bad), Err(400), "{bad:?}");
        }
        assert_eq!(decide(0, &[("Transfer-Encoding", "chunked")]), Err(400));
        assert_eq!(decide(1, &[host, ("Expect", "a-miracle")]), Err(417));
    }

    #[test]
    fn a_connection_lives_on_only_if_the_client_agrees() {
        for (minor_version, value, expected) in [
            (1, "", true),
            (1, "close", false),
            (1, "Keep-Alive, CLOSE", false),
            (0, "", false),
            (0, "keep-alive", true),
        ] {
            let mut framing = FramingFields::default();
            framing.add("Connection", value.as_bytes()).unwrap();
            assert_eq!(framing.keep_alive(minor_version), expected, "{minor_version} {value}");
        }
    }
}
