//! Metrics of the sockets in TIME-WAIT and of what they cost.
//!
//! What uses the port range is in `destinations`.

use std::fmt::Display;

use super::Values::{Count, Series as Many, Value};
use super::{MetricDescription, OTHER, Series, float, labelled, signed_float, single};
use crate::domain::age::BANDS;
use crate::domain::collectors::CollectorId;
use crate::domain::snapshot::{Breakdown, PortBreakdown};

/// The label value for the ports on a side that means no service.
const EPHEMERAL: &str = "ephemeral";

pub(super) const METRICS: &[MetricDescription] = &[
    labelled(
        "timewait_sockets",
        &["family"],
        "Sockets in TIME-WAIT, by IP version; an IPv4-mapped IPv6 address counts as IPv4. Excludes sockets in \
         FIN-WAIT-2, even those that the kernel keeps as time-wait buckets.",
        Many(|snapshot, series| series.by_family(Some(snapshot.sockets()?.time_wait), float)),
    ),
    labelled(
        "timewait_sockets_by_src_addr",
        &["src_addr"],
        "Sockets in TIME-WAIT by local address: the most frequent addresses; all others are summed under \"other\". \
         The values add up to timewait_sockets.",
        Many(|snapshot, series| by_value(series, snapshot.sockets()?.by_src_addr.as_ref())),
    ),
    labelled(
        "timewait_sockets_by_src_port",
        &["src_port"],
        "Sockets in TIME-WAIT by local port: the most frequent ports; all others are summed under \"other\". \
         Ephemeral local ports (inside the port range, not reserved, no listener) are summed under \"ephemeral\". \
         The values add up to timewait_sockets.",
        Many(|snapshot, series| by_port(series, snapshot.sockets()?.by_src_port.as_ref())),
    ),
    labelled(
        "timewait_sockets_by_dst_addr",
        &["dst_addr"],
        "Sockets in TIME-WAIT by remote address: the most frequent addresses; all others are summed under \"other\". \
         The values add up to timewait_sockets.",
        Many(|snapshot, series| by_value(series, snapshot.sockets()?.by_dst_addr.as_ref())),
    ),
    labelled(
        "timewait_sockets_by_dst_port",
        &["dst_port"],
        "Sockets in TIME-WAIT by remote port: the most frequent ports; all others are summed under \"other\". \
         Sockets whose local port is not ephemeral are summed under \"ephemeral\": the peer opened these \
         connections, and its port identifies no service. The values add up to timewait_sockets.",
        Many(|snapshot, series| by_port(series, snapshot.sockets()?.by_dst_port.as_ref())),
    ),
    labelled(
        "timewait_sockets_by_age",
        &["age_seconds"],
        "Sockets in TIME-WAIT by seconds since they entered it, in bands with an inclusive lower bound. The age is \
         the duration of TIME-WAIT (60 s) minus the time left on the kernel's timer, clamped to the first and the last band. The values add up \
         to timewait_sockets.",
        Many(|snapshot, series| {
            for ((band, _), count) in BANDS.iter().zip(snapshot.sockets()?.by_age?) {
                series.push(&[band], float(count));
            }
            Some(())
        }),
    ),
    single(
        "timewait_buckets",
        "Time-wait buckets in use, as counted by the kernel (tw in /proc/net/sockstat). Unlike timewait_sockets, \
         includes orphaned sockets in FIN-WAIT-2 that the kernel keeps as buckets. Read at a different moment of the \
         same scrape.",
        Count(CollectorId::Sockstat, "tw"),
    ),
    single(
        "timewait_buckets_limit",
        "Maximum number of time-wait buckets (net.ipv4.tcp_max_tw_buckets). Beyond it, sockets are closed without \
         TIME-WAIT and counted in timewait_overflows_total.",
        Value(|snapshot| snapshot.settings()?.tcp_max_tw_buckets.map(signed_float)),
    ),
    single(
        "timewait_memory_bytes",
        "Bytes allocated to the kernel's tw_sock slab caches, in use or not, for all network namespaces of the host. \
         Absent without permission to read /sys/kernel/slab or /proc/slabinfo (root), and where the kernel does not \
         list these caches.",
        Count(CollectorId::Slabinfo, "bytes"),
    ),
];

/// The individual values and the rest; the rest even at 0, so that a sum over the family never lacks it.
fn by_value<K: Display>(series: &mut Series, found: Option<&Breakdown<K>>) -> Option<()> {
    let found = found?;
    for (value, count) in &found.exported {
        series.push(&[value], float(*count));
    }
    series.push(&[&OTHER], float(found.other));
    Some(())
}

fn by_port(series: &mut Series, found: Option<&PortBreakdown>) -> Option<()> {
    let found = found?;
    by_value(series, Some(&found.ports))?;
    series.push(&[&EPHEMERAL], float(found.ephemeral));
    Some(())
}
