//! Metrics of the kernel's own counters (`/proc/net/netstat`, `TcpExt`, and `/proc/net/snmp`, `Tcp`) and of
//! connection tracking, on which NAT depends.
//!
//! The counters count since the network namespace was made, whatever this program does, except for the failed
//! connect() calls.

use super::Values::{Count, Series as Many};
use super::{MetricDescription, float, labelled, single};
use crate::domain::collectors::CollectorId;

pub(super) const METRICS: &[MetricDescription] = &[
    single(
        "timewait_entered_total",
        "Sockets that have entered TIME-WAIT (TcpExt TW), including sockets in FIN-WAIT-2 that the kernel keeps as \
         time-wait buckets. Linux 6.1 and later count a socket when it enters, Linux 5.10 when its timer ends, \
         60 s later.",
        Count(CollectorId::Netstat, "TW"),
    ),
    single(
        "timewait_recycled_total",
        "Sockets in TIME-WAIT whose port connect() has reused (TcpExt TWRecycled).",
        Count(CollectorId::Netstat, "TWRecycled"),
    ),
    single(
        "timewait_killed_total",
        "Time-wait buckets with a timer of 4 s or less (TcpExt TWKilled), which timewait_entered_total does not \
         count: orphaned sockets in FIN-WAIT-2 if tcp_fin_timeout is that short, and TIME-WAIT shortened by \
         tcp_tw_recycle.",
        Count(CollectorId::Netstat, "TWKilled"),
    ),
    single(
        "timewait_overflows_total",
        "Sockets closed without TIME-WAIT because tcp_max_tw_buckets was reached or memory was short (TcpExt \
         TCPTimeWaitOverflow).",
        Count(CollectorId::Netstat, "TCPTimeWaitOverflow"),
    ),
    single(
        "timewait_active_opens_total",
        "TCP connections opened by connect() (Tcp ActiveOpens), including MPTCP subflows. Unlike \
         timewait_entered_total, includes connections over reused ports.",
        Count(CollectorId::Snmp, "ActiveOpens"),
    ),
    single(
        "timewait_passive_opens_total",
        "TCP connections accepted by listening sockets (Tcp PassiveOpens).",
        Count(CollectorId::Snmp, "PassiveOpens"),
    ),
    labelled(
        "timewait_paws_rejects_total",
        &["counter"],
        "Segments that the kernel rejected because of their timestamps, by the kernel's name of the counter \
         (TcpExt). PAWSTimewait counts segments for a socket in TIME-WAIT. Counters that the kernel lacks are \
         absent.",
        Many(|snapshot, series| {
            for (counter, segments) in snapshot.counts(CollectorId::Netstat)?.iter() {
                if counter.starts_with("PAWS") || counter == "TSEcrRejected" {
                    series.push(&[&counter], float(segments));
                }
            }
            Some(())
        }),
    ),
    single(
        "timewait_connect_failures_total",
        "connect() calls that failed because no ephemeral port was free (EADDRNOTAVAIL), in all network namespaces \
         of the host, since the exporter started. Excludes sockets that bind() had assigned a port.",
        Count(CollectorId::Failures, "failures"),
    ),
    single(
        "timewait_conntrack_entries",
        "Entries of the connection tracking table (net.netfilter.nf_conntrack_count), of any protocol. Absent where \
         connection tracking is not in use.",
        Count(CollectorId::Conntrack, "count"),
    ),
    single(
        "timewait_conntrack_entries_limit",
        "Maximum number of entries of the connection tracking table (net.netfilter.nf_conntrack_max). When it is \
         full, packets of new connections are dropped.",
        Count(CollectorId::Conntrack, "max"),
    ),
    single(
        "timewait_conntrack_insert_failed_total",
        "Packets dropped because their connection could not be inserted into the connection tracking table \
         (insert_failed in /proc/net/stat/nf_conntrack). Increases when NAT has no source port left for a \
         destination, and when two packets of one connection race. Absent where the kernel has no such file.",
        Count(CollectorId::Conntrack, "insert_failed"),
    ),
    single(
        "timewait_conntrack_drops_total",
        "Packets dropped by connection tracking (drop in /proc/net/stat/nf_conntrack), because the table was full or \
         the insertion failed.",
        Count(CollectorId::Conntrack, "drop"),
    ),
    single(
        "timewait_conntrack_early_drops_total",
        "Tracked connections dropped to make room for new ones because the table was full (early_drop in \
         /proc/net/stat/nf_conntrack).",
        Count(CollectorId::Conntrack, "early_drop"),
    ),
];
