//! What the dump of the connection table adds up to: breakdowns, the port range and its destinations.

use std::time::Duration;

use serde::Serialize;

use super::Source;
use crate::domain::address::{Address, Family};
use crate::domain::ports::{PortRange, PortSet};
use crate::domain::sources::SourceUsage;

/// The most frequent values of one attribute of TIME-WAIT sockets, and the number of sockets with any other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breakdown<K> {
    /// Values with their counts: the top N, most frequent first, then pinned ones beyond them.
    pub exported: Vec<(K, u64)>,
    /// Sockets with any other value.
    pub other: u64,
}

impl<K> Breakdown<K> {
    /// Sockets in all.
    pub fn total(&self) -> u64 {
        self.exported.iter().map(|(_, count)| count).sum::<u64>() + self.other
    }
}

/// A breakdown by port, with ephemeral ports aggregated into one count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortBreakdown {
    /// The ports that mean a service.
    pub ports: Breakdown<u16>,
    /// Sockets whose port on this side was an ephemeral one.
    pub ephemeral: u64,
}

/// How many age bands there are.
pub const AGE_BANDS: usize = 6;

/// The result of one dump of the connection table.
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
    /// By age, in the bands of [`BANDS`](crate::domain::age::BANDS).
    pub by_age: Option<[u64; AGE_BANDS]>,
    /// The port range and its use; `None` while the range is unknown.
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
    /// The value for one family, to change it.
    pub fn get_mut(&mut self, family: Family) -> &mut T {
        match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        }
    }
}

/// How the ephemeral port range is used.
#[derive(Clone, Debug, PartialEq)]
pub struct PortUsage {
    /// The range itself.
    pub range: PortRange,
    /// Ports of `ip_local_reserved_ports` inside the range.
    pub reserved: u32,
    /// Ports inside the range, not reserved, that a listening or a bound, unconnected socket owns; the
    /// latter as they were up to five minutes ago where there are more than 100,000 sockets and no ratio
    /// has reached the warning threshold.
    pub blocked: u32,
    /// Ports of connected sockets that connect() skips for every destination, because bind() chose them or
    /// for another reason. `None` where that was not probed: see [`PortUsage::probe`].
    pub bind_owned: Option<u32>,
    /// Whether ports were probed, or why not.
    pub probe: Probe,
    /// Ports inside the range, not reserved, that something listens on.
    pub listeners: u32,
    /// range - reserved - blocked - bind-owned.
    pub usable: u32,
    /// Usable ports that no socket uses: a lower bound of every headroom, however the ports in use were
    /// chosen.
    pub free: u32,
    /// The worst destination's ratio by family, 0 where there is none.
    pub worst_ratio: PerFamily<f64>,
    /// The same if connect() can reuse the ports of FIN-WAIT-2 sockets without a process, as kernels without a
    /// fix of 2024 do. `None` where it cannot.
    pub least_ratio: Option<PerFamily<f64>>,
    /// Number of destinations.
    pub destinations: u64,
    /// The worst destinations and the pinned ones; `None` where switched off.
    pub by_destination: Option<DestinationBreakdown>,
    /// The fullest pools of bind(addr, 0), fullest first; `None` where switched off.
    pub by_source: Option<Vec<SourceUsage>>,
    /// Ports that connect() cannot use, or could not with another range.
    pub sets: PortSets,
}

impl PortUsage {
    /// The ratio of the worst destination, of whatever family, without ports that may be reusable.
    pub(crate) fn least_worst_ratio(&self) -> f64 {
        let ratio = self.least_ratio.unwrap_or(self.worst_ratio);
        ratio.ipv4.max(ratio.ipv6)
    }
}

/// Whether ports in use were probed for those that connect() skips (see `kernel::port_probe`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Probe {
    /// Switched off, or sockets were not read from this kernel.
    #[default]
    Off,
    /// Too few ports are in use for it to make a difference.
    NotNeeded,
    /// They were, for this reading or a recent one.
    Done {
        /// How long it took this time.
        duration: Duration,
    },
    /// This kernel, its sysctls or the privileges do not allow it.
    Unavailable {
        /// What is missing.
        reason: String,
    },
    /// It failed, or the deadline came first.
    Failed {
        /// Why.
        reason: String,
        /// How long it took until then.
        duration: Duration,
    },
}

/// Ports, inside the range or not, that connect() cannot use, by the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSets {
    /// `ip_local_reserved_ports`; `None` while it is unknown.
    pub reserved: Option<PortSet>,
    /// Something listens on them.
    pub listening: PortSet,
    /// A bound, unconnected socket has them; another may listen.
    pub bound: PortSet,
    /// Closed to connect() though neither listening nor bound: bind-owned, as far as probed.
    pub closed: PortSet,
    /// In use by a connected socket that is not outgoing: on a listener's port, on a reserved one, or
    /// outside the range. A dump that the kernel filtered (see `kernel::sock_diag::filter`) skips
    /// those outside the range that are not in TIME-WAIT.
    pub elsewhere: PortSet,
    /// Whether those of live sockets outside the range are among them: a dump may skip them.
    pub(crate) elsewhere_is_whole: bool,
}

/// The destinations that are exported individually, and the sum of the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DestinationBreakdown {
    /// Worst first, pinned ones beyond the top N last.
    pub exported: Vec<DestinationUsage>,
    /// The ports in use of all the others together.
    pub other: PortsInUse,
}

/// The triple for which the kernel allocates ephemeral ports.
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

/// Sockets that use a port, by their state.
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
    pub const fn total(self) -> u64 {
        self.time_wait + self.established + self.other
    }
}

/// Whether a peer uses TCP timestamps, without which connect() does not reuse TIME-WAIT sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerTimestamps {
    /// Not read: connect() would find a port even if nothing were reusable.
    #[default]
    NotDecisive,
    /// A live socket of the same remote end has them.
    Present,
    /// There are live sockets, and none has them: nothing counts as reusable.
    Absent,
    /// No live socket shows it: the ratio is a lower bound.
    Unknown,
}

/// Sockets of [`PortsInUse::other`] by the states that have remedies of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct OtherStates {
    /// Sockets in CLOSE-WAIT: the peer has closed, the program on this host has not.
    pub close_wait: u32,
    /// Sockets in SYN-SENT: connect() waits for the peer's answer.
    pub syn_sent: u32,
    /// Sockets in FIN-WAIT-2 that no process owns any more: time-wait mini-sockets, which last `tcp_fin_timeout`.
    pub(crate) fin_wait2_orphans: u32,
}

/// Ports in use towards one destination.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DestinationUsage {
    /// Which one.
    #[serde(flatten)]
    pub destination: Destination,
    /// The ports its sockets use.
    #[serde(flatten)]
    pub in_use: PortsInUse,
    /// Parts of `in_use.other`.
    #[serde(flatten)]
    pub(crate) other_states: OtherStates,
    /// TIME-WAIT sockets among them that the next connect() may reuse now.
    pub reusable: u64,
    /// TIME-WAIT sockets on usable ports that are not reusable and would be with `tcp_tw_reuse` 1 and
    /// `tcp_timestamps` on.
    #[serde(skip)]
    pub(crate) reuse_gain: u32,
    /// Whether it is known that `reusable` sockets are.
    #[serde(skip)]
    pub peer_timestamps: PeerTimestamps,
    /// How many further connect() calls succeed now.
    pub headroom: u32,
    /// 0 to 1; 1 exactly when the next connect() fails.
    #[cfg_attr(test, schemars(range(min = 0, max = 1)))]
    pub exhaustion_ratio: f64,
    /// Less than the ratio where FIN-WAIT-2 sockets without a process may be reusable: see
    /// [`PortUsage::least_ratio`].
    #[serde(skip)]
    pub(crate) least_ratio: f64,
    /// Sockets per second that entered TIME-WAIT during the last 10 s.
    #[serde(rename = "closes_per_second")]
    pub close_rate: f64,
    /// Ports in use that the next connect() may have to examine: the longest run of one parity or, with
    /// `ip_local_port_step_width` above 0, all of them (an upper bound).
    pub search_ports: u32,
}
