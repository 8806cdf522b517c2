//! The ports available to bind(addr, 0): one pool for each local address, of TCP or of UDP.
//!
//! bind() cannot know where the socket will connect to, so that a port is in use on an address as
//! soon as any socket has it there (`inet_csk_get_port` in net/ipv4/inet_connection_sock.c), not
//! only for one destination. TIME-WAIT sockets count whatever `tcp_tw_reuse` says. With
//! `ip_autobind_reuse` a socket with SO_REUSEADDR can share a port with others that have it; no
//! table shows which do, so that the pools are those of sockets without.

use serde::Serialize;

use super::address::{Address, Family};
use super::fast_map::FastMap;
use super::ports::PortSet;
use super::small_port_set::SmallPortSet;
use super::socket::PortOwner;
use super::top::Top;

/// The ports available to bind(addr, 0) on one local address.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SourceUsage {
    /// The local address; a wildcard for sockets that are not bound to an address.
    #[cfg_attr(test, schemars(with = "String"))]
    pub src_addr: Address,
    /// Distinct unreserved ports of the range in use on this address.
    pub ports: u32,
    /// Those among them that something listens on, on whatever address. 0 for UDP.
    #[serde(skip)]
    pub listened: u32,
    /// Those among them that a wildcard socket owns: in use on any further address as well.
    #[serde(skip)]
    pub(crate) on_wildcards: u32,
    /// 0 to 1; 1 exactly when bind(addr, 0) fails.
    #[cfg_attr(test, schemars(range(min = 0, max = 1)))]
    pub exhaustion_ratio: f64,
}

/// The ports in use on each address, wildcard addresses being addresses of their own.
#[derive(Clone, Debug, Default)]
pub(super) struct SourcePools {
    by_address: FastMap<Address, SmallPortSet>,
    /// TCP: what is listening or bound, and whether it keeps to IPv6.
    owners: FastMap<(Address, u16), bool>,
    /// In use on `::` by sockets that keep to IPv6.
    v6_only_wildcard: SmallPortSet,
    /// In use by IPv6 sockets that connect() bound and that do not keep to IPv6. Their port is in use on the
    /// IPv4 wildcard too, though on no other IPv4 address (observed on Linux 6.18). It is not if they were
    /// bound to an address before connect(), which no table shows: then the value of 0.0.0.0 is too high.
    dual_stack: SmallPortSet,
    /// `net.ipv6.bindv6only`: sockets keep to IPv6 unless they ask otherwise.
    pub(super) keeps_to_v6: bool,
}

impl SourcePools {
    pub(super) fn new(keeps_to_v6: bool) -> Self {
        Self {
            keeps_to_v6,
            ..Self::default()
        }
    }

    /// A TCP socket that listens or is bound.
    pub(super) fn add_owner(&mut self, owner: &PortOwner) {
        let v6_only = owner.v6_only && owner.addr.is_wildcard();
        let of_all = self.owners.entry((owner.addr, owner.port));
        *of_all.or_insert(v6_only) &= v6_only;
        self.add_bound(owner.addr, owner.port, v6_only);
    }

    /// A connected TCP socket on a port that something listens on. As a rule it is the listener's own,
    /// and in use where the listener uses it. But connect() may have taken the same port on an
    /// address that the listener, which came later, does not cover.
    #[inline]
    pub(super) fn add_listened(&mut self, address: Address, port: u16) {
        if !self.is_covered(address, port) {
            self.add_connected(address, port, self.keeps_to_v6);
        }
    }

    /// Whether something that listens or is bound has the port on this address.
    fn is_covered(&self, address: Address, port: u16) -> bool {
        let owner = |address| self.owners.get(&(address, port));
        let is_v4 = address.family() == Family::Ipv4;
        owner(address).is_some()
            || owner(Address::ANY_V6).is_some_and(|v6_only| !(*v6_only && is_v4))
            || (is_v4 && owner(Address::ANY_V4).is_some())
    }

    fn add_bound(&mut self, address: Address, port: u16, v6_only: bool) {
        if v6_only && address == Address::ANY_V6 {
            self.v6_only_wildcard.insert(port);
        } else {
            self.by_address.entry(address).or_default().insert(port);
        }
    }

    /// A socket that was perhaps bound by connect().
    pub(super) fn add_connected(&mut self, address: Address, port: u16, v6_only: bool) {
        self.add_bound(address, port, v6_only);
        if !v6_only && address.family() == Family::Ipv6 {
            self.dual_stack.insert(port);
        }
    }

    /// Outgoing TCP sockets.
    pub(super) fn add_outgoing(&mut self, address: Address, ports: &SmallPortSet) {
        let in_use = self.by_address.entry(address).or_default();
        in_use.union_with(ports);
        if !self.keeps_to_v6 && address.family() == Family::Ipv6 {
            self.dual_stack.union_with(ports);
        }
    }

    /// How full the pools of the `n` worst addresses are, of the ports that may be drawn. The
    /// wildcard addresses, from which a socket draws that is bound to no address, always compete.
    pub(super) fn usage(
        &self,
        n: usize,
        drawable: &PortSet,
        listening: &PortSet,
    ) -> Vec<SourceUsage> {
        let mut top = Top::new(n);
        let addresses = self.by_address.keys();
        let specific = addresses.filter(|address| !address.is_wildcard());
        for address in specific.chain(&[Address::ANY_V4, Address::ANY_V6]) {
            let taken = self.taken_from(*address);
            top.add(*address, taken.len_within(drawable));
        }
        let usage = |(src_addr, ports): (Address, u32)| {
            let (mut listened, mut on_wildcards) = (self.taken_from(src_addr), PortSet::new());
            listened.intersect_with(listening);
            self.add_covering(src_addr.family(), &mut on_wildcards);
            SourceUsage {
                src_addr,
                ports,
                listened: listened.len_within(drawable),
                on_wildcards: on_wildcards.len_within(drawable),
                exhaustion_ratio: share(ports, drawable.len()),
            }
        };
        top.into_sorted().map(usage).collect()
    }

    /// The ports that bind(address, 0) cannot have: those of the same address, of the wildcards that
    /// cover it, and for a wildcard those of the addresses that it covers (`inet_rcv_saddr_equal` in
    /// net/ipv4/inet_connection_sock.c).
    fn taken_from(&self, address: Address) -> PortSet {
        let mut taken = PortSet::new();
        let is_covered = |one: Address| match address {
            Address::ANY_V4 => one.family() == Family::Ipv4,
            // Dual-stack unless `bindv6only` says otherwise.
            Address::ANY_V6 => !self.keeps_to_v6 || one.family() == Family::Ipv6,
            _ => false,
        };
        if address.is_wildcard() {
            let covered = self.by_address.iter().filter(|(one, _)| is_covered(**one));
            covered.for_each(|(_, ports)| ports.add_to(&mut taken));
        } else if let Some(ports) = self.by_address.get(&address) {
            ports.add_to(&mut taken);
        }
        if address == Address::ANY_V4 {
            self.dual_stack.add_to(&mut taken);
        }
        self.add_covering(address.family(), &mut taken);
        taken
    }

    /// The ports that wildcard sockets own on every address of a family.
    fn add_covering(&self, family: Family, taken: &mut PortSet) {
        let of = |address| self.by_address.get(&address);
        let same_family = match family {
            Family::Ipv4 => of(Address::ANY_V4),
            Family::Ipv6 => Some(&self.v6_only_wildcard),
        };
        for ports in [of(Address::ANY_V6), same_family].into_iter().flatten() {
            ports.add_to(taken);
        }
    }
}

/// Where there is nothing to share, everything is in use: 1.
pub(super) fn share(part: u32, whole: u32) -> f64 {
    if whole == 0 {
        1.0
    } else {
        f64::from(part) / f64::from(whole)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn addr(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn owner(address: &str, port: u16, v6_only: bool) -> PortOwner {
        PortOwner {
            addr: addr(address),
            port,
            listening: true,
            v6_only,
        }
    }

    fn ports(pools: &SourcePools, address: &str) -> Option<u32> {
        let drawable: PortSet = (100..200).collect();
        let usage = pools.usage(100, &drawable, &PortSet::new());
        let mut matching = usage.iter().filter(|pool| pool.src_addr == addr(address));
        matching.next().map(|pool| pool.ports)
    }

    #[test]
    fn wildcards_and_the_addresses_they_cover_use_each_others_ports() {
        let mut pools = SourcePools::default();
        for owner in [
            owner("127.0.0.1", 100, false),
            owner("::1", 101, false),
            owner("0.0.0.0", 102, false),
            owner("::", 103, false),
            owner("::", 104, true),
        ] {
            pools.add_owner(&owner);
        }
        for (address, expected) in [
            // 100, 102, 103.
            ("127.0.0.1", Some(3)),
            // 101, 103, 104.
            ("::1", Some(3)),
            // The same as 127.0.0.1; ::1 was bound and is IPv6 only.
            ("0.0.0.0", Some(3)),
            ("::", Some(5)),
            ("127.0.0.2", None),
        ] {
            assert_eq!(ports(&pools, address), expected, "{address}");
        }
    }

    #[test]
    fn ports_of_wildcards_are_in_use_on_an_additional_address_too() {
        let mut pools = SourcePools::default();
        for owner in [
            owner("127.0.0.1", 100, false),
            owner("0.0.0.0", 101, false),
            owner("::", 102, false),
            owner("::", 103, true),
        ] {
            pools.add_owner(&owner);
        }
        let drawable: PortSet = (100..200).collect();
        let pools = pools.usage(100, &drawable, &PortSet::new());
        let on_wildcards = |address: &str| {
            let mut matching = pools.iter().filter(|pool| pool.src_addr == addr(address));
            matching.next().map(|pool| pool.on_wildcards)
        };
        assert_eq!(on_wildcards("127.0.0.1"), Some(2));
        assert_eq!(on_wildcards("::"), Some(2));
    }

    #[test]
    fn with_bindv6only_the_ipv6_wildcard_does_not_use_ports_of_ipv4() {
        let mut pools = SourcePools::new(true);
        for owner in [
            owner("127.0.0.1", 100, false),
            owner("0.0.0.0", 101, false),
            owner("::1", 102, false),
            owner("::", 103, false),
            owner("::", 104, true),
        ] {
            pools.add_owner(&owner);
        }
        assert_eq!(ports(&pools, "::"), Some(3));
        assert_eq!(ports(&pools, "0.0.0.0"), Some(3));
        let mut by_connect = SmallPortSet::default();
        by_connect.insert(105);
        pools.add_outgoing(addr("2001:db8::1"), &by_connect);
        assert_eq!(ports(&pools, "::"), Some(4));
        assert_eq!(ports(&pools, "0.0.0.0"), Some(3));
    }

    #[test]
    fn ports_of_outgoing_ipv6_sockets_are_in_use_on_the_ipv4_wildcard_too() {
        let mut pools = SourcePools::default();
        let mut ports_in_use = SmallPortSet::default();
        ports_in_use.insert(100);
        pools.add_outgoing(addr("2001:db8::1"), &ports_in_use);
        pools.add_outgoing(addr("127.0.0.1"), &SmallPortSet::default());
        for (address, expected) in [
            ("2001:db8::1", 1),
            ("127.0.0.1", 0),
            ("0.0.0.0", 1),
            ("::", 1),
        ] {
            assert_eq!(ports(&pools, address), Some(expected), "{address}");
        }
    }

    #[test]
    fn a_connected_socket_is_counted_where_the_listener_on_its_port_is_not() {
        let mut pools = SourcePools::default();
        pools.add_owner(&owner("127.0.0.1", 100, false));
        pools.add_owner(&owner("::", 101, true));
        // Sockets that these listeners accepted: nothing changes.
        pools.add_listened(addr("127.0.0.1"), 100);
        pools.add_listened(addr("2001:db8::1"), 101);
        assert_eq!(ports(&pools, "127.0.0.1"), Some(1));
        assert_eq!(ports(&pools, "2001:db8::1"), None);
        assert_eq!(ports(&pools, "0.0.0.0"), Some(1));
        // Sockets of other addresses: connect() chose these ports before.
        pools.add_listened(addr("127.0.0.2"), 100);
        pools.add_listened(addr("127.0.0.2"), 101);
        pools.add_listened(addr("2001:db8::1"), 100);
        assert_eq!(ports(&pools, "127.0.0.2"), Some(2));
        // 100, and 101 by the wildcard.
        assert_eq!(ports(&pools, "2001:db8::1"), Some(2));
        assert_eq!(ports(&pools, "0.0.0.0"), Some(2));
    }
}
