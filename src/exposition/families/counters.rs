//! Metrics of the kernel's own counters (`/proc/net/netstat`, `TcpExt`, and `/proc/net/snmp`, `Tcp`) and of
//! connection tracking, on which NAT depends.
//!
//! They count since the network namespace was made, whatever this program does, except for the failed connect()
//! calls.

use super::Values::{Count, Series as Many};
use super::{MetricDescription, float, labelled, single};
use crate::domain::collectors::CollectorId;

pub(super) const METRICS: &[MetricDescription] = &[
    single(
        "timewait_entered_total",
        "Sockets that have entered TIME-WAIT (TcpExt TW), those that the kernel keeps as time-wait \
         buckets in FIN-WAIT-2 included. Newer kernels count a socket when it enters, seen on Linux \
         6.18; older ones, such as Linux 5.10, when its timer ends, 60 s later.",
        Count(CollectorId::Netstat, "TW"),
    ),
    single(
        "timewait_recycled_total",
        "Sockets in TIME-WAIT whose port connect() has reused (TcpExt TWRecycled).",
        Count(CollectorId::Netstat, "TWRecycled"),
    ),
    single(
        "timewait_killed_total",
        "Time-wait buckets with a timer of 4 s or less (TcpExt TWKilled), which timewait_entered_total \
         does not count: orphaned sockets in FIN-WAIT-2 where tcp_fin_timeout is that short, and \
         TIME-WAIT cut short by tcp_tw_recycle.",
        Count(CollectorId::Netstat, "TWKilled"),
    ),
    single(
        "timewait_overflows_total",
        "Sockets closed without TIME-WAIT because tcp_max_tw_buckets was reached or no memory was \
         available (TcpExt TCPTimeWaitOverflow).",
        Count(CollectorId::Netstat, "TCPTimeWaitOverflow"),
    ),
    single(
        "timewait_active_opens_total",
        "TCP connections opened by connect() (Tcp ActiveOpens), MPTCP subflows included. Unlike \
         timewait_entered_total it counts connections over reused ports too.",
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
        "Segments that the kernel rejected for their timestamps, by its own name for the counter \
         (TcpExt). PAWSTimewait counts those that met a socket in TIME-WAIT. A counter that the kernel \
         does not have is absent.",
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
        "connect() calls on the whole host, all network namespaces included, that failed because no \
         ephemeral port was free (EADDRNOTAVAIL), since the exporter started. Calls from a port that \
         bind() had fixed are not counted.",
        Count(CollectorId::Failures, "failures"),
    ),
    single(
        "timewait_conntrack_entries",
        "Entries of the connection tracking table (net.netfilter.nf_conntrack_count), of any protocol. \
         Absent where the kernel tracks no connections.",
        Count(CollectorId::Conntrack, "count"),
    ),
    single(
        "timewait_conntrack_entries_limit",
        "How many entries the connection tracking table may have (net.netfilter.nf_conntrack_max). When it \
         is full, packets of new connections are dropped.",
        Count(CollectorId::Conntrack, "max"),
    ),
    single(
        "timewait_conntrack_insert_failed_total",
        "Packets dropped because their connection could not be inserted into the connection tracking table \
         (insert_failed in /proc/net/stat/nf_conntrack). Rises when NAT has no source port left for a \
         destination, and when two packets of one connection race. Absent where the kernel has no such file.",
        Count(CollectorId::Conntrack, "insert_failed"),
    ),
    single(
        "timewait_conntrack_drops_total",
        "Packets dropped by connection tracking (drop in /proc/net/stat/nf_conntrack): the table was full, or \
         the insertion failed.",
        Count(CollectorId::Conntrack, "drop"),
    ),
    single(
        "timewait_conntrack_early_drops_total",
        "Tracked connections dropped to make room for new ones (early_drop in /proc/net/stat/nf_conntrack): \
         the table was full.",
        Count(CollectorId::Conntrack, "early_drop"),
    ),
];
