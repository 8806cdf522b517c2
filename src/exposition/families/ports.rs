//! Metrics of the ephemeral port range as a whole.
//!
//! The range and its reserved ports are those that the dump of the connection table went by;
//! where that dump failed or came late they are the settings as read, so that the size of the range
//! is known even then. What needs the sockets is absent then.

use super::Values::{Series as Many, Value};
use super::{MetricDescription, float, labelled, single};
use crate::domain::ports::{PortRange, PortSet};
use crate::domain::snapshot::Snapshot;

pub(super) const METRICS: &[MetricDescription] = &[
    single(
        "timewait_port_range_min",
        "First port of the ephemeral port range (net.ipv4.ip_local_port_range), inclusive. A \
         narrower range that a program has set for one of its sockets is not visible.",
        Value(|snapshot| Some(range(snapshot)?.min().into())),
    ),
    single(
        "timewait_port_range_max",
        "Last port of the ephemeral port range (net.ipv4.ip_local_port_range), inclusive.",
        Value(|snapshot| Some(range(snapshot)?.max().into())),
    ),
    single(
        "timewait_port_range_ports",
        "Ports in the ephemeral port range, reserved and blocked ones included.",
        Value(|snapshot| Some(range(snapshot)?.ports().into())),
    ),
    single(
        "timewait_port_range_reserved_ports",
        "Ports of the range that the kernel never gives out by itself \
         (net.ipv4.ip_local_reserved_ports). Reserved ports outside the range are not counted.",
        Value(|snapshot| reserved(snapshot).map(f64::from)),
    ),
    single(
        "timewait_port_range_blocked_ports",
        "Ports of the range, not reserved, that connect() skips for every destination because a \
         listening or a bound, unconnected socket owns them, on any address and of either family. \
         Before Linux 6.8 the latter are known only as far as they were probed. On a host with more than \
         100,000 sockets they are read at most every five minutes, unless a ratio has reached 0.75.",
        Value(|snapshot| Some(snapshot.ports()?.blocked.into())),
    ),
    single(
        "timewait_port_range_bind_owned_ports",
        "Ports of the range in use by connected or TIME-WAIT sockets that connect() skips for every \
         destination: bind() took them, or a listener that is gone passed them on. Absent where they \
         were not probed: while less than a tenth of the usable ports of a range of more than 1,024 is in \
         use, before Linux 6.3, without bit 0 of net.ipv4.tcp_fastopen, and with \
         --no-collector.probe. Between a tenth and 0.75 of the ports in use, an answer may be a minute old.",
        Value(|snapshot| snapshot.ports()?.bind_owned.map(f64::from)),
    ),
    single(
        "timewait_port_range_usable_ports",
        "Ports of the range that connect() can use towards any one destination: all without the \
         reserved, the blocked and, where they were probed, the bind-owned ones. Of a range with an odd \
         number of ports the kernel may use one less.",
        Value(|snapshot| Some(snapshot.ports()?.usable.into())),
    ),
    single(
        "timewait_port_range_free_ports",
        "Usable ports that no socket uses. connect() succeeds at least this often, to any \
         destination (one less where the range has an odd number of ports): a lower bound that holds \
         even where programs call bind() before connect() and ports were not probed, when the headroom \
         of a destination is only an upper bound.",
        Value(|snapshot| Some(snapshot.ports()?.free.into())),
    ),
    labelled(
        "timewait_port_range_exhaustion_ratio",
        &["family"],
        "Exhaustion ratio of the worst destination, 0 to 1, by IP version; 0 where there is no \
         destination. 1 when the next connect() to it fails with EADDRNOTAVAIL. A lower bound where \
         programs call bind() before connect() and timewait_port_range_bind_owned_ports is absent; an \
         upper bound where timewait_port_range_exhaustion_ratio_lower_bound is less.",
        Many(|snapshot, series| series.by_family(Some(snapshot.ports()?.worst_ratio), f64::from)),
    ),
    labelled(
        "timewait_port_range_exhaustion_ratio_lower_bound",
        &["family"],
        "timewait_port_range_exhaustion_ratio without the ports of orphaned sockets in FIN-WAIT-2, which kernels \
         without a fix of 2024 reuse as they do ports in TIME-WAIT. Absent where the kernel is known to have the fix \
         (Linux 6.11.3, 6.6.55, 6.1.113, 5.15.168, 5.10.227) and where tcp_tw_reuse is off.",
        Many(|snapshot, series| series.by_family(snapshot.ports()?.least_ratio, f64::from)),
    ),
    single(
        "timewait_listeners_in_port_range",
        "Ports of the range, not reserved, that something listens on. When such a service restarts, \
         an outgoing connection may use its port and it fails with EADDRINUSE.",
        Value(|snapshot| Some(snapshot.ports()?.listeners.into())),
    ),
    single(
        "timewait_destinations",
        "Number of destinations (local address, remote address, remote port) towards which ephemeral \
         ports are in use, including those aggregated into \"other\".",
        Value(|snapshot| Some(float(snapshot.ports()?.destinations))),
    ),
];

fn range(snapshot: &Snapshot) -> Option<PortRange> {
    match snapshot.ports() {
        Some(ports) => Some(ports.range),
        None => snapshot.settings()?.port_range,
    }
}

fn reserved(snapshot: &Snapshot) -> Option<u32> {
    if let Some(ports) = snapshot.ports() {
        // Without the setting the dump is summed up as if nothing were reserved, which is not known.
        return ports.sets.reserved.as_ref().map(|_| ports.reserved);
    }
    let reserved = snapshot.settings()?.reserved_ports.as_ref()?;
    Some(PortSet::of_range(range(snapshot)?).len_within(reserved))
}
