//! Who asks: basic authentication (RFC 7617) with the users of the broker.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use foundation::listener::PageRequest;

use super::request::{ApiError, ApiResult};
use crate::broker::Broker;
use crate::logins::Protocol;
use crate::users::User;

/// The user who sent a request. A wrong password is answered only after the delay that [`crate::logins`] imposes.
pub(super) fn authenticate<'b>(broker: &'b Broker, request: &PageRequest<'_>) -> ApiResult<&'b User> {
    let Some(field) = request.field("Authorization") else {
        return Err(ApiError::NotAuthorized("Login failed"));
    };
    let Some((name, password)) = credentials(field) else {
        return Err(ApiError::NotAuthorized("Basic authentication is needed"));
    };
    let user = broker.log_in((&name, &password), request.client(), Protocol::Http);
    let user = user.ok_or(ApiError::NotAuthorized("Login failed"))?;
    let changes = !matches!(request.method(), "GET" | "HEAD");
    if user.may_manage(changes) { Ok(user) } else { Err(ApiError::NotAuthorized("Not management user")) }
}

/// Name and password.
fn credentials(field: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let (scheme, encoded) = field.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut name = STANDARD.decode(encoded.trim()).ok()?;
    let colon = name.iter().position(|byte| *byte == b':')?;
    let password = name.split_off(colon + 1);
    name.pop();
    Some((name, password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_may_contain_colons() {
        let expected = Some((b"user".to_vec(), b"a:b".to_vec()));
        assert_eq!(credentials("Basic dXNlcjphOmI="), expected);
        assert_eq!(credentials("basic  dXNlcjphOmI="), expected);
        for malformed in ["Basic", "Basic dXNlcg==", "Basic %", "Bearer dXNlcjphOmI=", ""] {
            assert_eq!(credentials(malformed), None, "{malformed}");
        }
    }
}
