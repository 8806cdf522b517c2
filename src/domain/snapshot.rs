//! What one scrape found out: immutable once made, read by every output.
//!
//! Holds no metric names (see `exposition`) and does no arithmetic beyond trivial sums.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::address::{Address, Family};
use super::collectors::CollectorId;
use super::ports::{PortRange, PortSet};
use super::settings::Settings;
pub use super::sources::SourceUsage;
use super::udp::UdpUsage;

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
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Netlink => "netlink",
            Self::Procfs => "procfs",
        }
    }
}

/// How one collector fared.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<T = Reading> {
    /// What it read. A collector of independent values may have read some and still have
    /// failed; one whose values add up has all or nothing.
    pub value: Option<T>,
    /// Whether everything it looks for was read.
    pub success: bool,
    /// How long it took, up to its failure or the deadline.
    pub duration: Duration,
}

impl<T> Outcome<T> {
    /// Of a collector that had nothing to report by the deadline.
    pub const fn missing(waited: Duration) -> Self {
        Self {
            value: None,
            success: false,
            duration: waited,
        }
    }

    /// Of a collector that has all it looks for, or nothing.
    pub fn whole(value: Option<impl Into<T>>, duration: Duration) -> Self {
        Self {
            success: value.is_some(),
            value: value.map(Into::into),
            duration,
        }
    }
}

/// What a collector read. Cheap to clone: scrapes share it.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// The dump of the connection table.
    Sockets(Arc<SocketSummary>),
    /// Kernel settings.
    Settings(Arc<Settings>),
    /// The UDP ports in use.
    Udp(Arc<UdpUsage>),
    /// Numbers under the kernel's own names.
    Counts(Counts),
}

impl From<UdpUsage> for Reading {
    fn from(udp: UdpUsage) -> Self {
        Self::Udp(Arc::new(udp))
    }
}

impl From<SocketSummary> for Reading {
    fn from(sockets: SocketSummary) -> Self {
        Self::Sockets(Arc::new(sockets))
    }
}

impl From<Settings> for Reading {
    fn from(settings: Settings) -> Self {
        Self::Settings(Arc::new(settings))
    }
}

impl From<Counts> for Reading {
    fn from(counts: Counts) -> Self {
        Self::Counts(counts)
    }
}

/// Numbers that a file of the kernel's has, by the names that the kernel gives them. A name that the running
/// kernel lacks is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(Vec<(&'static str, u64)>);

impl Counts {
    /// The number under a name.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.iter()
            .find(|(known, _)| *known == name)
            .map(|(_, count)| count)
    }

    /// All of them, in the kernel's order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().copied()
    }

    /// Adds a number to the one under its name.
    pub fn add(&mut self, name: &'static str, count: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum = sum.saturating_add(count),
            None => self.0.push((name, count)),
        }
    }
}

impl FromIterator<(&'static str, u64)> for Counts {
    fn from_iter<I: IntoIterator<Item = (&'static str, u64)>>(counts: I) -> Self {
        Self(counts.into_iter().collect())
    }
}

/// Everything one scrape read in one network namespace. A collector that is off has no outcome.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot(BTreeMap<CollectorId, Outcome>);

impl Snapshot {
    /// How one collector fared.
    pub fn outcome(&self, id: CollectorId) -> Option<&Outcome> {
        self.0.get(&id)
    }

    /// How each collector fared that is on.
    pub fn outcomes(&self) -> impl Iterator<Item = (CollectorId, &Outcome)> {
        self.0.iter().map(|(id, outcome)| (*id, outcome))
    }

    /// Notes how a collector fared; `None` for one that is off. The outcome of the probe is a part of that
    /// of the sockets, and comes with it.
    pub fn set(&mut self, id: CollectorId, outcome: Option<Outcome>) {
        if id == CollectorId::Sockets {
            let probe = outcome.as_ref().and_then(probe_outcome);
            self.set(CollectorId::Probe, probe);
        }
        self.0.remove(&id);
        self.0.extend(outcome.map(|outcome| (id, outcome)));
    }

    /// The same with what one collector read without failure.
    #[must_use]
    pub fn with(mut self, id: CollectorId, reading: impl Into<Reading>) -> Self {
        self.set(id, Some(Outcome::whole(Some(reading), Duration::ZERO)));
        self
    }

    /// The same without one collector.
    #[must_use]
    pub fn without(mut self, id: CollectorId) -> Self {
        self.set(id, None);
        self
    }

    fn reading(&self, id: CollectorId) -> Option<&Reading> {
        self.outcome(id)?.value.as_ref()
    }

    /// The dump of the connection table, if it came to an end.
    pub fn sockets(&self) -> Option<&SocketSummary> {
        match self.reading(CollectorId::Sockets)? {
            Reading::Sockets(sockets) => Some(sockets),
            _ => None,
        }
    }

    /// How the port range is used, if both the sockets and the range are known.
    pub fn ports(&self) -> Option<&PortUsage> {
        self.sockets()?.ports.as_ref()
    }

    /// The destinations, if they are known and exported individually.
    pub fn destinations(&self) -> Option<&DestinationBreakdown> {
        self.ports()?.by_destination.as_ref()
    }

    /// The pools of bind(addr, 0), if they are known and exported.
    pub(crate) fn sources(&self) -> Option<&[SourceUsage]> {
        self.ports()?.by_source.as_deref()
    }

    /// The worst destination's ratio, of either family.
    pub fn worst_ratio(&self) -> Option<f64> {
        let worst = self.ports()?.worst_ratio;
        Some(worst.ipv4.max(worst.ipv6))
    }

    /// The kernel's settings, as far as they were read.
    pub fn settings(&self) -> Option<&Settings> {
        match self.reading(CollectorId::Sysctl)? {
            Reading::Settings(settings) => Some(settings),
            _ => None,
        }
    }

    /// The UDP ports in use.
    pub fn udp(&self) -> Option<&UdpUsage> {
        match self.reading(CollectorId::Udp)? {
            Reading::Udp(udp) => Some(udp),
            _ => None,
        }
    }

    /// The numbers that a collector read.
    pub fn counts(&self, id: CollectorId) -> Option<&Counts> {
        match self.reading(id)? {
            Reading::Counts(counts) => Some(counts),
            _ => None,
        }
    }

    /// One number that a collector read, by the kernel's name for it.
    pub fn count(&self, id: CollectorId, name: &str) -> Option<u64> {
        self.counts(id)?.get(name)
    }

    /// The kernel's socket counts.
    pub(crate) fn socket_counts(&self) -> Option<&Counts> {
        self.counts(CollectorId::Sockstat)
    }

    /// Time-wait buckets in use, orphaned FIN-WAIT-2 mini-sockets included.
    pub fn time_wait_buckets(&self) -> Option<u64> {
        self.socket_counts()?.get("tw")
    }

    /// UDP sockets, IPv4 and IPv6.
    pub(crate) fn udp_in_use(&self) -> Option<u64> {
        self.socket_counts()?.get("UDP inuse")
    }
}

/// To change what was read.
#[cfg(test)]
impl Snapshot {
    pub(crate) fn with_buckets(self, buckets: u64) -> Self {
        let counts = [("tw", buckets)].into_iter().collect::<Counts>();
        self.with(CollectorId::Sockstat, counts)
    }

    pub(crate) fn without_buckets(self) -> Self {
        self.without(CollectorId::Sockstat)
    }

    pub(crate) fn sockets_mut(&mut self) -> Option<&mut SocketSummary> {
        match self.0.get_mut(&CollectorId::Sockets)?.value.as_mut()? {
            Reading::Sockets(sockets) => Some(Arc::make_mut(sockets)),
            _ => None,
        }
    }

    pub(crate) fn settings_mut(&mut self) -> Option<&mut Settings> {
        match self.0.get_mut(&CollectorId::Sysctl)?.value.as_mut()? {
            Reading::Settings(settings) => Some(Arc::make_mut(settings)),
            _ => None,
        }
    }
}

fn probe_outcome(sockets: &Outcome) -> Option<Outcome> {
    let Some(Reading::Sockets(sockets)) = &sockets.value else {
        return None;
    };
    let (success, duration) = match &sockets.ports.as_ref()?.probe {
        Probe::Off | Probe::Unavailable { .. } => return None,
        Probe::NotNeeded => (true, Duration::ZERO),
        Probe::Done { duration } => (true, *duration),
        Probe::Failed { duration, .. } => (false, *duration),
    };
    Some(Outcome {
        value: None,
        success,
        duration,
    })
}

/// The most frequent values of one attribute of TIME-WAIT sockets, and how many have the others.
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
    /// The value for one family, to change it.
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
    /// Ports inside the range, not reserved, that a listening or a bound, unconnected socket owns; the
    /// latter as they were up to five minutes ago where there are more than 100,000 sockets and no ratio
    /// has reached the warning threshold.
    pub blocked: u32,
    /// Ports of connected sockets that bind() took, or that are closed to connect() for another reason,
    /// whatever the destination. `None` where that was not probed: see [`PortUsage::probe`].
    pub bind_owned: Option<u32>,
    /// How that is known, or why not.
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
    /// How many destinations there are.
    pub destinations: u64,
    /// The worst destinations and the pinned ones; `None` where switched off.
    pub by_destination: Option<DestinationBreakdown>,
    /// The fullest pools of bind(addr, 0), fullest first; `None` where switched off.
    pub by_source: Option<Vec<SourceUsage>>,
    /// Which ports connect() cannot have or, with another range, could not.
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
    /// So few ports are in use that it makes no difference.
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
    pub const fn total(self) -> u64 {
        self.time_wait + self.established + self.other
    }
}

/// Whether a peer uses TCP timestamps, without which connect() does not reuse TIME-WAIT sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerTimestamps {
    /// Not asked: connect() would find a port even if nothing were reusable.
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
    /// The ports its sockets hold.
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
    /// Longest run of ports in use of one parity: how many the next connect() may have to examine.
    pub search_ports: u32,
}
