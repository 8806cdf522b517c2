//! `timewait_destination_headroom_ports` and `timewait_destination_exhaustion_ratio`, compared with connect()
//! until it fails.

use std::iter;
use std::time::Instant;

use timewait_exporter::domain::snapshot::Destination;

use super::situation::{Route, Situation};
use super::stage::{Stage, destination};
use super::{Verdict, prove};
use crate::support::features::Feature;
use crate::support::namespace::{in_namespace, set_sysctl};
use crate::support::scraper::{Scraper, usage_of};
use crate::support::sockets::{at, connect_from, connected, listening};

#[test]
fn headroom_is_how_many_more_connects_succeed_and_the_ratio_is_one_when_the_next_fails() {
    in_namespace(|| prove("connect", 40, Situation::from_seed, judge));
}

#[test]
fn with_random_steps_headroom_is_exact_and_every_port_in_use_may_be_examined() {
    in_namespace(|| {
        if !Feature::StepWidth.is_here_or_skips() {
            return;
        }
        set_sysctl("ip_local_port_range", "40000 40099");
        set_sysctl("ip_local_port_step_width", "1000");
        set_sysctl("tcp_tw_reuse", "0");
        let (source, to) = (at("127.0.0.1", 0).ip(), at("127.0.0.2", 80));
        let listener = listening(to);
        for _ in 0..60 {
            connected(Some(source), &listener, to).close_client_first();
        }
        let destination = Destination {
            src_addr: source.into(),
            dst_addr: to.ip().into(),
            dst_port: to.port(),
        };
        let before = usage_of(&Scraper::open([destination]).ports(), destination);
        assert_eq!((before.headroom, before.search_ports), (40, 60));
        let more = iter::from_fn(|| connect_from(Some(source), to).ok());
        assert_eq!(more.collect::<Vec<_>>().len(), 40);
    });
}

fn judge(situation: &Situation) -> Verdict {
    let mut stage = Stage::set(situation);
    let mut calls = 0;
    for route in &situation.routes {
        match judge_route(&mut stage, route) {
            Verdict::Agrees { calls: more } => calls += more,
            other => return other,
        }
    }
    Verdict::Agrees { calls }
}

pub fn judge_route(stage: &mut Stage, route: &Route) -> Verdict {
    let destination = destination(route);
    let slack = u32::from(stage.situation.may_miss_one());
    let begin = Instant::now();
    let before = usage_of(&stage.scrape(), destination);
    // Half of the connects, then another scrape: the values are correct at every level.
    let half = before.headroom / 2;
    let first = stage.connects_up_to(route, half);
    let midway = usage_of(&stage.scrape(), destination);
    let rest = stage.connects_up_to(route, u32::MAX);
    let after = usage_of(&stage.scrape(), destination);
    if !stage.old_were_old(begin) || !stage.young_are_young() {
        return Verdict::Undecided;
    }
    let missed = before.headroom.checked_sub(first + rest);
    if missed.is_none_or(|missed| missed > slack) {
        return Verdict::Differs(format!(
            "{first} + {rest} connects to {destination:?} succeeded; reported: {before:?}"
        ));
    }
    if midway.headroom != before.headroom - first {
        return Verdict::Differs(format!(
            "after {first} connects reported: {midway:?}, before: {before:?}"
        ));
    }
    if Some(after.headroom) != missed || (after.headroom == 0) != (after.exhaustion_ratio >= 1.0) {
        return Verdict::Differs(format!(
            "connect() to {destination:?} fails; reported: {after:?}"
        ));
    }
    Verdict::Agrees {
        calls: u64::from(first + rest) + 1,
    }
}
