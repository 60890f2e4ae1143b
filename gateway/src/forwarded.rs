//! Whose word is taken for where a request came from: `X-Forwarded-For` and `X-Forwarded-Proto` of trusted proxies.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use edge::{Client, Request};

/// A network, such as `10.0.0.0/8`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u32,
}

impl Network {
    fn has(&self, other: IpAddr) -> bool {
        match (self.address, other.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                differing.leading_zeros() >= self.prefix_bits
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                differing.leading_zeros() >= self.prefix_bits
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const MALFORMED: &str = "has a member that is neither an address nor a network such as 10.0.0.0/8";
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| MALFORMED)?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = prefix.map_or(Ok(bits_max), str::parse).map_err(|_| MALFORMED)?;
        if prefix_bits > bits_max { Err(MALFORMED) } else { Ok(Self { address, prefix_bits }) }
    }
}

/// The proxies whose word is taken.
pub(crate) struct TrustedProxies(Vec<Network>);

impl TrustedProxies {
    pub(crate) fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.has(address))
    }

    /// Finds out from which address a request comes, if a trusted proxy passed it on.
    pub(crate) fn identify(&self, request: &mut Request<'_>) {
        if self.trusts(request.peer_ip())
            && let Some(address) = self.origin(request)
        {
            request.set_client(Client::Address(address));
        }
    }

    /// Each proxy appends the address that it was asked from. So the list is read from its end, as long as proxies are
    /// trusted; what is further to the front is only what a client claims.
    fn origin(&self, request: &Request<'_>) -> Option<IpAddr> {
        let fields: Vec<&[u8]> = request
            .fields()
            .filter(|(name, _)| name.eq_ignore_ascii_case(b"x-forwarded-for"))
            .map(|(_, value)| value)
            .collect();
        let members = fields.iter().flat_map(|value| value.split(|byte| *byte == b','));
        let mut origin = None;
        for member in members.rev() {
            let Some(address) = parse_address(member) else { break };
            origin = Some(address);
            if !self.trusts(address) {
                break;
            }
        }
        origin
    }

    /// The scheme that the client used, for the services: that of the proxy's `X-Forwarded-Proto` if it is trusted.
    pub(crate) fn scheme(&self, request: &Request<'_>) -> &'static str {
        let is_https = || {
            let told = request.field("x-forwarded-proto");
            told.is_some_and(|told| told.eq_ignore_ascii_case(b"https"))
        };
        if self.trusts(request.peer_ip()) && is_https() { "https" } else { "http" }
    }
}

/// An address, with or without a port.
fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address = text.parse().ok().or_else(bare);
    address
        .or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))
        .map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_its_addresses() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("0.0.0.0/0", "192.0.2.1", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::ffff:11.0.0.1"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.has(inside.parse().unwrap()), "{inside}");
            assert!(!network.has(outside.parse().unwrap()), "{outside}");
        }
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "a", "10.0.0.0/", "::/129", "10.0.0.1:80"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_are_read_with_and_without_a_port() {
        for (text, address) in [
            ("192.0.2.1", "192.0.2.1"),
            (" 192.0.2.1:80 ", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(parse_address(text.as_bytes()), address.parse().ok(), "{text}");
        }
        for bad in [&b"unknown"[..], b"_hidden", b"", b"\xff"] {
            assert_eq!(parse_address(bad), None);
        }
    }
}
