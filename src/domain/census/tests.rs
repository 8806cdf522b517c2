//! The sums of sockets: the breakdowns of TIME-WAIT, and helpers that the other tests share.

mod destinations;
mod laws;

use super::*;
use crate::domain::ports::PortRange;
use crate::domain::snapshot::DestinationUsage;

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
fn the_range_is_reported_without_sockets_too() {
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
fn a_pinned_port_is_exported_on_both_sides_even_at_zero() {
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
fn without_a_range_nothing_that_depends_on_direction_is_known() {
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
fn what_is_disabled_is_absent_and_the_rest_stays() {
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
