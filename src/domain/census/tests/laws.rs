//! Invariants of the census, compared with a model that keeps a list.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::domain::address::Family;
use crate::domain::snapshot::PortsInUse;

fn any_addr() -> impl Strategy<Value = Address> {
    prop::sample::select(vec![
        "192.0.2.1",
        "192.0.2.2",
        "198.51.100.1",
        "127.0.0.1",
        "::ffff:192.0.2.1",
        "::1",
        "2001:db8::1",
    ])
    .prop_map(addr)
}

fn any_port() -> impl Strategy<Value = u16> {
    prop_oneof![3 => RANGE.0 - 2..RANGE.1 + 3, 1 => prop::sample::select(vec![80, 443, 22])]
}

prop_compose! {
    fn any_socket()(
        src_addr in any_addr(), dst_addr in any_addr(),
        src_port in any_port(), dst_port in any_port(),
        state in prop_oneof![3 => Just(6_u8), 1 => 1_u8..=6, 1 => 8_u8..=9, 1 => Just(11_u8)],
        remaining_ms in prop_oneof![4 => 0_u32..60_001, 1 => any::<u32>()],
    ) -> Socket {
        let state = TcpState::from_number(state).unwrap();
        Socket { src_addr, dst_addr, src_port, dst_port, state, remaining_ms, is_on_loopback_device: false }
    }
}

fn is_outgoing(port: u16) -> bool {
    (RANGE.0..=RANGE.1).contains(&port) && ![40_001, 40_002, 40_003].contains(&port)
}

/// The usage of each destination, computed from a list of all sockets by the definitions.
fn model(sockets: &[Socket]) -> BTreeMap<Destination, (PortsInUse, BTreeSet<u16>)> {
    let mut destinations: BTreeMap<Destination, (PortsInUse, BTreeSet<u16>)> = BTreeMap::new();
    for socket in sockets.iter().filter(|socket| is_outgoing(socket.src_port)) {
        let Socket {
            src_addr,
            dst_addr,
            dst_port,
            ..
        } = *socket;
        let (in_use, taken) = destinations
            .entry(Destination {
                src_addr,
                dst_addr,
                dst_port,
            })
            .or_default();
        match socket.state {
            TcpState::TimeWait => in_use.time_wait += 1,
            TcpState::Established => in_use.established += 1,
            _ => in_use.other += 1,
        }
        let loopback = src_addr.is_loopback() || dst_addr.is_loopback();
        let old = socket.state == TcpState::TimeWait && socket.remaining_ms < 59_000;
        if socket.src_port != 40_004 && !(loopback && old) {
            taken.insert(socket.src_port);
        }
    }
    destinations
}

proptest! {
    #[test]
    fn all_breakdowns_have_the_same_total(
        sockets in prop::collection::vec(any_socket(), 0..120), top in 1_usize..5,
    ) {
        let options = CensusOptions { top, pinned_ports: vec![80, 1], ..CensusOptions::default() };
        let summary = census(&options, &settings(), &sockets);
        let expected = sockets.iter().filter(|s| s.state == TcpState::TimeWait).count() as u64;
        let ports = |by: Option<PortBreakdown>| by.map(|by| by.ports.total() + by.ephemeral);
        let totals = [
            Some(summary.time_wait.ipv4 + summary.time_wait.ipv6),
            summary.by_src_addr.map(|by| by.total()),
            ports(summary.by_src_port),
            summary.by_dst_addr.map(|by| by.total()),
            ports(summary.by_dst_port),
            summary.by_age.map(|bands| bands.iter().sum()),
        ];
        prop_assert_eq!(totals, [Some(expected); 6]);
    }

    #[test]
    fn destinations_are_what_a_list_of_all_sockets_says(
        sockets in prop::collection::vec(any_socket(), 0..120), top in 1_usize..30,
    ) {
        let options = CensusOptions { top, ..CensusOptions::default() };
        let ports = census(&options, &settings(), &sockets).ports.unwrap();
        let model = model(&sockets);
        prop_assert_eq!(ports.destinations, model.len() as u64);
        let by_destination = ports.by_destination.unwrap();
        prop_assert_eq!(by_destination.exported.len(), top.min(model.len()));
        for exported in &by_destination.exported {
            let (in_use, taken) = model.get(&exported.destination).unwrap();
            prop_assert_eq!(exported.in_use, *in_use);
            prop_assert_eq!(exported.headroom as usize, 16 - taken.len());
            prop_assert_eq!(exported.exhaustion_ratio, taken.len() as f64 / 16.0);
        }
        let exported: u64 = by_destination.exported.iter().map(|exported| exported.in_use.total()).sum();
        let all: u64 = model.values().map(|(in_use, _)| in_use.total()).sum();
        prop_assert_eq!(exported + by_destination.other.total(), all);
        for family in Family::ALL {
            let worst = model.iter().filter(|(d, _)| d.dst_addr.family() == family);
            let worst = worst.map(|(_, (_, taken))| taken.len()).max().unwrap_or(0);
            let mut reported = ports.worst_ratio;
            prop_assert_eq!(*reported.get_mut(family), worst as f64 / 16.0);
        }
    }

    #[test]
    fn the_order_of_the_sockets_does_not_matter(
        (sockets, shuffled) in prop::collection::vec(any_socket(), 0..60)
            .prop_flat_map(|sockets| (Just(sockets.clone()), Just(sockets).prop_shuffle())),
    ) {
        let options = CensusOptions { top: 3, ..CensusOptions::default() };
        let one = census(&options, &settings(), &sockets);
        prop_assert_eq!(one, census(&options, &settings(), &shuffled));
    }
}
