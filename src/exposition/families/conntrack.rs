//! Metrics of connection tracking, on which NAT depends.

use super::Values::Count;
use super::{MetricDescription, single};
use crate::domain::collectors::CollectorId::Conntrack;

pub(super) const METRICS: &[MetricDescription] = &[
    single(
        "timewait_conntrack_entries",
        "Entries of the connection tracking table (net.netfilter.nf_conntrack_count), of any protocol. \
         Absent where the kernel tracks no connections.",
        Count(Conntrack, "count"),
    ),
    single(
        "timewait_conntrack_entries_limit",
        "How many entries the connection tracking table may have (net.netfilter.nf_conntrack_max). When it \
         is full, packets of new connections are dropped.",
        Count(Conntrack, "max"),
    ),
    single(
        "timewait_conntrack_insert_failed_total",
        "Packets dropped because their connection could not be inserted into the connection tracking table \
         (insert_failed in /proc/net/stat/nf_conntrack). Rises when NAT has no source port left for a \
         destination, and when two packets of one connection race. Absent where the kernel has no such file.",
        Count(Conntrack, "insert_failed"),
    ),
    single(
        "timewait_conntrack_drops_total",
        "Packets dropped by connection tracking (drop in /proc/net/stat/nf_conntrack): the table was full, or \
         the insertion failed.",
        Count(Conntrack, "drop"),
    ),
    single(
        "timewait_conntrack_early_drops_total",
        "Tracked connections dropped to make room for new ones (early_drop in /proc/net/stat/nf_conntrack): \
         the table was full.",
        Count(Conntrack, "early_drop"),
    ),
];
