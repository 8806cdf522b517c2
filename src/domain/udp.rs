//! The UDP ports in use, by local address.
//!
//! UDP has no destinations: a port is in use on a local address, whatever it is connected to. bind(addr, 0) fails
//! once every unreserved port of the range is in use there, and so do connect() and sendto() of a socket that is not
//! bound, which first bind to the wildcard (`udp_lib_get_port` in net/ipv4/udp.c, `inet_autobind` in
//! net/ipv4/af_inet.c).

use super::address::Address;
use super::ports::{PortRange, PortSet};
use super::snapshot::SourceUsage;
use super::sources::SourcePools;

/// A UDP socket that has a local port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpSocket {
    /// Local address. connect() sets it on a socket that was bound to a wildcard.
    pub addr: Address,
    /// Local port.
    pub port: u16,
    /// `IPV6_V6ONLY`. `None` for a connected socket, where the kernel does not report it.
    pub v6_only: Option<bool>,
}

/// The UDP ports in use in one network namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UdpUsage {
    /// The local addresses with the most ports in use, fullest first.
    pub by_source: Vec<SourceUsage>,
}

/// Adds up UDP sockets. Memory grows with local addresses, not with sockets.
#[derive(Clone, Debug)]
pub struct UdpCensus {
    available: PortSet,
    pools: SourcePools,
}

impl UdpCensus {
    /// For one network namespace. `v6_only` is `net.ipv6.bindv6only`.
    pub fn new(range: PortRange, reserved: &PortSet, v6_only: bool) -> Self {
        let mut available = PortSet::of_range(range);
        available.subtract(reserved);
        Self {
            available,
            pools: SourcePools::new(v6_only),
        }
    }

    /// Adds a socket.
    #[inline]
    pub fn add(&mut self, socket: &UdpSocket) {
        if self.available.contains(socket.port) {
            // bind() sets the option, connect() does not, and the kernel does not report it for connected sockets.
            let v6_only = socket.v6_only.unwrap_or(self.pools.keeps_to_v6);
            self.pools.add_connected(socket.addr, socket.port, v6_only);
        }
    }

    /// The `n` addresses with the most ports in use. The wildcard addresses always compete.
    pub fn finish(&self, n: usize) -> UdpUsage {
        UdpUsage {
            by_source: self.pools.usage(n, &self.available, &PortSet::new()),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn ports_of(sockets: &[(&str, u16, Option<bool>)], v6_only: bool, addr: &str) -> u32 {
        let range = PortRange::new(100, 199).unwrap();
        let mut census = UdpCensus::new(range, &[150].into_iter().collect(), v6_only);
        for (addr, port, v6_only) in sockets {
            census.add(&UdpSocket {
                addr: addr.parse().unwrap(),
                port: *port,
                v6_only: *v6_only,
            });
        }
        let addr: Address = addr.parse().unwrap();
        let all = census.finish(100).by_source;
        all.iter()
            .find(|usage| usage.src_addr == addr)
            .map_or(0, |usage| usage.ports)
    }

    #[test]
    fn a_port_is_in_use_where_the_kernel_sees_a_conflict() {
        let sockets = [
            ("127.0.0.1", 100, None),
            ("::1", 101, Some(false)),
            ("0.0.0.0", 102, None),
            ("::", 103, Some(false)),
            ("::", 104, Some(true)),
            ("fd00::1", 105, Some(true)),
            // Several sockets on one port, a reserved port, ports outside the range.
            ("127.0.0.1", 100, None),
            ("127.0.0.1", 150, None),
            ("127.0.0.1", 99, None),
            ("127.0.0.1", 200, None),
        ];
        for (addr, dual_stack, v6_only) in [
            ("127.0.0.1", 3, 3),
            ("::1", 3, 3),
            ("fd00::1", 3, 3),
            ("0.0.0.0", 4, 4),
            ("::", 6, 4),
        ] {
            assert_eq!(ports_of(&sockets, false, addr), dual_stack, "{addr}");
            assert_eq!(
                ports_of(&sockets, true, addr),
                v6_only,
                "{addr}, bindv6only"
            );
        }
    }

    #[test]
    fn the_fullest_addresses_come_first_and_the_ratio_is_of_the_unreserved_ports() {
        let range = PortRange::new(100, 104).unwrap();
        let mut census = UdpCensus::new(range, &[104].into_iter().collect(), false);
        for port in 100..104 {
            let addr = "192.0.2.1".parse().unwrap();
            census.add(&UdpSocket {
                addr,
                port,
                v6_only: None,
            });
        }
        let usage = census.finish(2).by_source;
        let ratios: Vec<f64> = usage.iter().map(|usage| usage.exhaustion_ratio).collect();
        assert_eq!(ratios, [1.0, 1.0]);
        assert_eq!(usage.first().unwrap().src_addr, Address::ANY_V6);
    }
}
