//! Metrics of single local addresses: the ports available to bind(addr, 0), of TCP and of UDP.
//!
//! Which addresses are exported is decided where they are counted.

use super::Values::Series as Many;
use super::{MetricDescription, Series, labelled};
use crate::domain::snapshot::{Snapshot, SourceUsage};

pub(super) const METRICS: &[MetricDescription] = &[
    labelled(
        "timewait_source_ports",
        &["src_addr"],
        "Distinct unreserved ports of the range in use on a local address by sockets of any state and direction, \
         including sockets on the wildcard addresses that cover it: ports not available to bind(addr, 0). The \
         addresses with the highest ratio. 0.0.0.0 and :: are for sockets bound to no address, and include the ports \
         in use on all addresses that they cover; 0.0.0.0 also includes those of dual-stack IPv6 sockets, and is too \
         high by those that were bound to an address before connect().",
        Many(|snapshot, series| each(series, snapshot.sources(), |one| one.ports.into())),
    ),
    labelled(
        "timewait_source_exhaustion_ratio",
        &["src_addr"],
        "timewait_source_ports divided by the unreserved ports of the range, 0 to 1. Exactly 1 when bind(addr, 0) fails \
         with EADDRINUSE. Where programs call bind() with an address before connect(), this ratio reaches 1 instead of \
         that of a destination (avoided by IP_BIND_ADDRESS_NO_PORT).",
        Many(|snapshot, series| each(series, snapshot.sources(), |one| one.exhaustion_ratio)),
    ),
    labelled(
        "timewait_udp_source_ports",
        &["src_addr"],
        "Distinct unreserved ports of the range in use by UDP sockets on a local address, including sockets on the \
         wildcard addresses that cover it: ports not available to bind(addr, 0). The addresses with the highest \
         ratio. 0.0.0.0 and :: are for sockets bound to no address, and include the ports in use on all addresses that \
         they cover; 0.0.0.0 also includes those of dual-stack IPv6 sockets, and is too high by those that were bound \
         to an address before connect().",
        Many(|snapshot, series| each(series, udp(snapshot), |one| one.ports.into())),
    ),
    labelled(
        "timewait_udp_source_exhaustion_ratio",
        &["src_addr"],
        "timewait_udp_source_ports divided by the unreserved ports of the range, 0 to 1. Exactly 1 when \
         bind(addr, 0) fails with EADDRINUSE; connect() and sendto() of an unbound UDP socket fail with EAGAIN where \
         the ratio of 0.0.0.0 (IPv4) or :: (IPv6) is 1, for every destination.",
        Many(|snapshot, series| each(series, udp(snapshot), |one| one.exhaustion_ratio)),
    ),
];

fn udp(snapshot: &Snapshot) -> Option<&[SourceUsage]> {
    Some(&snapshot.udp()?.by_source)
}

/// One value for each address that is exported.
fn each(
    series: &mut Series,
    sources: Option<&[SourceUsage]>,
    value: fn(&SourceUsage) -> f64,
) -> Option<()> {
    for source in sources? {
        series.push(&[&source.src_addr], value(source));
    }
    Some(())
}
