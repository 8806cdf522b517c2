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
    only_v6_wildcard: HeldPortSet,
}

impl SourcePools {
    /// A socket, of any state, that holds a port of the range.
    #[inline]
    pub(super) fn add(&mut self, address: Address, port: u16) {
        self.by_address.entry(address).or_default().insert(port);
    }

    /// A socket that listens or is merely bound.
    pub(super) fn add_owner(&mut self, owner: &PortOwner) {
        if owner.v6_only && owner.addr.is_wildcard() {
            self.only_v6_wildcard.insert(owner.port);
        } else {
            self.add(owner.addr, owner.port);
        }
    }

    /// Many ports at once.
    pub(super) fn add_all(&mut self, address: Address, ports: &HeldPortSet) {
        self.by_address.entry(address).or_default().union_with(ports);
    }

    /// What the pools of the `n` worst addresses come to, of the ports that may be drawn. Both
    /// wildcard addresses, for sockets that bind to none, are always among the candidates.
    pub(super) fn figures(&self, n: usize, pool: &PortSet) -> Vec<SourceFigures> {
        let size = pool.len();
        let mut top = Top::new(n);
        let mut covering = PerFamilySets::new(self);
        for (address, ports) in &self.by_address {
            if !address.is_wildcard() {
                covering.add(*address, ports);
                let mut held = covering.wildcards(address.family()).clone();
                ports.add_to(&mut held);
                held.intersect_with(pool);
                top.add(*address, held.len());
            }
        }
        for (address, mut held) in [
            (Address::ANY_V4, covering.any_v4()),
            (Address::ANY_V6, covering.everything()),
        ] {
            held.intersect_with(pool);
            top.add(address, held.len());
        }
        let figures = top.into_sorted().into_iter().map(|(address, held)| SourceFigures {
            address,
            ports: held,
            // Without any port to draw bind() fails.
            exhaustion_ratio: if size == 0 { 1.0 } else { f64::from(held) / f64::from(size) },
        });
        figures.collect()
    }
}
