//! Metrics of single destinations: the triple for which the kernel allocates ephemeral ports.
//!
//! Which destinations are exported individually is decided where they are counted.

use std::fmt::Display;

use super::Values::Series as Many;
use super::{MetricDescription, OTHER, Series, float, labelled};
use crate::domain::snapshot::{Destination, DestinationUsage, PortsInUse, Snapshot};

const TRIPLE: &[&str] = &["src_addr", "dst_addr", "dst_port"];

pub(super) const METRICS: &[MetricDescription] = &[
    labelled(
        "timewait_destination_ports",
        &["src_addr", "dst_addr", "dst_port", "state"],
        "Ephemeral ports in use towards a destination, by socket state: time_wait, established, or other (any other \
         state but LISTEN and CLOSE). The destinations with the highest ratio; all others are summed with \"other\" \
         in the three labels of the destination.",
        Many(ports_in_use),
    ),
    labelled(
        "timewait_destination_reusable_ports",
        TRIPLE,
        "Ports in TIME-WAIT that the next connect() to the destination can reuse: tcp_timestamps is on, tcp_tw_reuse \
         allows it (2: loopback addresses only), and the socket is older than tcp_tw_reuse_delay. Too high if the \
         peer uses no timestamps and no live socket shows it: the kernel does not reuse its ports.",
        Many(|snapshot, series| each(snapshot, series, |one| float(one.reusable))),
    ),
    labelled(
        "timewait_destination_headroom_ports",
        TRIPLE,
        "Number of further connect() calls to the destination that succeed now: usable ports minus those in use, \
         plus the reusable ones. Can be one too high if the range has an odd number of ports. An upper bound where \
         programs call bind() before connect() and timewait_port_range_bind_owned_ports is absent; a lower bound where \
         ports of orphaned sockets in FIN-WAIT-2 are in use and timewait_port_range_exhaustion_ratio_lower_bound is \
         less than the ratio.",
        Many(|snapshot, series| each(snapshot, series, |one| one.headroom.into())),
    ),
    labelled(
        "timewait_destination_exhaustion_ratio",
        TRIPLE,
        "Ports in use minus the reusable ones, divided by the usable ports of the range, 0 to 1. Exactly 1 when \
         the next connect() to the destination fails with EADDRNOTAVAIL (in a range with an odd number of ports, \
         possibly one port earlier). A lower bound where programs call bind() before connect() and \
         timewait_port_range_bind_owned_ports is absent; an upper bound where ports of orphaned sockets in FIN-WAIT-2 \
         are in use and timewait_port_range_exhaustion_ratio_lower_bound is less.",
        Many(|snapshot, series| each(snapshot, series, |one| one.exhaustion_ratio)),
    ),
    labelled(
        "timewait_destination_close_rate",
        TRIPLE,
        "TIME-WAIT rate of the destination: sockets per second that entered TIME-WAIT during the last 10 s and are \
         still in it, computed from their ages. Available from the first scrape, but misses sockets that were reused \
         or ended early.",
        Many(|snapshot, series| each(snapshot, series, |one| one.close_rate)),
    ),
    labelled(
        "timewait_destination_search_ports",
        TRIPLE,
        "Longest run of ports in use of one parity, in the order in which connect() tries them, wrapping from the last \
         port of the range to its first: ports that the next connect() may have to examine before it finds a free one \
         of that parity, which costs CPU time. Reusable ports end a run; reserved, blocked and bind-owned ones neither \
         count nor end it. With net.ipv4.ip_local_port_step_width above 0 the order is random, and this is the number \
         of usable ports in use without the reusable ones: an upper bound.",
        Many(|snapshot, series| each(snapshot, series, |one| one.search_ports.into())),
    ),
];

/// The values of [`TRIPLE`].
fn labels(to: &Destination) -> [&dyn Display; 3] {
    [&to.src_addr, &to.dst_addr, &to.dst_port]
}

/// One value for each destination that is exported individually.
fn each(
    snapshot: &Snapshot,
    series: &mut Series,
    value: fn(&DestinationUsage) -> f64,
) -> Option<()> {
    for one in &snapshot.destinations()?.exported {
        series.push(&labels(&one.destination), value(one));
    }
    Some(())
}

fn ports_in_use(snapshot: &Snapshot, series: &mut Series) -> Option<()> {
    let found = snapshot.destinations()?;
    let mut push = |[src, dst, port]: [&dyn Display; 3], in_use: PortsInUse| {
        series.push(&[src, dst, port, &"time_wait"], float(in_use.time_wait));
        series.push(&[src, dst, port, &"established"], float(in_use.established));
        series.push(&[src, dst, port, &"other"], float(in_use.other));
    };
    for one in &found.exported {
        push(labels(&one.destination), one.in_use);
    }
    push([&OTHER; 3], found.other);
    Some(())
}
