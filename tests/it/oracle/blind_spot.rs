//! Connected sockets whose ports belong to bind(), since they were bound first or accepted by a listener that
//! is closed now: their ports are unavailable to every destination, but in a dump they look like ports that
//! connect() chose. With the probe the metrics are exact, without it they are bounds of what connect() gets.

use std::time::Instant;

use timewait_exporter::domain::address::Address;
use timewait_exporter::domain::snapshot::{PortUsage, Probe};

use super::connect_oracle::judge_route;
use super::situation::{Group, PortTaken, Route, Server, Situation, State};
use super::stage::{Stage, destination, redirects_to};
use super::{Verdict, prove};
use crate::support::features::Feature;
use crate::support::namespace::in_namespace;
use crate::support::scraper::usage_of;
use crate::support::skip::skip;
use crate::support::sockets::{at, bound};

#[test]
fn a_port_that_bind_chose_is_unavailable_to_other_destinations_and_the_probe_finds_it() {
    in_namespace(|| {
        if !Feature::SocketPortRange.is_here_or_skips() {
            return;
        }
        let mut stage = Stage::set(&half_of_the_range_by_bind());
        let untouched = stage.situation.routes[1].clone();
        let before = stage.scrape();
        let usage = usage_of(&before, destination(&untouched));
        assert_eq!((usage.headroom, usage.exhaustion_ratio), (50, 0.0));
        assert_eq!((before.usable, before.bind_owned), (50, Some(50)));
        assert_eq!((before.free, source_ratio(&before)), (50, 0.5));

        assert_eq!(stage.connects_up_to(&untouched, u32::MAX), 50);

        let after = stage.scrape();
        let usage = usage_of(&after, destination(&untouched));
        assert_eq!((usage.headroom, usage.exhaustion_ratio), (0, 1.0));
        assert_eq!((after.free, source_ratio(&after)), (0, 1.0));
        assert!(bound(at("127.0.0.1", 0)).is_err());
    });
}

#[test]
fn ports_of_tproxy_children_are_unavailable_to_every_destination_and_the_probe_finds_them() {
    in_namespace(|| {
        if !Feature::SocketPortRange.is_here_or_skips() {
            return;
        }
        let situation = Situation {
            groups: Vec::new(),
            tproxied: (40_000..40_010).collect(),
            ..half_of_the_range_by_bind()
        };
        if !redirects_to(9) {
            return skip("this kernel has no nftables or no TPROXY");
        }
        let mut stage = Stage::set(&situation);
        let route = stage.situation.routes[0].clone();
        let before = stage.scrape();
        assert_eq!((before.usable, before.bind_owned), (90, Some(10)));
        assert_eq!(usage_of(&before, destination(&route)).headroom, 90);
        assert_eq!(stage.connects_up_to(&route, u32::MAX), 90);
    });
}

/// Up to Linux 6.12 what bind() writes into a port's bucket (fastreuse) stays as long as a socket uses the port.
#[test]
fn ports_that_stay_lost_when_a_bound_socket_has_gone_are_found_by_the_probe() {
    in_namespace(|| {
        let mut situation = half_of_the_range_by_bind();
        situation.groups[0].port = PortTaken::ByConnect;
        let mut stage = Stage::set(&situation);
        let untouched = stage.situation.routes[1].clone();
        for port in situation.min..=situation.max {
            drop(bound(at("127.0.0.9", port)).unwrap());
        }
        let lost = if Feature::PortsComeBack.is_here() {
            0
        } else {
            50
        };
        let before = stage.scrape();
        let headroom = usage_of(&before, destination(&untouched)).headroom;
        assert_eq!(stage.connects_up_to(&untouched, u32::MAX), 100 - lost);
        if Feature::SocketPortRange.is_here_or_skips() {
            assert_eq!((before.bind_owned, headroom), (Some(lost), 100 - lost));
        } else {
            assert_eq!((before.free, headroom), (50, 100));
        }
    });
}

#[test]
fn without_the_probe_only_free_ports_and_source_ports_show_what_bind_uses() {
    in_namespace(|| {
        let situation = Situation {
            probe: false,
            ..half_of_the_range_by_bind()
        };
        let mut stage = Stage::set(&situation);
        let untouched = stage.situation.routes[1].clone();
        let before = stage.scrape();
        let usage = usage_of(&before, destination(&untouched));
        assert_eq!((usage.headroom, usage.exhaustion_ratio), (100, 0.0));
        assert_eq!((before.probe, before.bind_owned), (Probe::Off, None));
        assert_eq!(before.free, 50);

        assert_eq!(stage.connects_up_to(&untouched, u32::MAX), 50);

        let after = stage.scrape();
        let usage = usage_of(&after, destination(&untouched));
        assert_eq!((usage.headroom, usage.exhaustion_ratio), (50, 0.5));
        assert_eq!((after.free, source_ratio(&after)), (0, 1.0));
    });
}

#[test]
fn with_the_probe_headroom_is_exact_where_ports_belong_to_bind() {
    in_namespace(|| {
        if Feature::SocketPortRange.is_here_or_skips() {
            prove("bind-owned", 40, Situation::with_blind_spot, judge_probed);
        }
    });
}

#[test]
fn without_the_probe_free_ports_and_headroom_are_the_bounds_of_what_connect_gets() {
    in_namespace(|| prove("blind spot", 25, Situation::with_blind_spot_unprobed, judge));
}

/// As the connect oracle, for the servers that still listen.
fn judge_probed(situation: &Situation) -> Verdict {
    let mut stage = Stage::set(situation);
    let mut calls = 0;
    for route in &situation.routes {
        if situation.servers[route.server].closes {
            continue;
        }
        match judge_route(&mut stage, route) {
            Verdict::Agrees { calls: more } => calls += more,
            other => return other,
        }
    }
    Verdict::Agrees { calls }
}

fn judge(situation: &Situation) -> Verdict {
    let mut stage = Stage::set(situation);
    let mut calls = 0;
    for route in &situation.routes {
        if situation.servers[route.server].closes {
            continue;
        }
        let begin = Instant::now();
        let ports = stage.scrape();
        let usage = usage_of(&ports, destination(route));
        let count = stage.connects_up_to(route, u32::MAX);
        if !stage.old_were_old(begin) || !stage.young_are_young() {
            return Verdict::Undecided;
        }
        let slack = u32::from(situation.may_miss_one());
        if count > usage.headroom || count + slack < ports.free {
            return Verdict::Differs(format!(
                "{count} connects succeeded; reported: {} free ports and {usage:?}",
                ports.free
            ));
        }
        calls += u64::from(count) + 1;
    }
    Verdict::Agrees { calls }
}

/// Fifty of a hundred ports, chosen by bind(), towards the first of two servers.
fn half_of_the_range_by_bind() -> Situation {
    let server = |address| Server {
        bind: at(address, 80),
        v6_only: false,
        silent: false,
        closes: false,
    };
    let route = |server: usize, address| Route {
        server,
        source: Some(at("127.0.0.1", 0).ip()),
        to: at(address, 80),
    };
    Situation {
        seed: 0,
        min: 40_000,
        max: 40_099,
        reserved: Vec::new(),
        tw_reuse: 0,
        tw_reuse_delay_ms: 1_000,
        timestamps: 1,
        fin_timeout_seconds: 60,
        bind_v6_only: false,
        autobind_reuse: false,
        servers: vec![server("127.0.0.2"), server("127.0.0.3")],
        owners: Vec::new(),
        routes: vec![route(0, "127.0.0.2"), route(1, "127.0.0.3")],
        groups: vec![Group {
            route: 0,
            state: State::Established,
            count: 50,
            old: false,
            port: PortTaken::ByBind,
        }],
        tproxied: Vec::new(),
        probe: true,
    }
}

fn source_ratio(ports: &PortUsage) -> f64 {
    let local: Address = at("127.0.0.1", 0).ip().into();
    let mut sources = ports.by_source.as_ref().expect("it is on").iter();
    let usage = sources.find(|usage| usage.src_addr == local);
    usage.expect("it uses ports").exhaustion_ratio
}
