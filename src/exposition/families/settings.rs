//! Metrics of the kernel's settings, raw as `/proc/sys` has them.
//!
//! The port range is not among them: see `ports`.

use super::Teller::Value;
use super::{MetricDescription, settings_of, signed_float};

/// One raw setting: an entry needs only its name, its meaning and where it stands.
macro_rules! sysctl {
    ($name:literal, $field:ident, $help:literal) => {
        MetricDescription::gauge(
            concat!("timewait_sysctl_", $name),
            &[],
            concat!("net.ipv4.", $name, ": ", $help),
            Value(|snapshot| settings_of(snapshot)?.$field.map(signed_float)),
        )
    };
}

pub(super) const METRICS: &[MetricDescription] = &[
    sysctl!(
        "tcp_tw_reuse",
        tcp_tw_reuse,
        "whether connect() may take over a port in TIME-WAIT. 0 no, 1 yes, 2 for loopback addresses \
         only (Linux 4.19 and newer)."
    ),
    sysctl!(
        "tcp_tw_reuse_delay",
        tcp_tw_reuse_delay_ms,
        "milliseconds that a socket must have been in TIME-WAIT before connect() may take over its \
         port. Absent before Linux 6.14, where it is 1 s."
    ),
    sysctl!(
        "tcp_tw_recycle",
        tcp_tw_recycle,
        "whether TIME-WAIT is cut short, 0 no, 1 yes. Breaks connections from behind NAT; absent \
         since Linux 4.12, which removed it."
    ),
    sysctl!(
        "tcp_timestamps",
        tcp_timestamps,
        "whether TCP timestamps are used, without which no port in TIME-WAIT is reused. 0 no, 1 with a \
         random offset for each connection, 2 without offset."
    ),
    sysctl!(
        "tcp_fin_timeout",
        tcp_fin_timeout_seconds,
        "seconds that an orphaned socket stays in FIN-WAIT-2. Does not change the 60 s of TIME-WAIT, \
         which are fixed."
    ),
    sysctl!(
        "tcp_max_tw_buckets",
        tcp_max_tw_buckets,
        "how many time-wait buckets the kernel allows; the same figure as timewait_buckets_limit."
    ),
    sysctl!(
        "tcp_rfc1337",
        tcp_rfc1337,
        "whether a RST segment is ignored in TIME-WAIT. 0 a RST ends it, 1 it does not."
    ),
    sysctl!(
        "ip_unprivileged_port_start",
        ip_unprivileged_port_start,
        "the first port that a program without privileges may bind. Absent before Linux 4.11."
    ),
];
