//! Who sends requests.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Who sent a request: at first the address of the connection, until the service finds out more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// The address of the connection, or the one that a trusted proxy names.
    Address(IpAddr),
    /// A client that the service knows by name.
    Named(Arc<str>),
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// What counts as one client: an IPv4 address, or an IPv6 /64 network, the least that a subscriber gets.
pub fn network_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) & !u128::from(u64::MAX)).into()),
        ip @ IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_and_a_mapped_ipv4_address_are_one_client() {
        let network = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::9"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
    }
}
