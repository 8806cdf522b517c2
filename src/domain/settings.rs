//! The kernel settings (sysctls) that govern TIME-WAIT and the ephemeral port range.

use super::ports::{PortRange, PortSet};

/// A setting that is one whole number.
#[derive(Clone, Copy, Debug)]
pub struct Sysctl {
    /// Its name as sysctl(8) spells it.
    pub name: &'static str,
    /// What it is, for the help text of its metric.
    pub help: &'static str,
    /// Its value among others.
    pub get: fn(&Settings) -> Option<i64>,
    /// Puts a value among others.
    pub set: fn(&mut Settings, Option<i64>),
}

/// The one table of these settings: the field, the name, the help text.
macro_rules! sysctls {
    ($($field:ident $name:literal $help:literal;)*) => {
        /// One reading of the settings. What this kernel does not have, or could not be read, is `None`.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Settings {
            /// `net.ipv4.ip_local_port_range`.
            pub port_range: Option<PortRange>,
            /// `net.ipv4.ip_local_reserved_ports`, inside the range or not.
            pub reserved_ports: Option<PortSet>,
            $(#[doc = concat!("`", $name, "`: ", $help)] pub $field: Option<i64>,)*
        }

        /// The settings that are one whole number each, in reading order.
        pub const SYSCTLS: &[Sysctl] = &[$(Sysctl {
            name: $name,
            help: $help,
            get: |settings| settings.$field,
            set: |settings, value| settings.$field = value,
        }),*];
    };
}

sysctls! {
    tcp_tw_reuse "net.ipv4.tcp_tw_reuse"
        "whether connect() may reuse a port in TIME-WAIT: 0 no, 1 yes, 2 for loopback addresses only (since Linux \
         4.19).";
    tcp_tw_reuse_delay_ms "net.ipv4.tcp_tw_reuse_delay"
        "milliseconds that a socket must have been in TIME-WAIT before connect() may reuse its port. Absent before \
         Linux 6.14, where the second of the kernel's clock must have changed: at most 1 s.";
    tcp_tw_recycle "net.ipv4.tcp_tw_recycle"
        "whether the kernel shortens TIME-WAIT: 0 no, 1 yes. Breaks connections of clients behind NAT. Absent since \
         Linux 4.12, which removed it.";
    tcp_timestamps "net.ipv4.tcp_timestamps"
        "whether TCP timestamps are used: 0 no, 1 with a random offset per connection, 2 without offset. Without \
         them, no port in TIME-WAIT is reused.";
    tcp_fin_timeout_seconds "net.ipv4.tcp_fin_timeout"
        "seconds that an orphaned socket stays in FIN-WAIT-2. Does not change the duration of TIME-WAIT.";
    tcp_max_tw_buckets "net.ipv4.tcp_max_tw_buckets"
        "maximum number of time-wait buckets.";
    tcp_rfc1337 "net.ipv4.tcp_rfc1337"
        "whether sockets in TIME-WAIT ignore RST segments: 0 a RST ends TIME-WAIT, 1 it does not.";
    ip_unprivileged_port_start "net.ipv4.ip_unprivileged_port_start"
        "the first port that a program without privileges may bind. Absent before Linux 4.11.";
    tcp_tw_timeout_seconds "net.ipv4.tcp_tw_timeout"
        "seconds that TIME-WAIT lasts, on Alibaba Cloud Linux. Absent on other kernels, where it is 60 s.";
    ip_local_port_step_width "net.ipv4.ip_local_port_step_width"
        "maximum random step of connect() in its search for a free port; 0 for the next port of the same parity. \
         Absent before Linux 7.2.";
    ip_autobind_reuse "net.ipv4.ip_autobind_reuse"
        "whether bind() with port 0 may choose a port that sockets with SO_REUSEADDR already use: 0 no, 1 yes. \
         Absent before Linux 5.7.";
    ipv6_bindv6only "net.ipv6.bindv6only"
        "whether sockets bound to :: are IPv6 only unless they set IPV6_V6ONLY themselves: 0 no, 1 yes.";
}

impl Sysctl {
    /// Its name without `net.ipv4.` or, for one of another family, without `net.`: as metrics and remedies have it.
    pub(crate) fn short_name(&self) -> &'static str {
        let name = self.name.trim_start_matches("net.");
        name.trim_start_matches("ipv4.")
    }
}
