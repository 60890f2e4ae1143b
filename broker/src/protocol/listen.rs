//! Binds the addresses on which clients are served.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;

use rustix::io::Errno;

use crate::error::Error;

/// Binds all addresses of all `hosts`: names or addresses, separated by commas. If `port` is 0, the operating system
/// chooses one for all of them. `localhost` is both loopback addresses (RFC 6761 §6.3). A name may have
/// addresses that this machine lacks, as `::1` without IPv6, but not only such.
pub(crate) fn bind_all(hosts: &str, mut port: u16) -> Result<Vec<Arc<TcpListener>>, Error> {
    let mut bound: Vec<SocketAddr> = Vec::new();
    let mut listeners = Vec::new();
    for host in hosts.split(',').map(str::trim) {
        let (mut served, mut refused) = (false, ErrorKind::NotFound.into());
        for address in look_up(host).map_err(Error::io(format!("look up '{host}'")))? {
            let mut address = SocketAddr::new(address, port);
            if bound.contains(&address) {
                served = true;
                continue;
            }
            let listener = match TcpListener::bind(address) {
                Ok(listener) => listener,
                Err(error) if is_missing_here(&error) => {
                    log::warn!("this machine has no address {}, a part of '{host}'", address.ip());
                    refused = error;
                    continue;
                }
                Err(error) => return Err(Error::io(format!("listen on {address}"))(error)),
            };
            address = listener.local_addr().map_err(Error::io("read the listening address"))?;
            port = address.port();
            bound.push(address);
            listeners.push(Arc::new(listener));
            served = true;
        }
        if !served {
            return Err(Error::io(format!("listen on '{host}'"))(refused));
        }
    }
    Ok(listeners)
}

fn look_up(host: &str) -> std::io::Result<Vec<IpAddr>> {
    if host == "localhost" {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let name = host.trim_start_matches('[').trim_end_matches(']');
    Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

fn is_missing_here(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_hosts_share_the_port_that_the_system_chose() {
        let listeners = bind_all("127.0.0.1, 127.0.0.2,localhost", 0).unwrap();
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        assert!(addresses.len() >= 2, "{addresses:?}");
        assert!(addresses.iter().all(|address| address.port() == addresses[0].port()), "{addresses:?}");
        let taken = bind_all("127.0.0.1", addresses[0].port()).unwrap_err().to_string();
        assert!(taken.contains(&addresses[0].to_string()), "{taken}");
    }

    #[test]
    fn an_address_of_another_machine_is_refused_by_name() {
        // RFC 5737: for documentation.
        for hosts in ["192.0.2.1", "127.0.0.1,192.0.2.1", ""] {
            let error = bind_all(hosts, 0).unwrap_err().to_string();
            assert!(error.contains("'192.0.2.1'") || hosts.is_empty(), "{error}");
        }
    }
}
