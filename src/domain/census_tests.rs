//! The laws of the census, compared with a model that keeps a list.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::domain::address::Family;
use crate::domain::options::PinnedDestination;
use crate::domain::ports::{PortRange, PortSet};
use crate::domain::snapshot::{DestinationUsage, OtherStates, PortsInUse};

const RANGE: (u16, u16) = (40_000, 40_019);

fn settings() -> Settings {
    Settings {
        port_range: PortRange::new(RANGE.0, RANGE.1),
        reserved_ports: Some([40_001, 40_002].into_iter().collect()),
        tcp_tw_reuse: Some(2),
        tcp_timestamps: Some(1),
        ..Settings::default()
    }
}

/// 40,003 listens, 40,004 is bound and unconnected.
fn owners() -> [PortOwner; 3] {
    let owner = |port, listening| PortOwner {
        addr: addr("::1"),
        port,
        listening,
        v6_only: false,
    };
    [owner(40_003, true), owner(40_004, false), owner(80, true)]
}

fn addr(text: &str) -> Address {
    text.parse().unwrap()
}

fn time_wait(src: (&str, u16), dst: (&str, u16), age_ms: u32) -> Socket {
    socket(src, dst, TcpState::TimeWait, 60_000 - age_ms)
}

fn socket(src: (&str, u16), dst: (&str, u16), state: TcpState, remaining_ms: u32) -> Socket {
    Socket {
        src_addr: addr(src.0),
        src_port: src.1,
        dst_addr: addr(dst.0),
        dst_port: dst.1,
        state,
        remaining_ms,
        is_on_loopback_device: false,
    }
}

fn census(options: &CensusOptions, settings: &Settings, sockets: &[Socket]) -> SocketSummary {
    let mut census = Census::new(options.clone(), settings, Moment::default(), &owners());
    for socket in sockets {
        census.add(socket);
    }
    census.finish(Source::Netlink, 0)
}

fn counted(sockets: &[Socket]) -> SocketSummary {
    census(&CensusOptions::default(), &settings(), sockets)
}

fn only_destination(sockets: &[Socket]) -> DestinationUsage {
    let exported = counted(sockets)
        .ports
        .unwrap()
        .by_destination
        .unwrap()
        .exported;
    assert_eq!(exported.len(), 1, "{exported:?}");
    *exported.first().unwrap()
}

#[test]
fn the_range_is_told_even_where_no_socket_is() {
    let ports = counted(&[]).ports.unwrap();
    assert_eq!(
        (ports.reserved, ports.blocked, ports.listeners, ports.usable),
        (2, 2, 1, 16)
    );
    assert_eq!(
        ports.worst_ratio,
        PerFamily {
            ipv4: 0.0,
            ipv6: 0.0
        }
    );
    assert_eq!(ports.destinations, 0);
}

#[test]
fn where_the_kernel_may_reuse_orphans_the_ratio_without_them_is_known_too() {
    let ratios = |reuse, delay, orphans_keep_ports| {
        let settings = Settings {
            tcp_tw_reuse: Some(reuse),
            tcp_tw_reuse_delay_ms: delay,
            ..settings()
        };
        let moment = Moment {
            orphans_keep_ports,
            ..Moment::default()
        };
        let mut census = Census::new(CensusOptions::default(), &settings, moment, &owners());
        let (loopback, other) = (("127.0.0.1", "127.0.0.2"), ("192.0.2.1", "192.0.2.9"));
        for (ends, orphans) in [(loopback, 5), (other, 3)] {
            for port in 40_005..40_013 {
                let remaining_ms = if port < 40_005 + orphans { 9_000 } else { 0 };
                let (src, dst) = ((ends.0, port), (ends.1, 443));
                census.add(&socket(src, dst, TcpState::FinWait2, remaining_ms));
            }
        }
        let ports = census.finish(Source::Netlink, 0).ports.unwrap();
        assert_eq!(ports.worst_ratio.ipv4, 8.0 / 16.0);
        ports.least_ratio.map(|least| least.ipv4 * 16.0)
    };
    assert_eq!(ratios(1, None, false), Some(5.0));
    // With 2 the ports towards the other destination are not reusable.
    assert_eq!(ratios(2, None, false), Some(8.0));
    for known in [
        ratios(1, None, true),
        ratios(1, Some(1_000), false),
        ratios(0, None, false),
    ] {
        assert_eq!(known, None);
    }
}

#[test]
fn other_states_with_remedies_of_their_own_are_counted_apart() {
    let server = ("192.0.2.9", 443);
    let of = |port, state, remaining_ms| socket(("192.0.2.1", port), server, state, remaining_ms);
    let usage = only_destination(&[
        of(40_005, TcpState::CloseWait, 0),
        of(40_006, TcpState::SynSent, 0),
        of(40_007, TcpState::FinWait2, 3_000),
        // A process still owns it.
        of(40_008, TcpState::FinWait2, 0),
        of(40_009, TcpState::LastAck, 0),
        of(40_010, TcpState::TimeWait, 3_000),
    ]);
    assert_eq!(usage.in_use.other, 5);
    let OtherStates {
        close_wait,
        syn_sent,
        fin_wait2_orphans,
    } = usage.other_states;
    assert_eq!((close_wait, syn_sent, fin_wait2_orphans), (1, 1, 1));
}

#[test]
fn a_socket_is_outgoing_by_its_local_port_alone() {
    let server = ("192.0.2.9", 443);
    let local = |port| ("192.0.2.1", port);
    let sockets = [
        time_wait(local(40_000), server, 0),
        // Outside the range, reserved, listened on: none of these is outgoing.
        time_wait(local(39_999), server, 0),
        time_wait(local(40_020), server, 0),
        time_wait(local(40_001), server, 0),
        time_wait(local(40_003), server, 0),
    ];
    let summary = counted(&sockets);
    let by_src_port = summary.by_src_port.unwrap();
    assert_eq!(by_src_port.ephemeral, 1);
    let exported = [(39_999, 1), (40_001, 1), (40_003, 1), (40_020, 1)];
    assert_eq!(by_src_port.ports.exported, exported);
    let by_dst_port = summary.by_dst_port.unwrap();
    assert_eq!(
        (by_dst_port.ports.exported, by_dst_port.ephemeral),
        (vec![(443, 1)], 4)
    );
}

#[test]
fn a_port_that_is_merely_bound_is_told_as_held_but_takes_no_headroom_twice() {
    let sockets = [socket(
        ("192.0.2.1", 40_004),
        ("192.0.2.9", 443),
        TcpState::Established,
        0,
    )];
    let summary = only_destination(&sockets);
    assert_eq!(summary.in_use.established, 1);
    assert_eq!((summary.headroom, summary.exhaustion_ratio), (16, 0.0));
}

#[test]
fn a_port_told_twice_by_a_dump_that_is_not_atomic_is_spent_once() {
    let ends = (("192.0.2.1", 40_000), ("192.0.2.9", 443));
    let sockets = [
        socket(ends.0, ends.1, TcpState::Established, 0),
        time_wait(ends.0, ends.1, 0),
    ];
    let summary = only_destination(&sockets);
    assert_eq!(summary.in_use.total(), 2);
    assert_eq!(summary.headroom, 15);
}

#[test]
fn only_time_wait_older_than_the_delay_on_loopback_is_reusable_with_the_value_two() {
    let to = |dst| [time_wait(("192.0.2.1", 40_000), (dst, 443), 1_001)];
    assert_eq!(only_destination(&to("192.0.2.9")).reusable, 0);
    assert_eq!(only_destination(&to("127.0.0.1")).reusable, 1);
    assert_eq!(only_destination(&to("127.0.0.1")).headroom, 16);
    let young = [time_wait(("127.0.0.1", 40_000), ("127.0.0.1", 443), 1_000)];
    assert_eq!(only_destination(&young).reusable, 0);
    let fin = [socket(
        ("127.0.0.1", 40_000),
        ("127.0.0.1", 443),
        TcpState::FinWait2,
        10_000,
    )];
    let summary = only_destination(&fin);
    assert_eq!(
        (summary.reusable, summary.in_use.other, summary.headroom),
        (0, 1, 15)
    );
}

#[test]
fn the_ratio_is_one_exactly_when_every_usable_port_is_taken() {
    let usable: Vec<u16> = (40_005..40_020).chain([40_000]).collect();
    let sockets: Vec<Socket> = usable
        .iter()
        .map(|port| time_wait(("192.0.2.1", *port), ("192.0.2.9", 443), 0))
        .collect();
    let full = only_destination(&sockets);
    assert_eq!((full.headroom, full.exhaustion_ratio), (0, 1.0));
    let worst = counted(&sockets).ports.unwrap().worst_ratio;
    assert_eq!(
        worst,
        PerFamily {
            ipv4: 1.0,
            ipv6: 0.0
        }
    );
    let one_less = only_destination(sockets.get(1..).unwrap());
    assert_eq!(
        (one_less.headroom, one_less.exhaustion_ratio),
        (1, 15.0 / 16.0)
    );
}

#[test]
fn with_no_usable_port_every_destination_is_exhausted() {
    let all: PortSet = (RANGE.0..=RANGE.1).collect();
    let settings = Settings {
        reserved_ports: Some(all),
        ..settings()
    };
    let options = CensusOptions {
        pinned_destinations: vec![PinnedDestination {
            src_addr: None,
            dst_addr: addr("::2"),
            dst_port: 1,
        }],
        ..CensusOptions::default()
    };
    let ports = census(&options, &settings, &[]).ports.unwrap();
    assert_eq!(ports.usable, 0);
    // No destination is none, whatever the range has.
    assert_eq!(ports.worst_ratio, PerFamily::default());
    let exported = ports.by_destination.unwrap().exported;
    assert_eq!(
        exported.first().map(|pinned| pinned.exhaustion_ratio),
        Some(1.0)
    );
}

#[test]
fn the_close_rate_counts_the_sockets_of_the_last_ten_seconds() {
    let ages = [0, 9_999, 10_000, 59_000];
    let sockets: Vec<Socket> = (40_005..)
        .zip(ages)
        .map(|(port, age)| time_wait(("192.0.2.1", port), ("192.0.2.9", 443), age))
        .collect();
    assert!((only_destination(&sockets).close_rate - 0.2).abs() < 1e-9);
}

#[test]
fn pinned_destinations_are_told_at_zero_and_outside_the_top() {
    let pin = |src: Option<&str>, dst: &str, dst_port| PinnedDestination {
        src_addr: src.map(addr),
        dst_addr: addr(dst),
        dst_port,
    };
    let options = CensusOptions {
        top: 1,
        pinned_destinations: vec![
            pin(None, "192.0.2.9", 443),
            pin(Some("192.0.2.1"), "192.0.2.8", 53),
            pin(None, "2001:db8::9", 443),
        ],
        ..CensusOptions::default()
    };
    let to = |src_port, dst| time_wait(("192.0.2.1", src_port), (dst, 443), 0);
    let sockets = [
        to(40_005, "192.0.2.7"),
        to(40_006, "192.0.2.7"),
        to(40_005, "192.0.2.9"),
        to(40_005, "192.0.2.6"),
    ];
    let by_destination = census(&options, &settings(), &sockets)
        .ports
        .unwrap()
        .by_destination;
    let by_destination = by_destination.unwrap();
    let exported: BTreeMap<String, u64> = by_destination
        .exported
        .iter()
        .map(|exported| {
            let Destination {
                src_addr,
                dst_addr,
                dst_port,
            } = exported.destination;
            (
                format!("{src_addr} {dst_addr} {dst_port}"),
                exported.in_use.total(),
            )
        })
        .collect();
    let expected = [
        ("192.0.2.1 192.0.2.7 443", 2),
        ("192.0.2.1 192.0.2.8 53", 0),
        ("192.0.2.1 192.0.2.9 443", 1),
        (":: 2001:db8::9 443", 0),
    ];
    assert_eq!(
        exported,
        expected
            .map(|(name, count)| (name.to_owned(), count))
            .into()
    );
    assert_eq!(by_destination.other.total(), 1);
}

#[test]
fn a_pinned_port_is_told_on_both_sides_even_at_zero() {
    let options = CensusOptions {
        pinned_ports: vec![8080, 443],
        ..CensusOptions::default()
    };
    let sockets = [time_wait(("192.0.2.1", 40_005), ("192.0.2.9", 443), 0)];
    let summary = census(&options, &settings(), &sockets);
    assert_eq!(
        summary.by_src_port.unwrap().ports.exported,
        [(443, 0), (8080, 0)]
    );
    assert_eq!(
        summary.by_dst_port.unwrap().ports.exported,
        [(443, 1), (8080, 0)]
    );
}

#[test]
fn without_a_range_nothing_that_depends_on_direction_is_told() {
    let settings = Settings {
        port_range: None,
        ..settings()
    };
    let sockets = [time_wait(("192.0.2.1", 40_005), ("192.0.2.9", 443), 0)];
    let summary = census(&CensusOptions::default(), &settings, &sockets);
    assert_eq!(summary.time_wait, PerFamily { ipv4: 1, ipv6: 0 });
    assert_eq!(summary.by_dst_addr.map(|by| by.total()), Some(1));
    assert_eq!((summary.by_src_port, summary.by_dst_port), (None, None));
    assert_eq!(summary.ports, None);
}

#[test]
fn what_is_switched_off_is_absent_and_the_rest_stays() {
    let options = CensusOptions {
        by_src_addr: false,
        by_dst_addr: false,
        by_age: false,
        by_destination: false,
        ..CensusOptions::default()
    };
    let sockets = [time_wait(("192.0.2.1", 80), ("192.0.2.9", 40_005), 0)];
    let summary = census(&options, &settings(), &sockets);
    assert_eq!(
        (summary.by_src_addr, summary.by_dst_addr, summary.by_age),
        (None, None, None)
    );
    assert_eq!(summary.by_src_port.unwrap().ports.total(), 1);
    assert_eq!(summary.ports.unwrap().by_destination, None);
}

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

/// The usage of each destination, from a list of all sockets and the contract's words.
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
