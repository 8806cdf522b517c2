//! The UDP ports in use on a local address. UDP has no destinations: once a range is in use, no further socket gets a port.

use super::View;
use super::finding::{Finding, Id, Severity, Value};
use super::help::widening;
use super::remedy::{Remedy, RemedyId};
use super::thresholds::{RATIO_CRITICAL, RATIO_WARNING};
use super::whatif::{self, Load};
use super::wording::{self, count, counted};
use crate::domain::ports::PortSet;
use crate::domain::udp::UdpSourceUsage;

pub(super) fn find(view: &View<'_>, findings: &mut Vec<Finding>) {
    let (Some(ports), Some(udp)) = (view.ports, view.snapshot.udp()) else {
        return;
    };
    let low = udp.by_source.iter();
    let low: Vec<&UdpSourceUsage> = low
        .filter(|source| source.exhaustion_ratio >= RATIO_WARNING)
        .collect();
    // Fullest first.
    let Some(worst) = low.first() else { return };
    let load = Load {
        taken: worst.ports,
        usable: ports.range.ports().saturating_sub(ports.reserved),
    };
    let left = load.room().headroom;
    let names: Vec<String> = low
        .iter()
        .map(|source| source.src_addr.to_string())
        .collect();
    let names = wording::some_of(&names, 3);
    let severity = if worst.exhaustion_ratio >= RATIO_CRITICAL {
        Severity::Critical
    } else {
        Severity::Warning
    };
    let state = if left == 0 {
        "fails: no port is left".to_owned()
    } else {
        let left = counted(left, "port", "ports");
        format!("has {left} left of {}", count(load.usable.into()))
    };
    let sentence = format!(
        "A new UDP socket on {names} {state}. bind() without a port then fails with EADDRINUSE, connect() and sendto() \
         with EAGAIN, whatever the destination: DNS lookups fail first."
    );
    let holders = Remedy::new(
        RemedyId::FindHolders,
        "Find the program with most UDP sockets and let it use one socket for many peers: one resolver process for \
         DNS, one socket for statsd or QUIC.",
    )
    .command("ss -Huanp | grep -o 'users:.*' | sort | uniq -c | sort -n | tail".to_owned());
    let wider = whatif::wider(ports, view.settings).find_map(|plan| {
        let mut after = PortSet::of_range(plan.range);
        after.subtract(&plan.reserved);
        let effect = load.effect(Load {
            usable: after.len(),
            ..load
        });
        let remedy = widening(ports, &plan)
            .note("UDP sockets outside the present range are not counted here.");
        effect.is_gain().then(|| remedy.effect(effect))
    });
    let address = Remedy::new(
        RemedyId::MoreClientAddresses,
        "Bind UDP sockets to a further local address, whose ports are free, instead of the wildcard address.",
    );
    findings.push(
        Finding::new(Id::UdpPortsLow, severity, sentence)
            .count("taken_ports", worst.ports)
            .ratio("exhaustion_ratio", worst.exhaustion_ratio)
            .value("addresses", Value::Text(names))
            .remedies([Some(holders), wider, Some(address)].into_iter().flatten()),
    );
}
