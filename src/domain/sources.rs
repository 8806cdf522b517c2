//! The pools that bind(addr, 0) draws from: one for each local address.
//!
//! bind() cannot know where the socket will connect to, so that a port is taken on an address as
//! soon as any socket has it there (`inet_csk_get_port` in net/ipv4/inet_connection_sock.c), not
//! only for one destination. TIME-WAIT sockets count whatever `tcp_tw_reuse` says.

use super::address::{Address, Family};
use super::fast_map::FastMap;
use super::held_ports::HeldPortSet;
use super::ports::PortSet;
use super::snapshot::SourceFigures;
use super::socket::PortOwner;
use super::top::Top;

/// The ports held on each address, wildcard addresses being addresses of their own.
#[derive(Clone, Debug, Default)]
pub(super) struct SourcePools {
    by_address: FastMap<Address, HeldPortSet>,
    /// Held on `::` by sockets that keep to IPv6.
    v6_only_wildcard: HeldPortSet,
    /// Held by outgoing sockets of IPv6. Their port is taken on the IPv4 wildcard too, though on no
    /// other IPv4 address (observed on Linux 6.18). It is not if they were bound to an address
    /// before connect(), which the table does not tell: then 0.0.0.0 is told too high.
    outgoing_v6: HeldPortSet,
}

impl SourcePools {
    /// A connected socket that is not outgoing, on a port of the range.
    #[inline]
    pub(super) fn add(&mut self, address: Address, port: u16) {
        self.by_address.entry(address).or_default().insert(port);
    }

    /// A socket that listens or is merely bound.
    pub(super) fn add_owner(&mut self, owner: &PortOwner) {
        if owner.v6_only && owner.addr.is_wildcard() {
            self.v6_only_wildcard.insert(owner.port);
        } else {
            self.add(owner.addr, owner.port);
        }
    }

    /// Outgoing sockets.
    pub(super) fn add_outgoing(&mut self, address: Address, ports: &HeldPortSet) {
        self.by_address
            .entry(address)
            .or_default()
            .union_with(ports);
        if address.family() == Family::Ipv6 {
            self.outgoing_v6.union_with(ports);
        }
    }

    /// Every port that any socket holds on any address.
    pub(super) fn held_anywhere(&self) -> PortSet {
        let mut held = PortSet::new();
        for ports in self.by_address.values().chain([&self.v6_only_wildcard]) {
            ports.add_to(&mut held);
        }
        held
    }

    /// How full the pools of the `n` worst addresses are, of the ports that may be drawn. The
    /// wildcard addresses, from which a socket draws that is bound to no address, always compete.
    pub(super) fn figures(&self, n: usize, drawable: &PortSet) -> Vec<SourceFigures> {
        let size = drawable.len();
        let mut top = Top::new(n);
        let mut scratch = PortSet::new();
        let wildcards = [Address::ANY_V4, Address::ANY_V6];
        let specific = self
            .by_address
            .keys()
            .filter(|address| !address.is_wildcard());
        for address in specific.chain(&wildcards) {
            scratch.clear();
            self.add_taken_from(*address, &mut scratch);
            scratch.intersect_with(drawable);
            top.add(*address, scratch.len());
        }
        let figures = top
            .into_sorted()
            .into_iter()
            .map(|(src_addr, ports)| SourceFigures {
                src_addr,
                ports,
                exhaustion_ratio: share(ports, size),
            });
        figures.collect()
    }

    /// The ports that bind(address, 0) cannot have: those of the same address, of the wildcards that
    /// cover it, and for a wildcard those of the addresses that it covers.
    fn add_taken_from(&self, address: Address, taken: &mut PortSet) {
        let of = |address| self.by_address.get(&address);
        if address == Address::ANY_V6 {
            // Dual-stack, as sockets are unless they ask for IPV6_V6ONLY: it covers all.
            taken.union_with(&self.held_anywhere());
            return;
        }
        if address == Address::ANY_V4 {
            let v4 = self
                .by_address
                .iter()
                .filter(|(held, _)| held.family() == Family::Ipv4);
            for (_, ports) in v4 {
                ports.add_to(taken);
            }
            self.outgoing_v6.add_to(taken);
        }
        let same_family = match address.family() {
            Family::Ipv4 => of(Address::ANY_V4),
            Family::Ipv6 => Some(&self.v6_only_wildcard),
        };
        let covering = [of(address), of(Address::ANY_V6), same_family];
        for ports in covering.into_iter().flatten() {
            ports.add_to(taken);
        }
    }
}

/// Where there is nothing to share everything is taken: 1.
pub(super) fn share(part: u32, whole: u32) -> f64 {
    if whole == 0 {
        1.0
    } else {
        f64::from(part) / f64::from(whole)
    }
}
