//! Who sent a request, and whether that client may do what it asks for. The paths are in `routes.rs`.

use std::sync::Arc;

use edge::{Client, Method, Request};

use crate::error::Problem;
use crate::token_table::Role;
use crate::tokens::Tokens;

/// The longest token that is looked at, in bytes.
const TOKEN_MAX_BYTES: usize = 512;

/// What a route gives access to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Pages and probes.
    Public,
    /// Many records at once: a whole service, or a part of it that is no single record for sure.
    Collection,
    /// A single record.
    Record,
    /// Placing orders, and asking what became of one.
    Orders,
    /// The state of the platform.
    Operations,
}

/// Decides about access. Without tokens everybody may do everything.
pub(crate) struct Access {
    tokens: Option<Arc<Tokens>>,
    /// Whether records can be read without a token.
    public_reads: bool,
}

impl Access {
    pub(crate) fn new(tokens: Option<Arc<Tokens>>, public_reads: bool) -> Self {
        Self { tokens, public_reads }
    }

    /// The role of the client that sent the request, which gets the client's name; `None` if there is no token in it.
    /// Fails if there is one that is not valid, even where none is needed: the client believes that it has access.
    pub(crate) fn authenticate(&self, request: &mut Request<'_>) -> Result<Option<Role>, Problem> {
        let Some(tokens) = &self.tokens else { return Ok(None) };
        if !request.has_field("authorization") {
            return Ok(None);
        }
        let value = request
            .field("authorization")
            .ok_or(Problem::bad_request("Authorization was sent more than once"))?;
        // Credentials of another scheme are for the service.
        let Some(token) = bearer_token(value) else { return Ok(None) };
        if token.is_empty() || token.len() > TOKEN_MAX_BYTES {
            return Err(Problem::bad_request("the token in Authorization is malformed"));
        }
        let owner = tokens.owner(token).map_err(|fault| Problem::Unauthorized(Some(fault)))?;
        request.set_client(Client::Named(owner.name));
        Ok(Some(owner.role))
    }

    /// Whether a client may see what belongs to others.
    pub(crate) fn may_see_all(&self, role: Option<Role>) -> bool {
        self.tokens.is_none() || role == Some(Role::Admin)
    }

    /// Checks that a client may use `method` on `resource`.
    pub(crate) fn authorise(
        &self,
        role: Option<Role>,
        resource: Resource,
        method: Method,
    ) -> Result<(), Problem> {
        if self.tokens.is_none() {
            return Ok(());
        }
        let Some(needed) = self.needed(resource, method) else { return Ok(()) };
        match role {
            None => Err(Problem::Unauthorized(None)),
            Some(role) if role < needed => Err(Problem::Forbidden { needed }),
            Some(_) => Ok(()),
        }
    }

    /// The role that is needed; `None` if no token is.
    fn needed(&self, resource: Resource, method: Method) -> Option<Role> {
        let reading = matches!(method, Method::Get | Method::Head | Method::Options);
        match resource {
            Resource::Public => None,
            // OPTIONS of the gateway's own paths tells nothing but their methods.
            Resource::Orders | Resource::Operations if method == Method::Options => None,
            Resource::Collection | Resource::Record if reading => (!self.public_reads).then_some(Role::Read),
            Resource::Collection if method == Method::Delete => Some(Role::Admin),
            Resource::Collection | Resource::Record | Resource::Orders => Some(Role::Write),
            Resource::Operations => Some(Role::Admin),
        }
    }
}

/// The token in a value of `Authorization` (RFC 6750 §2.1); `None` if it has another scheme.
fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    // Only spaces are allowed here, but a token after a tab must not be passed on to a service as another scheme's.
    let scheme_end = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
    let (scheme, rest) = value.split_at(scheme_end);
    scheme.eq_ignore_ascii_case(b"bearer").then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_scheme_bearer_has_a_token() {
        assert_eq!(bearer_token(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer_token(b"bEARER  abc="), Some(&b"abc="[..]));
        assert_eq!(bearer_token(b"Bearer\tabc"), Some(&b"abc"[..]));
        assert_eq!(bearer_token(b"bearer \t abc"), Some(&b"abc"[..]));
        assert_eq!(bearer_token(b"Bearer"), Some(&b""[..]));
        for other in [&b"Basic YTpi"[..], b"Bearerabc", b"", b"Bear"] {
            assert_eq!(bearer_token(other), None);
        }
    }
}
