//! Invariants for any counts, and for any missing parts.

use proptest::prelude::*;

use super::*;
use crate::domain::address::Address;
use crate::domain::snapshot::{
    Destination, DestinationUsage, OtherStates, PeerTimestamps, PortsInUse,
};

prop_compose! {
    fn breakdown_of(address: impl Strategy<Value = u128>)(
        exported in prop::collection::btree_map(address, 0u64..1_000, 0..5),
        other in 0u64..1_000,
    ) -> Breakdown<Address> {
        let exported = exported
            .into_iter()
            .map(|(bits, count)| (Address::from_v6_bytes(bits.to_be_bytes()), count));
        Breakdown { exported: exported.collect(), other }
    }
}

prop_compose! {
    fn port_breakdowns()(
        exported in prop::collection::btree_map(any::<u16>(), 0u64..1_000, 0..5),
        other in 0u64..1_000,
        ephemeral in 0u64..1_000,
    ) -> PortBreakdown {
        PortBreakdown { ports: Breakdown { exported: exported.into_iter().collect(), other }, ephemeral }
    }
}

/// Addresses around the IPv4-mapped block, where spellings could collide.
fn address_bits() -> impl Strategy<Value = u128> {
    prop_oneof![
        any::<u128>(),
        0u128..4,
        (0xffff_0000_0000u128..0xffff_0000_0004)
    ]
}

prop_compose! {
    fn destination_breakdowns()(
        exported in prop::collection::btree_set((address_bits(), address_bits(), any::<u16>()), 0..5),
    ) -> DestinationBreakdown {
        let address = |bits: u128| Address::from_v6_bytes(bits.to_be_bytes());
        let exported = exported.into_iter().map(|(src, dst, dst_port)| DestinationUsage {
            destination: Destination { src_addr: address(src), dst_addr: address(dst), dst_port },
            in_use: PortsInUse::default(),
            other_states: OtherStates::default(),
            reusable: 0,
            reuse_gain: 0,
            peer_timestamps: PeerTimestamps::default(),
            headroom: 1,
            exhaustion_ratio: 0.0,
            least_ratio: 0.0,
            close_rate: 0.0,
            search_ports: 0,
        });
        DestinationBreakdown { exported: exported.collect(), other: PortsInUse::default() }
    }
}

/// Which parts of a snapshot are missing, one bit each.
fn thin_out(snapshot: &mut Snapshot, missing: u16) {
    let is_missing = |bit: u16| missing & (1 << bit) != 0;
    if let Some(sockets) = snapshot.sockets_mut() {
        if is_missing(0) {
            sockets.ports = None;
        }
        if is_missing(1) {
            sockets.by_src_addr = None;
        }
        if is_missing(2) {
            sockets.by_dst_port = None;
        }
    }
    if is_missing(3) {
        snapshot.set(CollectorId::Sockets, Some(late()));
    }
    if is_missing(4) {
        snapshot.set(CollectorId::Sockets, None);
    }
    if is_missing(5) {
        snapshot.set(CollectorId::Sysctl, None);
    }
    if is_missing(6) {
        snapshot.set(CollectorId::Netstat, None);
    }
    if is_missing(7) {
        *snapshot = snapshot.clone().without_buckets();
    }
    if is_missing(8) {
        snapshot.set(CollectorId::Slabinfo, None);
    }
    if is_missing(9) {
        snapshot.set(CollectorId::Failures, None);
    }
}

proptest! {
    #[test]
    fn no_series_is_exported_twice_and_breakdowns_add_up(
        by_src_addr in breakdown_of(address_bits()),
        by_dst_addr in breakdown_of(address_bits()),
        by_src_port in port_breakdowns(),
        by_dst_port in port_breakdowns(),
        by_destination in destination_breakdowns(),
        missing in 0u16..512,
    ) {
        let totals = BTreeMap::from([
            ("timewait_sockets_by_src_addr", by_src_addr.total()),
            ("timewait_sockets_by_dst_addr", by_dst_addr.total()),
            ("timewait_sockets_by_src_port", by_src_port.ports.total() + by_src_port.ephemeral),
            ("timewait_sockets_by_dst_port", by_dst_port.ports.total() + by_dst_port.ephemeral),
        ]);
        let mut snapshot = rich_snapshot();
        edit_sockets(&mut snapshot, |sockets| {
            sockets.by_src_addr = Some(by_src_addr);
            sockets.by_dst_addr = Some(by_dst_addr);
            sockets.by_src_port = Some(by_src_port);
            sockets.by_dst_port = Some(by_dst_port);
            sockets.ports.as_mut().unwrap().by_destination = Some(by_destination);
        });
        thin_out(&mut snapshot, missing);

        let samples = samples_of(&snapshot, &rich_exporter());
        let identities: BTreeSet<_> = samples.iter().map(Sample::identity).collect();
        prop_assert_eq!(identities.len(), samples.len());
        for (name, total) in totals {
            let mut values = samples.iter().filter(|s| s.name == name).peekable();
            if values.peek().is_some() {
                let sum: f64 = values.map(|sample| sample.value).sum();
                prop_assert_eq!(sum.to_string(), total.to_string());
            }
        }
    }
}
