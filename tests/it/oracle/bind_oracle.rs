//! `timewait_source_ports` and `timewait_source_exhaustion_ratio`, compared with bind(address, 0) until it
//! fails.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use timewait_exporter::domain::address::{Address, Family};
use timewait_exporter::domain::snapshot::{PortUsage, SourceUsage};

use super::situation::{PortTaken, Situation};
use super::stage::Stage;
use super::{Verdict, prove};
use crate::support::features::Feature;
use crate::support::namespace::in_namespace;
use crate::support::sockets::{bound, is_mapped, mapped};

#[test]
fn source_ports_are_those_that_bind_cannot_get_and_the_ratio_is_one_when_it_fails() {
    in_namespace(|| prove("bind", 40, Situation::from_seed, judge));
}

#[test]
fn source_ports_are_correct_for_sockets_bound_before_connect() {
    in_namespace(|| prove("bind, blind spot", 25, Situation::with_blind_spot, judge));
}

fn judge(situation: &Situation) -> Verdict {
    let stage = Stage::set(situation);
    let ports = stage.scrape();
    let mut calls = 0;
    for source in ports.by_source.as_ref().expect("it is on") {
        for address in forms(source.src_addr) {
            if !are_closed(&stage, source) {
                return Verdict::Undecided;
            }
            match judge_address(&stage, &ports, source, address) {
                Verdict::Agrees { calls: more } => calls += more,
                other => return other,
            }
        }
    }
    Verdict::Agrees { calls }
}

/// Whether the sockets of the previous calls are closed. Another situation's thread may have started nft or ip
/// meanwhile, which has a copy of every descriptor until exec().
fn are_closed(stage: &Stage, source: &SourceUsage) -> bool {
    let is_as_before = || {
        let sources = stage.scrape().by_source.expect("it is on");
        let mut same = sources.iter().filter(|one| one.src_addr == source.src_addr);
        same.all(|one| one.ports == source.ports)
    };
    (0..200).any(|_| {
        let is_closed = is_as_before();
        if !is_closed {
            thread::sleep(Duration::from_millis(10));
        }
        is_closed
    })
}

/// An IPv4 address can be bound by sockets of both families.
fn forms(address: Address) -> Vec<SocketAddr> {
    let plain = SocketAddr::new(IpAddr::from(address), 0);
    if address.family() == Family::Ipv4 && !address.is_wildcard() {
        vec![plain, mapped(plain)]
    } else {
        vec![plain]
    }
}

fn judge_address(
    stage: &Stage,
    ports: &PortUsage,
    source: &SourceUsage,
    address: SocketAddr,
) -> Verdict {
    let drawable = ports.range.ports() - ports.reserved;
    let free = drawable - source.ports;
    let slack = u32::from(stage.situation.may_miss_one());
    let drawn = draw_all(address);
    let count = u32::try_from(drawn.len()).expect("a small range");
    let is_right = if is_reported_too_high(&stage.situation, source) {
        count + slack >= free
    } else {
        free.checked_sub(count)
            .is_some_and(|missed| missed <= slack)
    };
    if !is_right {
        return Verdict::Differs(format!(
            "bind({address}) got {count} of {drawable} ports; reported: {source:?}"
        ));
    }
    if !Feature::BoundSockets.is_here_or_skips() {
        // Dumps do not contain the bound sockets.
        return Verdict::Agrees {
            calls: u64::from(count) + 1,
        };
    }
    let after = stage.scrape();
    let full = after.by_source.expect("it is on").into_iter();
    let full = full.filter(|usage| usage.src_addr == source.src_addr);
    if !full.clone().all(|full| drawable - full.ports <= slack) {
        return Verdict::Differs(format!(
            "bind({address}) fails; reported: {:?}",
            full.collect::<Vec<_>>()
        ));
    }
    Verdict::Agrees {
        calls: u64::from(count) + 1,
    }
}

/// The one case that a dump does not show: a connected IPv6 socket uses its port on 0.0.0.0 too, unless it was
/// bound to its address first.
fn is_reported_too_high(situation: &Situation, source: &SourceUsage) -> bool {
    let is_v6 = |address: SocketAddr| address.is_ipv6() && !is_mapped(address);
    let was_bound = situation.groups.iter().any(|group| {
        let route = &situation.routes[group.route];
        let is_bound = route.source.is_some() || group.port != PortTaken::ByConnect;
        is_v6(route.to) && (is_bound || situation.servers[route.server].closes)
    });
    source.src_addr == Address::ANY_V4 && was_bound
}

fn draw_all(address: SocketAddr) -> Vec<OwnedFd> {
    let mut drawn = Vec::new();
    loop {
        match bound(address) {
            Ok(socket) => drawn.push(socket),
            Err(error) if error.raw_os_error() == Some(Errno::ADDRINUSE.raw_os_error()) => {
                return drawn;
            }
            Err(error) => panic!("bind({address}): {error}"),
        }
    }
}
