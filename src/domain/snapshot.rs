//! What one scrape found out: immutable once made, read by every output.
//!
//! Has no metric names (see `exposition`) and does no arithmetic beyond trivial sums.

mod sockets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::collectors::CollectorId;
use super::settings::Settings;
pub use super::sources::SourceUsage;
use super::udp::UdpUsage;
pub use sockets::*;

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

/// The outcome of one collector.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<T = Reading> {
    /// What it read. A collector of independent values may have read some and still have
    /// failed; one whose values add up has all or nothing.
    pub value: Option<T>,
    /// Whether everything it reads was read.
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

    /// Of a collector that has read everything, or nothing.
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
    /// The outcome of one collector.
    pub fn outcome(&self, id: CollectorId) -> Option<&Outcome> {
        self.0.get(&id)
    }

    /// The outcome of each enabled collector.
    pub fn outcomes(&self) -> impl Iterator<Item = (CollectorId, &Outcome)> {
        self.0.iter().map(|(id, outcome)| (*id, outcome))
    }

    /// Sets the outcome of a collector; `None` for one that is off. The outcome of the probe is a part of that
    /// of the sockets, and comes with it.
    pub fn set(&mut self, id: CollectorId, outcome: Option<Outcome>) {
        self.0.remove(&id);
        self.0.extend(outcome.map(|outcome| (id, outcome)));
        if id == CollectorId::Sockets {
            self.set(CollectorId::Probe, self.probe_outcome());
        }
    }

    fn probe_outcome(&self) -> Option<Outcome> {
        let (success, duration) = match &self.ports()?.probe {
            Probe::Off | Probe::Unavailable { .. } => return None,
            Probe::NotNeeded => (true, Duration::ZERO),
            Probe::Done { duration } => (true, *duration),
            Probe::Failed { duration, .. } => (false, *duration),
        };
        let nothing = Outcome::missing(duration);
        Some(Outcome { success, ..nothing })
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
