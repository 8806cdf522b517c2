//! When the ports in use are probed for those that are closed to connect().
//!
//! A probe takes 1.2 us a port, up to 34 ms for the whole default range. How much it can change is known
//! without it: no ratio can exceed the share of the usable ports that any socket uses. Up to a tenth it
//! is not worth while; from the warning threshold on every port counts, and each scrape probes. In between
//! an answer serves for a minute, except where a probe is quick anyway.

use std::time::{Duration, Instant};

use tracing::warn;

use crate::domain::advice::thresholds::RATIO_WARNING;
use crate::domain::census::{Census, UsablePorts};
use crate::domain::ports::PortSet;
use crate::domain::settings::Settings;
use crate::domain::snapshot::{Counts, Probe};
use crate::kernel::port_probe::{PortProbe, ProbeError};
use crate::kernel::procfs::ProcRoot;

/// Up to this share of the usable ports in use, nothing is probed, unless the range is a small one.
const QUIET_SHARE: f64 = 0.1;

/// Up to this many ports are probed in 1.2 ms.
const QUICK_PORTS: u32 = 1_024;

/// How long an answer serves where neither holds.
const SERVES_FOR: Duration = Duration::from_secs(60);

/// What was probed in one network namespace last.
#[derive(Debug, Default)]
pub(super) struct ProbeMemory {
    last: Option<(Instant, PortSet)>,
    /// What went wrong last, so that it is logged once.
    failure: Option<String>,
}

/// Probes the ports of the network namespace that the calling thread is in.
#[derive(Debug)]
pub(super) struct Prober<'a> {
    pub(super) procfs: &'a ProcRoot,
    pub(super) settings: &'a Settings,
    pub(super) statistics: Option<&'a Counts>,
    /// Whether bound, unconnected sockets are known.
    pub(super) lists_bound: bool,
    pub(super) deadline: Instant,
}

/// What is to be done about the ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    /// An answer of the last minute will do.
    Recent,
    Now,
}

impl Prober<'_> {
    /// Closes the ports of the census that turn out to be closed to connect().
    pub(super) fn run(&self, census: &mut Census, memory: &mut ProbeMemory) -> Probe {
        let begin = Instant::now();
        let Some(ports) = census.usable_ports() else {
            return Probe::NotNeeded;
        };
        let unlisted = self.unlisted_sockets();
        let is_recent =
            |(probed, _): &(Instant, PortSet)| begin.duration_since(*probed) < SERVES_FOR;
        let candidates = candidates(ports, unlisted);
        match need(&candidates, unlisted) {
            Need::Nothing => return Probe::NotNeeded,
            Need::Recent if memory.last.as_ref().is_some_and(is_recent) => {}
            Need::Recent | Need::Now => match self.probe(&candidates.ports) {
                Ok(closed) => memory.last = Some((begin, closed)),
                Err(error) => return memory.failed(&error, begin),
            },
        }
        memory.failure = None;
        let mut closed = candidates.ports;
        closed.intersect_with(memory.last.as_ref().map_or(&PortSet::new(), |(_, set)| set));
        census.close_ports(&closed);
        let duration = begin.elapsed();
        Probe::Done { duration }
    }

    fn probe(&self, ports: &PortSet) -> Result<PortSet, ProbeError> {
        let closed = PortProbe::open(self.procfs)?.closed_to_connect(ports, self.deadline)?;
        // A port outside the range is any port, one that is reserved now looks closed.
        let (now, _) = self.procfs.read_settings();
        let is_same = now.port_range == self.settings.port_range
            && now.reserved_ports == self.settings.reserved_ports;
        is_same.then_some(closed).ok_or(ProbeError::RangeChanged)
    }

    /// How many sockets may be bound without being listed, where those are not known.
    fn unlisted_sockets(&self) -> u32 {
        if self.lists_bound {
            return 0;
        }
        let count = |name| {
            self.statistics
                .and_then(|counts| counts.get(name))
                .unwrap_or(0)
        };
        let unlisted = count("used").saturating_sub(count("inuse"));
        u32::try_from(unlisted).unwrap_or(u32::MAX)
    }
}

/// The ports that are worth probing.
struct Candidates {
    ports: PortSet,
    in_use: u32,
    usable: u32,
}

fn candidates(usable: UsablePorts, unlisted: u32) -> Candidates {
    let (in_use, free) = (usable.in_use.len(), usable.free.len());
    let mut ports = usable.in_use;
    if unlisted > 0 {
        ports.union_with(&usable.free);
    }
    Candidates {
        ports,
        in_use,
        usable: in_use + free,
    }
}

fn need(candidates: &Candidates, unlisted: u32) -> Need {
    let in_use = candidates.in_use.saturating_add(unlisted);
    let share = f64::from(in_use) / f64::from(candidates.usable.max(1));
    let is_small_range = candidates.usable <= QUICK_PORTS;
    if in_use == 0 || (share < QUIET_SHARE && !is_small_range) {
        Need::Nothing
    } else if share >= RATIO_WARNING || candidates.ports.len() <= QUICK_PORTS {
        Need::Now
    } else {
        Need::Recent
    }
}

impl ProbeMemory {
    fn failed(&mut self, error: &ProbeError, begin: Instant) -> Probe {
        let reason = error.to_string();
        if matches!(error, ProbeError::Unavailable { .. }) {
            return Probe::Unavailable { reason };
        }
        if self.failure.as_ref() != Some(&reason) {
            warn!(err = reason, "ports could not be probed");
            self.failure = Some(reason.clone());
        }
        Probe::Failed {
            reason,
            duration: begin.elapsed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(in_use: u16, usable: u16, unlisted: u32) -> Need {
        let ports = UsablePorts {
            in_use: (0..in_use).collect(),
            free: (in_use..usable).collect(),
        };
        need(&candidates(ports, unlisted), unlisted)
    }

    #[test]
    fn a_quiet_host_is_never_probed_and_one_near_the_limit_always() {
        assert_eq!(decide(0, 28_232, 0), Need::Nothing);
        assert_eq!(decide(2_823, 28_232, 0), Need::Nothing);
        assert_eq!(decide(2_824, 28_232, 0), Need::Recent);
        assert_eq!(decide(21_173, 28_232, 0), Need::Recent);
        assert_eq!(decide(21_174, 28_232, 0), Need::Now);
        assert_eq!(decide(28_232, 28_232, 0), Need::Now);
    }

    #[test]
    fn what_is_probed_quickly_is_probed_each_time() {
        assert_eq!(decide(1_000, 10_000, 0), Need::Now);
        assert_eq!(decide(1, 1_024, 0), Need::Now);
        assert_eq!(decide(0, 1_024, 0), Need::Nothing);
        assert_eq!(decide(0, 0, 0), Need::Nothing);
    }

    #[test]
    fn where_bound_sockets_are_not_listed_their_number_counts_as_ports_in_use() {
        assert_eq!(decide(0, 28_232, 2_824), Need::Recent);
        assert_eq!(decide(0, 28_232, 200), Need::Nothing);
        assert_eq!(decide(100, 28_232, u32::MAX), Need::Now);
    }
}
