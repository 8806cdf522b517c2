//! What one scrape found out: immutable once made, read by every output.
//!
//! Holds no metric names (see `exposition`) and does no arithmetic beyond trivial sums.

use std::time::Duration;

use serde::Serialize;

use super::address::{Address, Family};
use super::ports::{PortRange, PortSet};
use super::settings::Settings;

/// Where the sockets were read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// `NETLINK_SOCK_DIAG`.
    Netlink,
    /// `/proc/net/tcp` and `tcp6`.
    Procfs,
}

impl Source {
    /// As flags, labels and logs spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Netlink => "netlink",
            Self::Procfs => "procfs",
        }
    }
}

/// How one collector fared.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<T> {
    /// What it found. A collector of independent values may have found some and still have
    /// failed; one whose values add up has all or nothing.
    pub value: Option<T>,
    /// Whether everything it looks for was read.
    pub success: bool,
    /// How long it took, up to its failure or the deadline.
    pub duration: Duration,
}

/// Everything one scrape found out about one network namespace. A collector that is switched off
/// is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The pass over the connection table.
    pub sockets: Option<Outcome<SocketSummary>>,
    /// `/proc/sys/net/ipv4`.
    pub sysctl: Option<Outcome<Settings>>,
    /// `/proc/net/netstat`.
    pub netstat: Option<Outcome<KernelCounters>>,
    /// `/proc/net/sockstat`.
    pub sockstat: Option<Outcome<SocketStatistics>>,
    /// `/sys/kernel/slab` or `/proc/slabinfo`.
    pub slabinfo: Option<Outcome<SlabMemory>>,
}

/// The columns of `/proc/net/netstat`, `TcpExt`, about TIME-WAIT. `None` where the kernel lacks it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelCounters {
    /// `TW`: sockets that entered TIME-WAIT or became a FIN-WAIT-2 mini-socket (on older kernels:
    /// whose time there ended).
    pub entered: Option<u64>,
    /// `TWRecycled`: TIME-WAIT sockets taken over by a new connection.
    pub recycled: Option<u64>,
    /// `TWKilled`: mini-sockets with a timer of 4 s or less (on older kernels: whose time ended by
    /// the slow timer).
    pub killed: Option<u64>,
    /// `TCPTimeWaitOverflow`: sockets destroyed since `tcp_max_tw_buckets` was reached.
    pub overflows: Option<u64>,
    /// Segments rejected for their timestamps, by the kernel's own column name, in its order.
    pub paws_rejects: Vec<(&'static str, u64)>,
}

/// The TCP line of `/proc/net/sockstat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketStatistics {
    /// `tw`: time-wait buckets in use, orphaned FIN-WAIT-2 mini-sockets included.
    pub time_wait_buckets: Option<u64>,
    /// `inuse`: TCP sockets that are neither in TIME-WAIT nor closed, IPv4 and IPv6.
    pub in_use: Option<u64>,
    /// `orphan`: sockets without a process (host-wide on older kernels).
    pub orphans: Option<u64>,
    /// `used` of the `sockets` line: sockets of any protocol that programs hold (host-wide on older
    /// kernels).
    pub sockets_used: Option<u64>,
}

/// The `tw_sock_*` caches of `/sys/kernel/slab` or `/proc/slabinfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlabMemory {
    /// Bytes that the slabs hold, used or not; `None` without the right to read it or where no
    /// such cache is listed.
    pub time_wait_bytes: Option<u64>,
}

/// The most frequent values of one attribute of TIME-WAIT sockets, and how many have the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breakdown<K> {
    /// Values with their counts: the top N, most frequent first, then pinned ones beyond them.
    pub exported: Vec<(K, u64)>,
    /// Sockets with any value that is not told.
    pub other: u64,
}

impl<K> Breakdown<K> {
    /// Sockets in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.exported.iter().map(|(_, count)| count).sum::<u64>() + self.other
    }
}

/// A breakdown by port, with the ports that the ephemeral range gave folded into one count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortBreakdown {
    /// The ports that mean a service.
    pub ports: Breakdown<u16>,
    /// Sockets whose port on this side was an ephemeral one.
    pub ephemeral: u64,
}

/// How many age bands there are.
pub const AGE_BANDS: usize = 6;

/// What the pass over the connection table found.
///
/// **Invariant:** `time_wait` and every breakdown that is there have the same total.
#[derive(Clone, Debug, PartialEq)]
pub struct SocketSummary {
    /// Where the sockets were read from; `None` where it was known that there are none.
    pub source: Option<Source>,
    /// Records that the kernel sent, listeners and bound sockets included.
    pub messages: u64,
    /// Sockets in TIME-WAIT proper, by family.
    pub time_wait: PerFamily<u64>,
    /// By local address. `None` where switched off, here and below.
    pub by_src_addr: Option<Breakdown<Address>>,
    /// By local port. `None` also while the port range is unknown, for then no direction is.
    pub by_src_port: Option<PortBreakdown>,
    /// By remote address.
    pub by_dst_addr: Option<Breakdown<Address>>,
    /// By remote port. `None` also while the port range is unknown.
    pub by_dst_port: Option<PortBreakdown>,
    /// By age, in the bands of [`super::age::BANDS`].
    pub by_age: Option<[u64; AGE_BANDS]>,
    /// The port range and who spends it; `None` while the range is unknown.
    pub ports: Option<PortUsage>,
}

/// A value for each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerFamily<T> {
    /// For IPv4, mapped addresses included.
    pub ipv4: T,
    /// For IPv6 proper.
    pub ipv6: T,
}

impl<T> PerFamily<T> {
    /// The value for one family.
    pub fn get(&self, family: Family) -> &T {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }

    /// The value for one family, to change it.
    #[inline]
    pub fn get_mut(&mut self, family: Family) -> &mut T {
        match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        }
    }
}

/// How the ephemeral port range is spent.
#[derive(Clone, Debug, PartialEq)]
pub struct PortUsage {
    /// The range itself.
    pub range: PortRange,
    /// Ports of `ip_local_reserved_ports` inside the range.
    pub reserved: u32,
    /// Ports inside the range, not reserved, that a listening or merely bound socket owns; the latter as
    /// they were up to five minutes ago where there are more than 100,000 sockets and no ratio has
    /// reached the warning threshold.
    pub blocked: u32,
    /// Ports inside the range, not reserved, that something listens on.
    pub listeners: u32,
    /// range - reserved - blocked.
    pub usable: u32,
    /// Usable ports that no socket at all holds: a bound from below for every headroom, whatever
    /// the table does not tell of how the held ports were come by.
    pub free: u32,
    /// The worst destination's ratio by family, 0 where there is none.
    pub worst_ratio: PerFamily<f64>,
    /// How many destinations there are.
    pub destinations: u64,
    /// The worst destinations and the pinned ones; `None` where switched off.
    pub by_destination: Option<DestinationBreakdown>,
    /// The fullest pools of bind(addr, 0), fullest first; `None` where switched off.
    pub by_source: Option<Vec<SourceUsage>>,
    /// Which ports connect() cannot have or, with another range, could not.
    pub sets: PortSets,
}

/// Ports, inside the range or not, that connect() has no use of, by the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSets {
    /// `ip_local_reserved_ports`; `None` while it is unknown.
    pub reserved: Option<PortSet>,
    /// Something listens on them.
    pub listening: PortSet,
    /// A socket is merely bound to them; another may listen.
    pub bound: PortSet,
    /// Held by a connected socket that is not outgoing: on a listener's port, on a reserved one, or
    /// outside the range. A dump that the kernel filtered (see `kernel::sock_diag::filter`) leaves
    /// out those outside the range that are not in TIME-WAIT.
    pub elsewhere: PortSet,
    /// Whether those of live sockets outside the range are among them: a dump may leave them out.
    pub elsewhere_is_whole: bool,
}

/// The ports available to bind(addr, 0) on one local address.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SourceUsage {
    /// The local address; a wildcard for sockets that are not bound to an address.
    #[cfg_attr(test, schemars(with = "String"))]
    pub src_addr: Address,
    /// Distinct unreserved ports of the range in use on this address.
    pub ports: u32,
    /// Those among them that something listens on, on whatever address.
    #[serde(skip)]
    pub listened: u32,
    /// Those among them that a wildcard socket owns: in use on any further address as well.
    #[serde(skip)]
    pub on_wildcards: u32,
    /// 0 to 1; 1 exactly when bind(addr, 0) fails.
    #[cfg_attr(test, schemars(range(min = 0, max = 1)))]
    pub exhaustion_ratio: f64,
}

/// The destinations that are told one by one, and the sum of the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DestinationBreakdown {
    /// Worst first, pinned ones beyond the top N last.
    pub exported: Vec<DestinationUsage>,
    /// What all the others hold together.
    pub other: PortsInUse,
}

/// The triple that the kernel spends ephemeral ports on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Destination {
    /// Local address.
    #[cfg_attr(test, schemars(with = "String"))]
    pub src_addr: Address,
    /// Remote address.
    #[cfg_attr(test, schemars(with = "String"))]
    pub dst_addr: Address,
    /// Remote port.
    pub dst_port: u16,
}

/// Sockets that hold a port, by what they are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PortsInUse {
    /// Sockets in TIME-WAIT proper.
    pub time_wait: u64,
    /// Established sockets.
    pub established: u64,
    /// Sockets in any other state but LISTEN and CLOSE.
    pub other: u64,
}

impl PortsInUse {
    /// All of them.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.time_wait + self.established + self.other
    }
}

/// Sockets of [`PortsInUse::other`] by the states that have remedies of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OtherStates {
    /// The peer has closed, the program on this host has not.
    pub close_wait: u32,
    /// connect() waits for the peer's answer.
    pub syn_sent: u32,
    /// FIN-WAIT-2 that no process owns any more: time-wait mini-sockets, which last `tcp_fin_timeout`.
    pub fin_wait2_orphans: u32,
}

/// Ports in use towards one destination.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DestinationUsage {
    /// Which one.
    #[serde(flatten)]
    pub destination: Destination,
    /// The ports its sockets hold.
    #[serde(flatten)]
    pub in_use: PortsInUse,
    /// Parts of `in_use.other`.
    #[serde(skip)]
    pub other_states: OtherStates,
    /// TIME-WAIT sockets among them that the next connect() may reuse now.
    pub reusable: u64,
    /// TIME-WAIT sockets on usable ports that are not reusable and would be with `tcp_tw_reuse` 1 and
    /// `tcp_timestamps` on.
    #[serde(skip)]
    pub reuse_gain: u32,
    /// How many further connect() calls succeed now.
    pub headroom: u32,
    /// 0 to 1; 1 exactly when the next connect() fails.
    #[cfg_attr(test, schemars(range(min = 0, max = 1)))]
    pub exhaustion_ratio: f64,
    /// Sockets per second that entered TIME-WAIT during the last 10 s.
    #[serde(rename = "closes_per_second")]
    pub close_rate: f64,
    /// Longest run of ports in use of one parity: how many the next connect() may have to examine.
    pub search_ports: u32,
}
