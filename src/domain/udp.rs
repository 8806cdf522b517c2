//! The UDP ports in use, by local address.
//!
//! UDP has no destinations: a port is in use on a local address, whatever it is connected to. bind(addr, 0) fails
//! once every unreserved port of the range is in use there, and so do connect() and sendto() of a socket that is not
//! bound, which first bind to the wildcard (`udp_lib_get_port` in net/ipv4/udp.c, `inet_autobind` in
//! net/ipv4/af_inet.c).

use serde::Serialize;

use super::address::{Address, Family};
use super::fast_map::FastMap;
use super::ports::{PortRange, PortSet};
use super::small_port_set::SmallPortSet;
use super::sources::share;
use super::top::Top;

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

/// UDP ports of the range in use on one local address.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UdpSourceUsage {
    /// The local address; a wildcard for sockets that are not bound to an address.
    #[cfg_attr(test, schemars(with = "String"))]
    pub src_addr: Address,
    /// Distinct unreserved ports of the range that a socket without `SO_REUSEADDR` and `SO_REUSEPORT` cannot bind.
    pub ports: u32,
    /// 0 to 1; 1 exactly when the next bind(addr, 0) fails.
    #[cfg_attr(test, schemars(range(min = 0, max = 1)))]
    pub exhaustion_ratio: f64,
}

/// The UDP ports in use in one network namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UdpUsage {
    /// The local addresses with the most ports in use, fullest first.
    pub by_source: Vec<UdpSourceUsage>,
}

/// Adds up UDP sockets. Memory grows with local addresses, not with sockets.
#[derive(Clone, Debug)]
pub struct UdpCensus {
    available: PortSet,
    /// `bindv6only`: the default of sockets for which `IPV6_V6ONLY` is not known.
    v6_only: bool,
    by_address: FastMap<Address, SmallPortSet>,
    /// On `::`, by sockets with `IPV6_V6ONLY`.
    v6_only_wildcard: SmallPortSet,
    /// On specific IPv6 addresses, by sockets without `IPV6_V6ONLY`, with which the IPv4 wildcard conflicts. bind() sets
    /// the option, connect() does not, and the kernel does not report it for connected sockets: one that was bound first
    /// is counted here too, so that the ports in use on 0.0.0.0 can be too many.
    dual_stack: SmallPortSet,
}

impl UdpCensus {
    /// For one network namespace. `v6_only` is `net.ipv6.bindv6only`.
    #[must_use]
    pub fn new(range: PortRange, reserved: &PortSet, v6_only: bool) -> Self {
        let mut available = PortSet::of_range(range);
        available.subtract(reserved);
        Self {
            available,
            v6_only,
            by_address: FastMap::default(),
            v6_only_wildcard: SmallPortSet::default(),
            dual_stack: SmallPortSet::default(),
        }
    }

    /// Adds a socket.
    #[inline]
    pub fn add(&mut self, socket: &UdpSocket) {
        if !self.available.contains(socket.port) {
            return;
        }
        let v6_only = socket.v6_only.unwrap_or(self.v6_only);
        if v6_only && socket.addr == Address::ANY_V6 {
            self.v6_only_wildcard.insert(socket.port);
            return;
        }
        let ports = self.by_address.entry(socket.addr).or_default();
        ports.insert(socket.port);
        if !v6_only && socket.addr.family() == Family::Ipv6 {
            self.dual_stack.insert(socket.port);
        }
    }

    /// The `n` addresses with the most ports in use. The wildcard addresses always compete.
    #[must_use]
    pub fn finish(&self, n: usize) -> UdpUsage {
        let specific = self.by_address.keys().copied();
        let mut top = Top::new(n);
        let mut in_use = PortSet::new();
        for addr in specific
            .filter(|addr| !addr.is_wildcard())
            .chain([Address::ANY_V4, Address::ANY_V6])
        {
            in_use.clear();
            self.add_conflicts(addr, &mut in_use);
            top.add(addr, in_use.len());
        }
        let size = self.available.len();
        let sorted = top.into_sorted().into_iter();
        let by_source = sorted.map(|(src_addr, ports)| UdpSourceUsage {
            src_addr,
            ports,
            exhaustion_ratio: share(ports, size),
        });
        UdpUsage {
            by_source: by_source.collect(),
        }
    }

    /// The ports that bind(addr, 0) cannot get (`inet_rcv_saddr_equal` in net/ipv4/inet_connection_sock.c).
    fn add_conflicts(&self, addr: Address, in_use: &mut PortSet) {
        let family = addr.family();
        if addr.is_wildcard() {
            // A new socket on `::` has `IPV6_V6ONLY` if that is the default, and leaves IPv4 alone then.
            let is_dual_stack = addr == Address::ANY_V6 && !self.v6_only;
            for (other, ports) in &self.by_address {
                if is_dual_stack || other.family() == family || *other == Address::ANY_V6 {
                    ports.add_to(in_use);
                }
            }
        } else {
            let wildcard = match family {
                Family::Ipv4 => Address::ANY_V4,
                Family::Ipv6 => Address::ANY_V6,
            };
            let others = [addr, wildcard, Address::ANY_V6];
            for ports in others.iter().filter_map(|other| self.by_address.get(other)) {
                ports.add_to(in_use);
            }
        }
        if family == Family::Ipv6 {
            self.v6_only_wildcard.add_to(in_use);
        }
        if addr == Address::ANY_V4 {
            self.dual_stack.add_to(in_use);
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
