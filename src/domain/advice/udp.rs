//! The UDP ports in use on a local address. UDP has no destinations: once a range is in use, no further socket gets a port.

use super::bind::{left_of, names, pool_size};
use super::destinations::severity_of;
use super::help::widen;
use super::whatif::Load;
use super::{Finding, Id, Remedy, RemedyId, Severity, Value, View};

pub(super) fn low_pools(view: &View<'_>) -> Option<Finding> {
    let ports = view.ports?;
    let pools = view.snapshot.udp()?.by_source.iter();
    let low = pools.filter(|pool| severity_of(pool.exhaustion_ratio) > Severity::Ok);
    // Fullest first.
    let worst = low.clone().next()?;
    let load = Load::new(worst.ports, pool_size(ports));
    let state = match load.usable.saturating_sub(load.taken) {
        0 => "fails: no port is left".to_owned(),
        left => left_of(left, load.usable),
    };
    let names = names(low.map(|pool| pool.src_addr));
    let sentence = format!(
        "A new UDP socket on {names} {state}. Without a free port, bind() without a port fails with EADDRINUSE, and \
         connect() and sendto() fail with EAGAIN for every destination. DNS lookups fail first."
    );
    let holders = "Find the program with the most UDP sockets and let it use one socket for many peers: one resolver \
                   process for DNS, one socket for statsd or QUIC.";
    let holders = Remedy::new(RemedyId::FindHolders, holders)
        .command("ss -Huanp | grep -o 'users:.*' | sort | uniq -c | sort -n | tail");
    let wider = widen(view, f64::INFINITY, |plan| {
        let after = Load::new(load.taken, plan.available.len());
        (load.effect(after), plan.gained_in_use > 0)
    });
    let not_counted = "UDP sockets outside the present range are not counted here.";
    let address = "Bind UDP sockets to another local address, whose ports are free, instead of the wildcard address.";
    let severity = severity_of(worst.exhaustion_ratio);
    Finding::new(Id::UdpPortsLow, severity, sentence)
        .count("taken_ports", worst.ports)
        .value("exhaustion_ratio", Value::Ratio(worst.exhaustion_ratio))
        .value("addresses", Value::Text(names))
        .remedies([holders])
        .remedies(wider.map(|wider| wider.note(not_counted)))
        .remedies([Remedy::new(RemedyId::MoreClientAddresses, address)])
        .into()
}
