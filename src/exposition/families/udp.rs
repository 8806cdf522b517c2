//! Metrics of the UDP ports in use on single local addresses.

use super::Values::Series as Many;
use super::sources::each;
use super::{MetricDescription, labelled};

pub(super) const METRICS: &[MetricDescription] = &[
    labelled(
        "timewait_udp_source_ports",
        &["src_addr"],
        "Distinct unreserved ports of the range in use by UDP sockets on a local address, including \
         those on wildcard addresses that cover it: ports that bind(addr, 0) cannot get. The fullest \
         addresses; 0.0.0.0 and :: stand for sockets that are not bound to an address. Too high on \
         0.0.0.0 by the connected IPv6 sockets that were bound to an address first.",
        Many(|snapshot, series| {
            each(series, Some(&snapshot.udp()?.by_source), |one| {
                one.ports.into()
            })
        }),
    ),
    labelled(
        "timewait_udp_source_exhaustion_ratio",
        &["src_addr"],
        "timewait_udp_source_ports divided by the unreserved ports of the range, 0 to 1. At 1 the next \
         bind(addr, 0) fails with EADDRINUSE, and connect() and sendto() of an unbound UDP socket \
         (0.0.0.0 and ::) with EAGAIN, whatever the destination.",
        Many(|snapshot, series| {
            each(series, Some(&snapshot.udp()?.by_source), |one| {
                one.exhaustion_ratio
            })
        }),
    ),
];
