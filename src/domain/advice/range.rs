//! The port range itself: how wide it is, and what keeps ports from every destination.

use super::destinations::load_of_ratio;
use super::finding::{Finding, Id, Severity, Value};
use super::help::{
    LIST_REPLACES, duration, more_ports, port_seconds_elsewhere, sustainable, widen_for_all,
};
use super::remedy::{Remedy, RemedyId};
use super::thresholds::{NARROW_RANGE_PORTS, RATIO_WARNING};
use super::whatif::{self, Load};
use super::wording::{self, counted};
use super::{View, bind};
use crate::domain::snapshot::PortUsage;

/// Fewer bound, unconnected sockets are programs on their way to connect() or listen().
const MANY_BOUND: u32 = 16;

pub(super) fn find(view: &View<'_>, findings: &mut Vec<Finding>) {
    if let Some(ports) = view.ports {
        let found = [
            no_usable_ports(view, ports),
            narrow(view, ports),
            parity(view, ports),
            listeners(ports),
            bound(ports),
        ];
        findings.extend(found.into_iter().flatten());
    }
}

fn range_text(ports: &PortUsage) -> String {
    format!("{}-{}", ports.range.min(), ports.range.max())
}

fn no_usable_ports(view: &View<'_>, ports: &PortUsage) -> Option<Finding> {
    if ports.usable > 0 {
        return None;
    }
    let sentence = format!(
        "connect() fails whatever the destination: all ports of the range {} are reserved, owned by a listening \
         or bound socket, or chosen by bind().",
        range_text(ports)
    );
    let load = Load {
        taken: 0,
        usable: 0,
    };
    let finding = Finding::new(Id::NoUsablePorts, Severity::Critical, sentence)
        .count("range_ports", ports.range.ports())
        .count("reserved_ports", ports.reserved)
        .count("blocked_ports", ports.blocked)
        .count("bind_owned_ports", ports.bind_owned.unwrap_or(0));
    let bind_no_port = ports.bind_owned.is_some_and(|owned| owned > 0);
    let finding = finding.remedies(bind_no_port.then(bind::bind_no_port));
    Some(finding.remedies(more_ports(view, ports, load, RATIO_WARNING)))
}

fn narrow(view: &View<'_>, ports: &PortUsage) -> Option<Finding> {
    if ports.usable == 0 || ports.usable >= NARROW_RANGE_PORTS {
        return None;
    }
    let seconds = port_seconds_elsewhere(view);
    let sentence = format!(
        "The range {} has {}. They sustain {} new connections per second to one destination, since each port stays in use for {}.",
        range_text(ports),
        counted(ports.usable.into(), "usable port", "usable ports"),
        sustainable(ports, seconds),
        duration(seconds),
    );
    let finding = Finding::new(Id::NarrowRange, Severity::Info, sentence)
        .count("usable_ports", ports.usable)
        .count("range_ports", ports.range.ports())
        .count("reserved_ports", ports.reserved);
    Some(finding.remedies(widen_for_all(view, ports)))
}

fn parity(view: &View<'_>, ports: &PortUsage) -> Option<Finding> {
    if ports.range.ports().is_multiple_of(2) {
        return None;
    }
    let sentence = format!(
        "The first and the last port of the range {} have the same parity. The kernel expects one even and one odd \
         port, and may not find the last free port.",
        range_text(ports)
    );
    let remedy = whatif::even_range(ports, view.settings).and_then(|plan| {
        let load = load_of_ratio(view.worst_ratio(), ports);
        let effect = load.effect(plan.load(load));
        let is_worse = effect.after.headroom < effect.before.headroom
            || effect.after.ratio > effect.before.ratio;
        let (min, max) = (plan.range.min(), plan.range.max());
        let action = format!("Make the range {min}-{max}, which has one port more.");
        let remedy = Remedy::new(RemedyId::EvenRange, action).settings(plan.settings(ports));
        (!is_worse).then(|| remedy.effect(effect))
    });
    let finding = Finding::new(Id::RangeParity, Severity::Info, sentence)
        .value("first_port", Value::Port(ports.range.min()))
        .value("last_port", Value::Port(ports.range.max()));
    Some(finding.remedies(remedy))
}

fn listeners(ports: &PortUsage) -> Option<Finding> {
    let inside = whatif::listeners_inside(ports);
    if inside.is_empty() {
        return None;
    }
    let listed = wording::ports(&inside);
    let sentence = format!(
        "Services listen inside the ephemeral range, on {listed}. While one of them is down, an outgoing connection can \
         take its port; the service then fails to start with EADDRINUSE."
    );
    let remedy = ports.sets.reserved.as_ref().map(|reserved| {
        let mut reserved = reserved.clone();
        reserved.union_with(&inside);
        let action = "Reserve these ports in addition to those that are reserved now. It costs nothing: connect() \
                      cannot use a listener's port anyway.";
        Remedy::new(RemedyId::ReserveListeners, action)
            .settings(vec![whatif::reserved_setting(&reserved)])
            .note(LIST_REPLACES)
    });
    let finding = Finding::new(Id::ListenersInRange, Severity::Info, sentence)
        .count("listeners", inside.len())
        .value("ports", Value::Text(inside.to_string()));
    Some(finding.remedies(remedy))
}

fn bound(ports: &PortUsage) -> Option<Finding> {
    let bound = ports.blocked.saturating_sub(ports.listeners);
    if bound < MANY_BOUND || bound < ports.range.ports() / 100 {
        return None;
    }
    let sentence = format!(
        "{} of the range are bound by sockets that neither listen nor connect. No connection can use them.",
        counted(bound.into(), "port", "ports")
    );
    let action = "Find the program, and let it connect or close such sockets, or set IP_BIND_ADDRESS_NO_PORT before \
                  bind().";
    let remedy = Remedy::new(RemedyId::FindHolders, action)
        .command("ss -tanpB".to_owned())
        .note("ss has -B since iproute2 6.8.");
    let finding = Finding::new(Id::BoundInRange, Severity::Info, sentence);
    Some(finding.count("bound_ports", bound).remedies([remedy]))
}
