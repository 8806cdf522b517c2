//! The port range itself: how wide it is, and what keeps ports from every destination.

use super::help::{LIST_REPLACES, more_ports, port_seconds, sustain, widen_for};
use super::thresholds::{NARROW_RANGE_PORTS, RATIO_WARNING};
use super::whatif::{self, Load, either};
use super::wording::{self, counted};
use super::{Finding, Id, Remedy, RemedyId, Severity, Value, View, bind};
use crate::domain::snapshot::PortUsage;

pub(super) fn no_usable_ports(view: &View<'_>) -> Option<Finding> {
    let ports = view.ports.filter(|ports| ports.usable == 0)?;
    let sentence = format!(
        "connect() fails for every destination: all ports of the range {} are reserved, owned by a listening or bound \
         socket, or chosen by bind().",
        wording::range(ports.range)
    );
    let owned = ports.bind_owned.unwrap_or(0);
    let load = Load::of_ratio(0.0, ports);
    Finding::new(Id::NoUsablePorts, Severity::Critical, sentence)
        .count("range_ports", ports.range.ports())
        .count("reserved_ports", ports.reserved)
        .count("blocked_ports", ports.blocked)
        .count("bind_owned_ports", owned)
        .remedies((owned > 0).then(bind::bind_no_port))
        .remedies(more_ports(view, load, RATIO_WARNING))
        .into()
}

pub(super) fn narrow(view: &View<'_>) -> Option<Finding> {
    let is_narrow = |usable| (1..NARROW_RANGE_PORTS).contains(&usable);
    let ports = view.ports.filter(|ports| is_narrow(ports.usable))?;
    let range = wording::range(ports.range);
    let usable = counted(ports.usable, "usable port", "usable ports");
    let sustain = sustain(ports, port_seconds(view, None));
    let sentence = format!("The range {range} has {usable}. They {sustain}");
    // Nothing need be near its limit: the effect is that on the fullest destination.
    let load = Load::of_ratio(view.worst_ratio, ports);
    Finding::new(Id::NarrowRange, Severity::Info, sentence)
        .count("usable_ports", ports.usable)
        .count("range_ports", ports.range.ports())
        .count("reserved_ports", ports.reserved)
        .remedies(widen_for(view, load, RATIO_WARNING))
        .into()
}

pub(super) fn parity(view: &View<'_>) -> Option<Finding> {
    let is_odd = |ports: u32| !ports.is_multiple_of(2);
    let ports = view.ports.filter(|ports| is_odd(ports.range.ports()))?;
    let sentence = format!(
        "The first and the last port of the range {} have the same parity. The kernel expects one even and one odd port, \
         and may not find the last free port.",
        wording::range(ports.range)
    );
    let remedy = whatif::even_range(ports, view.settings).and_then(|plan| {
        let effect = plan.effect(Load::of_ratio(view.worst_ratio, ports));
        let range = wording::range(plan.range);
        let action = format!("Set the range to {range}, which has one more port.");
        let remedy = Remedy::new(RemedyId::EvenRange, action).settings(plan.settings);
        (effect.after.ratio <= effect.before.ratio).then(|| remedy.effect(effect))
    });
    Finding::new(Id::RangeParity, Severity::Info, sentence)
        .value("first_port", Value::Port(ports.range.min()))
        .value("last_port", Value::Port(ports.range.max()))
        .remedies(remedy)
        .into()
}

pub(super) fn listeners(view: &View<'_>) -> Option<Finding> {
    let ports = view.ports?;
    let inside = whatif::listeners_inside(ports);
    if inside.is_empty() {
        return None;
    }
    let sentence = format!(
        "Services listen inside the ephemeral range, on {}. While one of them is down, an outgoing connection can take its \
         port; the service then fails to start with EADDRINUSE.",
        wording::ports(&inside)
    );
    let remedy = ports.sets.reserved.as_ref().map(|reserved| {
        let action = "Reserve these ports in addition to those that are reserved now. It costs nothing: connect() cannot \
                      use a listener's port anyway.";
        let reserved = either(reserved, &inside).to_string();
        Remedy::new(RemedyId::ReserveListeners, action)
            .setting("ip_local_reserved_ports", reserved)
            .note(LIST_REPLACES)
    });
    Finding::new(Id::ListenersInRange, Severity::Info, sentence)
        .count("listeners", inside.len())
        .value("ports", Value::Text(inside.to_string()))
        .remedies(remedy)
        .into()
}

/// Whether this number of ports of the range is worth a finding.
pub(super) fn are_many(number: u32, ports: &PortUsage) -> bool {
    number >= 16 && number >= ports.range.ports() / 100
}

pub(super) fn bound(view: &View<'_>) -> Option<Finding> {
    let ports = view.ports?;
    let bound = ports.blocked.saturating_sub(ports.listeners);
    // A few are programs on their way to connect() or listen().
    if !are_many(bound, ports) {
        return None;
    }
    let sentence = format!(
        "{} of the range are bound by sockets that neither listen nor connect. No connection can use them.",
        counted(bound, "port", "ports")
    );
    let action = "Find the program, and let it connect or close such sockets, or set IP_BIND_ADDRESS_NO_PORT before \
                  bind().";
    let remedy = Remedy::new(RemedyId::FindHolders, action)
        .command("ss -tanpB")
        .note("ss has -B since iproute2 6.8.");
    let finding = Finding::new(Id::BoundInRange, Severity::Info, sentence);
    Some(finding.count("bound_ports", bound).remedies([remedy]))
}
