//! What the figures mean where the connection table does not tell enough: a connected socket whose
//! port belongs to bind(), since it was bound first or accepted by a listener that is gone, keeps
//! that port from every destination, but looks like one whose port connect() chose.

use std::time::Instant;

use timewait_exporter::domain::address::Address;
use timewait_exporter::domain::snapshot::PortUsage;

use super::situation::{Group, PortTaken, Route, Server, Situation, State};
use super::stage::{Stage, destination};
use super::{Verdict, prove};
use crate::support::namespace::in_namespace;
use crate::support::scraper::told;
use crate::support::sockets::{at, bound};

#[test]
fn a_port_that_bind_chose_is_lost_to_other_destinations_and_only_the_source_pool_tells() {
    in_namespace(|| {
        let mut stage = Stage::set(&half_of_the_range_by_bind());
        let untouched = stage.situation.routes[1].clone();
        let before = stage.scrape();
        let figures = told(&before, destination(&untouched));
        assert_eq!((figures.headroom, figures.exhaustion_ratio), (100, 0.0));
        assert_eq!((before.free, source_ratio(&before)), (50, 0.5));

        assert_eq!(stage.connects_up_to(&untouched, u32::MAX), 50);

        let after = stage.scrape();
        let figures = told(&after, destination(&untouched));
        assert_eq!((figures.headroom, figures.exhaustion_ratio), (50, 0.5));
        assert_eq!((after.free, source_ratio(&after)), (0, 1.0));
        assert!(bound(at("127.0.0.1", 0)).is_err());
    });
}

#[test]
fn free_ports_and_headroom_enclose_what_connect_gets() {
    in_namespace(|| prove("blind spot", 25, Situation::with_blind_spot, judge));
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
        let figures = told(&ports, destination(route));
        let count = stage.connects_up_to(route, u32::MAX);
        if !stage.old_were_old(begin) || !stage.young_are_young() {
            return Verdict::Undecided;
        }
        let slack = u32::from(situation.may_miss_one());
        if count > figures.headroom || count + slack < ports.free {
            return Verdict::Differs(format!(
                "{count} connects succeeded; told was {} ports free and {figures:?}",
                ports.free
            ));
        }
        calls += u64::from(count) + 1;
    }
    Verdict::Holds { calls }
}

/// Fifty of a hundred ports, by bind(), towards the first of two servers.
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
    }
}

fn source_ratio(ports: &PortUsage) -> f64 {
    let local: Address = at("127.0.0.1", 0).ip().into();
    let mut sources = ports.by_source.as_ref().expect("it is on").iter();
    let figures = sources.find(|figures| figures.src_addr == local);
    figures.expect("it holds ports").exhaustion_ratio
}
