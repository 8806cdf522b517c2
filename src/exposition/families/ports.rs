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
        "First port of the ephemeral port range (net.ipv4.ip_local_port_range), inclusive. A narrower range that a \
         program sets for a single socket (IP_LOCAL_PORT_RANGE) is not visible.",
        Value(|snapshot| Some(range(snapshot)?.min().into())),
    ),
    single(
        "timewait_port_range_max",
        "Last port of the ephemeral port range (net.ipv4.ip_local_port_range), inclusive.",
        Value(|snapshot| Some(range(snapshot)?.max().into())),
    ),
    single(
        "timewait_port_range_ports",
        "Ports in the ephemeral port range, including reserved and blocked ones.",
        Value(|snapshot| Some(range(snapshot)?.ports().into())),
    ),
    single(
        "timewait_port_range_reserved_ports",
        "Ports of the range that the kernel never assigns automatically (net.ipv4.ip_local_reserved_ports). Reserved \
         ports outside the range are not counted.",
        Value(|snapshot| reserved(snapshot).map(f64::from)),
    ),
    single(
        "timewait_port_range_blocked_ports",
        "Unreserved ports of the range that connect() skips for every destination because a listening socket, or a \
         bound, unconnected one, owns them, on any address and of either IP version. Ports of bound, \
         unconnected sockets are counted before Linux 6.8, and with procfs, only if they were probed; on hosts with \
         more than 100,000 sockets they are read at most every five minutes unless a ratio has reached 0.75.",
        Value(|snapshot| Some(snapshot.ports()?.blocked.into())),
    ),
    single(
        "timewait_port_range_bind_owned_ports",
        "Ports of the range in use by connected or TIME-WAIT sockets that connect() skips for every destination, \
         because bind() assigned them or a closed listener passed them on. Absent if not probed: while no \
         usable port is in use, or less than a tenth of more than 1,024; before Linux 6.3 (except Debian's 6.1); \
         without bit 0 of net.ipv4.tcp_fastopen; with net.ipv4.tcp_fastopen_blackhole_timeout_sec above 0; with \
         --no-collector.probe or another --path.procfs. Up to a minute old while a tenth to 0.75 of the usable ports, \
         and more than 1,024, are in use.",
        Value(|snapshot| snapshot.ports()?.bind_owned.map(f64::from)),
    ),
    single(
        "timewait_port_range_usable_ports",
        "Ports of the range that connect() can use for any one destination: the range minus reserved, blocked and \
         (if probed) bind-owned ports. If the range has an odd number of ports, the kernel may use one fewer.",
        Value(|snapshot| Some(snapshot.ports()?.usable.into())),
    ),
    single(
        "timewait_port_range_free_ports",
        "Usable ports that no socket uses: at least this many connect() calls to any destination succeed (one fewer \
         if the range has an odd number of ports), even where programs call bind() before connect() and ports were \
         not probed. Too high by the ports of bound, unconnected sockets where the kernel does not list them (before \
         Linux 6.8) and they were not probed.",
        Value(|snapshot| Some(snapshot.ports()?.free.into())),
    ),
    labelled(
        "timewait_port_range_exhaustion_ratio",
        &["family"],
        "Exhaustion ratio of the worst destination, 0 to 1, by IP version; 0 without destinations. Exactly 1 \
         when the next connect() to it fails with EADDRNOTAVAIL (in a range with an odd number of ports, possibly one \
         port earlier). A lower bound where programs call bind() before connect() and \
         timewait_port_range_bind_owned_ports is absent; an upper bound where \
         timewait_port_range_exhaustion_ratio_lower_bound is less.",
        Many(|snapshot, series| series.by_family(Some(snapshot.ports()?.worst_ratio), f64::from)),
    ),
    labelled(
        "timewait_port_range_exhaustion_ratio_lower_bound",
        &["family"],
        "timewait_port_range_exhaustion_ratio without the ports of orphaned sockets in FIN-WAIT-2, which kernels \
         without a fix of 2024 reuse like ports in TIME-WAIT. Absent where the kernel is known to have the fix \
         (Linux 6.12, 6.11.3, 6.6.55, 6.1.113, 5.15.168, 5.10.227) and where tcp_tw_reuse or tcp_timestamps is off.",
        Many(|snapshot, series| series.by_family(snapshot.ports()?.least_ratio, f64::from)),
    ),
    single(
        "timewait_listeners_in_port_range",
        "Unreserved ports of the range with a listening socket. While such a service restarts, an outgoing \
         connection can use its port; the service then fails to start with EADDRINUSE.",
        Value(|snapshot| Some(snapshot.ports()?.listeners.into())),
    ),
    single(
        "timewait_destinations",
        "Number of destinations (local address, remote address, remote port) towards which ephemeral ports are in \
         use, including those aggregated into \"other\".",
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
