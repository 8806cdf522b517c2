//! The kernel's settings that govern TIME-WAIT and the ephemeral port range.

use super::ports::{PortRange, PortSet};

/// One reading of `/proc/sys/net/ipv4`. A setting that this kernel does not have, or that could not
/// be read, is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `ip_local_port_range`.
    pub port_range: Option<PortRange>,
    /// `ip_local_reserved_ports`, inside the range or not.
    pub reserved_ports: Option<PortSet>,
    /// `tcp_tw_reuse`: 0 off, 1 on, 2 on for loopback only (Linux >= 4.19).
    pub tcp_tw_reuse: Option<i64>,
    /// `tcp_tw_reuse_delay`, milliseconds (Linux >= 6.14).
    pub tcp_tw_reuse_delay_ms: Option<i64>,
    /// `tcp_tw_recycle`, gone since Linux 4.12.
    pub tcp_tw_recycle: Option<i64>,
    /// `tcp_timestamps`: 0 off, 1 on with random offsets, 2 on without.
    pub tcp_timestamps: Option<i64>,
    /// `tcp_fin_timeout`, seconds.
    pub tcp_fin_timeout_seconds: Option<i64>,
    /// `tcp_max_tw_buckets`.
    pub tcp_max_tw_buckets: Option<i64>,
    /// `tcp_rfc1337`.
    pub tcp_rfc1337: Option<i64>,
    /// `ip_unprivileged_port_start` (Linux >= 4.11).
    pub ip_unprivileged_port_start: Option<i64>,
}
