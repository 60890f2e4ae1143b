//! The host names under which the gateway serves. Any other one is answered 421.
//!
//! A page elsewhere can reach a gateway on somebody's machine or in somebody's network by *DNS rebinding*: the page's own
//! name is made to resolve to that address, so that the browser takes the gateway for the page's own server. The request
//! then has the page's name in `Host`. An address in `Host` is safe, because rebinding needs a name.

use std::net::IpAddr;

use edge::{Request, path};

use crate::error::Problem;

/// The host names under which the gateway serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// All.
    Any,
    /// These.
    Listed(Vec<String>),
    /// These names of the machine, `localhost` and the names below it, and all addresses.
    Machine(Vec<String>),
}

impl Names {
    /// `configured` is `GATEWAY_ALLOWED_HOSTS`. Without it, all names are served if tokens protect the gateway, for then
    /// a page gains nothing; else only those of the machine.
    pub(crate) fn new(configured: Option<&[String]>, tokens_required: bool) -> Self {
        match configured {
            Some(names) if names.iter().any(|name| name == "*") => Self::Any,
            Some(names) => Self::Listed(names.iter().map(|name| without_port(name).to_owned()).collect()),
            None if tokens_required => Self::Any,
            None => Self::Machine(names_of_machine()),
        }
    }

    /// Refuses a request for another host.
    pub(crate) fn check(&self, request: &Request<'_>) -> Result<(), Problem> {
        // An authority in the target replaces Host (RFC 9112 §3.2.2). HTTP/1.0 needs neither, and browsers always send
        // Host.
        let host = path::authority(request.target()).unwrap_or(request.host());
        if *self == Self::Any || host.is_empty() || self.has(host) {
            Ok(())
        } else {
            Err(Problem::Misdirected)
        }
    }

    fn has(&self, host: &[u8]) -> bool {
        let Ok(host) = std::str::from_utf8(host) else { return false };
        let name = without_port(host);
        let listed = |names: &[String]| names.iter().any(|own| own.eq_ignore_ascii_case(name));
        match self {
            Self::Any => true,
            Self::Listed(names) => listed(names),
            Self::Machine(names) => {
                let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
                bare.unwrap_or(name).parse::<IpAddr>().is_ok() || is_localhost(name) || listed(names)
            }
        }
    }
}

/// Whether the name always means this machine (RFC 6761 §6.3).
fn is_localhost(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    last.eq_ignore_ascii_case("localhost")
}

/// The name without its port and the dot at its end.
fn without_port(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        // In an address such as [::1], a colon is part of the name.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !is_cut(name) => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

/// Whether the text begins with a bracket that it does not close.
fn is_cut(name: &str) -> bool {
    name.starts_with('[') && !name.ends_with(']')
}

/// What the machine calls itself, whole and without its domain, also as other machines nearby find it by multicast DNS
/// (RFC 6762).
fn names_of_machine() -> Vec<String> {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy().into_owned();
    let short = name.split('.').next().unwrap_or_default().to_owned();
    let local = format!("{short}.local");
    [name, short, local].into_iter().filter(|name| !name.is_empty() && !name.starts_with('.')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_serves_its_own_names_and_any_address() {
        let names = Names::Machine(["box".to_owned(), "box.local".to_owned()].into());
        for own in [
            "localhost",
            "LocalHost:3000",
            "a.localhost:80",
            "box",
            "Box.local.:3000",
            "127.0.0.1:3000",
            "192.168.56.10",
            "[::1]:3000",
            "[fe80::1]",
        ] {
            assert!(names.has(own.as_bytes()), "{own}");
        }
        for other in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:3000",
            "notlocalhost",
            "[::1",
            "",
        ] {
            assert!(!names.has(other.as_bytes()), "{other}");
        }
        assert!(!names_of_machine().is_empty());
    }

    #[test]
    fn a_list_holds_as_it_is_and_a_star_means_all() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let names = Names::new(Some(&list(&["Shop.example", "10.0.0.1"])), true);
        assert!(names.has(b"shop.example:443") && names.has(b"10.0.0.1:80"));
        assert!(!names.has(b"localhost") && !names.has(b"10.0.0.2") && !names.has(b"www.shop.example"));
        assert_eq!(Names::new(Some(&list(&["a", "*"])), false), Names::Any);
        assert_eq!(Names::new(None, true), Names::Any);
        assert!(!Names::new(None, false).has(b"evil.example"));
    }
}
