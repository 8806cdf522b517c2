//! Ports in use per destination, and how close they are to exhaustion.

use std::collections::BTreeMap;

use super::*;
use crate::domain::options::PinnedDestination;
use crate::domain::snapshot::OtherStates;

#[test]
fn where_the_kernel_may_reuse_orphans_the_ratio_without_them_is_exported_too() {
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
fn other_states_with_their_own_remedies_are_counted_separately() {
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
fn a_blocked_port_counts_as_in_use_and_reduces_headroom_only_once() {
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
fn a_port_that_a_dump_contains_twice_is_in_use_once() {
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
fn the_ratio_is_one_exactly_when_every_usable_port_is_in_use() {
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
    // Without a destination the ratio is 0, whatever the range is.
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
fn pinned_destinations_are_exported_at_zero_and_outside_the_top() {
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
