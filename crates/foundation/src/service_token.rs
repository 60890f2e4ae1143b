//! The token by which a service knows its gateway, so that whoever merely reaches the service's port is refused.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::{Environment, Error};

/// The header field that carries the token, in lower case. A field of its own, since `Authorization` is the client's.
pub const FIELD: &str = "x-service-token";
/// The value of `WWW-Authenticate` in a refusal, so that the gateway does not take it for one of the client's token.
pub const SCHEME: &str = "ServiceToken";
/// How long a token is, in bytes.
const LENGTH: std::ops::RangeInclusive<usize> = 16..=128;

/// `SERVICE_TOKEN`: the secret that a gateway and the services behind it share.
#[derive(Clone)]
pub struct ServiceToken {
    text: String,
    digest: [u8; 32],
}

impl ServiceToken {
    /// Reads `SERVICE_TOKEN`; `None` if it is not set. Only the `settings.rs` of a service calls this.
    pub fn read(environment: &Environment) -> Result<Option<Self>, Error> {
        let name = "SERVICE_TOKEN";
        let text = environment.text(name, "");
        if text.is_empty() {
            return Ok(None);
        }
        if !LENGTH.contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::setting(name, "must be 16 to 128 visible ASCII characters"));
        }
        Ok(Some(Self { digest: digest(text.as_bytes()), text }))
    }

    /// The value of the field.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether `presented` is this token. Digests are compared, and all of their bytes, so the time that this takes
    /// does not depend on how much of a wrong token is right.
    pub fn is(&self, presented: &[u8]) -> bool {
        let presented = digest(presented);
        self.digest.iter().zip(presented).fold(0, |difference, (own, other)| difference | (own ^ other)) == 0
    }
}

impl fmt::Debug for ServiceToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceToken(…)")
    }
}

fn digest(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<Option<ServiceToken>, Error> {
        ServiceToken::read(&Environment::from_pairs([("SERVICE_TOKEN", value)]))
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let token = read("sixteen-letters!").unwrap().unwrap();
        assert!(token.is(b"sixteen-letters!"));
        for other in [&b""[..], b"sixteen-letters", b"sixteen-letters!!", b"Sixteen-letters!"] {
            assert!(!token.is(other));
        }
        assert!(!format!("{token:?}").contains("sixteen"));
    }

    #[test]
    fn a_token_that_is_too_short_is_refused_without_being_repeated() {
        assert!(read("").unwrap().is_none());
        for bad in ["short", "sixteen letters!", &"x".repeat(129)] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains("SERVICE_TOKEN") && !error.contains(bad), "{error}");
        }
    }
}
