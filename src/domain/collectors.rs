//! The collectors: what can be switched on and off, fails by itself, and has a success metric.
//!
//! One line of [`CollectorId`]'s table registers a collector. Where it reads, and what, is in
//! `collector::files` or a job of its own; what it exports is in `exposition::families`.

use std::collections::BTreeSet;

/// Registers collectors: an identifier, its name in flags and labels, whether its readings are of one network
/// namespace or of the whole host, and the help text of its flag.
macro_rules! collectors {
    ($($id:ident $name:literal $scope:ident $help:literal;)*) => {
        /// Names a collector.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum CollectorId {
            $(#[doc = $help] $id,)*
        }

        impl CollectorId {
            /// All of them, in the order in which they are exported.
            pub const ALL: &[Self] = &[$(Self::$id),*];

            /// As flags, labels and logs spell it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$id => $name,)* }
            }

            /// What it reads, in a few words.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$id => $help,)* }
            }

            /// Whether each network namespace has readings of its own.
            pub(crate) const fn is_of_namespace(self) -> bool {
                match self { $(Self::$id => matches!(Scope::$scope, Scope::Namespace),)* }
            }
        }
    };
}

enum Scope {
    Namespace,
    Host,
}

collectors! {
    Sockets "sockets" Namespace "Sockets and destinations, from the kernel's connection table";
    Sysctl "sysctl" Namespace "Kernel settings, from /proc/sys/net/ipv4";
    Netstat "netstat" Namespace "Kernel counters, from /proc/net/netstat";
    Snmp "snmp" Namespace "Connections opened, from /proc/net/snmp";
    Sockstat "sockstat" Namespace "Time-wait buckets in use, from /proc/net/sockstat";
    Probe "probe" Namespace "Ports in use that are closed to connect(), by a connect() that sends nothing (Linux 6.3)";
    Conntrack "conntrack" Namespace "Connection tracking (NAT), from /proc/sys/net/netfilter";
    Udp "udp" Namespace "UDP ports in use by local address, from udp_diag or /proc/net/udp";
    Slabinfo "slabinfo" Host "Memory of TIME-WAIT sockets, from /sys/kernel/slab or slabinfo (needs root)";
    Failures "failures" Host "connect() calls that found no free port, from a perf event (needs CAP_PERFMON)";
}

/// Which collectors run: all, unless switched off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enabled(BTreeSet<CollectorId>);

impl Default for Enabled {
    fn default() -> Self {
        Self(CollectorId::ALL.iter().copied().collect())
    }
}

impl Enabled {
    /// Whether a collector runs.
    pub fn has(&self, id: CollectorId) -> bool {
        self.0.contains(&id)
    }

    /// The same without these.
    #[must_use]
    pub fn without(mut self, ids: &[CollectorId]) -> Self {
        self.0.retain(|id| !ids.contains(id));
        self
    }

    /// Those that run.
    pub fn iter(&self) -> impl Iterator<Item = CollectorId> {
        self.0.iter().copied()
    }
}
